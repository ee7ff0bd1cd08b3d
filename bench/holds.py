"""`python -m bench.holds serve …`: the `syncline` command, which at its end writes down how long each of its write
transactions held SQLite's lock: a line of JSON per transaction in HOLDS_FILE of the folder it was started in.

From BEGIN IMMEDIATE to the end of COMMIT: a little too much where the commit also copied the log back, which SQLite
does after it has let go of the lock.
"""

from __future__ import annotations

import json
import sqlite3
import time
from functools import partial
from pathlib import Path
from typing import Any

HOLDS_FILE = "holds.jsonl"


class Watched(sqlite3.Connection):
    """Notes (monotonic moment, seconds held) when a write transaction of it ends."""

    holds: list[tuple[float, float]] = []  # noqa: RUF012 (of all connections of the process)
    _since: float | None = None

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        answer = super().execute(sql, *parameters)
        if sql == "BEGIN IMMEDIATE":
            self._since = time.monotonic()
        elif self._since is not None and not self.in_transaction:
            self.holds.append((self._since, time.monotonic() - self._since))
            self._since = None
        return answer


def read_holds(folder: Path, windows: list[tuple[float, float]]) -> list[float]:
    """Seconds, of the transactions that began inside one of the windows."""
    lines = (folder / HOLDS_FILE).read_text(encoding="ascii").splitlines()
    found = [json.loads(line) for line in lines]
    return [held for begun, held in found if any(first <= begun <= last for first, last in windows)]


def main() -> None:
    connect = sqlite3.connect
    sqlite3.connect = partial(connect, factory=Watched)  # type: ignore[assignment]
    from syncline.cli.main import main as syncline

    try:
        syncline()
    finally:
        lines = [json.dumps(hold) for hold in Watched.holds]
        Path(HOLDS_FILE).write_text("\n".join(lines), encoding="ascii")


if __name__ == "__main__":
    main()
