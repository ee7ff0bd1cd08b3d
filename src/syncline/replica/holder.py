"""Which agent has a file: one at a time, in whatever process; the lock goes with it, however it ends."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from pathlib import Path

from syncline.errors import ReplicaBusyError
from syncline.system.lock import FileLock

_PATIENCE_SECONDS = 0.2
"""Whoever asks whether there is an agent holds the lock for a moment."""


def lock_path(path: str | Path) -> Path:
    """Beside the file itself, by whatever link it was named: two names of one file have one agent."""
    return Path(f"{os.path.realpath(path)}-syncline-agent")


def take_file(path: str | Path) -> FileLock:
    """The lock of a new agent. ReplicaBusyError, which says who has it, where there is one already."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    owner = f"process {os.getpid()} on {socket.gethostname()}, since {now} UTC"
    lock = FileLock(lock_path(path), owner, patience_seconds=_PATIENCE_SECONDS)
    if not lock.acquire():
        raise ReplicaBusyError(
            f'"{path}" has a sync agent already: {lock.owner() or "another process"}.',
            hint="Stop it first. Reading and writing need no agent: connect(), transaction() and watch() "
            "of this replica work beside it, and so does any other program.",
        )
    return lock


def holder_of(path: str | Path) -> str | None:
    """`process 4711 on nurse-laptop, since 2026-11-22 20:31:05 UTC`, or None where no agent runs."""
    lock = FileLock(lock_path(path))
    return (lock.owner() or "another process") if lock.is_taken() else None
