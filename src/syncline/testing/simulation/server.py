"""The server's side: the real source and service, driven one step at a time, and what each checkpoint meant."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from syncline.errors import SchemaChangedError, SourceBusyError, SynclineError
from syncline.model.scopes import Plan, PlanConfig
from syncline.server.auth import Identity
from syncline.server.job import Paging
from syncline.server.service import Service
from syncline.source.port import PageSize, Source
from syncline.testing.company_database import SqliteDatabase
from syncline.testing.plans import plan_for
from syncline.testing.simulation.company import Company, config_for
from syncline.testing.simulation.disks import Image, put_image, take_image
from syncline.testing.simulation.hand_pulse import HandPulse
from syncline.testing.simulation.oracle import Cuts, Truth
from syncline.testing.simulation.processes import Process
from syncline.testing.simulation.report import Report
from syncline.testing.world import Determinism, VirtualClock

T = TypeVar("T")
TURNS = 40
"""So often the tasks of streams have their turn after each call: more often than any of them waits for another."""
MARKER_ATTEMPTS = 6
USERS = ("u1", "u2")


@dataclass(frozen=True)
class ServerCopy:
    """The company's file as it was, and what the oracle knew of it then."""

    image: Image
    at: tuple[str, int]
    outcomes: dict[tuple[str, int], str]
    forgotten: set[tuple[str, int]]


def identity_of(user: str) -> Identity:
    return Identity(user, {"sub": user})


