"""Reading the feed: exact cuts and grants. Every method reads in the one snapshot of the transaction that `db` is in.

Statistics of tables that fill and empty all day are never quite true: where a plan that rests on them could cost a
scan, the statement is written so that only the right index serves it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from syncline.source.entries import EntryRow, group_entries
from syncline.source.port import (
    Checkpoint,
    Claims,
    Cursor,
    Cut,
    Entries,
    Head,
    OutcomeRecord,
    PageSize,
    Since,
    Survey,
)
from syncline.source.postgres.claims import granted
from syncline.source.postgres.layout import PlanSql
from syncline.source.room import Room, RoomTakenError, is_too_large

FEW_BUCKETS = 64
"""So many are looked up one by one whatever is new."""
NEWS_PER_BUCKET = 4
"""Reading so many new entries costs about what looking for those of one bucket does."""
ALL_ROWS = 2**62

_BY_INDEX = "SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_seqscan = off"
"""Then a subquery that wants the order of an index is served by that index, and by no other."""
_STANDING = """
SELECT c.term, c.head, c.time_us, h.horizon,
  NOT EXISTS (SELECT FROM unnest($1::text[], $2::bigint[]) AS k(term, number) WHERE NOT EXISTS (
    SELECT FROM syncline.term t WHERE t.term = k.term
    AND k.number BETWEEN greatest(t.first, h.horizon) AND coalesce(t.last, c.head))),
  (SELECT json_object_agg(g.table_name, g.checkpoint)::text FROM syncline.generation g)
FROM (SELECT coalesce((SELECT value FROM syncline.meta WHERE name = 'horizon')::bigint, 0) AS horizon) AS h
LEFT JOIN syncline.checkpoint c ON true
"""
_INCLUDED = """
SELECT i.number, o.id FROM syncline.included i
LEFT JOIN syncline.outcome o ON o.device = i.device AND o.number = i.number WHERE i.device = $1
"""
_ARE_FEW = "SELECT count(*) <= $2 FROM (SELECT FROM syncline.entry WHERE checkpoint > $1 LIMIT $2 + 1) AS e"
_OF_EACH_BUCKET = """
unnest($1::text[]) AS b(bucket) CROSS JOIN LATERAL (
  SELECT * FROM syncline.entry WHERE bucket = b.bucket AND (bucket, checkpoint) > (b.bucket, $2)
  ORDER BY checkpoint) AS e
"""
"""Compared as a row, so that no index over the checkpoint alone comes into question."""
_OF_ALL_NEWS = """
(SELECT * FROM syncline.entry WHERE checkpoint > $2 ORDER BY checkpoint OFFSET 0) AS e
JOIN unnest($1::text[]) AS b(bucket) ON b.bucket = e.bucket
"""
IMAGES = """
SELECT e.*, e.op::text AS what, r.layout, r.image,
  coalesce(sum(octet_length(r.image)) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)::bigint AS before
FROM {entries} LEFT JOIN LATERAL (
  SELECT layout, image FROM syncline.row_state s
  WHERE e.op = 'P' AND s.table_name = e.table_name AND s.key = e.key OFFSET 0) AS r ON true
