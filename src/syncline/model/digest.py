"""Digests of one table's rows, bucket by bucket, by which a replica is compared with its scope in the source.

A digest is how many rows a bucket holds and the sum of their hashes: it does not depend on the order in which rows
come, parts of it add up, and both sides need no more memory than one digest a bucket.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from json import JSONEncoder
from typing import Any, Generic, TypeVar

from syncline.values import Row, encode_row

SUM_BYTES = 16
"""The chance that two different buckets have one digest is 2^-128; a bucket damaged on purpose deceives its owner."""

_MODULUS = 1 << (8 * SUM_BYTES)
_NEGATIVE_ZERO, _ZERO = '["f","-0.0"]', '["f","0.0"]'
_encode = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

B = TypeVar("B", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Digest:
    """`sum`: of the rows' hashes, modulo 2^128."""

    rows: int = 0
    sum: int = 0

    @property
    def sum_text(self) -> str:
        """As the wire carries it: 32 hexadecimal digits."""
        return f"{self.sum:0{2 * SUM_BYTES}x}"

    def __add__(self, other: Digest) -> Digest:
        return Digest(self.rows + other.rows, (self.sum + other.sum) % _MODULUS)


EMPTY = Digest()


@dataclass(frozen=True, slots=True)
class Difference:
    """A bucket whose rows of a table are not the same here, on the device, and there, in the source."""

    bucket: str
    rows_here: int
    rows_there: int


class Tally(Generic[B]):
    """Digests in the making, by bucket."""

    def __init__(self) -> None:
        self._rows: dict[B, int] = {}
        self._sums: dict[B, int] = {}

    def add(self, bucket: B, row_hash: int) -> None:
        self._rows[bucket] = self._rows.get(bucket, 0) + 1
        self._sums[bucket] = self._sums.get(bucket, 0) + row_hash

    def take(self) -> dict[B, Digest]:
        """What was added since the last call."""
        found = {bucket: Digest(rows, self._sums[bucket] % _MODULUS) for bucket, rows in self._rows.items()}
        self._rows, self._sums = {}, {}
        return found


def hash_of_values(row: Row) -> int:
    """Of a row as a database holds it."""
    return _hash(encode_row(row))


def hash_of_image(encoded: list[Any]) -> int:
    """Of the same row as a frame carries it, its JSON loaded."""
    return _hash(_encode(encoded))


def _hash(text: str) -> int:
    # SQLite forgets the sign of a zero in a REAL column. In text a quote is escaped, so this finds values only.
    if _NEGATIVE_ZERO in text:
        text = text.replace(_NEGATIVE_ZERO, _ZERO)
    return int.from_bytes(blake2b(text.encode(), digest_size=SUM_BYTES).digest(), "big")


def differences(
    here: Mapping[str, Digest], there: Mapping[str, Digest], unsure: Collection[str] = ()
) -> list[Difference]:
    """The buckets whose digests differ, in order; nothing is said of those that are `unsure`."""
    named = sorted({*here, *there} - set(unsure))
    return [
        Difference(bucket, left.rows, right.rows)
        for bucket in named
        if (left := here.get(bucket, EMPTY)) != (right := there.get(bucket, EMPTY))
    ]


def added_up(parts: Iterable[Digest]) -> Digest:
    total = EMPTY
    for part in parts:
        total += part
    return total
