"""The rows of a range of keys, as they come from the database, cut into frames."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from syncline import limits
from syncline.source.port import PageRows
from syncline.source.images import encode_rows
from syncline.source.sqlite.layout import TableSql
from syncline.source.room import Room, warn_too_large
from syncline.source.sqlite.walk_sql import WalkSql
from syncline.system.database import fetch_all, text_or_raw, with_raw_text
from syncline.values import Key, Row, encode_row

BATCH_ROWS_MIN = 8
BATCH_ROWS_MAX = 128
BATCH_BYTES_TARGET = 64 * 1024
"""Rows are fetched so many at a time: large ones must not stand in memory by the thousand."""

Places = tuple[int, ...]


class RowsReader:
    """Reads a range once. `count`: how many rows it gave."""

    def __init__(self, connection: sqlite3.Connection, table: TableSql, sql: WalkSql, names: Sequence[str]) -> None:
        self._db = connection
        self._table = table
        self._sql = sql
        self._names = names
        self._key_places = [table.synced.columns.index(column) for column in table.synced.key]
        self._batch_rows = BATCH_ROWS_MIN
        self.count = 0

    def read(self, after: Key | None, upto: Key | None, room: Room, found: list[PageRows]) -> Key | None:
        """Appends frames; None when the range is read to its end, else the last key before the room was taken."""
        frame = _Frame(self._table, self._names)
        reached: Key | None = None
        for rows, of in self._batches(after, upto):
            self.count += len(rows)
            for key, images, part_of in self._encoded(rows, of):
                reached = key
                frame.add(images, part_of)
                if frame.is_full:
                    found.append(frame.close(reached))
                    room.bytes -= len(found[-1].images)
            if room.bytes <= 0 and not frame.count:
                return reached
        if frame.count and reached is not None:
            found.append(frame.close(reached))
            room.bytes -= len(found[-1].images)
        return None

    def _encoded(self, rows: list[Row], of: list[Places | int]) -> Iterator[tuple[Key, bytes, list[Places | int]]]:
        """The batch as a whole, or, where its rows are large, row by row without those that no frame can carry."""
        images = encode_rows(rows)
        fitting = BATCH_BYTES_TARGET * len(rows) // len(images)
        self._batch_rows = max(1, min(self._batch_rows * 2, fitting, BATCH_ROWS_MAX))
        if len(images) <= limits.ROWS_FRAME_BYTES_TARGET:
            yield self._key(rows[-1]), images, of
            return
        for row, places in zip(rows, of, strict=True):
            images = encode_rows([row])
            if len(images) > limits.ROW_BYTES_MAX:
                warn_too_large(self._table.synced.name, encode_row(self._key(row)), len(images))
            else:
                yield self._key(row), images, [places]

    def _key(self, row: Row) -> Key:
        return tuple([row[place] for place in self._key_places])

    def _batches(self, after: Key | None, upto: Key | None) -> Iterator[tuple[list[Row], list[Places | int]]]:
        """Text that is not UTF-8 is met by beginning again after the last row that was read well."""
        last = after
        try:
            for rows, of in self._fetch(after, upto):
                yield rows, of
                last = self._key(rows[-1])
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
        while batch := cursor.fetchmany(self._batch_rows):
            rows: list[Row] = [row[1:] for row in batch]
            if members is None:
                yield rows, [row[0] for row in batch]
            else:
                kept = [(row, places) for row in rows if (places := members.get(self._key(row)))]
                if kept:
                    yield [row for row, _ in kept], [places for _, places in kept]

    def _memberships(self, query: str, bounds: Key) -> dict[Key, Places]:
        found: dict[Key, list[int]] = {}
        for place, *key in fetch_all(self._db, query, bounds):
            found.setdefault(tuple(key), []).append(place)
        return {key: tuple(sorted(places)) for key, places in found.items()}


class _Frame:
    """Rows that go into one `PageRows`."""

    def __init__(self, table: TableSql, names: Sequence[str]) -> None:
        self._table = table
        self._names = names
        self._clear()

    def _clear(self) -> None:
        self._parts: list[bytes] = []
        self._of: list[Places | int] = []
        self._bytes = 0
        self.count = 0

    def add(self, images: bytes, of: list[Places | int]) -> None:
        self._parts.append(images)
        self._of += of
        self._bytes += len(images)
        self.count += len(of)

    @property
    def is_full(self) -> bool:
        return self._bytes > limits.ROWS_FRAME_BYTES_TARGET or self.count > limits.ROWS_PER_FRAME_MAX - BATCH_ROWS_MAX

    def close(self, reached: Key) -> PageRows:
        names, of = self._buckets()
        rows = PageRows(
            table=self._table.synced.name,
            layout=self._table.layout,
            buckets=names,
            of=of,
            images=b"[%b]" % b",".join(self._parts),
            count=self.count,
            place=encode_row((self._table.synced.name, *reached)),
        )
        self._clear()
        return rows

    def _buckets(self) -> tuple[tuple[str, ...], tuple[int | Places, ...] | None]:
        """The names of the frame's buckets, and per row where it belongs among them."""
        if not any(type(places) is tuple for places in self._of):
            order = dict.fromkeys(self._of)
            if len(order) == 1:
                return (self._names[self._of[0]],), None  # type: ignore[index]
            local = {place: index for index, place in enumerate(order)}
            return tuple([self._names[place] for place in order]), tuple([local[place] for place in self._of])  # type: ignore[index]
        found: dict[int, int] = {}
        of: list[int | Places] = []
        for places in self._of:
            own = tuple([found.setdefault(place, len(found)) for place in places])  # type: ignore[union-attr]
            of.append(own[0] if len(own) == 1 else own)
        return tuple([self._names[place] for place in found]), None if len(found) == 1 else tuple(of)
