"""Numbers that only grow, for whoever watches the installation: shared by all its processes, and kept over restarts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg

PREFIX = "counter:"
"""Of their names in syncline.meta."""


async def count_up(db: asyncpg.Connection, counts: Mapping[str, int]) -> None:
    """In the order of their names, so that two who count at the same time wait for one another and never in a ring."""
    wanted = sorted((PREFIX + name, str(number)) for name, number in counts.items() if number)
    await db.executemany(
        "INSERT INTO syncline.meta AS known(name, value) VALUES($1, $2) "
        "ON CONFLICT (name) DO UPDATE SET value = (known.value::numeric + excluded.value::numeric)::text",
        wanted,
    )


async def counters(db: asyncpg.Connection) -> dict[str, int]:
    rows = await db.fetch(
        "SELECT substr(name, $2::int) AS name, value FROM syncline.meta WHERE starts_with(name, $1)",
        PREFIX,
        len(PREFIX) + 1,
    )
    return {row["name"]: int(row["value"]) for row in rows}
