"""Generations: from which checkpoint on a table has to be sent whole to every device that holds buckets of it.

Whoever knows that changes of a table may have been missed, or that devices are to hold something else of it, leaves a
*gap* in `syncline_meta` (`gap:<table>`). Until the next checkpoint has raised the generations of these tables, and of
every table whose paths run through them, nothing is read of rows (`standing`).
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable

from syncline.model.scopes import Plan
from syncline.source.generations import Gaps, grant_tables, raised_by
from syncline.source.sqlite.layout import GRANT_PREFIX

GAP_PREFIX = "gap:"
_BOUNDS = (GAP_PREFIX, GAP_PREFIX + "\U0010ffff")


def mark_gaps(connection: sqlite3.Connection, tables: Iterable[str]) -> None:
    """Inside a write transaction. Where no term ever began no device holds anything, and there is nothing to mark."""
    if connection.execute("SELECT 1 FROM syncline_term").fetchone() is None:
        return
    connection.executemany(
        "INSERT INTO syncline_meta VALUES(?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
        [(GAP_PREFIX + table, secrets.token_hex(8)) for table in sorted(tables)],
    )


def read_gaps(connection: sqlite3.Connection) -> Gaps:
    rows = connection.execute("SELECT name, value FROM syncline_meta WHERE name > ?1 AND name < ?2", _BOUNDS)
    return {name.removeprefix(GAP_PREFIX): str(value) for name, value in rows.fetchall()}


def has_gaps(connection: sqlite3.Connection) -> bool:
    found = connection.execute("SELECT 1 FROM syncline_meta WHERE name > ?1 AND name < ?2 LIMIT 1", _BOUNDS)
    return found.fetchone() is not None


def raise_generations(connection: sqlite3.Connection, plan: Plan, gaps: Gaps, number: int) -> None:
    """Inside the transaction that writes checkpoint `number`, before its own entries: all that the feed says of these
    tables is forgotten, but for the stamps of their rows; grants that read a table with a gap are asked anew."""
    for name in sorted(raised_by(plan, gaps)):
        connection.execute("DELETE FROM syncline_entry WHERE table_name = ?1", (name,))
        connection.execute("DELETE FROM syncline_truth WHERE table_name = ?1", (name,))
        connection.execute("DELETE FROM syncline_row_state WHERE table_name = ?1 AND stamps IS NULL", (name,))
        connection.execute("UPDATE syncline_row_state SET image = NULL WHERE table_name = ?1", (name,))
        connection.execute(
            "INSERT INTO syncline_generation VALUES(?1, ?2) ON CONFLICT DO UPDATE SET checkpoint = excluded.checkpoint",
            (name, number),
        )
    connection.executemany(
        "INSERT INTO syncline_meta VALUES(?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
        [(GRANT_PREFIX + table, number) for table in grant_tables(plan) & gaps.keys()],
    )
    connection.executemany(
        "DELETE FROM syncline_meta WHERE name = ?1 AND value = ?2",
        [(GAP_PREFIX + table, mark) for table, mark in gaps.items()],
    )
