"""Numbers that only grow, for whoever watches the installation: shared by all its processes, and kept over restarts."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from syncline.source.sqlite.writing import write_transaction

PREFIX = "counter:"
"""Of their names in syncline_meta."""


def count_up(connection: sqlite3.Connection, counts: Mapping[str, int]) -> None:
    with write_transaction(connection):
        connection.executemany(
            "INSERT INTO syncline_meta VALUES(?1, ?2) ON CONFLICT DO UPDATE SET value = value + excluded.value",
            [(PREFIX + name, number) for name, number in counts.items() if number],
        )


def counters(connection: sqlite3.Connection) -> dict[str, int]:
    rows = connection.execute(
        "SELECT substr(name, ?1), value FROM syncline_meta WHERE name GLOB ?2", (len(PREFIX) + 1, f"{PREFIX}*")
    )
    return {name: int(value) for name, value in rows.fetchall()}
