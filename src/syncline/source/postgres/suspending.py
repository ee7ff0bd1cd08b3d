"""Capture taken off for a migration, and what keeps watch meanwhile.

In the place of capture an *alarm* is put on the table: triggers that name no column and leave a gap when anybody
writes. Where the alarm still stands when capture comes back, and is silent, nothing was missed; a table that was
rebuilt has lost it. What was missed before that is not the alarm's to know: where capture is not what was put in when
it is taken off, that leaves a gap, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

import asyncpg

from syncline.errors import NotProvisionedError, SourceBusyError
from syncline.model.identifiers import literal
from syncline.source.port import Finding
from syncline.source.postgres.belongings import RECORD, TableState, is_provisioned, read_meta, triggers_by_relation
from syncline.source.postgres.connections import Connections, keep_to_ours
from syncline.source.postgres.locking import MIGRATION_LOCK, patiently, take_lock
from syncline.source.postgres.names import object_name, ours
from syncline.source.postgres.trigger_sql import dollar_quoted
from syncline.source.postgres.trouble import is_trouble, source_error

Tell = Callable[[str], None]
MIGRATION = "migration"
"""The name in `meta` under which a migration that has begun says how it goes on: COMMAND or SCRIPT."""
COMMAND = "command"
"""`syncline migrate` runs it, and holds a lock as long as it lives."""
SCRIPT = "script"
"""Whoever ran the script of `--before` runs that of `--after`, or `syncline provision`."""
CLOSE_SECONDS = 2.0
ALARM = "alarm"
ALARM_PREFIX = "syncline_alarm_"
_EVENTS = ("INSERT", "UPDATE", "DELETE", "TRUNCATE")


def alarm_function(name: str) -> str:
    """The name of the function that rings for the captured table `name`."""
    return object_name(ALARM, name)


def alarm_sql(name: str, relation: str) -> tuple[str, ...]:
    """The statements that put the alarm of the captured table `name` on one relation of it."""
    function = f"{ours(alarm_function(name))}()"
    gap = f"INSERT INTO {ours('gap')}(table_name, mark) VALUES ({literal(name)}, 'written')"
    body = f"BEGIN {gap}; RETURN NULL; EXCEPTION WHEN OTHERS THEN RETURN NULL; END"
    make = (
        f"CREATE OR REPLACE FUNCTION {function} RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
        f"SET search_path = pg_catalog, pg_temp AS {dollar_quoted(body)}",
        f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC",
    )
    names = {event: f"{ALARM_PREFIX}{event.lower()}" for event in _EVENTS}
    triggers = [
        f"CREATE TRIGGER {trigger} BEFORE {event} ON {relation} FOR EACH STATEMENT EXECUTE FUNCTION {function}"
        for event, trigger in names.items()
    ]
    enabled = ", ".join(f"ENABLE ALWAYS TRIGGER {trigger}" for trigger in names.values())
    return (*make, *triggers, f"ALTER TABLE ONLY {relation} {enabled}")


def note_missed(name: str, relation: str) -> str:
    """The statement that leaves a gap where neither capture stands on this relation as it was put in nor the whole
    alarm."""
    alarm = (
        f"WHERE tgenabled = 'A' AND proname = {literal(alarm_function(name))} AND starts_with(tgname, '{ALARM_PREFIX}')"
    )
    as_recorded = "jsonb_build_array(relation, tgname::text, oid::int8, xmin::text, tgenabled::text)"
    return (
        f"WITH standing AS (SELECT {literal(relation)}::text AS relation, t.tgname, t.oid, t.xmin, t.tgenabled, "
        "p.proname FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid "
        f"WHERE t.tgrelid = {literal(relation)}::regclass AND p.pronamespace = 'syncline'::regnamespace), "
        f"known AS (SELECT line FROM {ours('meta')} m, jsonb_array_elements(m.value::jsonb -> 'triggers') AS line "
        f"WHERE m.name = {literal(RECORD + name)} AND line ->> 0 = {literal(relation)}) "
        f"INSERT INTO {ours('gap')}(table_name, mark) SELECT {literal(name)}, 'missed' "
        f"WHERE EXISTS (SELECT FROM {ours('term')}) "
        f"AND (SELECT count(*) FROM standing {alarm}) < {len(_EVENTS)} "
        "AND (SELECT jsonb_agg(line ORDER BY line ->> 1) FROM known) "
        f"IS DISTINCT FROM (SELECT jsonb_agg({as_recorded} ORDER BY tgname::text) FROM standing)"
    )


def is_watched(name: str, state: TableState) -> bool:
    """Whether the whole alarm stands on the table and every partition of it."""
    standing = {
        (trigger.relation, trigger.name)
        for trigger in state.triggers
        if trigger.enabled == "A" and trigger.function == alarm_function(name)
    }
    wanted = {(member, f"{ALARM_PREFIX}{event.lower()}") for member in state.members for event in _EVENTS}
    return bool(wanted) and wanted <= standing


class Migration:
    """The one that this process runs, if any. Its lock is held by a session of its own, until `end`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._session: asyncpg.Connection | None = None

    async def begin(self, tables: Collection[str] | None, tell: Tell) -> frozenset[str]:
        """Take capture off these tables (None: all), relation by relation. The answer: those it was taken off."""
        await self.end()
        self._session = db = await self._connections.direct()
        try:
            await keep_to_ours(db)
            if not await take_lock(db, MIGRATION_LOCK):
                raise SourceBusyError("Another migration is running.", code="migration_running")
            await _require_provisioned(db)
            for statement in _begin(COMMAND):
                await db.execute(statement)
            found = await _relations(db, tables)
            for relation, name in found:
                await patiently(db, f'"{name}"', partial(_take_off, db, relation, name), tell)
        except BaseException as error:
            await self.end()
            if is_trouble(error):
                raise source_error(error) from error
            raise
        return frozenset(name for _, name in found)

    async def end(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close(timeout=CLOSE_SECONDS)


async def _take_off(db: asyncpg.Connection, relation: str, name: str) -> None:
    for statement in await _off(db, relation, name):
        await db.execute(statement)


async def _off(db: asyncpg.Connection, relation: str, name: str) -> list[str]:
    triggers = (await triggers_by_relation(db)).get(relation, [])
    missed = note_missed(name, relation)
    return [
        missed,
        *(f"DROP TRIGGER IF EXISTS {trigger} ON {relation}" for trigger in triggers),
        *alarm_sql(name, relation),
    ]


async def suspend_script(db: asyncpg.Connection, tables: Collection[str] | None) -> tuple[str, ...]:
    """The statements that take capture off these tables, or off all that have it."""
    await _require_provisioned(db)
    statements = list(_begin(SCRIPT))
    for relation, name in await _relations(db, tables):
        statements += await _off(db, relation, name)
    return tuple(statements)


def resume_script() -> tuple[str, ...]:
    """The statement after which the server, or `syncline provision`, puts capture back for the schema as it is then."""
    return (f"DELETE FROM {ours('meta')} WHERE name = {literal(MIGRATION)}",)


async def diagnose(db: asyncpg.Connection) -> list[Finding]:
    """A migration that has begun and not ended."""
    kind = await read_meta(db, MIGRATION)
    if kind is None:
        return []
    if kind == SCRIPT:
        remedy = "Run the script of --after, or: syncline provision"
    elif await take_lock(db, MIGRATION_LOCK, only_look=True):
        remedy = "Its process has died: run syncline provision, or start the server"
    else:
        remedy = "Nothing: checkpoints go on when it has ended"
    return [Finding("A migration has begun and has not ended.", remedy, "migration_running")]


async def _require_provisioned(db: asyncpg.Connection) -> None:
    if not await is_provisioned(db):
        raise NotProvisionedError("Capture is not installed in this database.", hint="Run: syncline provision")


def _begin(kind: str) -> tuple[str, ...]:
    return (
        f"INSERT INTO {ours('meta')} VALUES ({literal(MIGRATION)}, {literal(kind)}) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )


async def _relations(db: asyncpg.Connection, tables: Collection[str] | None) -> list[tuple[str, str]]:
    """Relations with capture of ours, quoted, with the name of the captured table."""
    rows = await db.fetch(
        "SELECT DISTINCT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS relation, m.value AS name "
        "FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid "
        "JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        f"JOIN {ours('meta')} m ON m.name = 'function:' || p.proname "
        "WHERE p.pronamespace = 'syncline'::regnamespace ORDER BY 2, 1"
    )
    return [(relation, name) for relation, name in rows if tables is None or name in tables]
