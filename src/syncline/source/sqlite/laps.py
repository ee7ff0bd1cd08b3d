"""Long catch-ups: the entries up to a checkpoint, page by page, each page in a snapshot of its own.

An entry stands once per bucket and key. What is changed between two pages moves beyond the lap's end, and comes in the
next lap; so a lap that was read to its end brought every entry that has not moved since.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from syncline.source.entries import EntryRow, group_entries
from syncline.source.places import BEFORE_ALL, parse_lap_place
from syncline.source.port import Claims, Cursor, LapPage, PageSize, Since, Survey
from syncline.source.room import Room
from syncline.source.sqlite.feed import FeedReader
from syncline.values import encode_row

_NEWS = (
    "SELECT b.value FROM json_each(?1) b WHERE EXISTS("
    "SELECT 1 FROM syncline_entry e WHERE e.bucket = b.value AND e.checkpoint > ?2 AND e.checkpoint <= ?3)"
)
_ENTRIES = (
    "SELECT e.bucket, e.table_name, e.op, e.key, r.layout, r.image, e.checkpoint FROM syncline_entry e "
    "LEFT JOIN syncline_row_state r ON e.op = 'P' AND r.table_name = e.table_name AND r.key = e.key "
    "WHERE e.bucket = ?1 AND e.checkpoint > ?2 AND e.checkpoint <= ?3 "
    "AND (e.checkpoint, e.table_name, e.key) > (?4, ?5, ?6) ORDER BY e.checkpoint, e.table_name, e.key"
)


class LapReader(FeedReader):
    def read_lap(
        self,
        claims: Claims,
        feed: Sequence[Since],
        upto: int | None,
        place: str | None,
        known: Sequence[Cursor],
        size: PageSize,
    ) -> LapPage:
        with self._snapshot() as head:
            survey = self._survey(head, claims, known)
            at = parse_lap_place(place)
            if not survey.valid or at is None:
                return LapPage(Survey(head, valid=False), (), 0, None)
            end = head.checkpoint if upto is None else upto
            room = Room(size)
            rows: list[EntryRow] = []
            reached: str | None = None
            for bucket, after in self._with_news(feed, survey.granted, at[0], end):
                from_place = at[1:] if bucket == at[0] else BEFORE_ALL[1:]
                for *row, checkpoint in self._db.execute(_ENTRIES, (bucket, after, end, *from_place)):
                    if room.is_taken:
                        return LapPage(survey, tuple(group_entries(rows, self._sql.tables)), end, reached)
                    entry: EntryRow = tuple(row)
                    rows.append(entry)
                    room.take(entry[5])
                    reached = encode_row((bucket, checkpoint, entry[1], entry[3]))
            return LapPage(survey, tuple(group_entries(rows, self._sql.tables)), end, None)

    def _with_news(
        self, feed: Sequence[Since], granted: frozenset[str], first: str, upto: int
    ) -> Iterator[tuple[str, int]]:
        """The buckets from `first` on that have entries, in order, with the checkpoint after which they are wanted."""
        found: dict[str, int] = {}
        for since in feed:
            names = [bucket for bucket in since.buckets & granted if bucket >= first]
            wanted = json.dumps(names, ensure_ascii=False)
            for (bucket,) in self._db.execute(_NEWS, (wanted, since.after, upto)).fetchall():
                found[bucket] = min(since.after, found.get(bucket, since.after))
        yield from sorted(found.items())
