"""A nurse's device: a real replica in a file of her own, its signal, and what she notices on it."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from examples.homecare.texts import counted
from syncline import Replica, Status

STATES = {
    "first_sync": "first sync",
    "syncing": "syncing",
    "live": "in step, live",
    "idle": "in step",
    "offline": "no signal",
    "waiting": "waiting to try again",
    "signed_out": "signed out",
    "purge_pending": "erasing what she lost",
    "wiped": "wiped",
    "stopped": "switched off",
}

Tell = Callable[[str, str, str], None]
"""(who, what happened, style): a line for the people who watch."""


@dataclass(frozen=True)
class Owner:
    """Whose device it is. `key` is the nurse's in the clinic's database, the `sub` of her token, and names her file."""

    key: str
    name: str
    language: str


@dataclass
class Tally:
    """What one nurse's day came to."""

    refused: int = 0
    lost: int = 0
    gained: int = 0


class Device:
    """Used from one thread; only `_noticed` is filled by the replica's own. `status` is as of the last `look`."""

    def __init__(self, owner: Owner, file: Path, url: str, token: str, tell: Tell) -> None:
        self.key, self.name, self.file = owner.key, owner.name, file
        self.tally = Tally()
        self.has_signal = True
        self.latest = "has a new phone"
        self.status: Status | None = None
        self._url, self._token, self._tell = url, token, tell
        self._replica: Replica | None = None
        self._db: sqlite3.Connection | None = None
        self._patients: dict[str, str] | None = None
        self._known_rejections: set[object] = set()
        self._noticed: deque[str] = deque()

    @property
    def replica(self) -> Replica:
        assert self._replica is not None, "the device is switched off"
        return self._replica

    @property
    def db(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = self.replica.connect()
        return self._db

    # ------------------------------------------------------------ what happens to it
    def switch_on(self) -> None:
        self._replica = Replica(self.file, self._url, token=self._token)
        self._replica.on("conflict", lambda *_: self._noticed.append("conflict"))
        self._replica.on("wiped", lambda *_: self._noticed.append("wiped"))
        self._replica.start()
        if not self.has_signal:
            self._replica.connectivity_changed(online=False)

    def switch_off(self) -> None:
        """Nothing is lost by it: what is not yet uploaded waits in the file."""
        if self._db is not None:
            self._db.close()
            self._db = None
        if self._replica is not None:
            self._replica.stop()
            self._replica = None

    def lose_signal(self) -> None:
        self.has_signal = False
        self.replica.connectivity_changed(online=False)
        self.say("drives into the valley: no signal", "yellow")

    def find_signal(self) -> None:
        waiting = self.replica.status.pending
        self.has_signal = True
        self.replica.connectivity_changed(online=True)
        self.say(
            f"has a signal again, {counted(waiting, 'change')} waiting" if waiting else "has a signal again", "cyan"
        )

    # ------------------------------------------------------------ how it is
    @property
    def is_on(self) -> bool:
        return self._replica is not None

    @property
    def is_ready(self) -> bool:
        """Synced once: from then on everything works without a server."""
        return self.status is not None and self.status.last_synced_at is not None

    @property
    def is_quiet(self) -> bool:
        """Nothing waits, in either direction, as far as the device knows."""
        return self.status is not None and self.status.pending == 0 and self.status.state in ("live", "idle")

    @property
    def state(self) -> str:
        """The device's state in words."""
        state = self.status.state if self.status else "stopped"
        return STATES.get(state, state)

    @property
    def patient_count(self) -> int:
        return len(self._patients or ())

    @property
    def conflict_count(self) -> int:
        return len(self.replica.conflicts()) if self.is_on else 0

    # ------------------------------------------------------------ what she notices
    def say(self, what: str, style: str = "") -> None:
        self.latest = what
        self._tell(self.key, what, style)

    def look(self) -> None:
        """Notice how the device is and what the sync brought since the last look, and say it."""
        self.status = self.replica.status if self.is_on else None
        if not self.is_ready:
            return
        while self._noticed:
            if self._noticed.popleft() == "conflict":
                self.say("wrote at the same time as somebody else: both values are kept", "bold magenta")
            else:
                self.say("was signed out for good: the file is empty", "bold red")
        self._look_at_patients()
        self._look_at_rejections()

    def _look_at_patients(self) -> None:
        patients = dict(self.db.execute("SELECT id, name FROM patients").fetchall())
        before, self._patients = self._patients, patients
        if before is None or before == patients:
            return
        gone = [name for key, name in before.items() if key not in patients]
        new = [name for key, name in patients.items() if key not in before]
        self.tally.lost += len(gone)
        self.tally.gained += len(new)
        if gone:
            self.say(f"no longer cares for {', '.join(gone)}: erased from the file", "bold yellow")
        if new:
            self.say(f"has a new patient: {', '.join(new)}", "bold cyan")

    def _look_at_rejections(self) -> None:
        if self.status is None or not self.status.rejected:
            return
        for rejection in self.replica.rejections():
            if rejection["id"] not in self._known_rejections:
                self._known_rejections.add(rejection["id"])
                self.tally.refused += 1
                self.say(f"had a change of {rejection['table']} refused: {rejection['reason']}", "bold red")

    def dismiss_rejections(self) -> None:
        """She has read them; what the clinic holds is what her file holds already."""
        rejections = self.replica.rejections()
        for rejection in rejections:
            self.replica.dismiss(rejection)
        self._known_rejections.clear()  # a later refusal may have the number of a dismissed one
        if rejections:
            self.say(f"reads and dismisses {counted(len(rejections), 'refusal')}", "magenta")
