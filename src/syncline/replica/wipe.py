"""Emptying a replica: everything of the server's and of ours goes, and no trace of it stays in the file's pages."""

from __future__ import annotations

import sqlite3

from syncline.model.identifiers import quote
from syncline.model.program_base import BOOTSTRAP
from syncline.replica.store import Store
from syncline.system.database import immediate


def wipe_file(store: Store, reason: str | None) -> None:
    """`reason` None makes a fresh file of it, for another user; text keeps it wiped for good."""
    db = store.connection
    with immediate(db):
        for table in store.tables.values():
            db.execute(f"DROP TABLE IF EXISTS {quote(table.name)}")
        objects = db.execute(
            "SELECT type, name FROM sqlite_schema WHERE type IN ('table', 'view') AND substr(name, 1, 9) = 'syncline_'"
        ).fetchall()
        for kind, name in sorted(objects, key=lambda each: each[0] != "view"):
            db.execute(f"DROP {kind} IF EXISTS {quote(name)}")
        for statement in BOOTSTRAP:
            db.execute(statement)
        db.execute("UPDATE syncline_state SET wiped = ?, purge_pending = 1", (reason,))
    store.load_program()
    try:
        db.execute("VACUUM")  # pages that other connections wrote may hold old values between their rows
    except sqlite3.OperationalError:
        pass
    if store.truncate_log():
        db.execute("UPDATE syncline_state SET purge_pending = 0")
