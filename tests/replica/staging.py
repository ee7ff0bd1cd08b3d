"""Rows, pages and questions for the tests of long downloads."""

from __future__ import annotations

import sqlite3
from typing import Any

from tests.replica.messages import BUCKET, Bench, put
from tests.replica.paging import Paging

from syncline.replica.file import ReplicaFile

OURS = ("syncline_stage", "syncline_job", "syncline_job_bucket")


def visits(first: int, count: int = 10, bucket: str = BUCKET, note: str | None = None) -> dict[str, Any]:
    return put("visits", *((n, f"p-{n % 3}", "planned", 0, note) for n in range(first, first + count)), bucket=bucket)


def lines(count: int, bucket: str = BUCKET) -> dict[str, Any]:
    return put("lines", *(("a", number, "x") for number in range(count)), bucket=bucket)


def three_pages(bench: Bench) -> Paging:
    return Paging(bench, [BUCKET], [[visits(0)], [visits(10), lines(3)], [visits(20)]], last=[visits(25, 10)])


def count(db: sqlite3.Connection, table: str) -> int:
    return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def reopened(bench: Bench, open_files: list[ReplicaFile]) -> Bench:
    bench.file.close()
    open_files.remove(bench.file)
    open_files.append(ReplicaFile(bench.file.path))
    again = Bench(open_files[-1], bench.program)
    again.checkpoint = bench.checkpoint
    return again


def nothing_is_staged(bench: Bench) -> bool:
    db = bench.file.store.connection
    loads = db.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'syncline\\_load%' ESCAPE '\\'").fetchall()
    return not loads and not any(count(db, name) for name in OURS)


def long_download(bench: Bench) -> Paging:
    return Paging(bench, [BUCKET], [[visits(number * 50, 50), visits(number * 50, 5)] for number in range(2_000)])


def bytes_of(bench: Bench) -> bytes:
    return b"".join(path.read_bytes() for path in bench.file.path.parent.iterdir() if path.name.startswith("replica"))
