"""The rows of a range of keys, as they come from the database, cut into frames."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from syncline.source.framing import Framing, Places
from syncline.source.port import PageRows
from syncline.source.room import Room
from syncline.source.sqlite.layout import TableSql
from syncline.source.sqlite.walk_sql import WalkSql
from syncline.system.database import fetch_all, text_or_raw, with_raw_text
from syncline.values import Key, Row


class RowsReader:
    """Reads a range once. `count`: how many rows it gave."""

    def __init__(self, connection: sqlite3.Connection, table: TableSql, sql: WalkSql, names: Sequence[str]) -> None:
        self._db = connection
        self._table = table
        self._sql = sql
        self._names = names
        self._key_places = [table.synced.columns.index(column) for column in table.synced.key]

    def read(self, after: Key | None, upto: Key | None, room: Room, found: list[PageRows]) -> Key | None:
        """Appends frames; None when the range is read to its end, else the last key before the room was taken."""
        self._framing = Framing(self._table.synced.name, self._table.layout, self._names, self._key_places, room, found)
        for rows, of in self._batches(after, upto):
            if self._framing.take(rows, of):
                return self._framing.reached
        self._framing.finish()
        return None

    @property
    def count(self) -> int:
        return self._framing.count

    def _batches(self, after: Key | None, upto: Key | None) -> Iterator[tuple[list[Row], list[Places | int]]]:
        """Text that is not UTF-8 is met by beginning again after the last row that was read well."""
        last = after
        try:
            for rows, of in self._fetch(after, upto):
                yield rows, of
                last = self._framing.key(rows[-1])
            return
        except sqlite3.OperationalError as error:
            if "UTF-8" not in str(error):
                raise
        self._db.text_factory = text_or_raw
        try:
            yield from self._fetch(last, upto)
        finally:
            self._db.text_factory = str

    def _fetch(self, after: Key | None, upto: Key | None) -> Iterator[tuple[list[Row], list[Places | int]]]:
        first, final = after is None, upto is None
        bounds = (*(after or ()), *(upto or ()))
        members: dict[Key, Places] | None = None
        if self._sql.is_simple:
            query = self._sql.rows(is_first=first, is_last=final)
        else:
            members = self._memberships(self._sql.memberships(is_first=first, is_last=final), bounds)
            query = self._sql.all_rows(is_first=first, is_last=final)
        cursor = self._db.execute(with_raw_text(query, bounds), bounds)
        while batch := cursor.fetchmany(self._framing.batch_rows):
            rows: list[Row] = [row[1:] for row in batch]
            if members is None:
                yield rows, [row[0] for row in batch]
            else:
                kept = [(row, places) for row in rows if (places := members.get(self._framing.key(row)))]
                if kept:
                    yield [row for row, _ in kept], [places for _, places in kept]

    def _memberships(self, query: str, bounds: Key) -> dict[Key, Places]:
        found: dict[Key, list[int]] = {}
        for place, *key in fetch_all(self._db, query, bounds):
            found.setdefault(tuple(key), []).append(place)
        return {key: tuple(sorted(places)) for key, places in found.items()}
