"""What SQLite does by itself with the same rows: the measure that the other figures are divided by."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from bench.common_row import VISITS, make_rows

CHUNK = 5_000


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA cache_size = -65536")
    return db


def insert_rate(folder: Path, count: int) -> float:
    """Rows/s of `executemany` into an empty table of a file, sorted by key, 5,000 rows a transaction."""
    rows = sorted(make_rows(count))
    path = folder / f"raw-{count}.db"
    path.unlink(missing_ok=True)
    db = _open(path)
    try:
        db.execute(VISITS.replace(" REFERENCES patients", ""))
        begun = time.perf_counter()
        for start in range(0, count, CHUNK):
            db.execute("BEGIN")
            db.executemany(f"INSERT INTO visits VALUES ({', '.join('?' * 10)})", rows[start : start + CHUNK])
            db.execute("COMMIT")
        return count / (time.perf_counter() - begun)
    finally:
        db.close()


def update_rate(folder: Path, count: int) -> float:
    """Rows/s of single updates by key in one transaction, on the file that `insert_rate` left."""
    db = _open(folder / f"raw-{count}.db")
    try:
        keys = [row[0] for row in db.execute("SELECT id FROM visits ORDER BY random() LIMIT 10000")]
        begun = time.perf_counter()
        db.execute("BEGIN")
        db.executemany("UPDATE visits SET summary = ?, status = 'done' WHERE id = ?", [("seen", key) for key in keys])
        db.execute("COMMIT")
        return len(keys) / (time.perf_counter() - begun)
    finally:
        db.close()
