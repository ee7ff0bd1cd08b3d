"""A long download, broken off wherever chance will have it, leaves what one unbroken answer leaves (P1, P2, P6)."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.replica.conftest import LINES, VISITS
from tests.replica.messages import Bench, drop, plan_of, put, remove
from tests.replica.paging import Frames, Paging

from syncline.model.program import build_program
from syncline.replica.file import ReplicaFile

HELD, NEW = ["h[1]", "h[2]"], ["n[1]", "n[2]"]
PROGRAM = build_program(plan_of(VISITS, LINES, merge={"visits": {"count": "add"}}))


class History:
    """Frames, local writes and breaks, all from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.unique = 0
        self.starts_empty = self.rng.random() < 0.6
        self.held = [] if self.starts_empty else HELD
        self.reset = self.starts_empty or self.rng.random() < 0.2
        self.before = [] if self.starts_empty else self.page(list(HELD))
        self.lost: dict[int, list[str]] = {}
        granted, self.pages = [*NEW, *self.held], []
        for number in range(1, self.rng.randint(1, 5) + 1):
            self.pages.append(self.page(granted))
            if self.rng.random() < 0.25 and (left := [name for name in NEW if name in granted]):
                self.lost[number] = [self.rng.choice(left)]
                granted = [name for name in granted if name not in self.lost[number]]
        self.last = [*self.page(granted), *self.newest(set(granted))]
        self.writes = [self.write() for _ in range(self.rng.randint(0, 4))]
        self.includes = self.rng.random() < 0.3

    def page(self, buckets: list[str]) -> Frames:
        return [self.frame(buckets) for _ in range(self.rng.randint(0, 4))]

    def frame(self, buckets: list[str]) -> dict[str, Any]:
        rng, table = self.rng, self.rng.choice(("visits", "visits", "lines"))
        bucket = rng.choice(buckets) if buckets else "n[3]"
        kind = rng.random()
        if kind < 0.7:
            frame = put(table, *(self.row(table, key) for key in sorted(rng.sample(range(8), 3))), bucket=bucket)
            if rng.random() < 0.4:
                frame |= {"buckets": [bucket, rng.choice(buckets or [bucket])], "of": [0, [0, 1], 1]}
            return frame
        if kind < 0.88:
            return remove(table, *(self.key(table, key) for key in rng.sample(range(8), 2)), bucket=bucket)
        if kind < 0.96:
            return {"t": "replace", "table": table, "buckets": [bucket]}
        if HELD[1] in buckets:
            buckets.remove(HELD[1])  # granted again it would come as a new one
        return drop(HELD[1])

    def newest(self, granted: set[str]) -> Frames:
        """Rows that a lost bucket named and another one holds: what changed of them comes by the other one, too."""
        gone = {name for names in self.lost.values() for name in names}
        named, holders = set(), dict[tuple[str, int], set[str]]()
        for frame in (frame for page in [self.before, *self.pages] for frame in page if frame["t"] == "rows"):
            for place, row in enumerate(frame["rows"]):
                of = frame.get("of", [0] * 3)[place]
                buckets = {frame["buckets"][each] for each in ([of] if type(of) is int else of)}
                at = frame["table"], row[0] if frame["table"] == "visits" else row[1]
                holders.setdefault(at, set()).update(buckets & granted)
                if buckets & gone:
                    named.add(at)
        return [
            put(table, self.row(table, number), bucket=sorted(holders[table, number])[0])
            for table, number in sorted(named)
            if holders[table, number]
        ]

    def key(self, table: str, number: int) -> tuple[Any, ...]:
        return (number,) if table == "visits" else ("a", number)

    def row(self, table: str, number: int) -> tuple[Any, ...]:
        self.unique += 1
        own = (f"p-{self.unique}", "s", self.unique, None) if table == "visits" else (f"label-{self.unique}",)
        return (*self.key(table, number), *own)

    def write(self) -> str:
        self.unique += 1
        key = self.rng.randrange(10)
        return self.rng.choice(
            (
                f"INSERT OR REPLACE INTO visits VALUES ({key}, 'mine-{self.unique}', 'mine', {self.unique}, NULL)",
                f"UPDATE visits SET status = 'mine-{self.unique}', count = count + 100 WHERE id = {key}",
                f"DELETE FROM visits WHERE id = {key}",
                f"INSERT OR IGNORE INTO lines VALUES ('a', {key}, 'mine-{self.unique}')",
                f"UPDATE lines SET label = 'mine-{self.unique}' WHERE b = {key}",
                f"DELETE FROM lines WHERE b = {key}",
            )
        )


