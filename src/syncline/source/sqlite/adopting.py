"""Getting ready to serve a plan, and putting capture back where a migration of the company's has taken it off."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from syncline.errors import NotProvisionedError, SchemaChangedError
from syncline.model.scopes import Plan
from syncline.source.sqlite import provision as provisioning
from syncline.source.sqlite.layout import PlanSql, build_plan_sql
from syncline.source.sqlite.standing import Standing
from syncline.source.sqlite.suspending import COMMAND, SCRIPT
from syncline.system.lock import FileLock


@dataclass(frozen=True)
class Attachment:
    """A plan that is served. `capture`: the fingerprint of the capture that was installed when it was attached."""

    sql: PlanSql
    standing: Standing
    layouts: dict[str, int]
    capture: object


def attach(connection: sqlite3.Connection, plan: Plan) -> Attachment:
    """NotProvisionedError or SchemaChangedError where capture does not fit the plan; all of one snapshot."""
    connection.execute("BEGIN")
    try:
        provisioning.verify(connection, plan)
        layouts = provisioning.layouts(connection)
        return Attachment(
            sql=build_plan_sql(plan, layouts),
            standing=Standing(connection, plan),
            layouts={name: layouts[name] for name in plan.tables},
            capture=provisioning.capture_fingerprint(connection),
        )
    finally:
        connection.execute("COMMIT")


def put_back(
    connection: sqlite3.Connection, plan: Plan, journal: str, served: Attachment | None, migrating: FileLock
) -> None:
    """Install capture for `plan` where that is this process's to do. `served`: what it served until now; `migrating`:
    the lock that `syncline migrate` holds. SchemaChangedError where a person, or another process, has to."""
    found = provisioning.capture_fingerprint(connection)
    if found is None:
        raise NotProvisionedError("Capture is not installed in this database.", hint="Run: syncline provision")
    if served is not None and found not in (served.capture, provisioning.wanted_fingerprint(plan)):
        raise SchemaChangedError(
            "Capture was provisioned for another configuration than this server was started with.",
            hint="Restart the server.",
            code="other_configuration",
        )
    if served is None and provisioning.is_other_configuration(connection, plan):
        raise SchemaChangedError(
            "Capture is not what the configuration needs.", hint="Run: syncline provision", code="other_configuration"
        )
    _wait_for_migration(connection, migrating)
    try:
        provisioning.provision(connection, plan, journal)
    finally:
        migrating.release()


def _wait_for_migration(connection: sqlite3.Connection, migrating: FileLock) -> None:
    """SchemaChangedError while one is under way. One whose process has died is over."""
    kind = provisioning.migration(connection)
    if kind == SCRIPT:
        raise SchemaChangedError(
            "A migration has begun with the script of --before, and has not ended.",
            hint="Run the script of --after, or: syncline provision",
            code="migration_running",
        )
    if kind == COMMAND and not migrating.acquire():
        raise SchemaChangedError(
            f"A migration is running ({migrating.owner()}).",
            hint="Checkpoints go on when it has ended.",
            code="migration_running",
        )