"""
"""Entries with their rows' images, and how many bytes of images came before each (known without reading them)."""
_ENTRIES = f"""
SELECT bucket, table_name, what, key, layout, CASE WHEN before < $4 THEN image END, before
FROM ({IMAGES} LIMIT $3) AS e
"""
OF_EACH_BUCKET = _ENTRIES.format(entries=_OF_EACH_BUCKET)
NEW_ENTRIES = _ENTRIES.format(entries=_OF_ALL_NEWS)
_OUTCOMES = """
SELECT o.number, o.kind, coalesce(o.code, ''), coalesce(o.reason, ''), o.table_name, o.key, coalesce(o.conflicts, '[]'),
  t.buckets, t.checkpoint, r.image
FROM syncline.outcome o
LEFT JOIN syncline.truth t ON t.table_name = o.table_name AND t.key = o.key
LEFT JOIN syncline.row_state r ON t.key IS NOT NULL AND r.table_name = o.table_name AND r.key = o.key
WHERE o.device = $1 AND o.number > $2 AND o.number <= $3 AND (o.kind <> 'applied' OR o.conflicts IS NOT NULL)
ORDER BY o.number
"""
_LATER_OF_ALL_NEWS = """
SELECT e.bucket, e.table_name, e.key, e.op::text, e.checkpoint
FROM (SELECT * FROM syncline.entry WHERE checkpoint > $4 ORDER BY checkpoint OFFSET 0) AS e
JOIN unnest($2::text[], $3::text[]) AS k(table_name, key) ON k.table_name = e.table_name AND k.key = e.key
WHERE e.bucket = ANY($1::text[])
"""
_LATER_OF_EACH_KEY = """
SELECT e.bucket, e.table_name, e.key, e.op::text, e.checkpoint
FROM unnest($2::text[], $3::text[]) AS k(table_name, key) CROSS JOIN unnest($1::text[]) AS b(bucket)
CROSS JOIN LATERAL (
  SELECT * FROM syncline.entry WHERE bucket = b.bucket AND table_name = k.table_name AND key = k.key OFFSET 0) AS e
WHERE e.checkpoint > $4
"""
_CHANGED = """
SELECT c.term, c.head, c.time_us,
  ARRAY(SELECT DISTINCT e.bucket FROM (
    SELECT bucket FROM syncline.entry WHERE checkpoint > $1 ORDER BY checkpoint OFFSET 0) AS e),
  ARRAY(SELECT device FROM syncline.included WHERE checkpoint > $1),
  ARRAY(SELECT table_name FROM syncline.grant_touch WHERE checkpoint > $1)
FROM (SELECT) AS one LEFT JOIN syncline.checkpoint c ON true
"""


@dataclass(frozen=True)
class Standing:
    """What the feed is at: `knows` tells whether it knows all the cursors that it was asked about."""

    head: Head
    knows: bool
    generations: Mapping[str, int]

    @property
    def generation(self) -> int:
        return max(self.generations.values(), default=0)


