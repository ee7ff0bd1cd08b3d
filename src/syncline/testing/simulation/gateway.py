"""The company's server on virtual time: the real application with its service, sequencer, fan-out and heartbeats, and
what each checkpoint meant."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.requests import HTTPConnection

from syncline.errors import SynclineError
from syncline.model.scopes import Plan, PlanConfig
from syncline.server.app import SynclineApp
from syncline.server.config_settings import Settings
from syncline.server.job import Paging
from syncline.server.sequencer import Sequencer
from syncline.server.service import Service
from syncline.source.port import Checkpoint, Source
from syncline.source.sqlite.source import SqliteSource
from syncline.source.sqlite.threads import drive
from syncline.testing.company_database import SqliteDatabase
from syncline.testing.plans import plan_for
from syncline.testing.simulation.company import Company, config_for
from syncline.testing.simulation.oracle import Cuts, Truth
from syncline.testing.simulation.report import Report
from syncline.testing.simulation.tasks import Tasks
from syncline.testing.world import Determinism, VirtualClock

T = TypeVar("T")
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
START_SECONDS = 5.0
"""After a start that failed."""
LAG_SECONDS = (0.001, 0.03)
HANDING_SECONDS = (0.0, 0.0, 0.001, 0.05)
"""How long what was read waits in its thread until who asked for it goes on: others go on meanwhile."""
USERS = ("u1", "u2")


class WatchedSource(SqliteSource):
    """Says when a checkpoint was taken or a term begun, and waits for changes on virtual time: whoever commits calls
    `stir`. `lag`: how long the sequencer takes to notice; `handing`: how long what was read takes to who asked."""

    begun: Callable[[str, int], None]
    took: Callable[[Checkpoint], None]
    lag: Callable[[], float]
    handing: Callable[[], float]

    def watch(self) -> None:
        self._changed = asyncio.Event()

    def stir(self) -> None:
        self._changed.set()

    async def wait_for_change(self, seconds: float) -> bool:
        await self._changed.wait()
        await asyncio.sleep(self.lag())
        self._changed.clear()
        return True

    async def take_checkpoint(self, term: str) -> Checkpoint | None:
        taken = await super().take_checkpoint(term)
        if taken is not None:
            self.took(taken)
            await asyncio.sleep(self.handing())
        return taken

    async def _feed(self, work: Any) -> Any:
        found = await super()._feed(work)
        await asyncio.sleep(self.handing())
        return found

    async def _read_source(self, work: Any, **how: Any) -> Any:
        found = await super()._read_source(work, **how)
        await asyncio.sleep(self.handing())
        return found

    async def begin_term(self, term: str) -> Any:
        head = await super().begin_term(term)
        if head is not None:
            self.begun(term, head.checkpoint)
        return head

    async def write(self, work: Any, claims: Any = None) -> Any:
        try:
            return await super().write(work, claims)
        finally:
            self.stir()

    async def register(self, *arguments: Any) -> Any:
        try:
            return await super().register(*arguments)
        finally:
            self.stir()

    async def put_marker(self) -> int:
        try:
            return await super().put_marker()
        finally:
            self.stir()


class Gateway:
    """`cuts` and `at` are what the checkers compare with. `has_proxy`: something in front answers 502 while nobody
    listens, else connections are refused. `lag`: seconds until the sequencer notices a change."""

    def __init__(
        self, company: Company, clock: VirtualClock, paging: Paging, report: Report, dice: random.Random
    ) -> None:
        assert isinstance(company.database, SqliteDatabase)
        self.company = company
        self.clock = clock
        self.report = report
        self.cuts = Cuts()
        self.at = ("", 0)
        self.outcomes: dict[tuple[str, int], str] = {}
        self.forgotten: set[tuple[str, int]] = set()
        self.is_filtered = False
        self.has_proxy = False
        self.lag: Callable[[], float] = lambda: dice.uniform(*LAG_SECONDS)
        self._handing: Callable[[], float] = lambda: dice.choice(HANDING_SECONDS)
        self.failed: Callable[[BaseException], None] = _raise
        self._database = company.database
        self._paging = paging
        self._dice = dice
        self._tasks = Tasks()
        self._lost: dict[int, Callable[[], None]] = {}
        self._calls = 0
        self._terms = 0
        self._app: Starlette | None = None
        self._starting = asyncio.Lock()
        self._determinism = Determinism(clock, random.Random(dice.random()))
        provisioning = self.open_source()
        drive(provisioning.provision(drive(plan_for(provisioning, self.config))))
        drive(provisioning.close())

    @property
    def config(self) -> PlanConfig:
        return config_for(is_filtered=self.is_filtered)

    @property
    def head(self) -> int:
        """The newest checkpoint."""
        return self.at[1]

    def open_source(self) -> Source:
        """As another process has it."""
        return self._database.open(self._determinism)

    def aside(self, work: Awaitable[T]) -> T:
        """What another process does with the company's database; nothing waits in it."""
        return drive(work)

    # ------------------------------------------------------------ its life
    @property
    def is_up(self) -> bool:
        return self._app is not None

    async def start(self) -> None:
        """Tries until it runs: the schema may be on its way from one state to another."""
        async with self._starting:
            await self._start()

    async def _start(self) -> None:
        while not self.is_up:
            self.source = self._watched_source()
            try:
                await self._tasks.begin(lambda: asyncio.ensure_future(self._open()))
            except SynclineError as error:
                self.report.note(f"start failed: {error.error_code}")
                await self.source.close()
                await asyncio.sleep(START_SECONDS)

    def _watched_source(self) -> WatchedSource:
        source = WatchedSource(
            self._database.path,
            clock=self.clock,
            draw=self._determinism.draw,
            prepare=self._determinism,
            inline=True,
        )
        source.begun, source.took, source.lag = self._begun, self._took, lambda: self.lag()
        source.handing = self._handing
        source.watch()
        return source

    async def _load_plan(self) -> Plan:
        return await plan_for(self.source, self.config)

    async def _open(self) -> None:
        plan = await self._load_plan()
        self.service = service = Service(self.source, plan, self.clock, load_plan=self._load_plan)
        service.sequencer = Sequencer(self.source, service.hub, self._name_term, self._replan)
        await service.open()
        self._tune()
        settings = Settings(f"sqlite:///{self._database.path}", plan_config=self.config)
        application = SynclineApp(settings, self.clock, _authenticate)
        application.runtime.service = service
        self._app = Starlette(routes=application.routes())

    def _tune(self) -> None:
        self.service.downloads.paging = self._paging

    async def _replan(self) -> None:
        await self.service.replan()
        self._tune()
        self.report.note("replanned")

    def _name_term(self) -> str:
        self._terms += 1
        return f"term-{self._terms}"

    async def stop(self) -> None:
        """In good order: the term is ended, and who is connected is let go."""
        if self.is_up:
            self._app = None
            self._hang_up()
            await self.service.close()
            await self._tasks.kill()

    async def kill(self, *, is_noticed: bool) -> None:
        """Between any two events. `is_noticed`: the machine is still there, and its system closes the connections."""
        if self.is_up:
            self._app = None
            if is_noticed:
                self._hang_up()
            self._lost.clear()
            await self._tasks.kill()
            await self.source.close()

    def _hang_up(self) -> None:
        lost, self._lost = self._lost, {}
        for tell in lost.values():
            tell()

    # ------------------------------------------------------------ requests
    @staticmethod
    def scope(kind: str, path: str, user: str, headers: Mapping[str, str]) -> dict[str, Any]:
        named = {"host": "company", "authorization": f"Bearer {user}", **headers}
        return {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http" if kind == "http" else "ws",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in named.items()],
            "client": ("device", 1),
            "server": ("company", 80),
            "subprotocols": [],
            "extensions": {},
            "state": {},
        }

    def serve(self, scope: dict[str, Any], receive: Receive, send: Send, lost: Callable[[], None]) -> bool:
        """Hands a request or a WebSocket to the application; False where nobody listens. `lost` is called if the
        application ends before it does."""
        app = self._app
        if app is None:
            return False
        self._calls += 1
        number = self._calls
        self._lost[number] = lost
        task = self._tasks.begin(lambda: asyncio.get_running_loop().create_task(_run(app, dict(scope), receive, send)))

        def end(task: asyncio.Task[None]) -> None:
            self._lost.pop(number, None)
            error = None if task.cancelled() else task.exception()
            if error is not None:  # a device is told of errors, also in the middle of an answer: none leaves
                self.failed(error)

        task.add_done_callback(end)
        return True

    # ------------------------------------------------------------ what the checkers compare with
    def stir(self) -> None:
        """Somebody has committed in the company's database."""
        if self.is_up:
            self.source.stir()

    def _begun(self, term: str, number: int) -> None:
        before, self.at = self.at, (term, number)
        known, granted = self.cuts.truths.get(before), self.cuts.granted.get(before, {})
        if known is None or before[1] != number:
            known, granted = self._read_truth(), {}
        self.cuts.truths[self.at] = known
        self.cuts.granted[self.at] = {user: set(patients) for user, patients in granted.items()}
        self.note_grants()

    def _took(self, taken: Checkpoint) -> None:
        self.report.note("checkpoints")
        self.at = (self.at[0], taken.head.checkpoint)
        self.cuts.truths[self.at] = self._read_truth()
        self.note_grants()

    def _read_truth(self) -> Truth:
        return Truth(self.company_rows(), dict(self.company.ours("included", "device", "number")), self.is_filtered)

    def company_rows(self) -> dict[tuple[str, str], dict[str, Any]]:
        """As they are now."""
        return self.company.rows({name: table.columns for name, table in self.service.plan.tables.items()})

    def note_grants(self) -> None:
        """What is granted while this is the newest checkpoint."""
        known = self.cuts.granted.setdefault(self.at, {})
        for user in USERS:
            known.setdefault(user, set()).update(self.company.granted(user))

    def note_outcomes(self) -> None:
        rows = self.company.ours("outcome", "device", "number", "kind")
        self.outcomes.update({(device, number): kind for device, number, kind in rows})


async def _run(app: Starlette, scope: dict[str, Any], receive: Any, send: Any) -> None:
    await app(scope, receive, send)


async def _authenticate(connection: HTTPConnection) -> Mapping[str, Any]:
    return {"sub": connection.headers["authorization"].removeprefix("Bearer ")}


def _raise(error: BaseException) -> None:
    raise error
