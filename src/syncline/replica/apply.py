"""Applying one cut in one transaction (PROTOCOL_MODEL rules 18 to 20).

The state of a table is always: the server's rows, then the pending mutations replayed in order. So a row of the
server's is written as it comes, and only keys that still have pending mutations are looked at one by one afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from syncline import limits
from syncline.clock import SECOND
from syncline.errors import ProtocolError
from syncline.model.program import ProgramTable
from syncline.protocol import checks
from syncline.replica import records
from syncline.replica.cut import Commit, Cut, body_of
from syncline.replica.install import forget_retired
from syncline.replica.rows import buckets_of, decode, key_of, keys_of, rows_of
from syncline.replica.store import State, Store
from syncline.system.database import immediate
from syncline.values import Key

BULK_ROWS_MIN = 2_000
"""A first load of at least so many rows is made without triggers and indexes, which are made again at its end."""


@dataclass(frozen=True)
class AppliedCut:
    """What one applied cut did. `newly_included`: own mutations that it is the first to include. `tables`: those whose
    rows may have changed. `more`: the server has more at once."""

    checkpoint: int
    included: int
    more: bool
    newly_included: int
    rows_put: int
    rows_removed: int
    rejected: int
    conflicts: int
    tables: frozenset[str]
    buckets_dropped: int
    is_first: bool


@dataclass
class _TableWork:
    """Per table: number and operation of the mutations beyond the cut, by key and in order, and those of these keys
    that the cut put or corrected."""

    pending: dict[Key, list[tuple[int, str]]] = field(default_factory=dict)
    put: set[Key] = field(default_factory=set)
    is_bulk: bool = False


def apply_cut(store: Store, cut: Cut, commit: Commit, *, purge_sent: bool = False) -> AppliedCut | None:
    """None for a cut that was made for another state of this file: it is thrown away whole (rule 18)."""
    try:
        with immediate(store.connection):
            state = store.state()
            if commit.apply_count != state.apply_count or state.wiped is not None:
                if cut.staged:
                    store.connection.execute("DELETE FROM syncline_stage")
                return None
            return _Apply(store, cut, commit, state).run(purge_sent)
    except OverflowError as error:
        raise ProtocolError("An integer beyond 64 bits came as a plain number.", code="bad_value") from error


class _Apply:
    def __init__(self, store: Store, cut: Cut, commit: Commit, state: State) -> None:
        self._store = store
        self._cut = cut
        self._commit = commit
        self._state = state
        self._included = max(state.included, commit.included)
        self._work: dict[str, _TableWork] = {}
        self._touched: set[str] = set()
        self._buckets: dict[str, int] = {}
        self._put = self._removed = self._dropped = 0

    def run(self, purge_sent: bool) -> AppliedCut:
        db = self._store.connection
        db.execute("UPDATE syncline_state SET applying = 1")
        self._prepare()
        if self._cut.reset:
            self._forget_memberships()
        for frame in body_of(self._store, self._cut):
            self._take(frame)
        self._name_buckets(self._commit.buckets_added)
        self._erase_records()
        self._correct()
        self._settle()
        rejected, conflicts = records.write_outcomes(self._store, self._cut.outcomes, self._included)
        if self._state.has_pending:
            self._move_included()
        if purge_sent:
            before = self._store.now_us() - limits.SENT_DAYS * 86_400 * SECOND
            for table in self._store.tables.values():
                self._store.run(table, "purge_sent", (before,))
        self._finish()
        return AppliedCut(
            checkpoint=self._commit.checkpoint,
            included=self._included,
            more=self._commit.more,
            newly_included=self._included - self._state.included,
            rows_put=self._put,
            rows_removed=self._removed,
            rejected=rejected,
            conflicts=conflicts,
            tables=frozenset(self._touched),
            buckets_dropped=self._dropped,
            is_first=not self._state.synced,
        )

    # ------------------------------------------------------------ before the frames
    def _prepare(self) -> None:
        bulk = max(self._cut.expected, self._cut.received) >= BULK_ROWS_MIN
        for table in self._store.tables.values():
            work = self._work[table.name] = _TableWork()
            if self._state.has_pending:
                for number, operation, *key in self._store.fetch(table, "pending", (self._included,)):
                    work.pending.setdefault(tuple(key), []).append((number, operation))
            if bulk and not self._state.synced and not self._store.number(table, "any_row"):
                work.is_bulk = True
                self._without_triggers(table)

    def _without_triggers(self, table: ProgramTable) -> None:
        for statement in (*table.ddl["triggers"], *table.ddl["indexes"]):
            kind, name = records.name_of_definition(statement)
            self._store.connection.execute(f"DROP {kind} {name}")

    def _with_triggers(self, table: ProgramTable) -> None:
        with self._store.guard.strict():
            for statement in (*table.ddl["indexes"], *table.ddl["triggers"]):
                self._store.connection.execute(statement)

    def _forget_memberships(self) -> None:
        """`reset`: what follows is everything. Every row that is here has to be looked at."""
        for table in self._store.tables.values():
            self._store.run(table, "look_all")
            self._store.run(table, "let_go_all")
        self._store.connection.execute("DELETE FROM syncline_bucket")

    # ------------------------------------------------------------ frames
    def _take(self, frame: dict[str, Any]) -> None:
        if frame["t"] == "rows":
            self._rows(frame)
        elif frame["t"] == "remove":
            self._remove(frame)
        else:
            self._drop_buckets(checks.texts(frame, "buckets", limits.BUCKETS_PER_USER_MAX))

    def _rows(self, frame: dict[str, Any]) -> None:
        table = self._store.table(frame.get("table"))
        work = self._work[table.name]
        rows, is_plain = rows_of(table, frame)
        ids = [self._bucket(name) for name in checks.texts(frame, "buckets", limits.BUCKETS_PER_USER_MAX)]
        self._store.run_many(table, "upsert", rows, is_plain)
        places = table.key_places
        if len(places) == 1:
            (place,) = places
            keys: list[Key] = [(row[place],) for row in rows]
        else:
            keys = [tuple([row[place] for place in places]) for row in rows]
        holders = zip(keys, buckets_of(frame, len(rows), ids), strict=True)
        self._store.run_many(table, "hold", [(*key, bucket) for key, of in holders for bucket in of], is_plain)
        if work.pending:
            work.put.update(key for key in keys if key in work.pending)
        self._put += len(rows)
        self._touched.add(table.name)

    def _remove(self, frame: dict[str, Any]) -> None:
        table = self._store.table(frame.get("table"))
        keys = keys_of(table, frame)
        bucket = self._bucket(checks.text(frame, "bucket", 2_000))
        self._store.run_many(table, "look_key", keys)
        self._store.run_many(table, "let_go", [(*key, bucket) for key in keys])
        self._touched.add(table.name)

    def _drop_buckets(self, names: list[str]) -> None:
        for name in names:
            bucket = self._bucket(name)
            for table in self._store.tables.values():
                self._store.run(table, "look_bucket", (bucket,))
                if self._store.run(table, "let_go_bucket", (bucket,)).rowcount:
                    self._touched.add(table.name)
            self._store.connection.execute("DELETE FROM syncline_bucket WHERE id = ?", (bucket,))
            self._buckets.pop(name, None)
            self._dropped += 1

    def _bucket(self, name: str) -> int:
        found = self._buckets.get(name)
        if found is None:
            db = self._store.connection
            db.execute("INSERT OR IGNORE INTO syncline_bucket (name) VALUES (?)", (name,))
            (found,) = db.execute("SELECT id FROM syncline_bucket WHERE name = ?", (name,)).fetchone()
            self._buckets[name] = found
        return found

    def _name_buckets(self, names: tuple[str, ...]) -> None:
        rows = [(name,) for name in names]
        self._store.connection.executemany("INSERT OR IGNORE INTO syncline_bucket (name) VALUES (?)", rows)

    # ------------------------------------------------------------ after the frames
    def _erase_records(self) -> None:
        """What the office or others wrote into rows that left goes with them: it is in the office's records."""
        for table in self._looked_tables():
            records.erase_lost(self._store, table)

    def _looked_tables(self) -> Iterator[ProgramTable]:
        for table in self._store.tables.values():
            if table.name in self._touched or self._cut.reset:
                yield table

    def _correct(self) -> None:
        """Outcomes that carry their key's true state: as if it had been put, or as if it were gone (rule 19)."""
        for outcome in self._cut.outcomes:
            state = outcome.get("state")
            table = self._store.tables.get(outcome.get("table") or "")
            if type(state) is not dict or table is None:
                continue
            key = key_of(table, outcome.get("key"))
            self._store.run(table, "look_key", key)
            if state.get("row") is None:
                self._store.run(table, "let_go_key", key)
            else:
                self._store.run(table, "upsert", decode(table, state["row"]))
                self._work[table.name].put.add(key)
            self._touched.add(table.name)

    def _settle(self) -> None:
        """Rows without membership go, and pending mutations are made again where the row under them changed."""
        for table in self._store.tables.values():
            work = self._work[table.name]
            if self._state.has_pending and self._store.run(table, "look_included", (self._included,)).rowcount:
                self._touched.add(table.name)
            if table.name not in self._touched and not self._cut.reset:
                continue
            keys = work.put & work.pending.keys()
            if self._store.number(table, "any_looked"):
                self._removed += self._store.run(table, "delete_lost", (self._included,)).rowcount
                self._store.run(table, "erase_lost_sent")
                if work.pending:
                    keys |= set(self._store.fetch(table, "looked_pending", (self._included,)))
                self._store.run(table, "look_clear")
            for key in keys:
                self._rebase(table, key, work.pending[key], key in work.put)

    def _rebase(self, table: ProgramTable, key: Key, pending: list[tuple[int, str]], was_put: bool) -> None:
        """One key with mutations beyond the cut."""
        if not self._store.number(table, "is_held", key):
            first = next((place for place, (_, operation) in enumerate(pending) if operation != "U"), None)
            if first is not None:
                # Nobody's row any more: what is left of it is what the device itself wrote.
                self._store.run(table, "delete", key)
                self._replay(table, pending[first:])
                return
        if was_put:
            self._replay(table, pending)

    def _replay(self, table: ProgramTable, pending: list[tuple[int, str]]) -> None:
        for number, operation in pending:
            if operation == "D":
                self._store.run(table, "replay_delete", (number,))
            elif operation == "U":
                self._store.run(table, "replay_update", (number,))
            elif self._store.run(table, "replay_insert", (number,)).rowcount < 1:
                self._store.run(table, "replay_insert_over", (number,))

    def _move_included(self) -> None:
        """What the cut includes leaves the outbox; rejected mutations have left it for the parked ones already."""
        now = self._store.now_us()
        for table in self._store.outboxes:
            if table.name in self._store.tables and table is self._store.tables[table.name]:
                self._store.run(table, "move_to_sent", (self._included, self._state.epoch, now))
            self._store.run(table, "forget", (self._included,))
        forget_retired(self._store)

    def _finish(self) -> None:
        db, store = self._store.connection, self._store
        for table in store.tables.values():
            if self._work[table.name].is_bulk:
                self._with_triggers(table)
            if table.name in self._touched:
                store.run(table, "empty_replaced")
        if self._cut.staged:
            db.execute("DELETE FROM syncline_stage")
        left = self._dropped > 0 or self._removed > 0
        db.execute(
            "UPDATE syncline_state SET applying = 0, grp = 0, cursor = ?1, base = ?2, included = ?3, "
            "seen = max(seen, ?4), apply_count = apply_count + 1, synced = max(synced, ?5), "
            "purge_pending = max(purge_pending, ?6), seq = max(seq, ?3)",
            (
                self._commit.cursor,
                self._commit.checkpoint,
                self._included,
                self._commit.time_us,
                int(not self._commit.more),
                int(left),
            ),
        )
