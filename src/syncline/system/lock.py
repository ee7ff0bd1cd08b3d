"""A lock that is let go when its process dies, however it dies."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path


class FileLock:
    """An exclusive transaction on a tiny SQLite file: the same on every system, with nothing to clean up after a crash.

    A file beside it holds who has it, for the error that the second one gets. `patience_seconds`: how long `acquire`
    waits; those who only look (`is_taken`) hold it up for a moment.
    """

    def __init__(self, path: str | Path, owner: str = "", *, patience_seconds: float = 0.0) -> None:
        self._path = str(path)
        self._owner = owner or f"process {os.getpid()}"
        self._patience_seconds = patience_seconds
        self._held: sqlite3.Connection | None = None

    @property
    def is_held(self) -> bool:
        return self._held is not None

    def acquire(self) -> bool:
        """True if this object now holds the lock; False while another one, in any process, has it."""
        if self._held is not None:
            return True
        connection = sqlite3.connect(
            self._path, timeout=self._patience_seconds, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = MEMORY")
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            connection.close()
            if "locked" in str(error) or "busy" in str(error):
                return False
            raise
        self._held = connection
        try:
            Path(f"{self._path}.owner").write_text(self._owner, encoding="utf-8")
        except BaseException:
            self.release()
            raise
        return True

    def is_taken(self) -> bool:
        """Somebody, in whatever process, holds it now. Nothing is written, and no file made."""
        if self._held is not None:
            return True
        if not Path(self._path).exists():
            return False
        with closing(sqlite3.connect(f"{Path(self._path).absolute().as_uri()}?mode=ro", uri=True, timeout=0)) as probe:
            try:
                probe.execute("SELECT 1 FROM sqlite_schema").fetchone()
            except sqlite3.OperationalError as error:
                return "locked" in str(error) or "busy" in str(error)
        return False

    def owner(self) -> str:
        """Who has, or last had, the lock; empty if nobody ever did."""
        try:
            return Path(f"{self._path}.owner").read_text(encoding="utf-8")
        except OSError:
            return ""

    def release(self) -> None:
        if self._held is None:
            return
        self._held.execute("ROLLBACK")
        self._held.close()
        self._held = None

    def remove(self) -> None:
        """Let go and delete the lock's files."""
        self.release()
        for name in (self._path, f"{self._path}.owner", f"{self._path}-journal"):
            Path(name).unlink(missing_ok=True)
