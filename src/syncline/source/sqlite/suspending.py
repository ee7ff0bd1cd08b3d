"""Capture taken off for a migration, and what keeps watch meanwhile.

A trigger that names a column stands in the way of `ALTER TABLE … DROP COLUMN`. In the place of capture an *alarm* is
put on the table: three triggers that name no column and leave a gap when anybody writes. Where the alarm is still there
when capture comes back, and is silent, nothing was missed; a table that was rebuilt has lost it. What was missed before
is not the alarm's to know: where capture is not what was put in when it is taken off, that leaves a gap, too.
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
_NOTED = "triggers:"
"""Prefix of the names in syncline_meta under which the triggers that were put on a table are noted."""


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


def note_triggers(connection: sqlite3.Connection, tables: Collection[str]) -> None:
    """Inside the transaction that has put capture on all these tables."""
    connection.execute("DELETE FROM syncline_meta WHERE name LIKE ?1", (f"{_NOTED}%",))
    for table in sorted(tables):
        connection.execute(f"INSERT INTO syncline_meta SELECT ?1, {_standing(table)}", (_NOTED + table,))


def _standing(table: str) -> str:
    """An expression: how many triggers of ours are on the table, and how long they are together."""
    return (
        "(SELECT count(*) || ':' || coalesce(sum(length(sql)), 0) FROM sqlite_schema WHERE type = 'trigger' "
        f"AND tbl_name = {literal(table)} AND name LIKE 'syncline\\_%' ESCAPE '\\')"
    )


def _note_missed(table: str) -> str:
    """The statement that leaves a gap where neither all of capture stands nor the whole alarm."""
    alarm = alarm_sql(table).values()
    whole = literal(f"{len(alarm)}:{sum(map(len, alarm))}")
    return (
        f"INSERT INTO syncline_meta SELECT {literal(GAP_PREFIX + table)}, 'missed' "
        f"WHERE EXISTS(SELECT 1 FROM syncline_term) AND {_standing(table)} NOT IN ({whole}, "
        f"coalesce((SELECT value FROM syncline_meta WHERE name = {literal(_NOTED + table)}), '')) "
        "ON CONFLICT DO NOTHING"
    )


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
        statements.append(_note_missed(table))
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
