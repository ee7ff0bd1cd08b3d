"""Reading the feed: exact cuts and grants. Every public method is one read transaction on one connection."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import Any

from syncline.model.scopes import Scope, bucket_name
from syncline.source.claims import required_claim
from syncline.source.entries import EntryRow, group_entries
from syncline.source.port import (
    Checkpoint,
    Claims,
    Cursor,
    Cut,
    DeviceRow,
    Entries,
    Head,
    OutcomeRecord,
    PageSize,
    Since,
    Survey,
)
from syncline.source.room import Room, RoomTakenError, is_too_large
from syncline.source.sqlite.affinity import apply_affinity
from syncline.source.sqlite.layout import GRANT_PREFIX, PlanSql
from syncline.source.sqlite.retention import read_horizon
from syncline.system.database import fetch_all
from syncline.values import Value

_PARAMETER = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|:([A-Za-z_]\w*)""")


@cache
def grant_parameters(query: str) -> tuple[str, ...]:
    """The claims that a grant names: `:sub`, `:tenant`."""
    return tuple(dict.fromkeys(found[1] for found in _PARAMETER.finditer(query) if found[1]))


class FeedReader:
    """One connection's view of the feed."""

    def __init__(self, connection: sqlite3.Connection, sql: PlanSql) -> None:
        self._db = connection
        self._sql = sql

    @contextmanager
    def _snapshot(self) -> Iterator[Head]:
        self._db.execute("BEGIN")
        try:
            yield self.head()
        finally:
            self._db.execute("COMMIT")

    def head(self) -> Head:
        row = self._db.execute("SELECT term, head, time_us FROM syncline_checkpoint").fetchone()
        return Head(*row) if row else Head("", 0, 0)

    def find_device(self, device: str) -> DeviceRow | None:
        row = self._db.execute(
            "SELECT device, number, user, last, last_stamp, max((SELECT floor FROM syncline_context), "
            "coalesce((SELECT time_us FROM syncline_checkpoint), 0)) FROM syncline_device WHERE device = ?1",
            (device,),
        ).fetchone()
        return DeviceRow(*row) if row else None

    # ------------------------------------------------------------ grants
    def granted(self, claims: Claims) -> frozenset[str]:
        """The buckets that a user with these claims may hold, on the source's current rows."""
        found: set[str] = set()
        for scope in self._sql.plan.scopes.values():
            found |= self.granted_in(scope, claims)
        return frozenset(found)

    def granted_in(self, scope: Scope, claims: Claims) -> frozenset[str]:
        """Those of them that are the scope's."""
        if scope.grant is None:
            return frozenset({bucket_name(scope.name, ())})
        rows = fetch_all(self._db, scope.grant, bind_claims(scope.grant, claims, scope.name))
        if scope.root is None:
            return frozenset({bucket_name(scope.name, ())} if rows else ())
        root = self._sql.plan.schema.table(scope.root)
        types = tuple(root.column(column).type for column in scope.key)
        return frozenset(bucket for row in rows if (bucket := _granted_bucket(scope.name, types, *row)))

    # ------------------------------------------------------------ where a device stands
    def read_survey(self, claims: Claims, known: Sequence[Cursor]) -> Survey:
        with self._snapshot() as head:
            return self._survey(head, claims, known)

    def _survey(self, head: Head, claims: Claims, known: Sequence[Cursor]) -> Survey:
        if not all(self._is_known(cursor, head) for cursor in known):
            return Survey(head, valid=False)
        return Survey(head, self.granted(claims), self.generations())

    def generations(self) -> dict[str, int]:
        """Table -> the checkpoint at which its generation was last raised."""
        rows = self._db.execute("SELECT table_name, checkpoint FROM syncline_generation").fetchall()
        return {table: checkpoint for table, checkpoint in rows if table in self._sql.tables}

    def newest_generation(self) -> int:
        return max(self.generations().values(), default=0)

    def _is_known(self, cursor: Cursor, head: Head) -> bool:
        """Whether the term reached that checkpoint, and every entry after it is still here."""
        term, number = cursor
        row = self._db.execute("SELECT first, last FROM syncline_term WHERE term = ?1", (term,)).fetchone()
        if row is None:
            return False
        end = head.checkpoint if row[1] is None else row[1]
        return bool(max(row[0], read_horizon(self._db)) <= number <= end)

    # ------------------------------------------------------------ exact cut
    def read_cut(
        self,
        device: str,
        claims: Claims,
        held: frozenset[str],
        cursor: Cursor | None,
        included: int,
        added: Since | None = None,
        size: PageSize | None = None,
    ) -> Cut:
        """Head, grants, entries, included, outcomes: all of one snapshot. Not `valid` for a cursor of a lost time."""
        with self._snapshot() as head:
            if cursor is not None and not self._is_known(cursor, head):
                return Cut(head, 0, frozenset(), (), (), valid=False)
            granted, generation = self.granted(claims), self.newest_generation()
            room = Room(size) if size else None
            try:
                entries = self._entries(held & granted, cursor[1] if cursor else 0, room)
                if added:
                    entries += self._entries(added.buckets & granted - held, added.after, room)
            except RoomTakenError:
                return Cut(head, 0, granted, (), (), generation=generation, overflow=True)
            number = self._included(device)
            outcomes = self._outcomes(device, included, number, granted)
            identity = self._id_of(device, number) if number > included else None
            return Cut(
                head,
                number,
                granted,
                tuple(entries),
                tuple(outcomes),
                included_id=identity,
                generation=generation,
            )

    def _included(self, device: str) -> int:
        row = self._db.execute("SELECT number FROM syncline_included WHERE device = ?1", (device,)).fetchone()
        return int(row[0]) if row else 0

    def _id_of(self, device: str, number: int) -> bytes | None:
        """The id that came with a number, while its outcome is kept."""
        row = self._db.execute(
            "SELECT id FROM syncline_outcome WHERE device = ?1 AND number = ?2", (device, number)
        ).fetchone()
        return bytes(row[0]) if row and row[0] is not None else None

    def _entries(self, buckets: frozenset[str], after: int, room: Room | None = None) -> list[Entries]:
        """RoomTakenError if there are more than there is room for."""
        rows = self._db.execute(
            "SELECT e.bucket, e.table_name, e.op, e.key, r.layout, r.image FROM json_each(?1) b "
            "CROSS JOIN syncline_entry e ON e.bucket = b.value AND e.checkpoint > ?2 "
            "LEFT JOIN syncline_row_state r ON e.op = 'P' AND r.table_name = e.table_name AND r.key = e.key",
            (json.dumps(sorted(buckets), ensure_ascii=False), after),
        )
        found: list[EntryRow] = []
        for row in rows:
            if room is not None:
                room.take(row[5])
            found.append(row)
        return group_entries(found, self._sql.tables)

    def _outcomes(self, device: str, after: int, upto: int, granted: frozenset[str]) -> list[OutcomeRecord]:
        rows = self._db.execute(
            "SELECT number, kind, code, reason, table_name, key, conflicts FROM syncline_outcome "
            "WHERE device = ?1 AND number > ?2 AND number <= ?3 AND (kind <> 'applied' OR conflicts IS NOT NULL) "
            "ORDER BY number",
            (device, after, upto),
        ).fetchall()
        return [
            OutcomeRecord(
                number, kind, code or "", reason or "", table, key, conflicts or "[]", *self._truth(table, key, granted)
            )
            for number, kind, code, reason, table, key, conflicts in rows
        ]

    def _truth(self, table: str, key: str, granted: frozenset[str]) -> tuple[str | None, bool]:
        """The touched row's true state at the head, for one who holds `granted`: its image, or None for absent; and
        whether anything can be said (a row that was written comes as an entry anyway)."""
        row = self._db.execute(
            "SELECT buckets, checkpoint FROM syncline_truth WHERE table_name = ?1 AND key = ?2", (table, key)
        ).fetchone()
        if row is None:
            return None, False
        holders = set(json.loads(row[0]))
        later = self._db.execute(
            "SELECT e.bucket, e.op FROM json_each(?1) b CROSS JOIN syncline_entry e "
            "ON e.bucket = b.value AND e.table_name = ?2 AND e.key = ?3 WHERE e.checkpoint > ?4",
            (json.dumps(sorted(granted), ensure_ascii=False), table, key, row[1]),
        ).fetchall()
        for bucket, op in later:
            (holders.add if op == "P" else holders.discard)(bucket)
        if not holders & granted:
            return None, True
        image = self._db.execute(
            "SELECT image FROM syncline_row_state WHERE table_name = ?1 AND key = ?2", (table, key)
        ).fetchone()
        if image is None or image[0] is None or is_too_large(table, key, image[0]):
            return None, True
        return str(image[0]), True

    # ------------------------------------------------------------ tailing
    def changed_since(self, checkpoint: int) -> Checkpoint:
        with self._snapshot() as head:
            buckets = self._db.execute(
                "SELECT DISTINCT bucket FROM syncline_entry WHERE checkpoint > ?1", (checkpoint,)
            )
            changed = frozenset(row[0] for row in buckets.fetchall())
            devices = self._db.execute("SELECT device FROM syncline_included WHERE checkpoint > ?1", (checkpoint,))
            told = frozenset(row[0] for row in devices.fetchall())
            tables = self._db.execute(
                "SELECT substr(name, ?1) FROM syncline_meta WHERE name GLOB ?2 AND value > ?3",
                (len(GRANT_PREFIX) + 1, f"{GRANT_PREFIX}*", checkpoint),
            )
            return Checkpoint(head, changed, told, frozenset(row[0] for row in tables.fetchall()))


@lru_cache(maxsize=100_000, typed=True)
def _granted_bucket(scope: str, types: tuple[str, ...], *row: Value) -> str | None:
    """The bucket that a row of a grant names: the same few for thousands of users."""
    key = tuple(apply_affinity(value, kind) for value, kind in zip(row, types, strict=False))
    return bucket_name(scope, key) if None not in key and len(key) == len(types) else None


def bind_claims(grant: str, claims: Claims, scope: str) -> Mapping[str, Any]:
    bound: dict[str, Any] = {}
    for name in grant_parameters(grant):
        value = required_claim(claims, name, scope)
        bound[name] = (
            json.dumps(value) if isinstance(value, list | dict) else int(value) if isinstance(value, bool) else value
        )
    return bound
