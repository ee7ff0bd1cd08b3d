"""What a checkpoint writes, laid out in temporary tables before it takes the write lock.

Row by row Python would give its own lock away and fight for it again, with SQLite's in its hand; from these tables one
statement writes all rows of a kind.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

_COLUMNS = {
    "entry": ("bucket", "table_name", "key", "op"),
    "row_state": ("table_name", "key", "layout", "image", "stamps"),
    "truth": ("table_name", "key", "buckets"),
}
_CONFLICTS = {
    "entry": "op = excluded.op, checkpoint = excluded.checkpoint",
    "row_state": "layout = excluded.layout, image = excluded.image, checkpoint = excluded.checkpoint, "
    "stamps = coalesce(excluded.stamps, stamps)",
    "truth": "buckets = excluded.buckets, checkpoint = excluded.checkpoint",
}


def create_tables(connection: sqlite3.Connection) -> None:
    for table, columns in _COLUMNS.items():
        connection.execute(f"CREATE TEMP TABLE IF NOT EXISTS syncline_next_{table}({', '.join(columns)})")


def lay_out(connection: sqlite3.Connection, table: str, rows: Sequence[Sequence[Any]]) -> None:
    """The rows for `syncline_<table>`, without their checkpoint; those laid out before are forgotten."""
    connection.execute(f"DELETE FROM temp.syncline_next_{table}")
    places = ", ".join("?" * len(_COLUMNS[table]))
    connection.executemany(f"INSERT INTO temp.syncline_next_{table} VALUES({places})", rows)


def write_down(connection: sqlite3.Connection, checkpoint: int) -> None:
    """Inside the write transaction; of rows with the same key the later one counts."""
    for table, columns in _COLUMNS.items():
        connection.execute(
            f"INSERT INTO main.syncline_{table}({', '.join(columns)}, checkpoint) "
            f"SELECT {', '.join(columns)}, ?1 FROM temp.syncline_next_{table} WHERE true ORDER BY rowid "
            f"ON CONFLICT DO UPDATE SET {_CONFLICTS[table]}",
            (checkpoint,),
        )
