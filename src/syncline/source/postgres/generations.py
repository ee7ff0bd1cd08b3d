"""Generations: from which checkpoint on a table has to be sent whole to every device that holds buckets of it.

Whoever knows that changes of a table may have been missed, or that devices are to hold something else of it, leaves a
line in the queue `gap`. Until a checkpoint has raised the generations of these tables, and of every table whose paths
run through them, nothing is read of rows (`standing`). A line may also say that its table cannot be followed for the
time being (`troubles`): whoever reads goes on without that table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import asyncpg

from syncline.model.scopes import Plan
from syncline.source.generations import Gaps, grant_tables, raised_by
from syncline.source.postgres.troubles import Trouble

__all__ = ["Gaps", "mark_gaps", "raise_generations", "raised_by", "read_gaps", "read_gaps_apart"]


async def mark_gaps(db: asyncpg.Connection, tables: Iterable[str], mark: str) -> None:
    """Where no term ever began no device holds anything, and there is nothing to mark."""
    await db.execute(
        "INSERT INTO syncline.gap(table_name, mark) SELECT name, $2 FROM unnest($1::text[]) AS name "
        "WHERE EXISTS (SELECT FROM syncline.term)",
        sorted(tables),
        mark,
    )


async def read_gaps(db: asyncpg.Connection, leave: Collection[str] = ()) -> Gaps:
    """Of all tables but those to `leave`."""
    rows = await db.fetch(
        "SELECT table_name, max(mark) FROM syncline.gap WHERE table_name <> ALL($1::text[]) GROUP BY table_name",
        list(leave),
    )
    return {name: mark or "" for name, mark in rows}


async def read_gaps_apart(
    db: asyncpg.Connection, leave: Collection[str] = ()
) -> tuple[frozenset[str], dict[str, Trouble]]:
    """As `read_gaps`, for readers: the tables that the next checkpoint sees to, and those that it cannot follow."""
    rows = await db.fetch(
        "SELECT DISTINCT table_name, mark FROM syncline.gap WHERE table_name <> ALL($1::text[])", list(leave)
    )
    stopped = {name: trouble for name, mark in rows if (trouble := Trouble.parse(mark or ""))}
    return frozenset(name for name, _ in rows) - stopped.keys(), stopped


async def raise_generations(db: asyncpg.Connection, plan: Plan, gaps: Gaps, number: int) -> None:
    """Inside the transaction that writes checkpoint `number`, before its own entries: all that the feed says of these
    tables is forgotten, but for the stamps of their rows; grants that read a table with a gap are asked anew. Of the
    queue goes what this transaction's snapshot shows."""
    raised = sorted(raised_by(plan, gaps))
    if raised:
        for statement in _FORGET:
            await db.execute(statement, raised)
        await db.execute(_UPSERT.format(table="generation"), raised, number)
    touched = sorted(grant_tables(plan) & gaps.keys())
    if touched:
        await db.execute(_UPSERT.format(table="grant_touch"), touched, number)
    await db.execute("DELETE FROM syncline.gap WHERE table_name = ANY($1::text[])", list(gaps))


_FORGET = (
    "DELETE FROM syncline.entry WHERE table_name = ANY($1::text[])",
    "DELETE FROM syncline.truth WHERE table_name = ANY($1::text[])",
    "DELETE FROM syncline.row_state WHERE table_name = ANY($1::text[]) AND stamps IS NULL",
    "UPDATE syncline.row_state SET image = NULL WHERE table_name = ANY($1::text[]) AND image IS NOT NULL",
)
_UPSERT = (
    "INSERT INTO syncline.{table}(table_name, checkpoint) SELECT name, $2 FROM unnest($1::text[]) AS name "
    "ON CONFLICT (table_name) DO UPDATE SET checkpoint = excluded.checkpoint"
)
