"""What a replica says of itself; needs no network and no agent."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syncline.errors import ReplicaError
from syncline.replica.records import read_rejections as _read_rejections
from syncline.replica.records import time_text
from syncline.replica.session import Session, State
from syncline.replica.store import read_state
from syncline.system.database import Prepare, open_database
from syncline.system.lock import FileLock


@dataclass(frozen=True, slots=True)
class Progress:
    """Rows of the download that is coming in, and how many the server thinks there are."""

    rows: int
    of: int


@dataclass(frozen=True, slots=True)
class Status:
    """`rejected` counts what waits for a person. `last_synced_at`: UTC, when both sides were last quiet."""

    state: str
    pending: int
    rejected: int
    checkpoint: int
    last_synced_at: str | None
    progress: Progress | None = None


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


def lock_path(path: str | Path) -> Path:
    return Path(f"{path}-syncline-agent")


def read_counts(path: str | Path, prepare: Prepare | None = None) -> Counts:
    """ReplicaError where there is no replica at that path."""
    if not Path(path).exists():
        raise ReplicaError(f'There is no file "{path}".', hint="Sync once, or check the name.", code="no_file")
    try:
        with closing(open_database(path, prepare=prepare)) as connection:
            connection.execute("BEGIN")
            state = read_state(connection)
            agent, rejected = connection.execute(
                "SELECT agent, (SELECT count(*) FROM syncline_parked) FROM syncline_state"
            ).fetchone()
    except sqlite3.DatabaseError as error:
        raise ReplicaError(
            f'"{path}" is not a replica: {error}.', hint="Was it ever synced?", code="not_a_replica"
        ) from error
    synced_at = None if state.last_synced_us is None else time_text(state.last_synced_us)
    # Numbers have no gaps and leave the outbox only from its beginning, so their difference counts what waits.
    pending = max(state.seq - state.included, 0)
    return Counts(
        pending, rejected, state.base, synced_at, state.synced, state.purge_pending, state.wiped is not None, agent
    )


_BUSY = frozenset({State.GREETING, State.UPLOADING, State.DOWNLOADING, State.RESTING, State.OPENING})


def public_state(session: Session | None, counts: Counts) -> str:
    """One of first_sync, syncing, live, idle, offline, waiting, signed_out, purge_pending, wiped, stopped."""
    if counts.wiped:
        return "wiped"
    if session is None or session.state is State.STOPPED:
        return "purge_pending" if counts.purge_pending else "stopped"
    if session.state in _BUSY:
        return "syncing" if counts.synced else "first_sync"
    if session.state is State.WAITING:
        return "offline" if session.unreachable else "waiting"
    if session.state in (State.LIVE, State.IDLE) and counts.purge_pending:
        return "purge_pending"
    return str(session.state)


def agent_state(session: Session) -> str | None:
    """What other processes are told; None for what passes in a moment."""
    if session.state in _BUSY:
        return None
    if session.state is State.WAITING:
        return "offline" if session.unreachable else "waiting"
    return str(session.state)


def read_status(path: str | Path) -> dict[str, Any]:
    """`{state, pending, rejected, checkpoint, last_synced_at, progress}`; for the command line, without an agent."""
    counts = read_counts(path)
    state = "wiped" if counts.wiped else "purge_pending" if counts.purge_pending else "stopped"
    if state == "stopped" and _has_agent(path):
        state = counts.agent if counts.agent != "stopped" else "syncing" if counts.synced else "first_sync"
    return {
        "state": state,
        "pending": counts.pending,
        "rejected": counts.rejected,
        "checkpoint": counts.checkpoint,
        "last_synced_at": counts.last_synced_at,
        "progress": None,
    }


def _has_agent(path: str | Path) -> bool:
    if not lock_path(path).exists():
        return False
    lock = FileLock(lock_path(path), owner=FileLock(lock_path(path)).owner())
    if not lock.acquire():
        return True
    lock.release()
    return False


def read_rejections(path: str | Path) -> list[dict[str, Any]]:
    """`{id, table, key, operation, code, reason, values, group, at}`, oldest first."""
    read_counts(path)
    with closing(open_database(path)) as connection:
        return _read_rejections(connection)
