"""The session world: devices with their real sessions, the real server, and a network between them, on virtual time.

A history is a day: a script's steps come at their times, and everything that follows from them follows by itself. Then
all faults end. From there on nobody does anything but wait, and everything must drain (P2).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from syncline.replica.session import Event
from syncline.server.job import Paging
from syncline.source.port import PageSize
from syncline.testing.company_database import SqliteDatabase
from syncline.testing.dialect import SQLITE
from syncline.testing.simulation.agenda import VirtualLoop
from syncline.testing.simulation.agents import Agent
from syncline.testing.simulation.calls import Calls
from syncline.testing.simulation.checkers import Checkers
from syncline.testing.simulation.company import Company, Temper, Values
from syncline.testing.simulation.day_acts import DayActs
from syncline.testing.simulation.day_scripts import USERS, times
from syncline.testing.simulation.devices import SimulatedDevice
from syncline.testing.simulation.gateway import Gateway
from syncline.testing.simulation.migrations import Migrations
from syncline.testing.simulation.network import Link
from syncline.testing.simulation.oracle import BrokenPromiseError
from syncline.testing.simulation.report import Report
from syncline.testing.simulation.script import Script, Step
from syncline.testing.simulation.tasks import keep_owners
from syncline.testing.world import VirtualClock

QUIET_SECONDS = (2.0, 3.0, 5.0, 10.0, 10.0, *(30.0,) * 10, *(300.0,) * 5)
"""How long it is waited between two looks whether all is quiet: half an hour in all, more than any pause of theirs."""
FIRST_SECONDS = 5.0
"""For the first sync, before the first step."""


class Day:
    """One history."""

    def __init__(self, script: Script, folder: Path) -> None:
        self._script = script
        self.report = Report()
        self._trace = sha256()
        self._dice = dice = script.dice("beginning")
        self._failure: BaseException | None = None
        self._open: dict[asyncio.Task[None], None] = {}
        self.clock = VirtualClock()
        self.loop = VirtualLoop(self.clock)
        keep_owners(self.loop)
        values = Values(dice, Temper())
        self.company = Company(SqliteDatabase(folder), SQLITE, dice, values)
        self.gateway = Gateway(self.company, self.clock, _paging(dice), self.report, script.dice("server"))
        self.gateway.failed = self._fail
        migrations = Migrations(self.company, self.gateway, dice)  # type: ignore[arg-type]
        self._migrations = migrations
        self._checkers = Checkers(self.gateway, self.report)  # type: ignore[arg-type]
        self._acts = DayActs(
            self.gateway, self.company, migrations, values, self.report, dice, self._tell, self._begin, self._look
        )
        self.agents = [self._agent(name, user, folder) for name, user in USERS.items()]

    def _agent(self, name: str, user: str, folder: Path) -> Agent:
        device = SimulatedDevice(name, user, folder / f"{name}.db", self.clock.skewed(0), self._dice)
        link = Link(name, self._script.faults, self._script.dice(f"network {name}"), self.report, self._happened)
        calls = Calls(self.gateway, link, user)
        return Agent(device, calls, self._script.dice(f"agent {name}"), self._look, self._fail)

    def close(self) -> None:
        self.loop.run_until_complete(self._end())
        self.loop.close()
        for agent in self.agents:
            agent.device.close()
        self._migrations.close()
        self.company.database.close()

    async def _end(self) -> None:
        for task in list(self._open):
            task.cancel()
        for agent in self.agents:
            await agent.kill()
        await self.gateway.kill(is_noticed=False)
        await asyncio.get_running_loop().shutdown_asyncgens()

    # ------------------------------------------------------------ the day
    def run(self) -> Report:
        self.loop.run_until_complete(self._play())
        self.report.trace = self._trace.hexdigest()
        return self.report

    async def _play(self) -> None:
        await self.gateway.start()
        for agent in self.agents:
            agent.start()
        due = times(self._script)
        for step in self._script.steps:
            await asyncio.sleep(FIRST_SECONDS + due[step.number] - self.loop.time())
            await self._do(step)
            self._raise_failure()
        await self._calm()
        await self._settle("not drained after the faults ended")
        self._dice.seed(f"{self._script.seed}/last")
        await self._acts.office(self.agents[0])
        await self._settle("not told of what the office wrote")
        for agent in self.agents:
            self._checkers.check_quiet(agent.device)
        self._raise_failure()

    async def _do(self, step: Step) -> None:
        self._dice.seed(f"{self._script.seed}/{step.number}")
        self._happened(step.act, step.device)
        agent = next(agent for agent in self.agents if agent.device.name == step.device)
        await self._acts.do(step.act, agent)

    async def _calm(self) -> None:
        """All faults end, and apps are open. Who was told that the battery was low is told that it is over; who was
        told that the network had gone may have to find out."""
        self._tell("all faults end")
        self._acts.end_all()
        self._migrations.finish()
        await self.gateway.start()
        self.gateway.stir()
        for agent in self.agents:
            agent.link.heal()
            agent.start()
            if not agent.knows_network and self._script.dice(f"signal {agent.device.name}").random() < 0.5:
                agent.tell([Event.ONLINE])
            if agent.is_postponed:
                agent.tell([Event.RESUME])

    async def _settle(self, what: str) -> None:
        """Nobody does anything but wait (P2)."""
        for seconds in QUIET_SECONDS:
            await asyncio.sleep(seconds)
            self._raise_failure()
            if self._is_quiet():
                return
        raise BrokenPromiseError(f"P2 {what}", *self._unrest())

    def _unrest(self) -> Iterator[str]:
        """In words."""
        for agent in self.agents:
            if not self._is_at_rest(agent):
                yield f"{agent.device.name}, whose session is {agent.session}, has not all that it should have"
        if self._lags():
            yield "changes of the company are in no checkpoint"

    def _is_quiet(self) -> bool:
        return not self._lags() and all(self._is_at_rest(agent) for agent in self.agents)

    def _is_at_rest(self, agent: Agent) -> bool:
        return agent.device.file.state().cursor is not None and self._checkers.is_quiet(agent.device)

    def _lags(self) -> bool:
        """Whether changes of the company are in no checkpoint yet."""
        return self.gateway.cuts.truths[self.gateway.at].rows != self.gateway.company_rows()

    # ------------------------------------------------------------ what happens meanwhile
    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(self._guarded(work))
        self._open[task] = None
        task.add_done_callback(lambda done: self._open.pop(done, None))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self._fail(error)

    def _look(self, device: SimulatedDevice) -> None:
        """The continuous checkers. Nobody copies or restores a file here."""
        (version,) = device.look.execute("PRAGMA data_version").fetchone()
        if version != device.seen_version:
            (identity,) = device.look.execute("SELECT device FROM syncline_state").fetchone()
            if identity != device.identity and device.identity:
                raise BrokenPromiseError("P3 a known device got a new identity", device.name)
            device.identity = identity or ""
            self._checkers.check(device)

    def _happened(self, what: str, content: object) -> None:
        self.report.events += 1
        self._trace.update(f"{self.clock.now_us()} {what} {content!r}".encode())

    def _tell(self, line: str) -> None:
        seconds = int(self.loop.time())
        self.report.tell(f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02} {line}")

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def _paging(dice: random.Random) -> Paging:
    """Small pages, so that there are some."""
    return Paging(
        size=PageSize(dice.choice((2, 3, 5, 40, 40)), 1_000_000),
        progress_bytes=dice.choice((1, 200, 500)),
        answer_seconds=20.0,
        answer_bytes=dice.choice((1, 500, 1_500, 100_000)),
        count_seconds=3_600.0,
    )


def play(script: Script, folder: Path) -> Report:
    """The history of a script, in an empty folder; BrokenPromiseError, with its report, where a checker found
    something."""
    day = Day(script, folder)
    try:
        return day.run()
    except BrokenPromiseError as error:
        error.report = day.report
        raise
    finally:
        day.close()
