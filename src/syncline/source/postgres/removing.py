"""Taking capture out: of tables that need it no more, or all of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from functools import partial

import asyncpg

from syncline.model.identifiers import quote
from syncline.model.scopes import Plan
from syncline.source.postgres import roles
from syncline.source.postgres.belongings import DEAF, RECORD, read_states, triggers_by_relation
from syncline.source.postgres.capture import CHANGELOG, FUNCTION, captures
from syncline.source.postgres.capture_owner import role_of, take_away
from syncline.source.postgres.installed import FUNCTION_OF
from syncline.source.postgres.locking import patiently
from syncline.source.postgres.names import object_name, ours
from syncline.source.postgres.signatures import drop_aside
from syncline.source.postgres.suspending import ALARM_PREFIX, alarm_function

Tell = Callable[[str], None]
_STRAY_TIMEOUT = "100ms"
_KEPT = (asyncpg.LockNotAvailableError, asyncpg.InsufficientPrivilegeError)


async def take_triggers_off(db: asyncpg.Connection, relation: str, names: Iterable[str], tell: Tell) -> None:
    """Of one relation, in a transaction of its own."""

    async def drop() -> None:
        for name in names:
            await db.execute(f"DROP TRIGGER IF EXISTS {quote(name)} ON {relation}")

    await patiently(db, relation, drop, tell)


async def remove_leftovers(db: asyncpg.Connection, plan: Plan, tell: Tell) -> tuple[str, ...]:
    """What tables need no more that the plan does not capture, and what alarms are left. The answer: those tables."""
    rows = await db.fetch("SELECT name FROM syncline.meta WHERE starts_with(name, $1) ORDER BY name", RECORD)
    gone = [name for (text,) in rows if (name := text.removeprefix(RECORD)) not in plan.captured_tables]
    for name in gone:
        function = object_name(FUNCTION, name)
        for relation, triggers in (await triggers_by_relation(db, function)).items():
            await take_triggers_off(db, relation, triggers, tell)
        await patiently(db, f'"{name}"', partial(_remove_table, db, name, function), tell)
    for relation, triggers in (await triggers_by_relation(db)).items():
        alarms = [trigger for trigger in triggers if trigger.startswith(ALARM_PREFIX)]
        if alarms:
            await take_triggers_off(db, relation, alarms, tell)
    await _remove_strays(db, plan)
    rung = await db.fetch(
        "SELECT p.oid::regprocedure::text FROM pg_catalog.pg_proc p "
        "WHERE p.pronamespace = 'syncline'::regnamespace AND starts_with(p.proname, $1)",
        alarm_function(""),
    )
    for row in rung:
        await db.execute(f"DROP FUNCTION {row[0]}")
    return tuple(gone)


async def _remove_strays(db: asyncpg.Connection, plan: Plan) -> None:
    """From partitions that were detached, and tables that were put aside for others. What they tell is of no row that
    is there, so nobody waits for a lock on them: the next run has another try."""
    members = {member for state in (await read_states(db, captures(plan))).values() for member in state.members}
    for relation, triggers in (await triggers_by_relation(db)).items():
        if relation in members:
            continue
        with contextlib.suppress(*_KEPT):
            async with db.transaction():
                await db.execute(f"SET LOCAL lock_timeout = '{_STRAY_TIMEOUT}'")
                for name in triggers:
                    await db.execute(f"DROP TRIGGER IF EXISTS {quote(name)} ON {relation}")


async def _remove_table(db: asyncpg.Connection, name: str, function: str) -> None:
    await db.execute(f"DROP FUNCTION IF EXISTS {ours(function)}()")
    await db.execute(f"DROP TABLE IF EXISTS {ours(object_name(CHANGELOG, name))}")
    await drop_aside(db, name)
    await db.execute(
        "DELETE FROM syncline.meta WHERE name = ANY($1::text[])", [RECORD + name, FUNCTION_OF + function, DEAF + name]
    )


async def remove_schema(db: asyncpg.Connection) -> None:
    """Inside a transaction. Nothing outside the schema goes with it: where something of the company's leans on ours the
    database says so, and all stays."""
    await roles.take_back(db)
    role = await role_of(db, "")
    for kind, query in _OURS.items():
        names = [row[0] for row in await db.fetch(query)]
        if names:
            await db.execute(f"DROP {kind} {', '.join(names)}")
    await db.execute("DROP SCHEMA syncline")
    await take_away(db, role)


_OURS = {
    "FUNCTION": "SELECT oid::regprocedure::text FROM pg_catalog.pg_proc WHERE pronamespace = 'syncline'::regnamespace",
    "TABLE": "SELECT oid::regclass::text FROM pg_catalog.pg_class "
    "WHERE relnamespace = 'syncline'::regnamespace AND relkind = 'r'",
}
