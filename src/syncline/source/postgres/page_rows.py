"""The rows of a page, as they come from the database, cut into frames.

Values come column by column in PostgreSQL's binary form and are written as JSON here: making the JSON in SQL takes the
database more than twice as long as the whole of this.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg

from syncline.source.framing import Framing, Places
from syncline.source.port import PageRows
from syncline.source.postgres.layout import TableSql
from syncline.source.postgres.types import value_of
from syncline.source.postgres.walk_sql import Statement, Wanted, fits_feed, is_long, key_columns
from syncline.source.room import Room
from syncline.values import Key, Row, Value, encode_row

BATCH_ROWS_MAX = 256


class RowsReader:
    """Reads a page's rows, statement by statement, each by a cursor of the page's transaction."""

    def __init__(self, db: asyncpg.Connection) -> None:
        self._db = db

    async def read(
        self, table: TableSql, wanted: Wanted, query: str, statement: Statement, room: Room, found: list[PageRows]
    ) -> Framing:
        """Appends frames. `query` answers each row's place or places, then its visible columns, in key order. The
        framing tells how far it came: `is_stopped` if the room was taken first."""
        synced = table.synced
        places = [synced.columns.index(column) for column in synced.key]
        framing = Framing(synced.name, table.layout, wanted.names, places, room, found, BATCH_ROWS_MAX)
        shape = _Shape(table, wanted, framing)
        cursor = _cursor_name(table, query)
        await self._db.execute(f"DECLARE {cursor} NO SCROLL CURSOR FOR {query}", *statement.given)
        while batch := await self._db.fetch(f"FETCH {framing.batch_rows} FROM {cursor}"):
            rows, of = shape.rows(batch)
            if rows and framing.take(rows, of):
                break
        framing.finish()
        await self._db.execute(f"CLOSE {cursor}")
        return framing


def _cursor_name(table: TableSql, query: str) -> str:
    """Another one for every shape of its rows: the driver keeps a FETCH by its text, and with it the types of what it
    answers."""
    shape = [query, *(f"{column.name} {column.type}" for column in table.synced.table.columns)]
    return f"syncline_rows_{hashlib.sha256(chr(0).join(shape).encode()).hexdigest()[:16]}"


class _Shape:
    """Makes rows of what the database answers."""

    def __init__(self, table: TableSql, wanted: Wanted, framing: Framing) -> None:
        synced = table.synced
        columns = [synced.table.column(name) for name in synced.columns]
        self._menders: list[tuple[int, Callable[[Any], Value]]] = [
            (place, mend) for place, column in enumerate(columns, 1) if (mend := value_of(column)) is not None
        ]
        self._names = wanted.names
        self._framing = framing
        self._may_be_long = any(map(is_long, key_columns(synced.table)))
        self._longest_name = max((len(name.encode()) for name in wanted.names), default=0)

    def rows(self, batch: Sequence[Any]) -> tuple[Sequence[Row], Sequence[Places | int]]:
        columns: list[Sequence[Any]] = list(zip(*batch, strict=True))
        for place, mend in self._menders:
            columns[place] = [mend(value) for value in columns[place]]
        of = columns[0]
        if isinstance(of[0], list):
            of = [tuple(places) for places in of]
        rows: list[Row] = list(zip(*columns[1:], strict=True))
        return self._fitting(rows, of) if self._may_be_long else (rows, of)

    def _fitting(self, rows: list[Row], of: Sequence[Places | int]) -> tuple[list[Row], list[Places | int]]:
        """Without the rows of which no line of the feed could tell later."""
        kept = [
            (row, places) for row, places in zip(rows, of, strict=True) if self._fits(self._framing.key(row), places)
        ]
        return [row for row, _ in kept], [places for _, places in kept]

    def _fits(self, key: Key, places: Places | int) -> bool:
        if sum([len(value) if isinstance(value, str | bytes) else 20 for value in key]) < 200 > self._longest_name:
            return True
        names = [self._names[place] for place in (places if isinstance(places, tuple) else (places,))]
        return fits_feed(names, encode_row(key))
