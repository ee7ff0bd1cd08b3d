"""Capture taken off for a migration, and what keeps watch meanwhile.

A trigger that names a column stands in the way of `ALTER TABLE … DROP COLUMN`. In the place of capture an *alarm* is
put on the table: three triggers that name no column and leave a gap when anybody writes. Where the alarm is still there
when capture comes back, and is silent, nothing was missed; a table that was rebuilt has lost it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from syncline.model.identifiers import PREFIX, literal, quote
from syncline.source.sqlite.belongings import our_triggers
from syncline.source.sqlite.generations import GAP_PREFIX

MIGRATION = "migration"
"""The name in syncline_meta under which a migration that has begun says how it goes on: COMMAND or SCRIPT."""
COMMAND = "command"
"""`syncline migrate` runs it, and holds a lock as long as it lives."""
SCRIPT = "script"
"""Whoever ran the script of `--before` runs that of `--after`, or `syncline provision`."""
_EVENTS = ("INSERT", "UPDATE", "DELETE")


def alarm_sql(table: str) -> dict[str, str]:
    """Trigger name -> statement."""
    gap = literal(GAP_PREFIX + table)
    body = (
        f"INSERT INTO syncline_meta SELECT {gap}, 'written' "
        f"WHERE NOT EXISTS(SELECT 1 FROM syncline_meta WHERE name = {gap})"
    )
    found = {}
    for event in _EVENTS:
        name = f"{PREFIX}alarm{event.lower()}_{table}"
        found[name] = f"CREATE TRIGGER {quote(name)} AFTER {event} ON {quote(table)} BEGIN {body}; END"
    return found


def suspend_script(connection: sqlite3.Connection, tables: Collection[str] | None, kind: str) -> tuple[str, ...]:
    """The statements that take capture off these tables, or off all that have it."""
    triggers = our_triggers(connection)
    names = set(triggers.values())
    wanted = sorted(names if tables is None else names & set(tables))
    statements = [
        f"INSERT INTO syncline_meta VALUES({literal(MIGRATION)}, {literal(kind)}) "
        "ON CONFLICT DO UPDATE SET value = excluded.value"
    ]
    for table in wanted:
        statements += [f"DROP TRIGGER IF EXISTS {quote(name)}" for name, on in triggers.items() if on == table]
        statements += alarm_sql(table).values()
    return tuple(statements)


def resume_script() -> tuple[str, ...]:
    """The statement after which the server, or `syncline provision`, puts capture back for the schema as it is then."""
    return (f"DELETE FROM syncline_meta WHERE name = {literal(MIGRATION)}",)


def captured_tables(connection: sqlite3.Connection) -> frozenset[str]:
    """The tables that carry triggers of ours."""
    return frozenset(our_triggers(connection).values())


def watched_tables(existing: dict[str, str]) -> frozenset[str]:
    """Of our objects (name -> statement): the tables on which the whole alarm stands. A renamed table has taken its
    alarm along, under another name."""
    prefix = f"{PREFIX}alarminsert_"
    tables = [name.removeprefix(prefix) for name in existing if name.startswith(prefix)]
    return frozenset(
        table for table in tables if all(existing.get(name) == sql for name, sql in alarm_sql(table).items())
    )
