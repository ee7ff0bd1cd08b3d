"""Taking SQLite's one write lock beside programs that let go of it for an instant only.

SQLite's own waiting looks every 100 ms. A program that writes in a tight loop leaves the lock free for some 30 µs
between two transactions, and is never met; one that commits in 2 ms costs us 100.
"""

from __future__ import annotations

import sqlite3
import time

DENSE_SECONDS = 2.0
DENSE_LOOK_SECONDS = 0.0001
"""A tenth of a core while we wait. After DENSE_SECONDS a long transaction holds the lock, and no busy loop."""
LOOK_SECONDS = 0.002


def begin_write(connection: sqlite3.Connection) -> float:
    """BEGIN IMMEDIATE; the answer is how many seconds somebody else's transaction was waited for.

    sqlite3.OperationalError if the lock is not to be had for the connection's busy timeout.
    """
    (patience_ms,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        begun, waited = time.monotonic(), 0.0
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return waited
            except sqlite3.OperationalError as error:
                waited = time.monotonic() - begun
                if "locked" not in str(error) or waited * 1000 > patience_ms:
                    raise
            time.sleep(DENSE_LOOK_SECONDS if waited < DENSE_SECONDS else LOOK_SECONDS)
    finally:
        connection.execute(f"PRAGMA busy_timeout = {patience_ms}")
