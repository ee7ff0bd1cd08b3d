"""Versions of our tables in a replica's file: where they are checked, and how an older file is brought up to date.

`model.program_base.BOOTSTRAP` makes a new file in the newest form, `FILE_FORMAT`. To change one of its tables:

1. change it in BOOTSTRAP, and raise FILE_FORMAT by one, unless the newest step below was in no release yet;
2. add to `STEPS` what turns a file of the format before into the new one: SQL, run in order in one transaction. Steps
   of a release are never edited again: files in the field have been through them;
3. run tests/replica/test_versions.py: it holds a file of every old format, and compares what becomes of it with a new
   one. Add a file of the format that ends (tests/data/replicas says how they are made).

What is made by the program (the synced tables, `syncline_outbox_*` and the like) has no place here: those tables change
with the program that the next `hello` brings (`replica/install.py`).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from syncline.errors import ReplicaError
from syncline.model.program_base import BOOTSTRAP, FILE_FORMAT
from syncline.system.database import immediate

STEPS: dict[int, tuple[str, ...]] = {
    1: (
        # AUTOINCREMENT, so that the id of a rejection is never given twice: an app may still hold a dismissed one.
        "DROP VIEW syncline_rejections",
        "ALTER TABLE syncline_parked RENAME TO syncline_parked_before",
        """CREATE TABLE syncline_parked (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        n INTEGER NOT NULL,
        table_name TEXT NOT NULL,
        key TEXT NOT NULL,
        key_values TEXT NOT NULL,
        operation TEXT NOT NULL,
        code TEXT NOT NULL,
        reason TEXT NOT NULL,
        row_values TEXT,
        grp INTEGER,
        at TEXT NOT NULL,
        increments TEXT
    )""",
        "INSERT INTO syncline_parked "
        "(id, n, table_name, key, key_values, operation, code, reason, row_values, grp, at) "
        "SELECT id, n, table_name, key, key_values, operation, code, reason, row_values, grp, at "
        "FROM syncline_parked_before ORDER BY id",
        "DROP TABLE syncline_parked_before",
        """CREATE VIEW syncline_rejections AS
        SELECT id, table_name, key, operation, code, reason, row_values, at FROM syncline_parked""",
        """CREATE TABLE syncline_receipt (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        reached INTEGER NOT NULL DEFAULT 0,
        refused INTEGER NOT NULL DEFAULT 0,
        last_reached INTEGER NOT NULL DEFAULT 0,
        last_refused INTEGER NOT NULL DEFAULT 0,
        last_at_us INTEGER
    )""",
        "INSERT INTO syncline_receipt (id) VALUES (1)",
        "CREATE TABLE syncline_changed (table_name TEXT PRIMARY KEY, apply_count INTEGER NOT NULL)",
        """CREATE TABLE syncline_job (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        token TEXT NOT NULL,
        reset INTEGER NOT NULL,
        frames INTEGER NOT NULL,
        put INTEGER NOT NULL,
        loading TEXT NOT NULL,
        rows INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        total_rows INTEGER
    )""",
        "CREATE TABLE syncline_verified (id INTEGER PRIMARY KEY CHECK (id = 1), at_us INTEGER NOT NULL)",
        """CREATE TABLE syncline_job_bucket (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        listed INTEGER NOT NULL
    )""",
    ),
}
"""What takes a file from the format of the key to the next one."""


def check_sqlite(needed: str, whose: str) -> None:
    """ReplicaError where the SQLite that Python uses here is older. `needed`: "3.38.2"; `whose`: who needs it."""
    if sqlite3.sqlite_version_info < tuple(int(part) for part in needed.split(".")):
        raise ReplicaError(
            f"{whose} needs SQLite {needed} or newer; the one that this Python uses is {sqlite3.sqlite_version}.",
            hint="Run the app with a newer SQLite: it is the system's libsqlite3, or comes with Python. "
            "The file is as it was.",
            code="sqlite_too_old",
        )


def read_format(connection: sqlite3.Connection) -> int:
    """Which form our tables in this file have. sqlite3.OperationalError where it has none."""
    return int(connection.execute("SELECT format FROM syncline_state").fetchone()[0])


def check_format(found: int, path: str | Path) -> None:
    """ReplicaError for a file of a later Syncline: nobody here knows what its tables mean."""
    if found > FILE_FORMAT:
        raise ReplicaError(
            f'"{path}" was written by a later Syncline (file format {found}; this one knows {FILE_FORMAT}).',
            hint="Update Syncline; the file is as it was.",
            code="replica_newer",
        )


def is_ours(connection: sqlite3.Connection) -> bool:
    """The file has our tables, of whatever format."""
    found = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'syncline_state' AND type = 'table'")
    return found.fetchone() is not None


def bring_up_to_date(connection: sqlite3.Connection, path: str | Path) -> None:
    """Makes our tables in a file that has none, or takes them to FILE_FORMAT, all steps or none.

    The caller has the agent's lock. ReplicaError, and nothing is touched, for a file of a later Syncline.
    """
    if is_ours(connection):
        found = read_format(connection)
        check_format(found, path)
        if found == FILE_FORMAT:
            return
    with immediate(connection):
        if not is_ours(connection):
            for statement in BOOTSTRAP:
                connection.execute(statement)
        for number in range(read_format(connection), FILE_FORMAT):
            for statement in STEPS[number]:
                connection.execute(statement)
            connection.execute("UPDATE syncline_state SET format = ?", (number + 1,))
