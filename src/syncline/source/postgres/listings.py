"""What a process keeps between the pages of a job, to save work: the wanted buckets as a statement takes them, and of
tables of which few rows are wanted the keys of those rows.

All of it may be lost at any time: the next page, of this process or another one, makes it anew from where it stands. A
list of keys says only which rows to look at; whether they are wanted is asked again in every page's own snapshot.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from syncline.model.scopes import Plan
from syncline.source.port import Cursor
from syncline.source.postgres.walk_sql import Keys, Wanted
from syncline.values import Key, encode_row, key_of_text

JOBS_KEPT_MAX = 200
LISTED_BYTES_KEPT_MAX = 32 * 1024 * 1024
"""Of all lists of keys together, compressed."""
KEYS_LISTED_MAX = 200_000
"""At a time; behind the last of them the next ones are listed."""


@dataclass(frozen=True)
class KeyList:
    """As many keys as a page looks at. `last`: the greatest of them; `size`: how many."""

    packed: tuple[bytes, ...]
    last: Key
    size: int

    @property
    def keys(self) -> Keys:
        return Keys(tuple([zlib.decompress(array).decode() for array in self.packed]))


class Listing:
    """Keys of one table in key order, as from a place on. `lists` come one after the other."""

    def __init__(self, table: str, after: Key | None, rows: Sequence[Sequence[object]]) -> None:
        """`rows`: what the statement of `WalkSql.listing` answers."""
        self._table = table
        self.lists = [_list(row) for row in rows]
        self.is_whole = sum(each.size for each in self.lists) < KEYS_LISTED_MAX
        self.bytes = sum(len(array) for each in self.lists for array in each.packed)
        self._at: dict[str, int] = {}
        self.note(after, 0)

    def note(self, place: Key | None, number: int) -> None:
        """Whoever has got as far as `place` goes on with that list."""
        self._at[encode_row((self._table, *(place or ())))] = number

    def find(self, place: Key | None) -> int | None:
        """The list to go on with; None if it cannot be told here."""
        return self._at.get(encode_row((self._table, *(place or ()))))


def _list(row: Sequence[object]) -> KeyList:
    *arrays, last, size = row
    packed = tuple([zlib.compress(str(array).encode(), 1) for array in arrays])
    return KeyList(packed, key_of_text(str(last)), int(str(size)))


@dataclass
class Job:
    """`listings`: of each table met so far its keys, or None: its rows are looked through."""

    wanted: Wanted
    listings: dict[str, Listing | None] = field(default_factory=dict)


class Jobs:
    """One per plan that is served."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[frozenset[str], Cursor], Job] = OrderedDict()

    def job(self, plan: Plan, buckets: frozenset[str], start: Cursor) -> Job:
        """A list of keys may serve any walk over the same buckets that saw the same head first, and no other: rows that
        came before a later head are in no entry that a later walk would look at."""
        known = self._kept.get((buckets, start))
        if known is None:
            known = self._kept[buckets, start] = Job(Wanted.of(plan, buckets))
            if len(self._kept) > JOBS_KEPT_MAX:
                self._kept.popitem(last=False)
        self._kept.move_to_end((buckets, start))
        return known

    def keep(self, job: Job, table: str, listing: Listing) -> None:
        """The lists of jobs that were longest idle go first, where there is too much of them."""
        job.listings[table] = listing
        listed = sum(each.bytes for kept in self._kept.values() for each in kept.listings.values() if each)
        for other in list(self._kept.values()):
            if listed <= LISTED_BYTES_KEPT_MAX:
                return
            for name, each in list(other.listings.items()):
                if each and each is not listing:
                    listed -= each.bytes
                    del other.listings[name]
