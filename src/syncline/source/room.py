"""How much goes into one read, and which rows go into none."""

from __future__ import annotations

from syncline import limits
from syncline.log import logger
from syncline.source.port import PageSize

_log = logger("source")


TOLD_MAX = 10_000
_told: set[tuple[str, str, int]] = set()
"""Rows that the log has named: table, key, bytes."""


class RoomTakenError(Exception):
    """There is more than the read has room for."""


class Room:
    """What is left of a page."""

    def __init__(self, size: PageSize) -> None:
        self.rows = size.rows
        self.bytes = size.bytes

    @property
    def is_taken(self) -> bool:
        return self.rows <= 0 or self.bytes <= 0

    def take(self, image: str | None) -> None:
        """RoomTakenError when it is full."""
        if self.is_taken:
            raise RoomTakenError
        self.rows -= 1
        self.bytes -= len(image or "")


def is_too_large(table: str, key: str, image: str) -> bool:
    """Whether an image is above the limit of a frame; the log names the row then."""
    if len(image) * 4 <= limits.ROW_BYTES_MAX or len(image.encode()) <= limits.ROW_BYTES_MAX:
        return False
    warn_too_large(table, key, len(image))
    return True


def warn_too_large(table: str, key: str, size: int) -> None:
    """Once per row and size in a process: each first sync comes by it again."""
    found = (table, key, size)
    if found in _told:
        return
    if len(_told) >= TOLD_MAX:
        _told.clear()
    _told.add(found)
    _log.warning(
        'the row %s of "%s" is left out on all devices: as JSON it has %d bytes, above the limit of %d. '
        "Hide its largest column, or make the value smaller.",
        key,
        table,
        size,
        limits.ROW_BYTES_MAX,
    )
