"""Long catch-ups: the entries up to a checkpoint, page by page, each page in a snapshot of its own.

An entry stands once per bucket and key. What is changed between two pages moves beyond the lap's end, and comes in the
next lap; so a lap that was read to its end brought every entry that has not moved since.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from syncline.source.entries import EntryRow, group_entries
from syncline.source.places import LapPlace, parse_lap_place
from syncline.source.port import Claims, Cursor, LapPage, PageSize, Since, Survey
from syncline.source.postgres.feed import IMAGES, FeedReader, is_bindable
from syncline.values import encode_row

_COLUMNS = "SELECT bucket, table_name, what, key, layout, CASE WHEN before < {bytes} THEN image END, before, checkpoint"
_OF_BUCKETS = """
(SELECT e.*, b.n FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS b(bucket, after, n) CROSS JOIN LATERAL (
  SELECT * FROM syncline.entry WHERE bucket = b.bucket
  AND (bucket, checkpoint) > (b.bucket, b.after) AND (bucket, checkpoint) <= (b.bucket, $3)
  ORDER BY checkpoint) AS e
ORDER BY b.n, e.checkpoint, e.table_name, e.key LIMIT $4) AS e
"""
_BUCKETS_PAGE = f"""
{_COLUMNS.format(bytes="$5")} FROM ({IMAGES.format(entries=_OF_BUCKETS)}) AS e ORDER BY n, checkpoint, table_name, key
"""
_IS_LARGE = """
SELECT count(*) > $3 FROM (
  SELECT FROM syncline.entry WHERE bucket = $1 AND (bucket, checkpoint) >= ($1, $2) AND (bucket, checkpoint) <= ($1, $2)
  ORDER BY checkpoint LIMIT $3 + 1) AS e
"""
_ONE_CHECKPOINT = """
(SELECT * FROM {entries} WHERE (table_name, key) > ($3, $4) ORDER BY table_name, key LIMIT $5) AS e
"""
_BY_CHECKPOINT = """
(SELECT * FROM syncline.entry WHERE bucket = $1
 AND (bucket, checkpoint) >= ($1, $2) AND (bucket, checkpoint) <= ($1, $2) ORDER BY checkpoint OFFSET 0) AS of_one
"""
_BY_KEY = """
(SELECT * FROM syncline.entry WHERE (bucket, table_name, key) > ($1, $3, $4) AND bucket <= $1 AND checkpoint + 0 = $2
 ORDER BY bucket, table_name, key LIMIT $5) AS of_one
"""
"""Most of a bucket changed at one checkpoint: then its entries come in key order sooner by the key's own index."""


def _rest_sql(entries: str) -> str:
    found = IMAGES.format(entries=_ONE_CHECKPOINT.format(entries=entries))
    return f"{_COLUMNS.format(bytes='$6')} FROM ({found}) AS e ORDER BY table_name, key"


_REST = {is_large: _rest_sql(_BY_KEY if is_large else _BY_CHECKPOINT) for is_large in (True, False)}


class LapReader(FeedReader):
    async def read_lap(
        self,
        claims: Claims,
        feed: Sequence[Since],
        upto: int | None,
        place: str | None,
        known: Sequence[Cursor],
        size: PageSize,
    ) -> LapPage:
        standing = await self._standing(known)
        at = parse_lap_place(place)
        if not standing.knows or at is None or not _is_possible(at):
            return LapPage(Survey(standing.head, valid=False), (), 0, None)
        survey = await self._survey(standing, claims)
        end = standing.head.checkpoint if upto is None else upto
        wanted = _wanted(feed, survey.granted, at[0])
        lap = _Lap(size)
        await self._by_index()
        if place is not None and at[0] in wanted:
            if wanted[at[0]] < at[1] <= end:
                lap.take(await self._rest(at, lap))
            wanted[at[0]] = max(wanted[at[0]], at[1])
        if not lap.is_over and wanted:
            names = sorted(wanted)
            after = [wanted[name] for name in names]
            lap.take(await self._db.fetch(_BUCKETS_PAGE, names, after, end, lap.rows + 1, lap.bytes))
        return LapPage(survey, tuple(group_entries(lap.found, self._sql.tables)), end, lap.next)

    async def _rest(self, at: LapPlace, lap: _Lap) -> list[Any]:
        """What comes after a place in its bucket and checkpoint."""
        bucket, checkpoint, table, key = at
        is_large = await self._db.fetchval(_IS_LARGE, bucket, checkpoint, 4 * lap.rows)
        return await self._db.fetch(_REST[is_large], bucket, checkpoint, table, key, lap.rows + 1, lap.bytes)


class _Lap:
    """A page as far as it is read. `next`: where the following one goes on, None where nothing is left."""

    def __init__(self, size: PageSize) -> None:
        self.rows = size.rows
        self.bytes = size.bytes
        self.found: list[EntryRow] = []
        self.next: str | None = None
        self.is_over = False
        self._reached: str | None = None

    def take(self, rows: Sequence[Any]) -> None:
        """Entries with, behind their images, how many bytes of them came before, and the checkpoint. At least one is
        taken: else a page would never end."""
        for number, row in enumerate(rows):
            is_taken = number >= self.rows or row[6] >= self.bytes
            if is_taken and self._reached is not None:
                self.next, self.is_over = self._reached, True
                return
            self.found.append(tuple(row)[:6])
            self._reached = encode_row((row[0], row[7], row[1], row[3]))
        self.rows -= len(rows)
        self.bytes -= (rows[-1][6] + len((rows[-1][5] or "").encode())) if rows else 0


def _wanted(feed: Sequence[Since], granted: frozenset[str], first: str) -> dict[str, int]:
    """The granted buckets from `first` on, with the checkpoint after which each is wanted."""
    found: dict[str, int] = {}
    for since in feed:
        for bucket in since.buckets & granted:
            if bucket >= first:
                found[bucket] = min(since.after, found.get(bucket, since.after))
    return found


def _is_possible(at: LapPlace) -> bool:
    return -1 <= at[1] < 2**63 and all(is_bindable(text) for text in (at[0], *at[2:]))
