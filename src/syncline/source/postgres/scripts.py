"""The statements that put capture in: run by `provision`, or by a DBA with psql."""

from __future__ import annotations

from syncline.model.identifiers import literal
from syncline.model.scopes import Plan
from syncline.source.postgres import roles
from syncline.source.postgres.belongings import base_script, only_ours
from syncline.source.postgres.capture import Capture, captures, changelog_index_sql, changelog_sql
from syncline.source.postgres.capture_owner import CAPTURE_ROLE, entitle_sql, hand_over_sql
from syncline.source.postgres.installed import VERSION
from syncline.source.postgres.names import ours, table_sql
from syncline.source.postgres.trigger_sql import dollar_quoted, function_sql, trigger_sql

OURS = "SET search_path = pg_catalog, pg_temp"
"""Whoever runs this may be a superuser, and somebody else may have put operators into the schemas it would look at."""
LOCK_TIMEOUT = "SET LOCAL lock_timeout = '800ms'"


def lock_statement(capture: Capture) -> str:
    """Readers pass; who writes waits until the transaction ends. Partitions are locked, too."""
    return f"LOCK TABLE {table_sql(capture.table)} IN SHARE ROW EXCLUSIVE MODE"


def capture_statements(capture: Capture) -> tuple[str, ...]:
    """Of one table, for one transaction after `lock_statement`; may be run again."""
    mark, log = literal(capture.changelog_mark), literal(capture.changelog)
    other = f"""
BEGIN
  IF to_regclass({log}) IS NOT NULL AND obj_description(to_regclass({log}), 'pg_class') IS DISTINCT FROM {mark} THEN
    DROP TABLE {capture.changelog};
  END IF;
END
"""
    return (
        f"DO {dollar_quoted(other)}",
        changelog_sql(capture),
        changelog_index_sql(capture),
        f"COMMENT ON TABLE {capture.changelog} IS {mark}",
        f"ALTER TABLE {capture.changelog} REPLICA IDENTITY FULL",
        *function_sql(capture),
        trigger_sql(capture),
        only_ours().strip().rstrip(";"),
    )


def script(plan: Plan, service_role: str, capture_role: str) -> tuple[str, ...]:
    """All that needs the rights of an owner: after it the service puts in the rest by itself. Each table is a
    transaction: where one meets a lock, the others are put in all the same, and the script may be run again."""
    version = (
        f"INSERT INTO {ours('meta')} VALUES ('version', {literal(VERSION)}) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    )
    owner = (
        f"INSERT INTO {ours('meta')} VALUES ({literal(CAPTURE_ROLE)}, {literal(capture_role)}) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    )
    statements = [OURS, "BEGIN", LOCK_TIMEOUT, base_script().strip().rstrip(";"), version, owner, "COMMIT"]
    for capture in captures(plan).values():
        made = [*capture_statements(capture), hand_over_sql(capture, capture_role), entitle_sql(capture)]
        statements += ["BEGIN", LOCK_TIMEOUT, lock_statement(capture), *made, "COMMIT"]
    if service_role:
        statements += roles.service_grants(plan, service_role)
    return (*statements, "RESET search_path")
