"""What a person has to see: rejected changes, kept until they are dismissed, and conflicts."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from syncline.model.identifiers import quote
from syncline.model.program import ProgramTable
from syncline.model.program_base import OPERATION_WORDS
from syncline.protocol import checks
from syncline.replica.outbox import Waiting, find_mutation
from syncline.replica.store import Store
from syncline.replica.times import time_text
from syncline.values import Key, Value, encode_row, encode_value

_DEFINITION = re.compile(r'CREATE (TRIGGER|INDEX) ("(?:[^"]|"")*")')


def key_json(columns: Iterable[str], key: Key) -> str:
    """A JSON object column -> value; values as on the wire."""
    return _object({column: encode_value(value) for column, value in zip(columns, key, strict=True)})


def _object(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def name_of_definition(statement: str) -> tuple[str, str]:
    """("TRIGGER", quoted name) of a CREATE TRIGGER or CREATE INDEX of the program."""
    found = _DEFINITION.match(statement)
    if found is None:
        raise checks.bad("ddl", "is not a trigger or an index")
    return found[1], quote(found[2][1:-1].replace('""', '"'))


def write_outcomes(store: Store, outcomes: list[dict[str, Any]], included: int) -> tuple[int, int]:
    """Parks what was rejected and keeps conflicts; answers how many of each. Inside the apply's transaction."""
    rejected = conflicts = 0
    for outcome in outcomes:
        number = checks.integer(outcome, "n")
        table = checks.text(outcome, "table")
        mine = find_mutation(store, table, number) if number <= included else None
        listed = outcome.get("conflicts")
        if type(listed) is list and listed and mine is not None:
            conflicts += _write_conflicts(store, mine, listed)
        if outcome.get("kind") == "rejected" and mine is not None:
            _park(store, mine, checks.text(outcome, "code"), checks.text(outcome, "reason", 100_000))
            store.run(mine.table, "forget_one", (number,))
            rejected += 1
    return rejected, conflicts


def _park(store: Store, mine: Waiting, code: str, reason: str) -> None:
    """With the values, but for rows outside the scope: those may not be kept."""
    mutation = mine.mutation
    values: dict[str, Value] = {}
    if mutation.operation != "D":
        values = {column: new for column, (new, _) in mutation.changes.items()}
    shown = None if code == "scope" else _object({column: encode_value(value) for column, value in values.items()})
    steps = None if code == "scope" else _increments(mine)
    _insert(store, mine, OPERATION_WORDS[mutation.operation], code, reason, shown, steps)


def park_lost(store: Store, mine: Waiting, values: Mapping[str, Value]) -> None:
    """What a waiting change wrote into columns that are not there any more: an update of its row, to be written
    elsewhere or dismissed. The change itself goes on without them."""
    named = ", ".join(f'"{column}"' for column in values)
    reason = (
        f'"{mine.table.name}" no longer has {named} for this device: what was written there did not reach the office. '
        "The rest of the change is sent."
    )
    shown = _object({column: encode_value(value) for column, value in values.items()})
    _insert(store, mine, OPERATION_WORDS["U"], "column", reason, shown, None)


def _insert(
    store: Store, mine: Waiting, operation: str, code: str, reason: str, shown: str | None, steps: str | None
) -> None:
    mutation = mine.mutation
    store.connection.execute(
        "INSERT INTO syncline_parked (n, table_name, key, key_values, operation, code, reason, row_values, grp, at, "
        "increments) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            mutation.number,
            mutation.table,
            key_json(mine.table.key, mutation.key),
            encode_row(mutation.key),
            operation,
            code,
            reason,
            shown,
            mine.group or None,
            time_text(store.now_us()),
            steps,
        ),
    )


def _increments(mine: Waiting) -> str | None:
    """By how much an update raised the columns with the policy `add`: a retry raises them by as much again."""
    if mine.mutation.operation != "U":
        return None
    added = {column: pair for column, pair in mine.mutation.changes.items() if mine.table.rebase.get(column) == "add"}
    steps = {column: _number(new) - _number(old) for column, (new, old) in added.items()}
    sound = {column: encode_value(step) for column, step in steps.items() if abs(step) < 2**63}  # NaN is not, either
    return _object(sound) if sound else None


def _number(value: Value) -> int | float:
    """As the program's SQL counts: anything but a number is 0."""
    return value if type(value) in (int, float) else 0  # type: ignore[return-value]


def _write_conflicts(store: Store, mine: Waiting, listed: list[Any]) -> int:
    written = 0
    # Of a row that is no longer held no value may stay here, not even as a conflict's: the office has them all.
    # A change from before the table was another one names no row of it.
    is_current = store.tables.get(mine.table.name) is mine.table
    held = is_current and store.number(mine.table, "is_held", mine.mutation.key)
    for conflict in listed:
        if type(conflict) is not dict:
            raise checks.bad("conflicts", "holds something that is not an object")
        store.connection.execute(
            "INSERT INTO syncline_conflict (n, table_name, key, key_values, column_name, kind, rule, base, server, "
            "device, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                mine.number,
                mine.mutation.table,
                key_json(mine.table.key, mine.mutation.key),
                encode_row(mine.mutation.key),
                checks.optional_text(conflict, "column") or "",
                checks.text(conflict, "kind"),
                checks.optional_text(conflict, "rule") or "",
                *(
                    json.dumps(conflict.get(side) if held else None, ensure_ascii=False)
                    for side in ("base", "server", "device")
                ),
                time_text(store.now_us()),
            ),
        )
        written += 1
    return written


def erase_lost(store: Store, table: ProgramTable) -> None:
    """Conflicts, and the values of rejections, of keys that just left the device."""
    db = store.connection
    has_records = db.execute(
        "SELECT EXISTS (SELECT 1 FROM syncline_conflict WHERE table_name = ?1) "
        "OR EXISTS (SELECT 1 FROM syncline_parked WHERE table_name = ?1 AND row_values IS NOT NULL)",
        (table.name,),
    ).fetchone()[0]
    if not has_records:
        return
    lost = [(table.name, encode_row(key)) for key in store.fetch(table, "lost")]
    db.executemany("DELETE FROM syncline_conflict WHERE table_name = ? AND key_values = ?", lost)
    db.executemany(
        "UPDATE syncline_parked SET row_values = NULL, increments = NULL WHERE table_name = ? AND key_values = ?", lost
    )


def read_rejections(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """What was refused, oldest first: `{id, table, key, operation, code, reason, values, group, at}`."""
    rows = connection.execute(
        "SELECT id, table_name, key, operation, code, reason, row_values, grp, at FROM syncline_parked ORDER BY id"
    ).fetchall()
    names = ("id", "table", "key", "operation", "code", "reason", "values", "group", "at")
    found = [dict(zip(names, row, strict=True)) for row in rows]
    for each in found:
        each["key"] = json.loads(each["key"])
        each["values"] = None if each["values"] is None else json.loads(each["values"])
    return found


def read_conflicts(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """`{id, table, key, column, kind, rule, base, server, device, at}`; `device` is what this device wrote."""
    rows = connection.execute(
        "SELECT id, table_name, key, column_name, kind, rule, base, server, device, at "
        "FROM syncline_conflict ORDER BY id"
    ).fetchall()
    names = ("id", "table", "key", "column", "kind", "rule", "base", "server", "device", "at")
    found = [dict(zip(names, row, strict=True)) for row in rows]
    for each in found:
        for name in ("key", "base", "server", "device"):
            each[name] = None if each[name] is None else json.loads(each[name])
    return found
