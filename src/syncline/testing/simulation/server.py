"""The server's side: the real source and service, driven one step at a time, and what each checkpoint meant."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from syncline.errors import SchemaChangedError, SourceBusyError, SynclineError
from syncline.model.scopes import Plan, PlanConfig
from syncline.server.auth import Identity
from syncline.server.job import Paging
from syncline.server.pulse import Pulse
from syncline.server.service import Service
from syncline.source.port import PageSize, Source
from syncline.testing.plans import plan_for
from syncline.testing.simulation.company import Company, config_for
from syncline.testing.simulation.oracle import Truth
from syncline.testing.world import Determinism, VirtualClock

T = TypeVar("T")
TURNS = 40
"""So often the tasks of streams have their turn after each call: more often than any of them waits for another."""
MARKER_ATTEMPTS = 6


class HandPulse(Pulse):
    """Beats when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self._joined: dict[Callable[[], None], None] = {}

    def join(self, beat: Callable[[], None]) -> None:
        self._joined[beat] = None

    def leave(self, beat: Callable[[], None]) -> None:
        self._joined.pop(beat, None)

    def beat_all(self) -> None:
        for beat in list(self._joined):
            beat()


def identity_of(user: str) -> Identity:
    return Identity(user, {"sub": user})


class SimulatedServer:
    """`between` is called while a download waits for the sequencer: others go on working then."""

    def __init__(
        self,
        company: Company,
        clock: VirtualClock,
        determinism: Determinism,
        rng: random.Random,
        stats: Counter[str],
        between: Callable[[], Awaitable[None]],
    ) -> None:
        self.company = company
        self.stats = stats
        self.truths: dict[int, Truth] = {}
        self.granted_at: dict[int, dict[str, set[str]]] = {}
        self.outcomes: dict[tuple[str, int], str] = {}
        self.forgotten: set[tuple[str, int]] = set()
        self.loop = company.database.loop or asyncio.new_event_loop()
        self.is_streaming = False
        self.is_filtered = False
        self._clock = clock
        self._determinism = determinism
        self._between = between
        self._terms = 0
        self._term = ""
        self.head = 0
        self.paging = Paging(
            size=PageSize(rng.choice((2, 3, 4, 5, 40)), 1_000_000),
            progress_bytes=rng.choice((1, 200, 500)),
            answer_seconds=1e9,
            answer_bytes=rng.choice((1, 500, 1_500)),
            count_seconds=3_600.0,
        )
        self.source = self.open_source()
        self.call(self.source.provision(self.call(self._load_plan())))
        self._serve()

    @property
    def config(self) -> PlanConfig:
        return config_for(is_filtered=self.is_filtered)

    def open_source(self) -> Source:
        return self.company.database.open(self._determinism)

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
            self.source, plan, self._clock, wait_for_marker=self._pass_marker, load_plan=self._load_plan
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
        self.call(self.source.close())
        if self.company.database.loop is None:
            self.loop.close()

    # ------------------------------------------------------------ calls
    def call(self, work: Awaitable[T]) -> T:
        """What it answers, once everything that it set going has come to rest."""
        return self.loop.run_until_complete(self._rest(work))

    async def _rest(self, work: Awaitable[T]) -> T:
        try:
            return await work
        finally:
            for _ in range(TURNS if self.is_streaming else 0):
                await asyncio.sleep(0)

    def do(self, act: Callable[[], object]) -> None:
        """The same for what is no coroutine."""

        async def run() -> None:
            act()

        self.call(run())

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that goes on by itself."""
        self.is_streaming = True
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
        self._term, self.head = name, head.checkpoint
        self.truths.setdefault(head.checkpoint, self._read_truth())
        self.note_grants()

    def _read_truth(self) -> Truth:
        columns = {name: table.columns for name, table in self.service.plan.tables.items()}
        included = dict(self.company.ours("included", "device", "number"))
        return Truth(self.company.rows(columns), included, self.is_filtered)

    def note_grants(self) -> None:
        """What is granted while this is the newest checkpoint."""
        known = self.granted_at.setdefault(self.head, {})
        for user in ("u1", "u2"):
            known.setdefault(user, set()).update(self.company.granted(user))

    def checkpoint(self) -> None:
        self.call(self.take_checkpoint())

    async def take_checkpoint(self) -> None:
        if not self._term:
            await self._begin_term()
            return
        try:
            taken = await self.source.take_checkpoint(self._term)
        except SchemaChangedError:
            await self._make_fit()
            return
        if taken is None:
            return
        self.stats["checkpoints"] += 1
        self.stats["raised"] += bool(taken.raised)
        self.head = taken.head.checkpoint
        self.truths[self.head] = self._read_truth()
        self.note_grants()
        self.service.hub.publish(taken)

    async def _make_fit(self) -> None:
        """One attempt, as the sequencer's loop makes them."""
        try:
            await self.service.replan()
            self.stats["replanned"] += 1
        except SynclineError as error:
            self.stats[f"not fit: {error.error_code}"] += 1
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
    def restart(self, *, whole: bool) -> None:
        """Another term; of a new process if `whole`."""
        if self._term:
            self.call(self.source.end_term(self._term))
            self._term = ""
        if not whole:
            self.call(self._begin_term())
            return
        self.call(self.source.close())
        self.source = self.open_source()
        self._serve()

    def reconfigure(self) -> None:
        """Stop, provision another configuration, start."""
        if self._term:
            self.call(self.source.end_term(self._term))
            self._term = ""
        self.is_filtered = not self.is_filtered
        self.call(self.source.provision(self.call(self._load_plan())))
        self.restart(whole=True)

    def prune(self, before_us: int) -> None:
        """Forget what is older."""
        self.note_outcomes()
        while self._term and self.call(self.source.prune(self._term, before_us)):
            pass
        floors = dict(self.company.ours("device", "device", "floor"))
        kept = set(self.company.ours("outcome", "device", "number"))
        self.forgotten |= {at for at in self.outcomes.keys() - kept if at[1] > floors[at[0]]}

    def note_outcomes(self) -> None:
        rows = self.company.ours("outcome", "device", "number", "kind")
        self.outcomes.update({(device, number): kind for device, number, kind in rows})
