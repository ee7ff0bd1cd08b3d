"""What devices hold of each table, kept in `meta` under `signature:<table>`.

Where it differs from what was served before, rows or columns enter and leave devices although nobody wrote them: the
table is sent anew (`generations`).
"""

from __future__ import annotations

import asyncpg

from syncline.model.merge import Stamp
from syncline.model.scopes import Plan, SyncedTable
from syncline.source.postgres.capture import MASK_BITS, Capture
from syncline.source.postgres.types import json_sql
from syncline.source.signatures import StoredSignature, table_signature
from syncline.source.stamps import Changes, fold_changes

SIGNATURE_PREFIX = "signature:"
_ROWS_AT_ONCE = 5_000


async def read_signatures(db: asyncpg.Connection) -> dict[str, StoredSignature]:
    rows = await db.fetch("SELECT name, value FROM syncline.meta WHERE starts_with(name, $1)", SIGNATURE_PREFIX)
    return {name.removeprefix(SIGNATURE_PREFIX): StoredSignature.parse(text) for name, text in rows}


async def store_signatures(db: asyncpg.Connection, plan: Plan) -> frozenset[str]:
    """Inside a transaction: write down what `plan` serves. The answer: the synced tables of which devices are to hold
    something else than before, new ones too. What the feed keeps of tables that sync no longer goes."""
    before = await read_signatures(db)
    changed = set()
    for name, table in plan.tables.items():
        text = table_signature(plan, table)
        known = before.pop(name, None)
        if known is not None and known.text == text:
            continue
        changed.add(name)
        if known is not None:
            await _carry_stamps(db, name, known, table)
        await db.execute(
            "INSERT INTO syncline.meta VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            SIGNATURE_PREFIX + name,
            text,
        )
    if before:
        await db.execute(
            "DELETE FROM syncline.meta WHERE name = ANY($1::text[])", [SIGNATURE_PREFIX + name for name in before]
        )
        for ours in ("entry", "row_state", "truth", "generation"):
            await db.execute(f"DELETE FROM syncline.{ours} WHERE table_name = ANY($1::text[])", list(before))
    return frozenset(changed)


async def _carry_stamps(db: asyncpg.Connection, name: str, known: StoredSignature, table: SyncedTable) -> None:
    """Stamps are kept under the keys and columns they were written for; what these no longer are is forgotten."""
    if known.key != table.key:
        await db.execute("DELETE FROM syncline.row_state WHERE table_name = $1", name)
        return
    gone = sorted(set(known.columns) - set(table.columns))
    if gone:
        await db.execute(
            "UPDATE syncline.row_state SET stamps = "
            "jsonb_set(stamps::jsonb, '{c}', (stamps::jsonb -> 'c') - $2::text[])::text "
            "WHERE table_name = $1 AND stamps IS NOT NULL AND stamps::jsonb -> 'c' ?| $2::text[]",
            name,
            gone,
        )


async def fold_waiting(db: asyncpg.Connection, capture: Capture, known: StoredSignature, columns: set[str]) -> None:
    """Inside a transaction that keeps everybody from the changelog: take the stamps of changes that wait in it, for its
    columns or masks are about to mean something else, and empty it. The rows themselves are sent anew. The key is the
    same as before; `columns` are those that the changelog has."""
    table = capture.table
    masks = [f"m_{index}" for index in range((len(known.watched) + MASK_BITS - 1) // MASK_BITS)]
    masks = [name for name in masks if name in columns]
    parts = [json_sql(table.column(name), f"l.k_{index}") for index, name in enumerate(known.key, 1)]
    listed = " || ',' || ".join(parts)
    key = f"'[' || {listed} || ']'"
    query = f"SELECT {key}, op::text, stamp, writer{''.join(f', {mask}' for mask in masks)} FROM {capture.changelog} l"
    changes: dict[str, Changes] = {}
    for row in await db.fetch(f"{query} ORDER BY id"):
        text, op, stamp, writer, *words = row
        changed = [
            column
            for index, column in enumerate(known.watched if words else ())
            if op in ("U", "T") and (words[index // MASK_BITS] or 0) >> (index % MASK_BITS) & 1
        ]
        changes.setdefault(text, []).append((op, Stamp(stamp or 0, writer or 0), changed))
    keys = list(changes)
    for start in range(0, len(keys), _ROWS_AT_ONCE):
        part = keys[start : start + _ROWS_AT_ONCE]
        stored = dict(
            await db.fetch(
                "SELECT key, stamps FROM syncline.row_state WHERE table_name = $1 AND key = ANY($2::text[])",
                capture.table.name,
                part,
            )
        )
        await db.executemany(
            "INSERT INTO syncline.row_state(table_name, key, stamps, checkpoint) VALUES ($1, $2, $3, 0) "
            "ON CONFLICT (table_name, key) DO UPDATE SET stamps = excluded.stamps",
            [(capture.table.name, key, fold_changes(stored.get(key), changes[key])) for key in part],
        )
    await db.execute(f"DELETE FROM {capture.changelog}")
