"""What a replica says of itself; needs no network and no agent."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from syncline.errors import ReplicaError, SynclineError
from syncline.replica.connectivity.port import Conditions
from syncline.replica.holder import holder_of
from syncline.replica.receipt import Receipt, read_receipt
from syncline.replica.records import read_rejections as _read_rejections
from syncline.replica.session import Session, State
from syncline.replica.storage import replica_error
from syncline.replica.store import read_state
from syncline.replica.times import time_text
from syncline.replica.versions import check_format, read_format
from syncline.system.database import Prepare, open_database


@dataclass(frozen=True, slots=True)
class Progress:
    """Of the download that is coming in: its rows and bytes so far, and how many rows the server thinks there are."""

    rows: int
    total_rows: int | None
    bytes: int


@dataclass(frozen=True, slots=True)
class Status:
    """`rejected` counts what waits for a person. `last_synced_at`: UTC, when both sides were last quiet. `reason`: why
    it is `offline`, `waiting` or `signed_out`: "no_network", "metered", "low_battery", or the code of an error.
    `receipt`: what became of the changes before the outbox was last empty."""

    state: str
    pending: int
    rejected: int
    checkpoint: int
    last_synced_at: str | None
    progress: Progress | None = None
    reason: str | None = None
    receipt: Receipt | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """What the file alone tells."""

    pending: int
    rejected: int
    checkpoint: int
    last_synced_at: str | None
    synced: bool
    purge_pending: bool
    wiped: bool
    agent: str
    receipt: Receipt | None


def _why(error: sqlite3.DatabaseError) -> str:
    return "a database in which nothing is Syncline's" if "no such table" in str(error) else str(error)


def read_counts(path: str | Path, prepare: Prepare | None = None) -> Counts:
    """ReplicaError where there is no replica at that path, or one of a later Syncline. One of an earlier one is read as
    it is."""
    if not Path(path).exists():
        raise ReplicaError(f'There is no file "{path}".', hint="Sync once, or check the name.", code="no_file")
    try:
        with closing(open_database(path, prepare=prepare)) as connection:
            connection.execute("BEGIN")
            written = read_format(connection)
            check_format(written, path)
            receipt = read_receipt(connection) if written >= _FORMAT_WITH_RECEIPT else None
            state = read_state(connection)
            agent, rejected = connection.execute(
                "SELECT agent, (SELECT count(*) FROM syncline_parked) FROM syncline_state"
            ).fetchone()
    except sqlite3.DatabaseError as error:
        raise replica_error(error, path) or ReplicaError(
            f'"{path}" is no device\'s file: {_why(error)}.',
            hint="Name a device's file; its first sync makes it.",
            code="not_a_replica",
        ) from error
    synced_at = None if state.last_synced_us is None else time_text(state.last_synced_us)
    # Numbers have no gaps and leave the outbox only from its beginning, so their difference counts what waits.
    pending = max(state.seq - state.included, 0)
    return Counts(
        pending=pending,
        rejected=rejected,
        checkpoint=state.base,
        last_synced_at=synced_at,
        synced=state.synced,
        purge_pending=state.purge_pending,
        wiped=state.wiped is not None,
        agent=agent,
        receipt=receipt,
    )


_FORMAT_WITH_RECEIPT = 2


_BUSY = frozenset({State.GREETING, State.UPLOADING, State.DOWNLOADING, State.RESTING, State.OPENING})


def public_state(session: Session | None, counts: Counts) -> str:
    """One of first_sync, syncing, live, idle, offline, waiting, signed_out, purge_pending, wiped, stopped."""
    if counts.wiped:
        return "wiped"
    if session is None or session.state is State.STOPPED:
        return "purge_pending" if counts.purge_pending else "stopped"
    if session.state in _BUSY:
        return "syncing" if counts.synced else "first_sync"
    if session.state in (State.WAITING, State.POSTPONED):
        return "offline" if session.unreachable else "waiting"
    if session.state in (State.LIVE, State.IDLE) and counts.purge_pending:
        return "purge_pending"
    return str(session.state)


def reason_of(session: Session | None, conditions: Conditions, trouble: SynclineError | None) -> str | None:
    """Why nothing is sent now; None where something is, or where it was not asked for."""
    if session is None:
        return None
    if session.state is State.POSTPONED:
        return conditions.postponed_by
    if session.state is State.OFFLINE:
        return "no_network"
    if session.state in (State.WAITING, State.SIGNED_OUT) and trouble is not None:
        return trouble.error_code
    return None


def agent_state(session: Session) -> str | None:
    """What other processes are told; None for what passes in a moment."""
    if session.state in _BUSY:
        return None
    if session.state in (State.WAITING, State.POSTPONED):
        return "offline" if session.unreachable else "waiting"
    return str(session.state)


def read_status(path: str | Path) -> dict[str, Any]:
    """`{state, pending, rejected, checkpoint, last_synced_at, progress, receipt, agent}`; for the command line, without
    an agent. `receipt`: `{reached, refused, at}`; `agent`: who has the file."""
    counts = read_counts(path)
    holder = holder_of(path)
    state = "wiped" if counts.wiped else "purge_pending" if counts.purge_pending else "stopped"
    if state == "stopped" and holder:
        state = counts.agent if counts.agent != "stopped" else "syncing" if counts.synced else "first_sync"
    return {
        "state": state,
        "pending": counts.pending,
        "rejected": counts.rejected,
        "checkpoint": counts.checkpoint,
        "last_synced_at": counts.last_synced_at,
        "progress": None,
        "receipt": None if counts.receipt is None else asdict(counts.receipt),
        "agent": holder,
    }


def read_rejections(path: str | Path) -> list[dict[str, Any]]:
    """`{id, table, key, operation, code, reason, values, group, at}`, oldest first."""
    read_counts(path)
    with closing(open_database(path)) as connection:
        return _read_rejections(connection)
