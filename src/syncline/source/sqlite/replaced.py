"""Which rows a statement may be about to remove without a word.

INSERT OR REPLACE, UPDATE OR REPLACE and constraints with ON CONFLICT REPLACE delete the rows that stand in the way, and
fire no delete trigger for them (unless the host set `recursive_triggers`). So whatever stands in the way is noted
before: a row that in the end stays has been noted for nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from syncline.model.identifiers import quote
from syncline.model.schema import Column, Table, Unique

_CONSTANT = re.compile(r"[+-]?[\d.]+(?:[eE][+-]?\d+)?|0[xX][0-9a-fA-F]+|'(?:[^']|'')*'|[xX]'[0-9a-fA-F]*'")


@dataclass(frozen=True)
class Probe:
    """`rows`: a FROM item called t, which with `where` finds what stands in the way of the trigger's `new`. `columns`:
    a change of these alone can bring that about; empty: a change of the row's number."""

    rows: str
    where: str
    columns: tuple[str, ...]


def probes_of(table: Table, key: tuple[str, ...]) -> list[Probe]:
    """By the key, by every other unique constraint or index, and by the number of the row."""
    by_key = Unique(tuple(quote(column) for column in key), ("BINARY",) * len(key), "", key)
    probes = [_probe(table, unique) for unique in dict.fromkeys([by_key, *table.uniques])]
    if table.row_number:
        name = table.row_number
        probes.append(Probe(f"{quote(table.name)} AS t", f"t.{name} = new.{name}", ()))
    return probes


def _probe(table: Table, unique: Unique) -> Probe:
    plain = tuple(quote(column) for column in unique.columns) == unique.terms and not unique.where
    if plain:
        compared = [
            f"t.{term} = {_new(table.column(column))} COLLATE {quote(collation)}"
            for column, term, collation in zip(unique.columns, unique.terms, unique.collations, strict=True)
        ]
        return Probe(f"{quote(table.name)} AS t", " AND ".join(compared), unique.columns)
    # Bare names in the index's own words mean the columns of the innermost FROM: the table's there, the new row's here.
    new_row = f"(SELECT {', '.join(f'{_new(column)} AS {quote(column.name)}' for column in table.columns)})"
    conditions = []
    if unique.where:
        conditions = [f"({unique.where})", f"EXISTS (SELECT 1 FROM {new_row} WHERE ({unique.where}))"]
    conditions += [
        f"({term}) = (SELECT {term} FROM {new_row}) COLLATE {quote(collation)}"
        for term, collation in zip(unique.terms, unique.collations, strict=True)
    ]
    return Probe(f"(SELECT * FROM {quote(table.name)} WHERE {' AND '.join(conditions)}) AS t", "1", unique.columns)


def _new(column: Column) -> str:
    """The value that will be stored: for REPLACE a NULL where there may be none means the default."""
    value = f"new.{quote(column.name)}"
    default = (column.default or "").strip()
    return f"coalesce({value}, {default})" if column.not_null and _CONSTANT.fullmatch(default) else value
