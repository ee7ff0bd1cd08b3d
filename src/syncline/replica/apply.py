"""Applying one cut in one transaction (PROTOCOL_MODEL rules 18 to 20).

The state of a table is always: the server's rows, then the pending mutations replayed in order. So a row of the
server's is written as it comes, and only keys that still have pending mutations are looked at one by one afterwards.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from syncline import limits
from syncline.clock import SECOND
from syncline.errors import ProtocolError
from syncline.model.identifiers import PREFIX, quote
from syncline.model.program import ProgramTable
from syncline.protocol import checks
from syncline.protocol.cursor import parse_cursor
from syncline.replica import records
from syncline.replica.cut import Commit, Cut, body_of
from syncline.replica.identity import refuse_another_copy
from syncline.replica.install import forget_retired
from syncline.replica.load import holders, made_loads, place_load
from syncline.replica.marks import note_changed
from syncline.replica.own_objects import put_capture_back, take_unique_off
from syncline.replica.receipt import Receipt, note_included
from syncline.replica.rows import decode, key_of, keys_of, rows_of
from syncline.replica.stage import Job, Stage
from syncline.replica.store import DELETE_TAIL, State, Store
from syncline.system.database import immediate
from syncline.values import Key


@dataclass(frozen=True)
class AppliedCut:
    """What one applied cut did. `newly_included`: own mutations that it is the first to include. `tables`: those whose
    rows may have changed. `more`: the server has more at once. `receipt`: the outbox became empty by it."""

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
    receipt: Receipt | None = None


@dataclass
class _TableWork:
    """Per table: number and operation of the mutations beyond the cut, by key and in order, and those of these keys
    that the cut put or corrected."""

    pending: dict[Key, list[tuple[int, str]]] = field(default_factory=dict)
    put: set[Key] = field(default_factory=set)


def apply_cut(store: Store, cut: Cut, commit: Commit, *, purge_sent: bool = False) -> AppliedCut | None:
    """None for a cut that was made for another state of this file: it is thrown away whole (rule 18)."""
    try:
        with immediate(store.connection):
            put_capture_back(store)
            if take_unique_off(store):
                Stage(store).discard()
            state = store.state()
            if commit.apply_count + cut.pages != state.apply_count or state.wiped is not None:
                return None
            refuse_another_copy(store, state, commit.included, commit.included_id)
            return _Apply(store, cut, commit, state).run(purge_sent)
    except OverflowError as error:
        raise ProtocolError("An integer beyond 64 bits came as a plain number.", code="bad_value") from error


class _Apply:
    def __init__(self, store: Store, cut: Cut, commit: Commit, state: State) -> None:
        self._store = store
        self._stage = Stage(store)
        self._cut = cut
        self._commit = commit
        self._state = state
        self._keeps = cut.stage == "keep"
        self._included = state.included if self._keeps else max(state.included, commit.included)
        self._outcomes: list[dict[str, Any]] = []
        self._work: dict[str, _TableWork] = {}
        self._touched: set[str] = set()
        self._buckets: dict[str, int] = {}
        self._put = self._removed = 0
        self._own_deletes = False
        self._dropped: set[str] = set()

    def run(self, purge_sent: bool) -> AppliedCut:
        db = self._store.connection
        db.execute("UPDATE syncline_state SET applying = 1")
        job = self._staged()
        self._prepare()
        if self._is_reset:
            self._forget_memberships()
        if job is not None:
            self._place(job)
        for frame in body_of(self._stage, self._cut):
            self._take(frame)
        if job is not None:
            self._drop_buckets(sorted(set(self._stage.listed()) - set(self._commit.buckets_added)))
        self._name_buckets(self._commit.buckets_added)
        self._erase_records()
        self._correct()
        self._settle()
        rejected, conflicts = records.write_outcomes(self._store, self._outcomes, self._included)
        if self._state.has_pending:
            self._move_included()
        if purge_sent:
            before = self._store.now_us() - limits.SENT_DAYS * 86_400 * SECOND
            for table in self._store.tables.values():
                self._store.run(table, "purge_sent", (before,))
        self._finish()
        note_changed(self._store, self._touched)
        newly_included = self._included - self._state.included
        receipt = note_included(self._store, newly_included, rejected, self._commit.time_us)
        return AppliedCut(
            checkpoint=self._state.base if self._keeps else self._commit.checkpoint,
            included=self._included,
            more=self._commit.more,
            newly_included=newly_included,
            rows_put=self._put,
            rows_removed=self._removed,
            rejected=rejected,
            conflicts=conflicts,
            tables=frozenset(self._touched),
            buckets_dropped=len(self._dropped),
            is_first=not self._state.synced and not self._keeps,
            receipt=receipt,
        )

    # ------------------------------------------------------------ before the frames
    def _staged(self) -> Job | None:
        """What this cut is the end of. Anything else that is staged is thrown away, but for a cut that only drops."""
        job = None
        if self._cut.is_paged:
            if self._cut.opening is not None:
                self._stage.open(*self._cut.opening)
            self._stage.add(self._cut.tail)
            job = self._stage.job()
        elif not self._keeps:
            self._stage.discard()
        self._is_reset = self._cut.reset if job is None else job.is_reset
        self._require_onward()
        return job

    def _require_onward(self) -> None:
        """Within a term the server goes on. A cut from before what is here would take newer rows back to older ones."""
        told, mine = parse_cursor(self._commit.cursor), parse_cursor(self._state.cursor)
        if told and mine and told[0] == mine[0] and told[1] < mine[1] and not self._is_reset:
            raise ProtocolError("The server went back behind what this device has.", code="bad_order")

    def _prepare(self) -> None:
        for table in self._store.tables.values():
            work = self._work[table.name] = _TableWork()
            if self._state.has_pending:
                for number, operation, *key in self._store.fetch(table, "pending", (self._state.included,)):
                    if number > self._included:
                        work.pending.setdefault(tuple(key), []).append((number, operation))
                    elif operation == "D":
                        self._own_deletes = True

    def _place(self, job: Job) -> None:
        """Loaded rows become those of their tables."""
        self._store.connection.execute(
            "INSERT OR IGNORE INTO syncline_bucket (id, name) SELECT id, name FROM syncline_job_bucket"
        )
        for name in sorted(made_loads(self._store, job.loading)):
            table, work = self._store.table(name), self._work[name]
            is_untouched = not work.pending and not self._store.number(table, "any_row")
            work.put |= place_load(self._store, table, self._included, is_untouched=is_untouched)
            self._touched.add(name)
        self._put += job.put

    def _forget_memberships(self) -> None:
        """`reset`: what follows is everything. Every row that is here has to be looked at."""
        for table in self._store.tables.values():
            self._store.run(table, "look_all")
            self._store.run(table, "let_go_all")
        self._store.connection.execute("DELETE FROM syncline_bucket")

    # ------------------------------------------------------------ frames
    def _take(self, frame: dict[str, Any]) -> None:
        kind = frame["t"]
        if kind == "rows":
            self._rows(frame)
        elif kind == "remove":
            self._remove(frame)
        elif kind == "replace":
            self._replace(frame)
        elif kind == "outcome":
            self._outcomes.append(frame)
        else:
            self._drop_buckets(checks.texts(frame, "buckets", limits.BUCKETS_PER_USER_MAX))

    def _rows(self, frame: dict[str, Any]) -> None:
        table = self._store.table(frame.get("table"))
        work = self._work[table.name]
        rows, is_plain = rows_of(table, frame)
        ids = [self._bucket(name) for name in checks.texts(frame, "buckets", limits.BUCKETS_PER_USER_MAX)]
        self._store.run_many(table, "upsert", rows, is_plain)
        self._store.run_many(table, "hold", holders(table, frame, rows, ids), is_plain)
        if work.pending:
            keys = (tuple([row[place] for place in table.key_places]) for row in rows)
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

    def _replace(self, frame: dict[str, Any]) -> None:
        """What follows is everything of this table in these buckets: they let go of every row, and take it again with
        those that come. A row that no bucket holds, or none that is here, which only damage to the file leaves behind,
        goes with them."""
        table = self._store.table(frame.get("table"))
        held = quote(f"{PREFIX}held_{table.name}")
        self._store.connection.execute(f"DELETE FROM {held} WHERE bucket NOT IN (SELECT id FROM syncline_bucket)")
        if "look_unheld" in table.statements:  # not in a program of before there were verifications
            self._store.run(table, "look_unheld")
        for name in checks.texts(frame, "buckets", limits.BUCKETS_PER_USER_MAX):
            bucket = self._bucket(name)
            self._store.run(table, "look_bucket", (bucket,))
            self._store.run(table, "let_go_bucket", (bucket,))
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
            self._dropped.add(name)

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
            if table.name in self._touched or self._is_reset:
                yield table

    def _correct(self) -> None:
        """Outcomes that carry their key's true state: as if it had been put, or as if it were gone (rule 19)."""
        for outcome in self._outcomes:
            state = outcome.get("state")
            table = self._store.tables.get(checks.text(outcome, "table"))
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
            if table.name not in self._touched and not self._is_reset:
                continue
            keys = work.put & work.pending.keys()
            if self._store.number(table, "any_looked"):
                self._touched.add(table.name)
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
        db = self._store.connection
        for table in self._store.tables.values():
            if table.name in self._touched:
                self._store.run(table, "empty_replaced")
        left = self._dropped or self._removed > 0 or self._own_deletes
        if left:
            _forget_samples(db)
        db.execute(
            "UPDATE syncline_state SET applying = 0, grp = 0, apply_count = apply_count + 1, "
            "purge_pending = max(purge_pending, ?)",
            (int(bool(left)),),
        )
        if self._keeps:
            self._stage.forget_buckets(self._dropped)
            db.execute(DELETE_TAIL)
            return
        self._stage.clear()
        db.execute(
            "UPDATE syncline_state SET cursor = ?1, base = ?2, included = ?3, seen = max(seen, ?4), "
            "synced = max(synced, ?5), seq = max(seq, ?3)",
            (
                self._commit.cursor,
                self._commit.checkpoint,
                self._included,
                self._commit.time_us,
                int(not self._commit.more),
            ),
        )


def _forget_samples(db: sqlite3.Connection) -> None:
    """The app's ANALYZE, in a SQLite that was built with STAT4, keeps whole values of indexed columns in a table of its
    own: those of rows that left go with all others, until it is run again."""
    if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_stat4'").fetchone():
        db.execute("DELETE FROM sqlite_stat4")
