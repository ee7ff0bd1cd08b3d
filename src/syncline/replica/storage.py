"""What SQLite says of the device's file, as errors with a code and a remedy."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

from syncline.errors import ReplicaError, ReplicaStorageError, SynclineError
from syncline.system.trouble import Trouble, trouble_of

_STORAGE = {
    Trouble.DISK_FULL: (
        "The disk is full",
        "Make room; nothing is lost, and it goes on by itself.",
        "replica_disk_full",
    ),
    Trouble.READ_ONLY: (
        "It cannot be written",
        "Does this program have the right to write the file and its folder?",
        "replica_read_only",
    ),
    Trouble.DISK_FAILS: ("The disk fails", "Look at the disk; it goes on by itself.", "replica_storage"),
}
_KEEP_IT = "Keep it, and begin with a new one; .recover of the sqlite3 command may find what was not sent yet."


def replica_error(error: sqlite3.Error | OSError, path: str | Path) -> ReplicaError | None:
    """The error that the app is told; None where the file is not to blame."""
    trouble = trouble_of(error)
    if trouble in _STORAGE:
        what, hint, code = _STORAGE[trouble]
        return ReplicaStorageError(f'The replica "{path}" is in trouble. {what}: {error}.', hint=hint, code=code)
    if trouble is Trouble.CORRUPT:
        return ReplicaError(f'The replica "{path}" is damaged: {error}.', hint=_KEEP_IT, code="replica_corrupt")
    if trouble is Trouble.NOT_A_DATABASE:
        hint = "Give another file name, or look what has overwritten it."
        return ReplicaError(f'"{path}" is not an SQLite database.', hint=hint, code="not_a_database")
    if trouble is Trouble.CANNOT_OPEN:
        hint = "Does its folder exist, and may this program write there?"
        return ReplicaError(f'"{path}" cannot be opened: {error}.', hint=hint, code="open_failed")
    return None


def opening_error(error: BaseException, path: str | Path) -> BaseException:
    """The same, or what it means that the file could not be opened."""
    if not isinstance(error, sqlite3.Error | OSError):
        return error
    return replica_error(error, path) or ReplicaError(
        f'"{path}" cannot be opened: {error}.',
        hint="Does its folder exist, and may this program write there?",
        code="open_failed",
    )


def is_no_replica(error: BaseException, path: str | Path) -> bool:
    """What could not be opened for this error is somebody else's, or no file."""
    return getattr(error, "code", "") in ("not_a_replica", "not_a_database") or not Path(path).is_file()


def file_identity(path: str | Path) -> tuple[int, int] | None:
    """By which a file is known whatever its path says; None while there is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def leave_log_alone(connection: sqlite3.Connection) -> None:
    """Before closing a connection whose file has another one in its place: SQLite names a log by its path, and would
    fold or delete that one's, if this Python cannot tell it not to."""
    if sys.version_info >= (3, 12):
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)


def known_error(error: Exception, path: str | Path) -> Exception:
    """The same, or what it means for the file."""
    if isinstance(error, sqlite3.Error) and not isinstance(error, SynclineError):
        return replica_error(error, path) or error
    return error
