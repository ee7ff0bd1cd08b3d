"""What a person decides about a rejected change: to forget it, or to try it again, corrected."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from syncline.errors import ReplicaError
from syncline.model.identifiers import nearest, quote, quote_list
from syncline.model.program import ProgramTable
from syncline.replica.keys import find_table
from syncline.system.database import execute
from syncline.values import Value, decode_value, key_of_text

Rejection: TypeAlias = "Mapping[str, Any] | int"
"""What `rejections()` gives, or its id."""


def dismiss(connection: sqlite3.Connection, rejection: Rejection) -> bool:
    """False where it is gone already: two people may have seen it."""
    where, parameters = _which(rejection)
    return connection.execute(f"DELETE FROM syncline_parked WHERE {where}", parameters).rowcount > 0


def _which(rejection: Rejection) -> tuple[str, tuple[Any, ...]]:
    """SQL that finds it. With its time, where that is known: a file that was emptied for another user begins to count
    anew."""
    if isinstance(rejection, Mapping):
        number, at = rejection.get("id"), rejection.get("at")
    else:
        number, at = rejection, None
    if type(number) is not int:
        raise ReplicaError(
            f"A rejection is what rejections() gives, or its id, not {rejection!r}.", code="not_a_rejection"
        )
    if not -(2**63) <= number < 2**63:
        return "0", ()
    return ("id = ?", (number,)) if at is None else ("id = ? AND at = ?", (number, at))


@dataclass(frozen=True)
class _Parked:
    """`values` of a deletion are empty. `gone`: columns that it wrote and the table has no more. `increments`: column
    -> by how much it was raised, with the policy `add`."""

    table: ProgramTable
    key: dict[str, Value]
    operation: str
    values: dict[str, Value]
    gone: tuple[str, ...]
    increments: dict[str, Value]


def retry(
    connection: sqlite3.Connection,
    tables: Mapping[str, ProgramTable],
    rejection: Rejection,
    corrections: Mapping[str, Any],
) -> None:
    """Makes the change again as a new one of the app's, with `corrections` (column -> value) over what it wrote, and
    forgets the rejection: in the caller's transaction, which is to be rolled back after an error.

    ReplicaError: `rejection_gone`, `values_gone` (the row has left this device), `row_gone` (or has another
    key now), `row_exists`, `unknown_column`, `retry_failed`.
    """
    parked = _read(connection, tables, rejection)
    for column in corrections:
        if column not in parked.table.columns:
            raise ReplicaError(
                f'"{parked.table.name}" has no column "{column}".',
                hint=nearest(str(column), parked.table.columns).strip(),
                code="unknown_column",
            )
    if parked.gone and not parked.values and not corrections:
        raise ReplicaError(
            f'"{parked.table.name}" no longer has {", ".join(parked.gone)}, and this change wrote nothing else.',
            hint="Name the column to write to, with its value, or dismiss the rejection.",
            code="unknown_column",
        )
    try:
        _write(connection, parked, dict(corrections))
    except (sqlite3.Error, OverflowError) as error:
        raise ReplicaError(
            f'The change of "{parked.table.name}" could not be made again: {error}.',
            hint="Correct it, or dismiss the rejection.",
            code="retry_failed",
        ) from error
    dismiss(connection, rejection)


def _read(connection: sqlite3.Connection, tables: Mapping[str, ProgramTable], rejection: Rejection) -> _Parked:
    where, parameters = _which(rejection)
    row = connection.execute(
        f"SELECT table_name, key, key_values, operation, row_values, increments FROM syncline_parked WHERE {where}",
        parameters,
    ).fetchone()
    if row is None:
        raise ReplicaError(
            "This rejection is no longer there.", hint="It was dismissed or tried again.", code="rejection_gone"
        )
    table_name, shown_key, key, operation, values, increments = row
    if values is None:
        raise ReplicaError(
            f'What was written to "{table_name}" is no longer on this device: the row is not yours any more.',
            hint="The office has it.",
            code="values_gone",
        )
    table = find_table(tables, table_name)
    named = tuple(json.loads(shown_key))
    if named != table.key:
        raise ReplicaError(
            f'This change was made when the key of "{table.name}" was ({", ".join(named)}): it is '
            f"({', '.join(table.key)}) now.",
            hint="Write the change anew, then dismiss the rejection.",
            code="row_gone",
        )
    written = {column: decode_value(value) for column, value in json.loads(values).items()}
    return _Parked(
        table,
        dict(zip(table.key, key_of_text(key), strict=True)),
        operation,
        {column: value for column, value in written.items() if column in table.columns},
        tuple(column for column in written if column not in table.columns),
        {column: decode_value(value) for column, value in json.loads(increments or "{}").items()},
    )


def _write(connection: sqlite3.Connection, parked: _Parked, corrections: dict[str, Any]) -> None:
    name = quote(parked.table.name)
    if parked.operation == "insert":
        row = {**parked.key, **parked.values, **corrections}
        _refuse_existing(connection, parked.table, row)
        execute(connection, f"INSERT INTO {name} ({quote_list(row)}) VALUES ({_marks(len(row))})", tuple(row.values()))
        return
    where = " AND ".join(f"{quote(column)} = ?{number}" for number, column in enumerate(parked.key, 1))
    key = tuple(parked.key.values())
    if not execute(connection, f"SELECT EXISTS (SELECT 1 FROM {name} WHERE {where})", key).fetchone()[0]:
        raise ReplicaError(
            f'The row of "{parked.table.name}" is not there any more.', hint="Dismiss the rejection.", code="row_gone"
        )
    if parked.operation == "delete":
        if corrections:
            raise ReplicaError("A deletion has no values to correct.", code="unknown_column")
        execute(connection, f"DELETE FROM {name} WHERE {where}", key)
        return
    values = {**parked.values, **corrections}
    raised = parked.increments.keys() - corrections.keys()
    sets = [
        f"{quote(column)} = {_raised(column, number) if column in raised else f'?{number}'}"
        for number, column in enumerate(values, len(key) + 1)
    ]
    bound = [parked.increments[column] if column in raised else value for column, value in values.items()]
    if sets:
        execute(connection, f"UPDATE {name} SET {', '.join(sets)} WHERE {where}", (*key, *bound))


def _refuse_existing(connection: sqlite3.Connection, table: ProgramTable, row: dict[str, Value]) -> None:
    where = " AND ".join(f"{quote(column)} = ?{number}" for number, column in enumerate(table.key, 1))
    key = tuple(row[column] for column in table.key)
    found = execute(connection, f"SELECT EXISTS (SELECT 1 FROM {quote(table.name)} WHERE {where})", key).fetchone()[0]
    if found:
        raise ReplicaError(
            f'"{table.name}" has a row of that key already.',
            hint=f"Give it another one: {{{table.key[0]!r}: replica.new_key({table.name!r})}}.",
            code="row_exists",
        )


def _raised(column: str, number: int) -> str:
    """Somebody else may have counted meanwhile: the same step again, from where the row is now."""
    own = quote(column)
    return f"CASE WHEN typeof({own}) IN ('integer', 'real') THEN {own} ELSE 0 END + ?{number}"


def _marks(count: int) -> str:
    return ", ".join(f"?{number}" for number in range(1, count + 1))