def prepared(path: Path, history: History) -> Bench:
    greeted = path.parent.with_name("greeted.db")
    if not greeted.exists():
        bench = Bench(ReplicaFile(greeted), PROGRAM)
        bench.hello()
        bench.file.close()
    shutil.copy(greeted, path)
    bench = Bench(ReplicaFile(path), PROGRAM)
    if not history.starts_empty:
        bench.cut(*history.before)
    return bench


def included(bench: Bench, history: History) -> int:
    state = bench.file.state()
    return state.seq if history.includes else state.included


def unbroken(path: Path, history: History) -> dict[str, Any]:
    """All of it as one cut without pages, after all local writes."""
    bench = prepared(path, history)
    write(bench, history.writes)
    gone = [name for names in history.lost.values() for name in names]
    server = Paging(bench, NEW, [], [], history.reset, {0: gone}, included(bench, history))
    *_, commit = server.answer()
    begin = {"t": "begin", "apply_count": commit["apply_count"], "reset": history.reset, "rows": 100}
    body = [frame for page in history.pages for frame in page]
    server.receive([begin, *body, *history.last, drop(*gone), commit])
    return closed(bench)


def broken(path: Path, history: History) -> dict[str, Any]:
    """Answer after answer, each torn off somewhere, by one process after the other."""
    rng = history.rng
    bench = prepared(path, history)
    server = Paging(bench, NEW, history.pages, history.last, history.reset, history.lost)
    writes = list(history.writes)
    for _ in range(rng.randint(0, 8)):
        while writes and rng.random() < 0.5:
            write(bench, [writes.pop(0)])
        frames = server.answer(rng.randint(1, 3))
        server.receive(frames[: rng.randrange(len(frames))])
        if rng.random() < 0.4:
            bench.file.close()
            server.bench = bench = Bench(ReplicaFile(path), PROGRAM)
        else:
            bench.file.abandon()
    write(bench, writes)
    server.included = included(bench, history)
    while server.run(2) is None:
        pass
    return closed(bench)


def write(bench: Bench, statements: list[str]) -> None:
    with closing(sqlite3.connect(bench.file.path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


def closed(bench: Bench) -> dict[str, Any]:
    """What the file holds, apart from numbers and times that differ by themselves."""
    db = bench.file.store.connection
    found = {
        table: db.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
        for table in ("visits", "lines", "syncline_stage", "syncline_job", "syncline_job_bucket")
    }
    found["buckets"] = db.execute("SELECT name FROM syncline_bucket WHERE name IN (?, ?) ORDER BY 1", NEW).fetchall()
    found["schema"] = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY 1, 2").fetchall()
    for table, key in (("visits", "k0"), ("lines", "k0, k1")):
        found[f"held {table}"] = db.execute(
            f"SELECT name, {key} FROM syncline_held_{table} JOIN syncline_bucket ON id = bucket ORDER BY name, {key}"
        ).fetchall()
        found[f"outbox {table}"] = db.execute(
            f"SELECT seq, op, {key}, m0, n0 FROM syncline_outbox_{table} ORDER BY seq"
        ).fetchall()
        found[table] = [as_determined(row, found, table) for row in found[table]]
    bench.file.close()
    return found


def as_determined(row: tuple[Any, ...], found: dict[str, Any], table: str) -> tuple[Any, ...]:
    """A row that no bucket holds, and that the device only updated, stays as it was last seen until the update has been
    uploaded. The unbroken cut shows it the rows of buckets that it then drops; the broken one forgot them before."""
    width = 1 if table == "visits" else 2
    key = row[:width]
    operations = {op for _, op, *rest in found[f"outbox {table}"] if tuple(rest[:width]) == key}
    is_held = any(tuple(held) == key for _, *held in found[f"held {table}"])
    return row if is_held or operations != {"U"} else key


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32))
def test_breaks_make_no_difference(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    folder = tmp_path_factory.mktemp("breaks")
    assert broken(folder / "broken.db", History(seed)) == unbroken(folder / "unbroken.db", History(seed))
