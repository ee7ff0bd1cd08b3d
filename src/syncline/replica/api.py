"""`Replica`: what an app imports."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syncline.clock import Clock
from syncline.errors import ReplicaBusyError, ReplicaError, SyncTimeoutError
from syncline.log import logger
from syncline.replica import file as core
from syncline.replica import status as reading
from syncline.replica.agent import Agent
from syncline.replica.engine import Engine, Goal
from syncline.replica.file import ReplicaFile
from syncline.replica.records import read_conflicts, read_rejections
from syncline.replica.session import Event
from syncline.replica.status import Progress, Status
from syncline.replica.transport import HttpTransport, Token, Transport
from syncline.replica.wipe import wipe_file
from syncline.system.clock import SYSTEM_CLOCK
from syncline.system.database import Prepare, open_database
from syncline.system.lock import FileLock

_log = logger("replica")

STOP_SECONDS = 3.0
EVENTS = ("status", "changed", "rejected", "conflict", "wiped")


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one `sync()` did. `rejected` and `conflicts` count this sync; `pending` is what waits at its end."""

    checkpoint: int
    downloaded_rows: int
    removed_rows: int
    uploaded_mutations: int
    rejected: int
    conflicts: int
    pending: int
    first_sync: bool
    seconds: float


class Replica:
    """A local SQLite file, and the agent that keeps it in step with the server.

    `token` is a string, or a function that returns one and is asked before each request. The file is created where it
    is missing; nothing is sent until `start` or `sync`. ReplicaBusyError where another agent has the file.
    """

    def __init__(
        self,
        path: str | Path,
        url: str,
        token: Token,
        *,
        replace_user: bool = False,
        transport: Transport | None = None,
        clock: Clock = SYSTEM_CLOCK,
        prepare: Prepare | None = None,
    ) -> None:
        self.path = Path(path)
        self._clock = clock
        self._prepare = prepare
        self._transport = transport or HttpTransport(url, token)
        self._lock = FileLock(reading.lock_path(self.path))
        self._callbacks: dict[str, list[Callable[..., None]]] = {name: [] for name in EVENTS}
        self._guard = threading.RLock()
        self._agent: Agent | None = None
        self._opened: ReplicaFile | None = None
        self._written = ""
        self._open()
        if replace_user:
            self._replace_user()

    def _open(self) -> ReplicaFile:
        """The file, and the lock that says that this agent has it."""
        if self._opened is None:
            if not self._lock.acquire():
                raise ReplicaBusyError(
                    f'"{self.path}" has a sync agent already: {self._lock.owner() or "another process"}.',
                    hint="Stop it, or open the file with sqlite3: reading and writing need no agent.",
                )
            try:
                self._opened = ReplicaFile(self.path, clock=self._clock, prepare=self._prepare)
            except BaseException:
                self._lock.release()
                raise
        return self._opened

    def _close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            self._write_agent(opened, "stopped")
            opened.close()
        self._transport.close()
        self._lock.release()

    def _replace_user(self) -> None:
        file = self._open()
        pending = file.pending()
        if pending:
            self._close()
            raise ReplicaError(
                f'"{self.path}" still holds {pending} changes that have not reached the office.',
                hint="Sync once more as the user who made them.",
                code="pending_changes",
            )
        wipe_file(file.store, None)

    # ------------------------------------------------------------ the agent
    def start(self) -> None:
        """Begins to stay in step, in a background thread; returns at once. Callbacks run on that thread."""
        with self._guard:
            if self._agent is not None and self._agent.is_running and self._agent.engine.session.live:
                return
            self._begin(live=True)

    def stop(self) -> None:
        """Ends the agent and lets go of the file, which any program can go on using; `start` and `sync` begin anew."""
        with self._guard:
            agent, self._agent = self._agent, None
            if agent is None:
                self._close()
            elif not agent.end(STOP_SECONDS, then=self._close):
                _log.info("A request is still under way; the agent ends with it.")

    close = stop

    def __enter__(self) -> Replica:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def sync(self, timeout: float = 60.0) -> SyncReport:
        """Uploads and downloads until both sides are quiet. Works with and without `start`.

        SyncTimeoutError with `.report` after `timeout` seconds; AuthError, OtherUserError and what else waiting would
        not heal at once.
        """
        begun = time.monotonic()
        goal = Goal()
        with self._guard:
            agent = self._agent
            single = agent is None or not agent.is_running
            if single or agent is None:
                agent = self._begin(live=False, goal=goal)
            else:
                agent.engine.want(goal)
        in_time = goal.reached.wait(timeout)
        if not in_time:
            agent.engine.give_up(goal)
        if single:
            agent.end(1.0)
        report = self._report(goal, time.monotonic() - begun)
        if not in_time:
            last = goal.last_error
            raise SyncTimeoutError(
                f"Not in step after {timeout:g} seconds: {report.pending} changes wait.",
                report=report,
                hint=str(last) if last else "Give it more time.",
            ) from last
        if goal.error is not None:
            raise goal.error
        return report

    def _report(self, goal: Goal, seconds: float) -> SyncReport:
        status = reading.read_counts(self.path, self._prepare)
        counted = goal.counters
        return SyncReport(
            checkpoint=status.checkpoint,
            downloaded_rows=counted.downloaded_rows,
            removed_rows=counted.removed_rows,
            uploaded_mutations=counted.uploaded_mutations,
            rejected=counted.rejected,
            conflicts=counted.conflicts,
            pending=status.pending,
            first_sync=counted.first_sync,
            seconds=round(seconds, 3),
        )

    def connectivity_changed(self, online: bool) -> None:
        """What the operating system's callback calls."""
        self._post(Event.ONLINE if online else Event.OFFLINE)

    # ------------------------------------------------------------ the app's side
    def connect(self) -> sqlite3.Connection:
        """An ordinary connection (foreign keys on); any other way of opening the file is as good."""
        return core.connect(self.path, self._prepare)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A group that the server applies or refuses as a unit. Rolled back if the block raises."""
        tables = self._opened.store.outboxes if self._opened is not None else []
        with core.transaction(self.path, self._prepare, tables) as connection:
            yield connection
        self._post(Event.COMMIT)

    @property
    def status(self) -> Status:
        """Works offline and while a sync runs."""
        counts = reading.read_counts(self.path, self._prepare)
        agent, opened = self._agent, self._opened
        session = agent.engine.session if agent is not None and agent.is_running else None
        progress = opened.progress if opened is not None else None
        return Status(
            state=reading.public_state(session, counts),
            pending=counts.pending,
            rejected=counts.rejected,
            checkpoint=counts.checkpoint,
            last_synced_at=counts.last_synced_at,
            progress=Progress(*progress) if progress else None,
        )

    def on(self, event: str, callback: Callable[..., None]) -> None:
        """`event`: "status" (Status), "changed" (tables), "rejected", "conflict" (how many) or "wiped" (reason)."""
        if event not in self._callbacks:
            raise ValueError(f'There is no event "{event}"; there are {", ".join(EVENTS)}.')
        self._callbacks[event].append(callback)

    def rejections(self) -> list[dict[str, Any]]:
        """`{id, table, key, operation, code, reason, values, group, at}` of what was refused, oldest first."""
        with closing(open_database(self.path, prepare=self._prepare)) as connection:
            return read_rejections(connection)

    def dismiss(self, rejection: dict[str, Any] | int) -> None:
        """Somebody has seen it: it is forgotten."""
        number = rejection if isinstance(rejection, int) else rejection["id"]
        with closing(open_database(self.path, prepare=self._prepare)) as connection:
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("DELETE FROM syncline_parked WHERE id = ?", (number,))

    def conflicts(self) -> list[dict[str, Any]]:
        """`{id, table, key, column, kind, rule, base, server, device, at}`: whose value was left out, and why."""
        with closing(open_database(self.path, prepare=self._prepare)) as connection:
            return read_conflicts(connection)

    # ------------------------------------------------------------ inside
    def _begin(self, *, live: bool, goal: Goal | None = None) -> Agent:
        if self._agent is not None and not self._agent.end(STOP_SECONDS):
            raise ReplicaBusyError(
                f'"{self.path}" is still busy with a request of the last sync.', hint="Try again in a moment."
            )
        engine = Engine(self._open(), self._transport, live=live, announce=self._announce)
        self._agent = Agent(engine, goal)
        return self._agent

    def _post(self, event: Event) -> None:
        agent = self._agent
        if agent is not None:
            agent.engine.post(event)

    def _announce(self, event: str, content: Any) -> None:
        """On the sync thread."""
        if event == "status":
            agent, opened = self._agent, self._opened
            if agent is not None and opened is not None:
                self._write_agent(opened, reading.agent_state(agent.engine.session))
            content = self.status if self._callbacks["status"] else None
        for callback in self._callbacks[event]:
            try:
                callback(content)
            except Exception:
                _log.exception('A callback for "%s" failed.', event)

    def _write_agent(self, file: ReplicaFile, state: str | None) -> None:
        """For other processes: what the agent is doing, but for what passes in a moment."""
        if state is None or state == self._written:
            return
        self._written = state
        file.note_agent(state)
