"""The receipt: what became of the changes since the outbox was last empty (DESIGN.md section 7).

It is counted by the transaction that applies a checkpoint, so no restart counts a change twice or leaves one out.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from syncline.replica.store import Store
from syncline.replica.times import time_text


@dataclass(frozen=True, slots=True)
class Receipt:
    """`reached` changes are in the office's database, `refused` wait for a person as rejections; `at` is the office's
    clock, UTC: `2026-11-22 17:42:05.123456`."""

    reached: int
    refused: int
    at: str

    @property
    def of(self) -> int:
        """How many changes there were."""
        return self.reached + self.refused


def note_included(store: Store, included: int, refused: int, time_us: int) -> Receipt | None:
    """`included` mutations are in the cut that is being applied for the first time, `refused` of them as rejections.

    The receipt, where the outbox is empty now. Inside the apply's transaction, at its end.
    """
    if included <= 0:
        return None
    db = store.connection
    db.execute(
        "UPDATE syncline_receipt SET reached = reached + max(?1 - ?2, 0), refused = refused + ?2", (included, refused)
    )
    if store.state().has_pending:
        return None
    db.execute(
        "UPDATE syncline_receipt SET last_reached = max(reached, 0), last_refused = refused, last_at_us = ?, "
        "reached = 0, refused = 0",
        (time_us,),
    )
    return read_receipt(db)


def note_lost(store: Store, changes: int) -> None:
    """So many waiting changes will reach the office in part only: what they wrote into columns that are gone waits for
    a person. They are not counted as reached when they are included."""
    store.connection.execute("UPDATE syncline_receipt SET reached = reached - ?1, refused = refused + ?1", (changes,))


def read_receipt(connection: sqlite3.Connection) -> Receipt | None:
    """The last one; None where the outbox never became empty by an upload."""
    reached, refused, at_us = connection.execute(
        "SELECT last_reached, last_refused, last_at_us FROM syncline_receipt"
    ).fetchone()
    return None if at_us is None else Receipt(reached, refused, time_text(at_us))
