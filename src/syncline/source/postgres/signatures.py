"""What devices hold of each table, kept in `meta` under `signature:<table>`.

Where it differs from what was served before, rows or columns enter and leave devices although nobody wrote them: the
table is sent anew (`generations`).
"""

from __future__ import annotations

import asyncpg

from syncline.model.identifiers import quote
from syncline.model.merge import Stamp
from syncline.model.scopes import Plan, SyncedTable
from syncline.source.postgres.belongings import set_meta
from syncline.source.postgres.capture import MASK_BITS, Capture
from syncline.source.postgres.names import object_name, ours
from syncline.source.postgres.types import json_sql
from syncline.source.signatures import StoredSignature, table_signature
from syncline.source.stamps import Changes, fold_changes

SIGNATURE_PREFIX = "signature:"
ASIDE, ASIDE_OF = "aside", "aside:"
"""Changelogs of which only the stamps are to be taken yet: their names, and in `meta` the signature of their time."""
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


async def put_aside(db: asyncpg.Connection, capture: Capture, known: StoredSignature) -> None:
    """Inside a transaction that keeps everybody from the changelog: make room for another one. What waits in it would
    be read as something else from now on; of it the stamps count, which `fold_aside` takes afterwards, for it may be
    much, and the host's writers wait for this transaction. The rows themselves are sent anew."""
    await db.execute(f"DROP INDEX IF EXISTS {ours(object_name('waiting', capture.table))}")
    await db.execute(f"ALTER TABLE {capture.changelog} RENAME TO {quote(object_name(ASIDE, capture.table))}")
    await set_meta(db, ASIDE_OF + capture.table.name, known.text)


async def index_aside(db: asyncpg.Connection, name: str) -> None:
    """So that each part of it is found at once."""
    aside, index = ours(object_name(ASIDE, name)), quote(object_name(f"{ASIDE}_order", name))
    await db.execute(f"CREATE INDEX IF NOT EXISTS {index} ON {aside}(id)")


async def fold_aside(db: asyncpg.Connection, capture: Capture, known: StoredSignature) -> bool:
    """Inside a transaction of its own: take the stamps of the oldest changes of those put aside. Whether there may be
    more. The key is the same as then."""
    await db.execute("LOCK TABLE syncline.checkpoint IN EXCLUSIVE MODE")
    table = capture.table
    aside = ours(object_name(ASIDE, table))
    columns = [
        row[0]
        for row in await db.fetch(
            "SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0", aside
        )
    ]
    masks = [f"m_{index}" for index in range((len(known.watched) + MASK_BITS - 1) // MASK_BITS)]
    masks = [name for name in masks if name in columns]
    parts = [json_sql(table.column(name), f"l.k_{index}") for index, name in enumerate(known.key, 1)]
    listed = " || ',' || ".join(parts)
    key = f"'[' || {listed} || ']'"
    query = f"SELECT id, {key}, op::text, stamp, writer{''.join(f', {mask}' for mask in masks)} FROM {aside} l"
    changes: dict[str, Changes] = {}
    rows = await db.fetch(f"{query} ORDER BY id LIMIT {_ROWS_AT_ONCE}")
    for _, text, op, stamp, writer, *words in rows:
        changed = [
            column
            for index, column in enumerate(known.watched if words else ())
            if op in ("U", "T") and (words[index // MASK_BITS] or 0) >> (index % MASK_BITS) & 1
        ]
        changes.setdefault(text, []).append((op, Stamp(stamp or 0, writer or 0), changed))
    stored = dict(
        await db.fetch(
            "SELECT key, stamps FROM syncline.row_state WHERE table_name = $1 AND key = ANY($2::text[])",
            table.name,
            list(changes),
        )
    )
    await db.executemany(
        "INSERT INTO syncline.row_state(table_name, key, stamps, checkpoint) "
        "VALUES ($1, $2, $3, 1 + coalesce((SELECT head FROM syncline.checkpoint), 0)) "  # as young as the next cut
        "ON CONFLICT (table_name, key) DO UPDATE SET stamps = excluded.stamps, checkpoint = excluded.checkpoint",
        [(table.name, key, fold_changes(stored.get(key), found)) for key, found in changes.items()],
    )
    if rows:
        await db.execute(f"DELETE FROM {aside} WHERE id <= $1", rows[-1][0])
    return len(rows) == _ROWS_AT_ONCE


async def drop_aside(db: asyncpg.Connection, name: str) -> None:
    """Of the captured table `name`."""
    await db.execute(f"DROP TABLE IF EXISTS {ours(object_name(ASIDE, name))}")
    await db.execute("DELETE FROM syncline.meta WHERE name = $1", ASIDE_OF + name)
