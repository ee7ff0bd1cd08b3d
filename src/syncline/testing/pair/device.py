"""One device: an app's real replica, a road of its own to the server, and what may happen to it."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from syncline.clock import SECOND
from syncline.model.identifiers import quote
from syncline.replica.api import Replica
from syncline.replica.connectivity.port import NoConnectivity
from syncline.system.clock import SYSTEM_CLOCK
from syncline.testing.pair.server import Server
from syncline.testing.pair.settings import PairSettings, User
from syncline.testing.relay import Relay

SETTLE_SECONDS = 30.0
ROUNDS_MAX = 20
"""What one device sends another one's trigger may answer; nothing goes on for so long."""


class DeviceClock:
    """The machine's, and what the device's owner did to it."""

    def __init__(self) -> None:
        self.skew_seconds = 0.0

    def now_us(self) -> int:
        return SYSTEM_CLOCK.now_us() + int(self.skew_seconds * SECOND)

    def monotonic_seconds(self) -> float:
        return SYSTEM_CLOCK.monotonic_seconds()

    def prepare(self, connection: sqlite3.Connection) -> None:
        """Has SQLite's `julianday('now')`, by which triggers write down when a change was made, tell this clock."""
        connection.create_function("julianday", 1, self._julianday)

    def _julianday(self, moment: Any) -> float | None:
        if isinstance(moment, str) and moment.lower() == "now":
            return self.now_us() / 86_400e6 + 2_440_587.5
        with closing(sqlite3.connect(":memory:")) as plain:  # what it was before it was replaced here
            (day,) = plain.execute("SELECT julianday(?)", (moment,)).fetchone()
        return None if day is None else float(day)


class Device:
    """A user's. Its agent runs; `replica` is what the app would have made.

    `path` and `replica` are others after `crash`. `road` is the relay between this device and the server: what else may
    be wrong with a network, it can do.
    """

    def __init__(self, folder: Path, name: str, user: User, settings: PairSettings, server: Server) -> None:
        self.name = name
        self.user = user
        self.clock = DeviceClock()
        self.is_online = False
        self._folder = folder
        self._settings = settings
        self._server = server
        self._lives = 0
        self._ghosts: list[threading.Thread] = []
        self._begin()

    def _begin(self, left_behind: Path | None = None) -> None:
        self._lives += 1
        folder = self._folder / f"{self.name}-{self._lives}"
        if left_behind is None:
            folder.mkdir()
        else:
            left_behind.rename(folder)
        self.path = folder / "replica.db"
        self.road = Relay()
        try:
            self.replica = Replica(
                self.path,
                self.road.url,
                self._settings.token(self.user),
                clock=self.clock,
                prepare=self.clock.prepare,
                **{"connectivity": NoConnectivity(), "verify_hours": None, **self._settings.replica},
            )
        except BaseException:
            self.road.close()
            raise
        if not self.is_online:
            self.replica.connectivity_changed(online=False)
        else:
            self.road.lead_to_port(self._server.port)
        self.replica.start()

    # ------------------------------------------------------------ the app's own work
    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """One statement of the app's, committed at once."""
        with closing(self.connect()) as connection, connection:
            return connection.execute(sql, parameters).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A group: the office takes all of it, or nothing."""
        with self.replica.transaction() as connection:
            yield connection

    def connect(self) -> sqlite3.Connection:
        """For the caller to close. A connection that the app opens in another way knows nothing of `skew`, unless it is
        handed to `clock.prepare`."""
        return self.replica.connect()

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        """All that this device has of a table, in order."""
        return sorted(self.execute(f"SELECT * FROM {quote(table)}"), key=repr)

    # ------------------------------------------------------------ what happens to it
    def offline(self) -> None:
        """No signal: what was open is cut, and the operating system says so."""
        self.is_online = False
        self.road.lead_to_port(None)
        self.replica.connectivity_changed(online=False)

    def online(self) -> None:
        """The signal is back."""
        self.is_online = True
        self.road.lead_to_port(self._server.port)
        self.replica.connectivity_changed(online=True)

    def skew(self, seconds: float) -> None:
        """From now on the device's clock goes wrong by so much; 0: it is right again."""
        self.clock.skew_seconds = seconds

    def crash(self) -> None:
        """The app's process is killed and started again: `replica` is a new one, on what was in the file at that
        moment. What was not committed is gone; a request that was under way may have arrived, or not.

        Everything that the app had made of the old `replica` belongs to a process that is dead.
        """
        self.road.lead_to_port(None)  # a dead process sends nothing
        dead, road = self.replica, self.road
        left_behind = self._folder / f"{self.name}-left-behind"
        left_behind.mkdir()
        _copy_as_it_is(self.path, left_behind / self.path.name)
        # Not waited for: a transaction that the test holds open in the dead file would be waited for, too.
        self._ghosts.append(threading.Thread(target=_end, args=(dead, road), name="syncline-ghost"))
        self._ghosts[-1].start()
        self._begin(left_behind)

    # ------------------------------------------------------------ waiting
    def settle(self, seconds: float = SETTLE_SECONDS) -> None:
        """Waits until the office has all that was written here, and this device all that the office has committed.
        SyncTimeoutError after so long; AssertionError if it is offline."""
        settle(self._server, [self], seconds)

    def wait_for(self, sql: str, rows: Sequence[Sequence[Any]], seconds: float = SETTLE_SECONDS) -> None:
        """Waits until this query has these rows, with nothing done to hurry it; AssertionError after so long."""
        wanted = [tuple(row) for row in rows]
        found: list[Any] = []
        with self.replica.watch(sql) as watch:
            timer = threading.Timer(seconds, watch.close)
            timer.start()
            try:
                for found in watch:
                    if found == wanted:
                        return
            finally:
                timer.cancel()
                timer.join()
        raise AssertionError(f"{self.name}: not {wanted} within {seconds:g} seconds, but {found}: {sql}")

    def close(self) -> None:
        _end(self.replica, self.road)
        for ghost in self._ghosts:
            ghost.join()


def settle(server: Server, devices: Sequence[Device], seconds: float = SETTLE_SECONDS) -> None:
    """Waits until these devices and the company's database have nothing more to tell each other."""
    for device in devices:
        assert device.is_online, f"{device.name} is offline, and cannot get into step"
    for _ in range(ROUNDS_MAX):
        for device in devices:
            device.replica.sync(timeout=seconds)
        head = server.catch_up()
        reports = [device.replica.sync(timeout=seconds) for device in devices]
        if server.checkpoint == head and all(report.checkpoint >= head and not report.pending for report in reports):
            return
    raise AssertionError(f"the company and its devices do not come to rest in {ROUNDS_MAX} rounds")


def _end(replica: Replica, road: Relay) -> None:
    try:
        replica.stop()
    finally:
        road.close()


def _copy_as_it_is(path: Path, to: Path) -> None:
    """A file of SQLite's and its log, as they are after the death of all who have them open. While the reader is there
    no log is emptied, and pages that come from it into the file meanwhile are in the copied log, too."""
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT 1 FROM sqlite_schema").fetchone()
        shutil.copyfile(path, to)
        log = Path(f"{path}-wal")
        if log.exists():
            shutil.copyfile(log, f"{to}-wal")
