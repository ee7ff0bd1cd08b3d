"""`Replica`: what an app imports."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syncline.clock import Clock
from syncline.errors import ReplicaBusyError, ReplicaError, SyncTimeoutError
from syncline.log import logger
from syncline.model.program import Program
from syncline.replica import status as reading
from syncline.replica.agent import Agent
from syncline.replica.arguments import check_arguments, empty_for_another_user
from syncline.replica.connectivity.choose import connectivity_for
from syncline.replica.connectivity.port import Connectivity, NoConnectivity
from syncline.replica.connectivity.surroundings import Surroundings
from syncline.replica.engine import Engine
from syncline.replica.file import ReplicaFile
from syncline.replica.goal import Goal
from syncline.replica.holder import take_file
from syncline.replica.local import LocalReplica
from syncline.replica.patience import checked_seconds, wait_for, was_overtaken
from syncline.replica.programs import Bundled, load_bundled
from syncline.replica.session import Event
from syncline.replica.status import Progress, Status
from syncline.replica.storage import is_no_replica, opening_error, replica_error
from syncline.replica.transport import HttpTransport, Token, Transport
from syncline.replica.verifier import HOURS_DEFAULT
from syncline.replica.verify_goal import VerifyGoal, VerifyReport
from syncline.system.clock import SYSTEM_CLOCK
from syncline.system.database import Prepare
from syncline.system.lock import FileLock

_log = logger("replica")

STOP_SECONDS = 3.0
EVENTS = ("status", "changed", "rejected", "conflict", "receipt", "wiped")


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


class Replica(LocalReplica):
    """A local SQLite file, and the agent that keeps it in step with the server.

    `token` is a string, or a function that returns one and is asked before each request. The file is created where it
    is missing; nothing is sent until `start` or `sync`, which raise ReplicaBusyError while another agent has the file.
    `schema_version` is what the app declares of itself to the office. `program`, a file that `syncline program` wrote,
    or its content, is installed where the file has none: the first start needs no network then. `verify_hours`: about
    how often a started agent compares the file with the source by itself; None: never.
    """

    def __init__(
        self,
        path: str | Path,
        url: str,
        token: Token,
        *,
        replace_user: bool = False,
        schema_version: int | None = None,
        program: Bundled | None = None,
        transport: Transport | None = None,
        clock: Clock = SYSTEM_CLOCK,
        prepare: Prepare | None = None,
        connectivity: Connectivity | None = None,
        verify_hours: float | None = HOURS_DEFAULT,
    ) -> None:
        super().__init__(path, prepare)
        check_arguments(token, schema_version, verify_hours)
        self._clock = clock
        self._schema_version = schema_version
        self._verify_seconds = None if verify_hours is None else verify_hours * 3600
        self._transport = transport or HttpTransport(url, token)
        if connectivity is None:
            connectivity = NoConnectivity() if transport is not None else connectivity_for(url)
        self._surroundings = Surroundings(connectivity, self._surroundings_changed)
        self._callbacks: dict[str, list[Callable[..., None]]] = {name: [] for name in EVENTS}
        self._guard = threading.RLock()
        self._lock: FileLock | None = None
        self._agent: Agent | None = None
        self._waiting = 0
        self._opened: ReplicaFile | None = None
        self._written = ""
        self._set_up(load_bundled(program) if program is not None else None, replace_user)

    def _set_up(self, bundled: Program | None, replace_user: bool) -> None:
        """Makes the file, or brings it up to date. Where another agent has it, that one did."""
        try:
            file = self._open()
        except ReplicaBusyError as busy:
            if replace_user:
                raise
            try:
                reading.read_counts(self.path, self._prepare)
            except ReplicaError:
                raise busy from None
            return
        try:
            if replace_user:
                empty_for_another_user(file)
            if bundled is not None:
                file.install_bundled(bundled)
        except sqlite3.Error as error:
            raise replica_error(error, self.path) or ReplicaError(
                f'The file "{self.path}" could not be set up: {error}.',
                hint="Is the program that the app brings along whole, and the disk not full?",
                code="bundled_program" if bundled is not None else "open_failed",
            ) from error
        finally:
            self._let_go()

    def _open(self) -> ReplicaFile:
        """The file, and the lock that says that this agent has it."""
        if self._opened is None:
            try:
                self._lock = take_file(self.path)
                self._opened = ReplicaFile(
                    self.path, clock=self._clock, prepare=self._prepare, schema_version=self._schema_version
                )
            except BaseException as error:
                known = opening_error(error, self.path)
                if self._lock is not None and is_no_replica(known, self.path):
                    self._lock.remove()  # nothing of ours is left beside what is none
                self._let_go()
                if known is not error:
                    raise known from error
                raise
        return self._opened

    def _let_go(self) -> None:
        """Another process may have an agent now."""
        opened, self._opened = self._opened, None
        lock, self._lock = self._lock, None
        if opened is not None:
            if self._written:
                self._write_agent(opened, "stopped")
            self._written = ""
            opened.close()
        if lock is not None:
            lock.release()

    def _pause(self) -> None:
        """A sync by hand is over."""
        self._surroundings.end()
        self._let_go()

    def _close(self) -> None:
        self._pause()
        self._transport.close()

    # ------------------------------------------------------------ the agent
    def start(self) -> None:
        """Begins to stay in step, in a background thread; returns at once. Callbacks run on that thread."""
        if self._is_in_callback:
            self._refuse_in_callback("start()", unless=self._agent is not None and self._agent.engine.session.live)
            return
        with self._guard:
            if self._agent is not None and self._agent.is_running and self._agent.engine.session.live:
                return
            self._begin(live=True)

    def stop(self) -> None:
        """Ends the agent and all live queries, and lets go of the file, which any program can go on using; `start` and
        `sync` begin anew."""
        self._watches.close_all()
        if self._is_in_callback and self._agent is not None:
            self._agent.end(0, then=self._close)
            return
        with self._guard:
            if self._agent is None:
                self._close()
            elif self._agent.end(STOP_SECONDS, then=self._close):
                self._agent = None
            else:
                _log.info("A request is still under way; the agent ends with it.")

    close = stop

    def __enter__(self) -> Replica:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def sync(self, timeout: float | None = 60.0) -> SyncReport:
        """Uploads and downloads until both sides are quiet. Works with and without `start`, and from several threads.

        SyncTimeoutError with `.report` after `timeout` seconds (None: never); AuthError, OtherUserError and what else
        waiting would not heal at once. In a callback it would wait for itself: ReplicaError (`in_callback`).
        """
        return self._sync(Goal(), timeout)

    def verify(self, *, repair: bool = False, timeout: float | None = 600.0) -> VerifyReport:
        """Syncs, and compares every table with the source. `repair`: what differs is downloaded anew. Errors as of
        `sync`."""
        return self._verify(VerifyGoal(repair=repair), timeout)

    def _verify(self, goal: VerifyGoal, timeout: float | None) -> VerifyReport:
        self._sync(goal, timeout)
        assert goal.verified is not None
        return goal.verified

    def _sync(self, goal: Goal, timeout: float | None) -> SyncReport:
        seconds = checked_seconds(timeout)
        self._refuse_in_callback("sync()")
        begun = time.monotonic()
        while True:
            agent = self._pursue(goal)
            try:
                in_time = wait_for(goal, agent, None if seconds is None else begun + seconds)
            finally:
                self._part(agent, goal)
            if not was_overtaken(goal, agent, self._agent):
                break
            goal.reached.clear()
            goal.error = None
        if in_time and goal.error is not None:
            raise goal.error
        report = self._report(goal, time.monotonic() - begun)
        if not in_time:
            last = goal.last_error
            raise SyncTimeoutError(
                f"Not in step after {timeout:g} seconds: {report.pending} changes wait.",
                report=report,
                hint=str(last) if last else "Give it more time.",
            ) from last
        return report

    def _pursue(self, goal: Goal) -> Agent:
        """The agent that works for the goal: the one that runs, or one for as long as somebody waits."""
        with self._guard:
            agent = self._agent
            if agent is None or not agent.is_running:
                agent = self._begin(live=False, goal=goal)
            else:
                agent.engine.want(goal)
            self._waiting += 1
            return agent

    def _part(self, agent: Agent, goal: Goal) -> None:
        """The last one who waits ends an agent that nobody started."""
        agent.engine.give_up(goal)
        with self._guard:
            self._waiting -= 1
            if self._waiting == 0 and self._agent is agent and not agent.engine.session.live:
                agent.end(1.0, then=self._pause)

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

    def connectivity_changed(self, online: bool | None = None, *, metered: bool | None = None) -> None:
        """What the operating system's callback calls; None: it does not say. After `online=True` a sync follows at
        once, unless the network came and went a moment ago. While the network is metered nothing is sent, but for
        `sync()`.
        """
        self._surroundings.network(online, metered)

    def power_changed(self, *, low_battery: bool) -> None:
        """While the battery is low nothing is sent, but for `sync()`; what waits is sent at once afterwards."""
        self._surroundings.power(low_battery)

    # ------------------------------------------------------------ what it says
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
            receipt=counts.receipt,
            reason=reading.reason_of(session, self._surroundings.conditions, agent.engine.trouble if agent else None),
        )

    def on(self, event: str, callback: Callable[..., None]) -> Callable[[], None]:
        """`event`: "status" (Status), "changed" (tables), "rejected", "conflict" (how many), "receipt" (Receipt) or
        "wiped" (reason). Answers a function that takes the callback off again."""
        if event not in self._callbacks:
            raise ValueError(f'There is no event "{event}"; there are {", ".join(EVENTS)}.')
        if not callable(callback):
            raise TypeError(f"A callback is a function, not {type(callback).__name__}.")
        listening = self._callbacks[event]
        listening.append(callback)

        def take_off() -> None:
            if callback in listening:
                listening.remove(callback)

        return take_off

    # ------------------------------------------------------------ inside
    def _begin(self, *, live: bool, goal: Goal | None = None) -> Agent:
        if self._agent is not None and not self._agent.end(STOP_SECONDS, then=self._pause):
            raise ReplicaBusyError(
                f'"{self.path}" is still busy with a request of the last sync.', hint="Try again in a moment."
            )
        self._agent = None
        file = self._open()
        self._surroundings.begin()
        conditions = self._surroundings.conditions
        engine = Engine(
            file,
            self._transport,
            live=live,
            announce=self._announce,
            conditions=conditions,
            verify_seconds=self._verify_seconds if live else None,
        )
        self._agent = Agent(engine, goal)
        self._surroundings.changed_since(conditions)
        return self._agent

    def _committed(self) -> None:
        super()._committed()
        self._post(Event.COMMIT)

    @property
    def _is_in_callback(self) -> bool:
        return self._agent is not None and self._agent.is_current

    def _refuse_in_callback(self, what: str, *, unless: bool = False) -> None:
        if self._is_in_callback and not unless:
            raise ReplicaError(
                f"{what} was called by a callback, on the thread that it would wait for.",
                hint="Call it from another thread.",
                code="in_callback",
            )

    def _post(self, event: Event) -> None:
        agent = self._agent
        if agent is not None:
            agent.engine.post(event)

    def _surroundings_changed(self, events: tuple[Event, ...]) -> None:
        """On any thread. A request over a network that is gone ends at once, and not when patience does."""
        agent = self._agent
        if agent is None:
            return
        agent.engine.tell(events)
        if Event.OFFLINE in events or Event.MOVED in events:
            agent.engine.abort()

    def _announce(self, event: str, content: Any) -> None:
        """On the sync thread."""
        if event == "status":
            agent, opened = self._agent, self._opened
            if agent is not None and opened is not None:
                self._write_agent(opened, reading.agent_state(agent.engine.session))
            try:
                content = self.status if self._callbacks["status"] else None
            except ReplicaError:  # the file is gone: the agent is told by its next request
                return
        if event == "changed":
            self._watches.poller.look_now()
        for callback in list(self._callbacks[event]):
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
