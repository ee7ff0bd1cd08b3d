"""The rows and keys of frames, decoded for SQLite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from syncline.errors import ProtocolError
from syncline.model.program import ProgramTable
from syncline.protocol import checks
from syncline.values import Key, RawText, Row, decode_row

_PLAIN = {str, int, float, type(None)}


def rows_of(table: ProgramTable, frame: dict[str, Any]) -> tuple[Sequence[Row], bool]:
    """The rows, and whether all their values are numbers, text that is UTF-8, and NULL.

    ProtocolError with code "layout" where they are not laid out as the program says: it is out of date.
    """
    if frame.get("layout", table.layout) != table.layout:
        raise ProtocolError(f'The rows of "{table.name}" have another layout than the program knows.', code="layout")
    rows = frame.get("rows")
    if type(rows) is not list:
        raise checks.bad("rows", "is not a list")
    if not set(map(type, rows)) <= {list} or not set(map(len, rows)) <= {len(table.columns)}:
        return [decode(table, row) for row in rows], False
    types = set(map(type, chain.from_iterable(rows)))
    if types <= _PLAIN:  # in C, as far as that goes
        return rows, True
    if types <= _PLAIN | {list}:
        decoded = [decode_row(row) if list in map(type, row) else row for row in rows]
        return decoded, RawText not in map(type, chain.from_iterable(decoded))
    return [decode_row(row) for row in rows], False


def decode(table: ProgramTable, row: Any) -> Row:
    """One row; the same errors."""
    if type(row) is not list:
        raise checks.bad("rows", "holds something that is not a list")
    if len(row) != len(table.columns):
        raise ProtocolError(
            f'A row of "{table.name}" has {len(row)} values, and the table {len(table.columns)} columns.', code="layout"
        )
    return decode_row(row)


def keys_of(table: ProgramTable, frame: dict[str, Any]) -> list[Key]:
    keys = frame.get("keys")
    if type(keys) is not list:
        raise checks.bad("keys", "is not a list")
    return [key_of(table, key) for key in keys]


def key_of(table: ProgramTable, key: Any) -> Key:
    if type(key) is not list or len(key) != len(table.key):
        raise checks.bad("key", f'is not a key of "{table.name}"')
    return decode_row(key)


def one_bucket_each(frame: dict[str, Any], count: int, ids: list[int]) -> list[int] | None:
    """Per row the id of the bucket that holds it; None where `buckets_of` has to look at each."""
    of = frame.get("of")
    if of is None and len(ids) == 1:
        return ids * count
    if type(of) is not list or len(of) != count or set(map(type, of)) != {int}:
        return None
    return [ids[place] for place in of] if min(of) >= 0 and max(of) < len(ids) else None


def buckets_of(frame: dict[str, Any], count: int, ids: list[int]) -> Iterator[tuple[int, ...]]:
    """Per row the ids of the buckets that hold it. `ids` are those of the frame's `buckets`."""
    of = frame.get("of")
    if of is None:
        if len(ids) != 1:
            raise checks.bad("of", "is missing")
        for _ in range(count):
            yield (ids[0],)
        return
    if type(of) is not list or len(of) != count:
        raise checks.bad("of", "does not fit the rows")
    for places in of:
        listed = [places] if type(places) is int else places
        if type(listed) is not list or not all(type(place) is int and 0 <= place < len(ids) for place in listed):
            raise checks.bad("of", "names a bucket that is not there")
        yield tuple(ids[place] for place in listed)
