"""Reading the feed: exact cuts, snapshots, grants. Every method is one read transaction on one connection."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from syncline import limits
from syncline.errors import AuthError
from syncline.model.scopes import bucket_key as key_of_bucket
from syncline.model.scopes import bucket_name, bucket_scope
from syncline.source.port import BucketRows, Checkpoint, Claims, Cut, DeviceRow, Entries, Head, OutcomeRecord, Snapshot
from syncline.source.sqlite.affinity import apply_affinity
from syncline.source.sqlite.layout import GRANT_PREFIX, PlanSql, TableSql
from syncline.source.sqlite.paths import snapshot_sql
from syncline.system.database import fetch_all
from syncline.values import Value, encode_row

_PARAMETER = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|:([A-Za-z_]\w*)""")


def grant_parameters(query: str) -> list[str]:
    """The claims that a grant names: `:sub`, `:tenant`."""
    return list(dict.fromkeys(found[1] for found in _PARAMETER.finditer(query) if found[1]))


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
            if scope.grant is None:
                found.add(bucket_name(scope.name, ()))
                continue
            rows = fetch_all(self._db, scope.grant, _bind(scope.grant, claims, scope.name))
            if scope.root is None:
                found.update([bucket_name(scope.name, ())] if rows else [])
                continue
            root = self._sql.plan.schema.table(scope.root)
            types = [root.column(column).type for column in scope.key]
            for row in rows:
                key = tuple(apply_affinity(value, kind) for value, kind in zip(row, types, strict=False))
                if None not in key and len(key) == len(types):
                    found.add(bucket_name(scope.name, key))
        return frozenset(found)

    # ------------------------------------------------------------ exact cut
    def read_cut(
        self,
        device: str,
        claims: Claims,
        held: frozenset[str],
        cursor: tuple[str, int] | None,
        included: int,
        snapshot: Snapshot | None,
    ) -> Cut:
        """Head, grants, entries, included, outcomes: all of one snapshot. Not `valid` for a cursor of a lost time."""
        with self._snapshot() as head:
            if cursor is not None and not self._is_known(cursor, head):
                return Cut(head, 0, frozenset(), (), (), valid=False)
            granted = self.granted(claims)
            after = cursor[1] if cursor else 0
            entries = self._entries(held & granted, after)
            if snapshot:
                entries += self._entries(snapshot.buckets & granted - held, snapshot.after)
            number = self._included(device)
            outcomes = self._outcomes(device, included, number, granted)
            return Cut(head, number, granted, tuple(entries), tuple(outcomes))

    def _is_known(self, cursor: tuple[str, int], head: Head) -> bool:
        term, number = cursor
        row = self._db.execute("SELECT first, last FROM syncline_term WHERE term = ?1", (term,)).fetchone()
        if row is None:
            return False
        end = head.checkpoint if row[1] is None else row[1]
        return bool(row[0] <= number <= end)

    def _included(self, device: str) -> int:
        row = self._db.execute("SELECT number FROM syncline_included WHERE device = ?1", (device,)).fetchone()
        return int(row[0]) if row else 0

    def _entries(self, buckets: frozenset[str], after: int) -> list[Entries]:
        rows = self._db.execute(
            "SELECT e.bucket, e.table_name, e.op, e.key, r.layout, r.image FROM json_each(?1) b "
            "CROSS JOIN syncline_entry e ON e.bucket = b.value AND e.checkpoint > ?2 "
            "LEFT JOIN syncline_row_state r ON e.op = 'P' AND r.table_name = e.table_name AND r.key = e.key",
            (json.dumps(sorted(buckets), ensure_ascii=False), after),
        ).fetchall()
        puts: dict[tuple[str, str, int], list[tuple[str, str]]] = {}
        removes: dict[tuple[str, str], list[str]] = {}
        for bucket, table, op, key, layout, image in rows:
            if table not in self._sql.tables:
                continue
            if op == "P" and image is not None:
                puts.setdefault((table, bucket, layout), []).append((key, image))
            else:
                removes.setdefault((table, bucket), []).append(key)
        found = []
        for (table, bucket, layout), pairs in puts.items():
            keys, images = zip(*pairs, strict=True)
            found.append(Entries(table, layout, bucket, keys, images, ()))
        found += [Entries(table, 0, bucket, (), (), tuple(keys)) for (table, bucket), keys in removes.items()]
        return found

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
        return (image[0] if image else None), True

    # ------------------------------------------------------------ snapshots
    def read_snapshot(self, buckets: frozenset[str]) -> Snapshot:
        """All rows of the buckets, per table in key order. `exact` if nothing waited in the changelogs."""
        with self._snapshot() as head:
            exact = not any(self._db.execute(self._sql.waiting).fetchone())
            places = self._list_wanted(buckets)
            scopes = frozenset(bucket_scope(bucket) for bucket in buckets)
            rows: list[BucketRows] = []
            for table in self._sql.tables.values():
                query = snapshot_sql(self._sql.plan, table.synced, scopes)
                if query:
                    rows += self._snapshot_rows(table, query, places)
            return Snapshot(head.checkpoint, exact, buckets, tuple(rows))

    def _list_wanted(self, buckets: Iterable[str]) -> list[str]:
        """Fill temp.syncline_wanted; the answer maps a place in it to the bucket."""
        places = sorted(buckets)
        width = max((len(scope.key) for scope in self._sql.plan.scopes.values()), default=0)
        keys = "".join(f", k_{index}" for index in range(1, width + 1))
        self._db.execute("DROP TABLE IF EXISTS temp.syncline_wanted")
        self._db.execute(f"CREATE TEMP TABLE syncline_wanted(scope{keys}, place)")
        for place, bucket in enumerate(places):
            key = key_of_bucket(bucket)
            row = (bucket_scope(bucket), *key, *([None] * (width - len(key))), place)
            self._db.execute(f"INSERT INTO temp.syncline_wanted VALUES({', '.join('?' * len(row))})", row)
        return places

    def _snapshot_rows(self, table: TableSql, query: str, places: list[str]) -> list[BucketRows]:
        width = len(table.synced.key)
        chunks: list[BucketRows] = []
        rows: list[tuple[str, str, list[str]]] = []
        size = 0
        previous: tuple[Value, ...] | None = None
        for row in fetch_all(self._db, query):
            key = row[1 : 1 + width]
            if key == previous and rows:
                rows[-1][2].append(places[row[0]])
                continue
            if size > limits.ROWS_FRAME_BYTES_TARGET or len(rows) >= limits.ROWS_PER_FRAME_MAX:
                chunks.append(_chunk(table, rows))
                rows, size = [], 0
            previous, image = key, encode_row(row[1 + width :])
            size += len(image)
            rows.append((encode_row(key), image, [places[row[0]]]))
        if rows:
            chunks.append(_chunk(table, rows))
        return chunks

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


def _chunk(table: TableSql, rows: list[tuple[str, str, list[str]]]) -> BucketRows:
    names: dict[str, int] = {}
    of = tuple(tuple(names.setdefault(bucket, len(names)) for bucket in buckets) for _, _, buckets in rows)
    return BucketRows(
        table=table.synced.name,
        layout=table.layout,
        buckets=tuple(names),
        of=of,
        keys=tuple(key for key, _, _ in rows),
        rows=tuple(image for _, image, _ in rows),
    )


def _bind(grant: str, claims: Claims, scope: str) -> Mapping[str, Any]:
    bound: dict[str, Any] = {}
    for name in grant_parameters(grant):
        if name not in claims:
            raise AuthError(
                f'The token has no claim "{name}", which the grant of scope "{scope}" needs.',
                hint="Have the identity provider add it.",
                code="claim_missing",
                status=403,
            )
        value = claims[name]
        bound[name] = (
            json.dumps(value) if isinstance(value, list | dict) else int(value) if isinstance(value, bool) else value
        )
    return bound
