"""Where a paged read goes on: texts that mean the same to every process of a source, hours later too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from syncline.errors import ProtocolError
from syncline.values import Key, key_of_text

LapPlace = tuple[str, int, str, str]
"""The last entry that was read: bucket, checkpoint, table, key."""
BEFORE_ALL: LapPlace = ("", -1, "", "")


def parse_page_place(place: str | None, keys: Mapping[str, Sequence[str]]) -> tuple[str | None, Key | None] | None:
    """The table to go on with, and the last key that was read of it; None for what is no place. `keys`: synced table ->
    its key columns."""
    if place is None:
        return None, None
    try:
        name, *key = key_of_text(place)
    except (ProtocolError, ValueError):
        return None
    if not isinstance(name, str) or name not in keys or len(key) not in (0, len(keys[name])):
        return None
    return name, tuple(key) or None


def parse_lap_place(place: str | None) -> LapPlace | None:
    """None for what is no place."""
    if place is None:
        return BEFORE_ALL
    try:
        bucket, checkpoint, table, key = key_of_text(place)
    except (ProtocolError, ValueError):
        return None
    if isinstance(bucket, str) and isinstance(checkpoint, int) and isinstance(table, str) and isinstance(key, str):
        return bucket, checkpoint, table, key
    return None