class FeedReader:
    """`db` is in a transaction of one snapshot."""

    def __init__(self, db: asyncpg.Connection, sql: PlanSql) -> None:
        self._db = db
        self._sql = sql
        self._is_by_index = False

    async def _by_index(self) -> None:
        """For the rest of the transaction: the company's own queries have been run."""
        if not self._is_by_index:
            await self._db.execute(_BY_INDEX)
            self._is_by_index = True

    async def head(self) -> Head:
        row = await self._db.fetchrow("SELECT term, head, time_us FROM syncline.checkpoint")
        return Head(*row) if row else Head("", 0, 0)

    async def granted(self, claims: Claims) -> frozenset[str]:
        return await granted(self._db, self._sql, claims)

    # ------------------------------------------------------------ where a device stands
    async def read_survey(self, claims: Claims, known: Sequence[Cursor]) -> Survey:
        standing = await self._standing(known)
        return await self._survey(standing, claims)

    async def _survey(self, standing: Standing, claims: Claims) -> Survey:
        if not standing.knows:
            return Survey(standing.head, valid=False)
        return Survey(standing.head, await self.granted(claims), standing.generations)

    async def _standing(self, known: Sequence[Cursor]) -> Standing:
        """A cursor is known if its term reached that checkpoint, and every entry after it is still here."""
        possible = all(is_bindable(term) and 0 <= number < 2**63 for term, number in known)
        asked = known if possible else ()
        row = await self._db.fetchrow(_STANDING, [term for term, _ in asked], [number for _, number in asked])
        term, checkpoint, time_us, _, knows, raised = row
        if term is None:
            return Standing(Head("", 0, 0), not known, {})
        generations = json.loads(raised or "{}")
        return Standing(
            Head(term, checkpoint, time_us),
            possible and knows,
            {table: number for table, number in generations.items() if table in self._sql.tables},
        )

    # ------------------------------------------------------------ exact cut
    async def read_cut(
        self,
        device: str,
        claims: Claims,
        held: frozenset[str],
        cursor: Cursor | None,
        included: int,
        added: Since | None = None,
        size: PageSize | None = None,
    ) -> Cut:
        """Head, grants, entries, included, outcomes. Not `valid` for a cursor of a lost time."""
        standing = await self._standing([cursor] if cursor else ())
        head = standing.head
        if not standing.knows:
            return Cut(head, 0, frozenset(), (), (), valid=False)
        may_hold = await self.granted(claims)
        room = Room(size or PageSize(ALL_ROWS, ALL_ROWS))
        try:
            entries = await self._entries(held & may_hold, cursor[1] if cursor else 0, room)
            if added:
                entries += await self._entries(added.buckets & may_hold - held, added.after, room)
        except RoomTakenError:
            return Cut(head, 0, may_hold, (), (), generation=standing.generation, overflow=True)
        found = await self._db.fetchrow(_INCLUDED, device)
        number, identity = found or (0, None)
        outcomes = await self._outcomes(device, included, number, may_hold) if number > included else []
        return Cut(
            head,
            number,
            may_hold,
            tuple(entries),
            tuple(outcomes),
            included_id=identity if number > included else None,
            generation=standing.generation,
        )

    async def _entries(self, buckets: frozenset[str], after: int, room: Room) -> list[Entries]:
        """RoomTakenError if there are more than there is room for."""
        if not buckets:
            return []
        await self._by_index()
        names = sorted(buckets)
        query = NEW_ENTRIES if await self._are_few(after, len(names)) else OF_EACH_BUCKET
        rows = await self._db.fetch(query, names, after, room.rows + 1, room.bytes)
        return group_entries(within(rows, room), self._sql.tables)

    async def _are_few(self, after: int, buckets: int) -> bool:
        """Whether there is so little new that all of it is read sooner than each of the buckets is looked up."""
        if buckets <= FEW_BUCKETS:
            return False
        return bool(await self._db.fetchval(_ARE_FEW, after, buckets * NEWS_PER_BUCKET))

    # ------------------------------------------------------------ outcomes
    async def _outcomes(self, device: str, after: int, upto: int, may_hold: frozenset[str]) -> list[OutcomeRecord]:
        rows = await self._db.fetch(_OUTCOMES, device, after, upto)
        holders = await self._holders(rows, may_hold)
        found = []
        for row in rows:
            number, kind, code, reason, table, key, conflicts, _, _, image = row
            state, has_state = _true_state(table, key, image, holders.get((table, key)), may_hold)
            found.append(OutcomeRecord(number, kind, code, reason, table, key, conflicts, state, has_state))
        return found

    async def _holders(self, rows: Sequence[Any], may_hold: frozenset[str]) -> dict[tuple[str, str], set[str]]:
        """Of the touched rows of which anything can be said (one that was written comes as an entry anyway): which
        buckets hold them now, as far as somebody who holds `may_hold` sees."""
        touched = {(row[4], row[5]): (row[7], row[8]) for row in rows if row[7] is not None}
        if not touched:
            return {}
        await self._by_index()
        holders = {at: set(json.loads(buckets)) for at, (buckets, _) in touched.items()}
        since = min(checkpoint for _, checkpoint in touched.values())
        few = await self._are_few(since, max(len(may_hold) * len(touched), FEW_BUCKETS + 1))
        later = await self._db.fetch(
            _LATER_OF_ALL_NEWS if few else _LATER_OF_EACH_KEY,
            sorted(may_hold),
            [table for table, _ in touched],
            [key for _, key in touched],
            since,
        )
        for bucket, table, key, op, checkpoint in later:
            if checkpoint > touched[table, key][1]:
                (holders[table, key].add if op == "P" else holders[table, key].discard)(bucket)
        return holders

    # ------------------------------------------------------------ tailing
    async def changed_since(self, checkpoint: int) -> Checkpoint:
        await self._by_index()
        term, head, time_us, buckets, devices, tables = await self._db.fetchrow(_CHANGED, checkpoint)
        at = Head(term, head, time_us) if term is not None else Head("", 0, 0)
        return Checkpoint(at, frozenset(buckets), frozenset(devices), frozenset(tables))


def within(rows: Sequence[Any], room: Room) -> list[EntryRow]:
    """Rows with, last, how many bytes came before them; RoomTakenError where some have no room. Images that have none
    were not read."""
    if len(rows) > room.rows or (rows and rows[-1][6] >= room.bytes):
        raise RoomTakenError
    found: list[EntryRow] = [tuple(row)[:6] for row in rows]
    room.rows -= len(rows)
    if rows:
        room.bytes -= rows[-1][6] + len((rows[-1][5] or "").encode())
    return found


def is_bindable(text: str) -> bool:
    """Whether PostgreSQL takes it for text at all."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _true_state(
    table: str, key: str, image: str | None, holders: set[str] | None, may_hold: frozenset[str]
) -> tuple[str | None, bool]:
    """A touched row's image at the head, or None: absent for one who holds `may_hold`; and whether it is known."""
    if holders is None:
        return None, False
    if not holders & may_hold or image is None or is_too_large(table, key, image):
        return None, True
    return image, True