class SimulatedServer:
    """`between` is called while a download waits for the sequencer: others go on working then. `process` is what dies
    with all that this holds in memory; None where the company's database does not stand in a file of this machine."""

    def __init__(
        self,
        company: Company,
        clock: VirtualClock,
        rng: random.Random,
        report: Report,
        between: Callable[[], Awaitable[None]],
    ) -> None:
        self.company = company
        self.clock = clock
        self.cuts = Cuts()
        self.outcomes: dict[tuple[str, int], str] = {}
        self.forgotten: set[tuple[str, int]] = set()
        self.loop = company.database.loop or asyncio.new_event_loop()
        self.is_filtered = False
        self._is_provisioned = False
        self.needs_restart = False
        """What it logs says so: two changes of the schema came between two of its looks."""
        self._report = report
        self._rng = rng
        self._determinism = Determinism(clock, random.Random(rng.random()))
        self.process: Process | None = None
        if isinstance(company.database, SqliteDatabase):
            dice, path = random.Random(rng.random()), company.database.path
            self.process = Process("gateway", path, clock, dice, is_others=self._is_host)
        self._between = between
        self._terms = 0
        self._is_term_open = False
        self.at = ("", 0)
        self.paging = Paging(
            size=PageSize(rng.choice((2, 3, 4, 5, 40)), 1_000_000),
            progress_bytes=rng.choice((1, 200, 500)),
            answer_seconds=1e9,
            answer_bytes=rng.choice((1, 500, 1_500)),
            count_seconds=3_600.0,
        )
        self.source = self.open_source(self.process)
        self._provision()
        self._serve()

    def _is_host(self, connection: sqlite3.Connection) -> bool:
        database = self.company.database
        return isinstance(database, SqliteDatabase) and connection is database.host

    @property
    def config(self) -> PlanConfig:
        return config_for(is_filtered=self.is_filtered)

    def open_source(self, process: Process | None = None) -> Source:
        """Of the server's own process, or of another one's."""
        return self.company.database.open(process or self._determinism)

    @property
    def head(self) -> int:
        """The newest checkpoint."""
        return self.at[1]

    async def _load_plan(self) -> Plan:
        return await plan_for(self.source, self.config)

    def _serve(self) -> None:
        plan = self.call(self._load_plan())
        fits = True
        try:
            self.call(self.source.attach(plan))
        except SchemaChangedError:
            fits = False
        self.service = Service(
            self.source, plan, self.clock, wait_for_marker=self._pass_marker, load_plan=self._load_plan
        )
        self._pulse = self.service.pulse = HandPulse()
        self._tune()
        if not fits:
            self.call(self._make_fit())
        self.call(self._begin_term())

    def make_pages(self, rows: int) -> None:
        """Of so many rows each."""
        self.paging = replace(self.paging, size=PageSize(rows, 1_000_000))
        self._tune()

    def _tune(self) -> None:
        self.service.downloads.paging = self.paging

    def close(self) -> None:
        if self.process is not None:
            self.process.disarm()
        self.aside(_drop_tasks())
        self.aside(self.source.close())
        if self.company.database.loop is None:
            self.loop.close()

    # ------------------------------------------------------------ calls
    def call(self, work: Awaitable[T]) -> T:
        """What it answers, once everything that it set going has come to rest; ProcessDiedError where the process died
        of it, whatever the code made of that."""
        try:
            result = self.loop.run_until_complete(self._rest(work))
        except Exception:
            self._require_alive()
            raise
        self._require_alive()
        return result

    def aside(self, work: Awaitable[T]) -> T:
        """What another process does with the company's database, alive or not."""
        return self.loop.run_until_complete(work)

    @property
    def is_dead(self) -> bool:
        return self.process is not None and self.process.is_dead

    def _require_alive(self) -> None:
        if self.process is not None:
            self.process.require_alive()

    async def _rest(self, work: Awaitable[T]) -> T:
        try:
            return await work
        finally:
            for _ in range(TURNS if len(asyncio.all_tasks()) > 1 else 0):
                await asyncio.sleep(0)

    @contextmanager
    def _as_sequencer(self) -> Iterator[None]:
        """Who dies meanwhile, dies as the sequencer."""
        if self.process is None:
            yield
            return
        before, self.process.role = self.process.role, "sequencer"
        try:
            yield
        finally:
            self.process.role = before

    def do(self, act: Callable[[], object]) -> None:
        """The same for what is no coroutine."""

        async def run() -> None:
            act()

        self.call(run())

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that goes on by itself."""
        return self.loop.create_task(work)

    # ------------------------------------------------------------ terms and checkpoints
    async def _begin_term(self) -> None:
        """Does nothing while the schema does not fit: the next attempt to take a checkpoint is one for this, too."""
        self._terms += 1
        name = f"term-{self._terms}"
        try:
            head = await self.source.begin_term(name)
        except SynclineError:
            await self._make_fit()
            return
        assert head is not None
        before, self.at, self._is_term_open = self.at, (name, head.checkpoint), True
        known, granted = self.cuts.truths.get(before), self.cuts.granted.get(before, {})
        if known is None or before[1] != head.checkpoint:  # taken by a process that died of it
            known, granted = self._read_truth(), {}
        self.cuts.truths[self.at] = known
        self.cuts.granted[self.at] = {user: set(patients) for user, patients in granted.items()}
        self.note_grants()

    def _read_truth(self) -> Truth:
        columns = {name: table.columns for name, table in self.service.plan.tables.items()}
        included = dict(self.company.ours("included", "device", "number"))
        return Truth(self.company.rows(columns), included, self.is_filtered)

    def note_grants(self) -> None:
        """What is granted while this is the newest checkpoint."""
        known = self.cuts.granted.setdefault(self.at, {})
        for user in USERS:
            known.setdefault(user, set()).update(self.company.granted(user))

    def checkpoint(self) -> None:
        self.call(self.take_checkpoint())

    async def take_checkpoint(self) -> None:
        with self._as_sequencer():
            await self._take_checkpoint()

    async def _take_checkpoint(self) -> None:
        if not self._is_term_open:
            await self._begin_term()
            return
        try:
            taken = await self.source.take_checkpoint(self.at[0])
        except SchemaChangedError:
            await self._make_fit()
            return
        except SourceBusyError as error:
            self._note_full_disk(error)
            return
        if taken is None or self.is_dead:
            return
        self._report.note("checkpoints")
        self._report.note("raised", bool(taken.raised))
        self.at = (self.at[0], taken.head.checkpoint)
        self.cuts.truths[self.at] = self._read_truth()
        self.note_grants()
        self.service.hub.publish(taken)

    def _note_full_disk(self, error: SourceBusyError) -> None:
        """The sequencer comes again by itself."""
        if error.error_code != "source_disk_full" and not self.is_dead:
            raise error
        self._report.strike("full disk of the server")

    async def _make_fit(self) -> None:
        """One attempt, as the sequencer's loop makes them."""
        try:
            await self.service.replan()
            self._report.note("replanned")
            self.needs_restart = False
        except SynclineError as error:
            self._report.note(f"not fit: {error.error_code}")
            self.needs_restart |= error.error_code == "other_configuration"
        self._tune()

    async def _pass_marker(self) -> None:
        source = self.source
        marker = await source.put_marker()
        await self._between()
        for _ in range(MARKER_ATTEMPTS):
            await self.take_checkpoint()
            if await source.marker_passed(marker):
                return
        raise SourceBusyError("The sequencer waits for the schema.", hint="It is tried again.")

    def beat(self) -> None:
        """Every stream's heartbeat."""
        self._pulse.beat_all()

    # ------------------------------------------------------------ the operator
    def _end_term(self) -> None:
        if self._is_term_open:
            self._is_term_open = False
            self.call(self.source.end_term(self.at[0]))

    def restart(self, *, whole: bool) -> None:
        """Another term; of a new process if `whole`."""
        with self._as_sequencer():
            self._end_term()
            if not whole:
                self.call(self._begin_term())
                return
            self.call(self.source.close())
            self.start_anew()

    def reconfigure(self) -> None:
        """Stop, provision another configuration, start."""
        with self._as_sequencer():
            self._end_term()
            self.is_filtered, self._is_provisioned = not self.is_filtered, False
            self._provision()
            self.restart(whole=True)

    def _provision(self) -> None:
        """The operator types it again until it is done."""
        self.call(self.source.provision(self.call(self._load_plan())))
        self._is_provisioned = True

    def prune(self, before_us: int) -> None:
        """Forget what is older."""
        self.note_outcomes()
        with self._as_sequencer():
            self.call(self._prune(before_us))
        floors = dict(self.company.ours("device", "device", "floor"))
        kept = set(self.company.ours("outcome", "device", "number"))
        self.forgotten |= {at for at in self.outcomes.keys() - kept if at[1] > floors.get(at[0], 0)}

    async def _prune(self, before_us: int) -> None:
        try:
            while self._is_term_open and await self.source.prune(self.at[0], before_us):
                pass
        except SourceBusyError as error:
            self._note_full_disk(error)

    def note_outcomes(self) -> None:
        rows = self.company.ours("outcome", "device", "number", "kind")
        self.outcomes.update({(device, number): kind for device, number, kind in rows})

    # ------------------------------------------------------------ death
    def bury(self, *, has_power: bool) -> None:
        """After the process has died: its connections are gone, its tasks with them, and the file is what was on the
        disk. Nobody but the host may have it open."""
        assert self.process is not None
        process, rng = self.process, None if has_power else self._rng
        self.aside(_drop_tasks())
        self.aside(self.source.close())
        process.close_all()
        self._swap_file(lambda: process.put_disk_back(rng))

    def _swap_file(self, swap: Callable[[], None]) -> None:
        """While nobody has the company's file open."""
        database = self.company.database
        assert isinstance(database, SqliteDatabase)
        database.host.close()
        swap()
        database.host = sqlite3.connect(database.path, isolation_level=None)
        self._determinism(database.host)

    def start_anew(self) -> None:
        """Another process, which remembers nothing."""
        self.needs_restart = False
        self._is_term_open = False
        if self.process is not None:
            self.process.free_disk()  # whoever starts it looks to that first
        self.source = self.open_source(self.process)
        if not self._is_provisioned:
            self._provision()
        self._serve()

    # ------------------------------------------------------------ copies
    def copy(self) -> ServerCopy:
        assert self.process is not None
        self.note_outcomes()
        return ServerCopy(take_image(self.process.path), self.at, dict(self.outcomes), set(self.forgotten))

    def become(self, copy: ServerCopy) -> None:
        """Yesterday's file comes back. The configuration is today's: the operator provisions it."""
        assert self.process is not None
        path = self.process.path
        self.aside(_drop_tasks())
        self.aside(self.source.close())
        self.process.close_all()
        self._swap_file(lambda: put_image(path, copy.image))
        self.at, self.outcomes, self.forgotten = copy.at, dict(copy.outcomes), set(copy.forgotten)
        self._is_provisioned = False
        self.start_anew()


async def _drop_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
