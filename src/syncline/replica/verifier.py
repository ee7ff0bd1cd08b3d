"""When the file is compared with the source: about once a day by itself, and whenever somebody asks."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator
from typing import Any

from syncline.clock import SECOND
from syncline.errors import ProtocolError, SynclineError
from syncline.log import logger
from syncline.replica.course import Request
from syncline.replica.file import ReplicaFile
from syncline.replica.store import Store
from syncline.replica.verify import Receive, Rest, Verification
from syncline.replica.verify_goal import VerifyGoal

_log = logger("replica.verify")

HOURS_DEFAULT = 24.0
RETRY_SECONDS = 3600.0
"""After one that failed. Nobody waits for it."""

LOOK_SECONDS = 60.0
"""How often it is asked whether one is due."""


def verified_us(store: Store) -> int | None:
    """When the file was last compared."""
    row = store.connection.execute("SELECT at_us FROM syncline_verified").fetchone()
    return None if row is None else int(row[0])


def note_verified(store: Store, at_us: int) -> None:
    """Not worth waiting for an app that holds the file."""
    try:
        store.connection.execute(
            "INSERT INTO syncline_verified (id, at_us) VALUES (1, ?1) ON CONFLICT DO UPDATE SET at_us = ?1", (at_us,)
        )
    except sqlite3.OperationalError as error:
        _log.debug("The verification could not be noted: %s", error)


def due_us(last_us: int, every_seconds: float, jitter: float) -> int:
    """When the next one is due (µs), from 90 to 110 % of the time after the last: a fleet that was set up on one
    morning drifts apart. `jitter`: from 0 to 1."""
    return last_us + int(every_seconds * SECOND * (0.9 + jitter / 5))


class Verifier:
    """One agent's. `every_seconds` None: only where somebody asks. Verifications of its own repair what they find."""

    def __init__(self, file: ReplicaFile, *, every_seconds: float | None, jitter: Callable[[], float]) -> None:
        self._file = file
        self._every_seconds = every_seconds
        self._jitter = jitter
        self._drawn = jitter()
        self._look_at = 0.0
        self._goal: VerifyGoal | None = None
        self._verification: Verification | None = None

    def step(self, goal: VerifyGoal | None, receive: Receive) -> Generator[Request, Any, bool]:
        """A piece of what is under way, or due, or asked for. True where the device has to catch up first."""
        if goal is not self._goal and goal is not None:
            self.close()
        if self._verification is None:
            if goal is None and not self._is_due():
                return False
            if not self._file.verify_keys_max:
                raise ProtocolError(
                    "The server knows of no verification.", hint="Update the server.", code="cannot_verify"
                )
            self._goal = goal
            self._verification = Verification(self._file, receive, repair=goal is None or goal.repair)
        try:
            rest = yield from self._verification.step()
        except (SynclineError, sqlite3.Error) as error:
            if self._goal is not None:
                raise
            _log.info("The verification is put off: %s", error)
            self._put_off()
            return False
        if self._verification.report is not None:
            self._end(self._verification)
        return rest is Rest.BEHIND

    def _end(self, verification: Verification) -> None:
        report, goal = verification.report, self._goal
        self._verification = self._goal = None
        note_verified(self._file.store, self._file.store.now_us())
        self._drawn = self._jitter()
        if goal is not None:
            goal.verified = report

    def _put_off(self) -> None:
        self.close()
        self._look_at = self._file.store.clock.monotonic_seconds() + RETRY_SECONDS

    def _is_due(self) -> bool:
        """A file that was never compared is taken for one that was at some time of the last day. Where the clock was
        put back one is due a day after at the latest."""
        now = self._file.store.clock.monotonic_seconds()
        if self._every_seconds is None or now < self._look_at or not self._file.verify_keys_max:
            return False
        self._look_at = now + LOOK_SECONDS
        now_us, every_us = self._file.store.now_us(), int(self._every_seconds * SECOND)
        last_us = verified_us(self._file.store)
        if last_us is None or last_us > now_us:
            last_us = now_us - int(every_us * self._jitter())
            note_verified(self._file.store, last_us)
        return now_us >= due_us(last_us, self._every_seconds, self._drawn)

    def close(self) -> None:
        """Gives up what is under way."""
        if self._verification is not None:
            self._verification.close()
        self._verification = self._goal = None
