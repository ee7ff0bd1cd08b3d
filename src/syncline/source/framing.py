"""Rows as they come from the database, cut into the frames of a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from syncline import limits
from syncline.source.images import encode_rows
from syncline.source.port import PageRows
from syncline.source.room import Room, warn_too_large
from syncline.values import Key, Row, encode_row

BATCH_ROWS_MIN = 8
BATCH_ROWS_MAX = 128
BATCH_BYTES_TARGET = 64 * 1024
"""Rows are fetched so many at a time: large ones must not stand in memory by the thousand."""

Places = tuple[int, ...]


class Framing:
    """Takes the rows of one table, batch by batch in key order, and appends frames to `found`.

    `names[i]` is the bucket whose place is i; `key_places` tell where in a row its key columns are. `batch_rows`: how
    many rows the next batch should have; `count`: how many came; `reached`: the key of the last row that is framed;
    `is_stopped`: the room was taken before the rows were.
    """

    def __init__(
        self,
        table: str,
        layout: int,
        names: Sequence[str],
        key_places: Sequence[int],
        room: Room,
        found: list[PageRows],
        batch_rows_max: int = BATCH_ROWS_MAX,
    ) -> None:
        self._table = table
        self._layout = layout
        self._names = names
        self._key_places = key_places
        self._room = room
        self._found = found
        self._batch_rows_max = batch_rows_max
        self._clear()
        self.batch_rows = BATCH_ROWS_MIN
        self.reached: Key | None = None
        self.count = 0
        self.is_stopped = False

    def _clear(self) -> None:
        self._parts: list[bytes] = []
        self._of: list[Places | int] = []
        self._bytes = 0

    def key(self, row: Row) -> Key:
        return tuple([row[place] for place in self._key_places])

    def take(self, rows: Sequence[Row], of: Sequence[Places | int]) -> bool:
        """A batch, with the place or places of each row's buckets. True when the room is taken: then all that came
        is framed."""
        self.count += len(rows)
        for key, images, part_of in self._encoded(rows, of):
            self.reached = key
            self._parts.append(images)
            self._of += part_of
            self._bytes += len(images)
            if self._bytes > limits.ROWS_FRAME_BYTES_TARGET or len(self._of) > self._rows_full:
                self._close(key)
        self.is_stopped = self._room.bytes <= 0 and not self._of
        return self.is_stopped

    @property
    def _rows_full(self) -> int:
        return limits.ROWS_PER_FRAME_MAX - self._batch_rows_max

    def finish(self) -> None:
        if self._of and self.reached is not None:
            self._close(self.reached)

    def _encoded(
        self, rows: Sequence[Row], of: Sequence[Places | int]
    ) -> Iterator[tuple[Key, bytes, Sequence[Places | int]]]:
        """The batch as a whole, or, where its rows are large, row by row without those that no frame can carry."""
        images = encode_rows(rows)
        fitting = BATCH_BYTES_TARGET * len(rows) // len(images)
        self.batch_rows = max(1, min(self.batch_rows * 2, fitting, self._batch_rows_max))
        if len(images) <= limits.ROWS_FRAME_BYTES_TARGET:
            yield self.key(rows[-1]), images, of
            return
        for row, places in zip(rows, of, strict=True):
            images = encode_rows([row])
            if len(images) > limits.ROW_BYTES_MAX:
                warn_too_large(self._table, encode_row(self.key(row)), len(images))
            else:
                yield self.key(row), images, [places]

    def _close(self, reached: Key) -> None:
        names, of = _buckets(self._names, self._of)
        rows = PageRows(
            table=self._table,
            layout=self._layout,
            buckets=names,
            of=of,
            images=b"[%b]" % b",".join(self._parts),
            count=len(self._of),
            place=encode_row((self._table, *reached)),
        )
        self._clear()
        self._found.append(rows)
        self._room.bytes -= len(rows.images)


def _buckets(
    names: Sequence[str], of: Sequence[Places | int]
) -> tuple[tuple[str, ...], tuple[int | Places, ...] | None]:
    """The names of a frame's buckets, and per row where it belongs among them."""
    if not any(type(places) is tuple for places in of):
        order = dict.fromkeys(of)
        if len(order) == 1:
            return (names[of[0]],), None  # type: ignore[index]
        local = {place: index for index, place in enumerate(order)}
        return tuple([names[place] for place in order]), tuple([local[place] for place in of])  # type: ignore[index]
    found: dict[int, int] = {}
    told: list[int | Places] = []
    for places in of:
        own = tuple([found.setdefault(place, len(found)) for place in places])  # type: ignore[union-attr]
        told.append(own[0] if len(own) == 1 else own)
    return tuple([names[place] for place in found]), None if len(found) == 1 else tuple(told)
