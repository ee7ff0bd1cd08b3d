"""Getting ready to serve a plan, and putting capture back where a migration of the company's has taken it off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import asyncpg

from syncline.errors import SchemaChangedError, SourceBusyError
from syncline.log import logger
from syncline.model.scopes import Plan
from syncline.source.postgres import provision as provisioning
from syncline.source.postgres.belongings import read_meta
from syncline.source.postgres.connections import Connections, keep_to_ours
from syncline.source.postgres.generations import mark_gaps
from syncline.source.postgres.installed import (
    capture_fingerprint,
    fingerprint_of,
    is_other_configuration,
    layouts,
    require_provisioned,
    verify,
)
from syncline.source.postgres.layout import PlanSql, build_plan_sql
from syncline.source.postgres.locking import MIGRATION_LOCK, take_lock
from syncline.source.postgres.standing import Standing
from syncline.source.postgres.suspending import COMMAND, MIGRATION, SCRIPT
from syncline.source.postgres.troubles import told

Tell = Callable[[str], None]
_log = logger("source")


@dataclass(frozen=True)
class Attachment:
    """A plan that is served. `capture`: the fingerprint of the capture that was installed when it was attached."""

    plan: Plan
    sql: PlanSql
    standing: Standing
    layouts: dict[str, int]
    capture: str | None


async def attach(db: asyncpg.Connection, plan: Plan, lost_for_good: frozenset[str] | None = None) -> Attachment:
    """NotProvisionedError or SchemaChangedError where capture does not fit the plan; all of one snapshot. With
    `lost_for_good`, those of these tables of which it is lost, and tables that cannot be read, are left out instead
    (`Standing.broken`)."""
    lasting = await verify(db, plan, lost_for_good)
    known = {name: number for name, (number, _) in (await layouts(db)).items()}
    return Attachment(
        plan=plan,
        sql=build_plan_sql(plan, known),
        standing=await Standing.read(db, plan, lasting),
        layouts={name: known[name] for name in plan.tables},
        capture=await capture_fingerprint(db),
    )


async def adopt(connections: Connections, plan: Plan, served: Attachment | None, tell: Tell) -> Attachment:
    """Like `attach`, with capture put back where it is lost and that is this process's to do. Tables that it may not
    put capture on are left out until somebody has. `served`: what it served until now."""
    attachment = await _attach_or_put_back(connections, plan, served, tell)
    troubles = attachment.standing.troubles(elsewhere=False)
    if troubles:  # what is missed from now on is sent anew once it is mended
        async with connections.transaction() as db:
            for name, trouble in troubles.items():
                await mark_gaps(db, [name], trouble.mark)
    for finding in told(plan, troubles):
        _log.error("%s %s", finding.what, finding.remedy)
    return attachment


async def _attach_or_put_back(
    connections: Connections, plan: Plan, served: Attachment | None, tell: Tell
) -> Attachment:
    try:
        async with connections.catalogue() as db:
            return await attach(db, plan)
    except SchemaChangedError:
        refused = await put_back(connections, plan, served, tell)
    async with connections.catalogue() as db:  # what was changed once more since then is put back next time
        return await attach(db, plan, refused)


async def put_back(connections: Connections, plan: Plan, served: Attachment | None, tell: Tell) -> frozenset[str]:
    """Install capture for `plan` where that is this process's to do. SchemaChangedError where a person, or another
    process, has to. The answer: tables that this role may not put it on."""
    db, refused = await connections.direct(), set[str]()
    try:
        await keep_to_ours(db)
        await _require_ours_to_do(db, plan, served)
        await provisioning.provision(connections, plan, "", tell, refused)
        return frozenset(refused)
    except SourceBusyError as error:
        if error.error_code != SourceBusyError.code:
            raise
        raise SchemaChangedError(
            "Capture does not fit the schema.", hint=f"It cannot be put back now: {error.message}", code="schema_moving"
        ) from error
    finally:
        await db.close()


async def _require_ours_to_do(db: asyncpg.Connection, plan: Plan, served: Attachment | None) -> None:
    """Takes the lock of migrations for as long as the session lives."""
    await require_provisioned(db)
    found = await capture_fingerprint(db)
    if served is not None and found not in (served.capture, fingerprint_of(plan)):
        raise SchemaChangedError(
            "Capture was provisioned for another configuration than this server was started with.",
            hint="Restart the server.",
            code="other_configuration",
        )
    if served is None and await is_other_configuration(db, plan):
        raise SchemaChangedError(
            "Capture is not what the configuration needs.", hint="Run: syncline provision", code="other_configuration"
        )
    await _wait_for_migration(db)


async def _wait_for_migration(db: asyncpg.Connection) -> None:
    """SchemaChangedError while one is under way. One whose process has died is over."""
    kind = await read_meta(db, MIGRATION)
    if kind == SCRIPT:
        raise SchemaChangedError(
            "A migration has begun with the script of --before, and has not ended.",
            hint="Run the script of --after, or: syncline provision",
            code="migration_running",
        )
    if kind == COMMAND and not await take_lock(db, MIGRATION_LOCK):
        raise SchemaChangedError(
            "A migration is running.", hint="Checkpoints go on when it has ended.", code="migration_running"
        )
