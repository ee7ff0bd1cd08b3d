"""Keys for new rows, made on the device, without asking anybody."""

from __future__ import annotations

import re
import secrets
import sqlite3
import uuid
from collections.abc import Mapping

from syncline.errors import ReplicaError
from syncline.model.identifiers import nearest, quote
from syncline.model.new_keys import NEW_KEY_MAX, NEW_KEY_MIN
from syncline.model.program import ProgramTable
from syncline.model.program_shape import affinity
from syncline.values import Value

_LENGTH = re.compile(r"\(\s*(\d+)\s*\)")
_UUID_DASHED, _UUID_HEX = 36, 32


def find_table(tables: Mapping[str, ProgramTable], name: str) -> ProgramTable:
    """By its name in any case; ReplicaError with the nearest one otherwise."""
    found = tables.get(name) if isinstance(name, str) else None
    if found is not None:
        return found
    for each in tables.values():
        if isinstance(name, str) and each.name.lower() == name.lower():
            return each
    raise ReplicaError(
        f"This replica syncs no table {name!r}.", hint=nearest(str(name), tables).strip(), code="unknown_table"
    )


def new_key(connection: sqlite3.Connection, table: ProgramTable, column: str | None = None) -> Value:
    """A key that no row here has, nor, as far as chance goes, anywhere: see `model.new_keys` for integers; text is a
    UUID with dashes (32 digits where the column holds no more), a BLOB a UUID's 16 bytes.

    `column` names the part of a key of several columns. ReplicaError (`key_not_generated`) for a part that only the app
    can choose.
    """
    column = _part(table, column)
    for _ in range(10):
        value = _draw(table, column)
        taken = connection.execute(
            f"SELECT EXISTS (SELECT 1 FROM {quote(table.name)} WHERE {quote(column)} = ?)", (value,)
        ).fetchone()[0]
        if not taken:
            return value
    raise ReplicaError(f'No free key was found for "{table.name}".', hint="Try again.", code="no_free_key")


def _part(table: ProgramTable, column: str | None) -> str:
    if column is not None:
        if column not in table.key:
            raise ReplicaError(
                f'"{column}" is not in the key of "{table.name}".',
                hint=f"The key is {', '.join(table.key)}.",
                code="unknown_column",
            )
        return column
    if len(table.key) > 1:
        raise ReplicaError(
            f'The key of "{table.name}" has {len(table.key)} parts: {", ".join(table.key)}.',
            hint=f'Name the one that is wanted, for example new_key("{table.name}", "{table.key[-1]}").',
            code="key_not_generated",
        )
    return table.key[0]


def _draw(table: ProgramTable, column: str) -> Value:
    declared = table.types[column]
    kind = affinity(declared)
    if kind == "INTEGER":
        return NEW_KEY_MIN + secrets.randbelow(NEW_KEY_MAX - NEW_KEY_MIN + 1)
    if kind == "BLOB" and declared:
        return uuid.uuid4().bytes
    if kind in ("TEXT", "BLOB") or "UUID" in declared.upper():
        length = _LENGTH.search(declared)
        room = int(length[1]) if length else _UUID_DASHED
        if room >= _UUID_DASHED:
            return str(uuid.uuid4())
        if room >= _UUID_HEX:
            return uuid.uuid4().hex
    raise ReplicaError(
        f'A key of "{table.name}" ({column} {declared}) is not one that can be drawn.',
        hint="The app has to choose it.",
        code="key_not_generated",
    )
