"""Rows and keys of a table as SQL: values for asyncpg, or the JSON that frames carry, made in the database."""

from __future__ import annotations

from collections.abc import Iterable

from syncline.model.identifiers import quote
from syncline.model.schema import Table
from syncline.source.postgres.types import json_sql, value_sql

_CONCATENATED_MAX = 8


def values_list(table: Table, columns: Iterable[str], prefix: str = "") -> str:
    """`value, value`: what asyncpg gives for it goes through `types.value_of`. `prefix` as in `t0.`."""
    return ", ".join(value_sql(table.column(name), prefix + quote(name)) for name in columns)


def image_json(table: Table, columns: Iterable[str], prefix: str = "") -> str:
    """SQL text: the row as `values.encode_row` writes it, of any number of columns; never NULL."""
    parts = [json_sql(table.column(name), prefix + quote(name)) for name in columns]
    if not parts:
        return "'[]'"
    if len(parts) <= _CONCATENATED_MAX:
        return "('[' || " + " || ',' || ".join(parts) + " || ']')"
    return f"('[' || array_to_string(ARRAY[{', '.join(parts)}], ',') || ']')"


key_json = image_json
"""SQL text: the key as `values.key_text` writes it. No key holds a value that has two spellings."""
