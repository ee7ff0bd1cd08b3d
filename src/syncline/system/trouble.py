"""What kind of trouble a SQLite file is in, told from the error's number and not from its words."""

from __future__ import annotations

import errno
import sqlite3
from enum import StrEnum


class Trouble(StrEnum):
    BUSY = "busy"
    DISK_FULL = "disk_full"
    READ_ONLY = "read_only"
    CORRUPT = "corrupt"
    NOT_A_DATABASE = "not_a_database"
    CANNOT_OPEN = "cannot_open"
    DISK_FAILS = "disk_fails"
    OTHER = "other"


_BY_NUMBER = {
    sqlite3.SQLITE_BUSY: Trouble.BUSY,
    sqlite3.SQLITE_LOCKED: Trouble.BUSY,
    sqlite3.SQLITE_FULL: Trouble.DISK_FULL,
    sqlite3.SQLITE_READONLY: Trouble.READ_ONLY,
    sqlite3.SQLITE_PERM: Trouble.READ_ONLY,
    sqlite3.SQLITE_CORRUPT: Trouble.CORRUPT,
    sqlite3.SQLITE_NOTADB: Trouble.NOT_A_DATABASE,
    sqlite3.SQLITE_CANTOPEN: Trouble.CANNOT_OPEN,
    sqlite3.SQLITE_IOERR: Trouble.DISK_FAILS,
}


_BY_ERRNO = {
    errno.ENOSPC: Trouble.DISK_FULL,
    errno.EDQUOT: Trouble.DISK_FULL,
    errno.EROFS: Trouble.READ_ONLY,
    errno.EACCES: Trouble.READ_ONLY,
    errno.EPERM: Trouble.READ_ONLY,
    errno.EIO: Trouble.DISK_FAILS,
}
"""For the small files that are written beside."""


def trouble_of(error: sqlite3.Error | OSError) -> Trouble:
    """OTHER for what is a statement's fault, and for errors of Python's driver, which have no number."""
    if isinstance(error, OSError):
        return _BY_ERRNO.get(error.errno or 0, Trouble.OTHER)
    number = getattr(error, "sqlite_errorcode", None)
    if number == sqlite3.SQLITE_IOERR_SHMSIZE:  # of a WAL's index: it could not be made longer
        return Trouble.DISK_FULL
    return Trouble.OTHER if number is None else _BY_NUMBER.get(number & 0xFF, Trouble.OTHER)
