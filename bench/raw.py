"""What SQLite does by itself with the same rows: the measure that the other figures are divided by."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from bench.common_row import VISITS, make_rows

CHUNK = 5_000


@dataclass(frozen=True)
class Pace:
    """`cpu_us`: user and system time per row."""

    rows_per_second: float
    cpu_us: float


class _Watch:
    def __init__(self) -> None:
        self._begun, self._cpu = time.perf_counter(), time.process_time()

    def pace(self, count: int) -> Pace:
        return Pace(count / (time.perf_counter() - self._begun), (time.process_time() - self._cpu) * 1e6 / count)


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA cache_size = -65536")
    return db


def insert_rate(folder: Path, count: int) -> Pace:
    """The pace of `executemany` into an empty table of a file, sorted by key, 5,000 rows a transaction."""
    rows = sorted(make_rows(count))
    path = folder / f"raw-{count}.db"
    path.unlink(missing_ok=True)
    db = _open(path)
    try:
        db.execute(VISITS.replace(" REFERENCES patients", ""))
        watch = _Watch()
        for start in range(0, count, CHUNK):
            db.execute("BEGIN")
            db.executemany(f"INSERT INTO visits VALUES ({', '.join('?' * 10)})", rows[start : start + CHUNK])
            db.execute("COMMIT")
        return watch.pace(count)
    finally:
        db.close()


def update_rate(folder: Path, count: int) -> Pace:
    """The pace of single updates by key in one transaction, on the file that `insert_rate` left."""
    db = _open(folder / f"raw-{count}.db")
    try:
        keys = [row[0] for row in db.execute("SELECT id FROM visits ORDER BY random() LIMIT 10000")]
        watch = _Watch()
        db.execute("BEGIN")
        db.executemany("UPDATE visits SET summary = ?, status = 'done' WHERE id = ?", [("seen", key) for key in keys])
        db.execute("COMMIT")
        return watch.pace(len(keys))
    finally:
        db.close()
