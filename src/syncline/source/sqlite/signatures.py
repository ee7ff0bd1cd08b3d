"""What devices hold of each table, written down, so that a change of it is noticed whoever made it and whenever.

Kept in `syncline_meta` under `signature:<table>`. Where it differs from what was served before, rows or columns enter
and leave devices although nobody wrote them: the table is sent anew (`generations`).
"""

from __future__ import annotations

import sqlite3

from syncline.model.identifiers import quote
from syncline.model.merge import Stamp
from syncline.model.scopes import Plan, SyncedTable
from syncline.source.signatures import StoredSignature, table_signature
from syncline.source.sqlite.capture import MASK_BITS
from syncline.source.stamps import Changes, RowStamps, fold_changes
from syncline.system.database import fetch_all
from syncline.values import encode_row

SIGNATURE_PREFIX = "signature:"


def read_signatures(connection: sqlite3.Connection) -> dict[str, StoredSignature]:
    rows = connection.execute(
        "SELECT substr(name, ?1), value FROM syncline_meta WHERE name > ?2 AND name < ?3",
        (len(SIGNATURE_PREFIX) + 1, SIGNATURE_PREFIX, SIGNATURE_PREFIX + "\U0010ffff"),
    )
    return {name: StoredSignature.parse(text) for name, text in rows.fetchall()}


def store_signatures(connection: sqlite3.Connection, plan: Plan) -> frozenset[str]:
    """Inside a write transaction: write down what `plan` serves. The answer: the synced tables of which devices are to
    hold something else than before, new ones too. What the feed keeps of tables that sync no longer goes."""
    before = read_signatures(connection)
    changed = set()
    for name, table in plan.tables.items():
        text = table_signature(plan, table)
        known = before.pop(name, None)
        if known is not None and known.text == text:
            continue
        changed.add(name)
        if known is not None:
            _carry_stamps(connection, name, known, table)
        connection.execute(
            "INSERT INTO syncline_meta VALUES(?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
            (SIGNATURE_PREFIX + name, text),
        )
    for name in before:
        connection.execute("DELETE FROM syncline_meta WHERE name = ?1", (SIGNATURE_PREFIX + name,))
        for ours in ("entry", "row_state", "truth", "generation"):
            connection.execute(f"DELETE FROM syncline_{ours} WHERE table_name = ?1", (name,))
    return frozenset(changed)


def _carry_stamps(connection: sqlite3.Connection, name: str, known: StoredSignature, table: SyncedTable) -> None:
    """Stamps are kept under the keys and columns they were written for; what these no longer are is forgotten."""
    if known.key != table.key:
        connection.execute("DELETE FROM syncline_row_state WHERE table_name = ?1", (name,))
        return
    gone = set(known.columns) - set(table.columns)
    if not gone:
        return
    rows = connection.execute(
        "SELECT key, stamps FROM syncline_row_state WHERE table_name = ?1 AND stamps IS NOT NULL", (name,)
    ).fetchall()
    for key, text in rows:
        stamps = RowStamps.parse(text)
        if gone & stamps.columns.keys():
            stamps.columns = {column: stamp for column, stamp in stamps.columns.items() if column not in gone}
            connection.execute(
                "UPDATE syncline_row_state SET stamps = ?3 WHERE table_name = ?1 AND key = ?2",
                (name, key, stamps.text()),
            )


def fold_waiting(connection: sqlite3.Connection, name: str, known: StoredSignature) -> None:
    """Inside a write transaction: take the stamps of changes that wait in a changelog whose columns or masks are about
    to mean something else, and empty it. The rows themselves are sent anew."""
    changelog = quote(f"syncline_changelog_{name}")
    width = len(known.key)
    masks = [f"m_{index}" for index in range((len(known.watched) + MASK_BITS - 1) // MASK_BITS)]
    columns = ", ".join([*(f"k_{index}" for index in range(1, width + 1)), "op", "stamp", "writer", *masks])
    changes: dict[str, Changes] = {}
    for row in fetch_all(connection, f"SELECT {columns} FROM {changelog} ORDER BY id"):
        op, stamp, writer, *words = row[width:]
        changed = [
            column
            for index, column in enumerate(known.watched)
            if op in ("U", "T") and (words[index // MASK_BITS] or 0) >> (index % MASK_BITS) & 1
        ]
        changes.setdefault(encode_row(row[:width]), []).append((op, Stamp(stamp or 0, writer or 0), changed))
    for key, waiting in changes.items():
        stored = connection.execute(
            "SELECT stamps FROM syncline_row_state WHERE table_name = ?1 AND key = ?2", (name, key)
        ).fetchone()
        connection.execute(
            "INSERT INTO syncline_row_state(table_name, key, stamps, checkpoint) "
            "VALUES(?1, ?2, ?3, 1 + coalesce((SELECT head FROM syncline_checkpoint), 0)) "  # as young as the next cut
            "ON CONFLICT DO UPDATE SET stamps = excluded.stamps, checkpoint = excluded.checkpoint",
            (name, key, fold_changes(stored[0] if stored else None, waiting)),
        )
    connection.execute(f"DELETE FROM {changelog}")
