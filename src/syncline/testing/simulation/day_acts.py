"""What may happen on a day, act by act. What lasts a while ends by itself: an act that is left out leaves nothing
open."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from syncline.replica.session import Event
from syncline.testing.simulation.agents import Agent
from syncline.testing.simulation.company import PATIENTS, Company, Values
from syncline.testing.simulation.gateway import LAG_SECONDS, Gateway
from syncline.testing.simulation.migrations import Migrations
from syncline.testing.simulation.network import Sky, Way
from syncline.testing.simulation.oracle import Done, shown
from syncline.testing.simulation.report import Report
from syncline.testing.world import SECOND_US

YEAR_US = 365 * 86_400 * SECOND_US
MIGRATION_SECONDS = (1.0, 30.0)
WAYS = (frozenset({Way.OUT}), frozenset({Way.BACK}), frozenset(Way))


class DayActs:
    """Each method that a script may name takes the device whose act it is. `dice` is set anew for each step; `tell` is
    given what a reader should know."""

    def __init__(
        self,
        gateway: Gateway,
        company: Company,
        migrations: Migrations,
        values: Values,
        report: Report,
        dice: random.Random,
        tell: Callable[[str], None],
        begin: Callable[[Coroutine[Any, Any, None]], None],
        looked: Callable[[Any], None],
    ) -> None:
        self._gateway = gateway
        self._company = company
        self._migrations = migrations
        self._values = values
        self._report = report
        self._dice = dice
        self._tell = tell
        self._begin = begin
        self._looked = looked
        self._ends: dict[str, int] = {}
        self._is_over = False

    async def do(self, act: str, agent: Agent) -> None:
        await getattr(self, act)(agent)

    def _for(self, what: str, seconds: float, then: Callable[[], Awaitable[None]]) -> None:
        """Unless the same begins again before: `then` after so long."""
        self._ends[what] = count = self._ends.get(what, 0) + 1

        async def wait() -> None:
            await asyncio.sleep(seconds)
            if self._ends[what] == count and not self._is_over:
                await then()

        self._begin(wait())

    def end_all(self) -> None:
        """Nothing of what was begun ends by itself any more."""
        self._is_over = True

    def _while(self) -> float:
        """Mostly seconds, now and then an hour."""
        return self._dice.choice((1.0, 5.0, 30.0, 30.0, 120.0, 120.0, 900.0)) * self._dice.uniform(0.3, 1.5)

    # ------------------------------------------------------------ work
    async def write(self, agent: Agent) -> None:
        """The nurse's app commits something."""
        device = agent.device
        if not agent.is_running or device.file.store.program is None:
            return
        done = device.write(self._values)
        self._report.note("mutations", len(done))
        if done:
            self._tell(f"{device.name} {', '.join(map(in_words, done))}")
        self._looked(device)
        agent.notice()

    async def office(self, _: Agent) -> None:
        self._company.work()
        self._note_office("the office writes")

    async def bulk(self, _: Agent) -> None:
        """One statement that changes every visit."""
        if self._company.columns("visits"):
            self._company.run(f"UPDATE visits SET note = 'bulk {self._dice.randrange(100)}'")
            self._note_office("the office changes all visits")

    async def hand_over(self, _: Agent) -> None:
        self._company.hand_over()
        self._note_office("the office hands one patient's visits over to another's")

    async def reassign(self, _: Agent) -> None:
        self._company.reassign()
        self._note_office(f"the office reassigns: {self._assigned()}")

    async def dismiss(self, agent: Agent) -> None:
        """A user loses everything."""
        self._company.execute("DELETE FROM assignments WHERE nurse = ?", (agent.device.user,))
        self._note_office(f"{agent.device.user} is dismissed")

    async def take_on(self, agent: Agent) -> None:
        user = agent.device.user
        missing = [patient for patient in PATIENTS if patient not in self._company.granted(user)]
        for patient in self._dice.sample(missing, k=min(2, len(missing))):
            self._company.execute("INSERT INTO assignments(nurse, patient_id) VALUES(?, ?)", (user, patient))
        self._note_office(f"{user} is taken on: {self._assigned()}")

    async def migrate(self, _: Agent) -> None:
        if not self._migrations.is_under_way:
            kind = self._migrations.begin()
            self._report.note(f"migration {kind}")
            self._note_office(f"the company migrates: {kind}")
            self._for("migration", self._dice.uniform(*MIGRATION_SECONDS), self._end_migration)

    async def migrate_on(self, _: Agent) -> None:
        self._migrations.go_on()
        self._gateway.stir()

    async def _end_migration(self) -> None:
        """No command stays half done for hours."""
        self._migrations.finish()
        self._gateway.stir()

    def _assigned(self) -> str:
        held = {user: "".join(sorted(self._company.granted(user))) for user in ("u1", "u2")}
        return ", ".join(f"{user} has {patients or 'nobody'}" for user, patients in held.items())

    def _note_office(self, line: str) -> None:
        self._report.note("office writes")
        self._tell(line)
        self._gateway.note_grants()
        self._gateway.stir()

    # ------------------------------------------------------------ the network
    def _weather(self, agent: Agent, fault: str, sky: Sky, line: str) -> float:
        seconds = self._while()
        self._report.strike(fault)
        self._tell(f"{agent.device.name}: {line}, for {seconds:.0f} s")
        agent.link.under(sky, seconds)
        return seconds

    async def partition(self, agent: Agent) -> None:
        """What is sent is lost, on one way or on both, and nobody is told."""
        blocked = self._dice.choice(WAYS)
        ways = {"out": "nothing gets to the server", "back": "nothing comes back"}
        line = ways[next(iter(blocked))] if len(blocked) == 1 else "nothing gets through"
        fault = "partition" if len(blocked) == 2 else "one-way partition"
        self._weather(agent, fault, Sky(blocked=blocked), line)

    async def half_open(self, agent: Agent) -> None:
        """A router has forgotten the connections: new ones work."""
        agent.link.move()
        self._report.strike("half-open")
        self._tell(f"{agent.device.name}: its open connections are dead, and nobody says so")

    async def move(self, agent: Agent) -> None:
        """Another network, and the operating system says so."""
        agent.link.move()
        self._report.strike("move")
        self._tell(f"{agent.device.name} moves to another network")
        agent.tell([Event.MOVED])

    async def offline(self, agent: Agent) -> None:
        """The operating system says when there is no network, and when there is one again."""
        seconds = self._while()
        self._lose_network(agent, seconds)
        self._report.strike("offline")
        self._tell(f"{agent.device.name} is offline for {seconds:.0f} s")

    def _lose_network(self, agent: Agent, seconds: float) -> None:
        agent.tell([Event.OFFLINE])
        agent.link.move()
        agent.link.under(Sky(is_up=False), seconds, lambda: agent.tell([Event.ONLINE]))

    async def dead_zone(self, agent: Agent) -> None:
        self._weather(agent, "dead zone", Sky(is_up=False), "no network, and nobody says so")

    async def portal(self, agent: Agent) -> None:
        self._weather(agent, "captive portal", Sky(has_portal=True), "a captive portal answers")

    async def plain(self, agent: Agent) -> None:
        self._weather(agent, "no WebSockets", Sky(is_plain=True), "no WebSocket gets through")

    async def flap(self, agent: Agent) -> None:
        """The network comes and goes."""
        times, dice = self._dice.randint(2, 8), random.Random(self._dice.random())
        self._report.strike("flapping")
        self._tell(f"{agent.device.name}: the network comes and goes {times} times")

        async def flap() -> None:
            for _ in range(times):
                if self._is_over:
                    return
                self._lose_network(agent, seconds := dice.uniform(0.2, 10.0))
                await asyncio.sleep(seconds + dice.uniform(0.1, 10.0))

        self._begin(flap())

    # ------------------------------------------------------------ devices
    async def crash(self, agent: Agent) -> None:
        """The process is killed, and the app opened again a while later."""
        if agent.is_running:
            await agent.kill()
            agent.device.crash()
            self._report.crash("device")
            self._open_later(agent, "crashes", self._dice.choice((0.5, 5.0, 60.0)) * self._dice.uniform(0.5, 2))

    async def sleep(self, agent: Agent) -> None:
        """The app is closed in good order, perhaps for hours."""
        if agent.is_running:
            await agent.stop()
            self._open_later(agent, "is closed", self._while() * self._dice.choice((1, 1, 8)))

    def _open_later(self, agent: Agent, what: str, seconds: float) -> None:
        self._tell(f"{agent.device.name} {what}, and is opened again after {seconds:.0f} s")

        async def start() -> None:
            agent.start()

        self._for(f"closed {agent.device.name}", seconds, start)

    async def skew(self, agent: Agent) -> None:
        """Somebody sets the clock, by seconds or by years."""
        skew_us = self._dice.choice((SECOND_US, 3_600 * SECOND_US, YEAR_US, 10 * YEAR_US))
        skew_us = int(skew_us * self._dice.uniform(-1, 1))
        agent.device.clock.skew_us += skew_us
        self._report.strike("clock jump")
        self._tell(f"{agent.device.name}'s clock jumps by {skew_us / SECOND_US:.0f} s")

    async def postpone(self, agent: Agent) -> None:
        """The battery is low for a while."""
        seconds = self._while()
        self._report.strike("postponed")
        self._tell(f"{agent.device.name}'s battery is low for {seconds:.0f} s")
        agent.tell([Event.POSTPONE])

        async def resume() -> None:
            agent.tell([Event.RESUME])

        self._for(f"low {agent.device.name}", seconds, resume)

    # ------------------------------------------------------------ the server
    async def kill_gateway(self, _: Agent) -> None:
        if self._gateway.is_up:
            await self._gateway.kill(is_noticed=self._dice.random() < 0.7)
            self._report.crash("gateway")
            self._serve_later("is killed")

    async def restart_gateway(self, _: Agent) -> None:
        if self._gateway.is_up:
            await self._gateway.stop()
            self._report.strike("restart")
            self._serve_later("is stopped")

    def _serve_later(self, what: str) -> None:
        seconds = self._dice.choice((0.5, 5.0, 60.0)) * self._dice.uniform(0.5, 3)
        self._gateway.has_proxy = self._dice.random() < 0.5
        self._tell(f"the server {what}, and is back after {seconds:.0f} s")
        self._for("server", seconds, self._gateway.start)

    async def slow_sequencer(self, _: Agent) -> None:
        """The source is slow to show what was committed."""
        dice, seconds = random.Random(self._dice.random()), self._while()
        self._gateway.lag = lambda: dice.uniform(0.5, 8.0)
        self._report.strike("slow sequencer")
        self._tell(f"checkpoints come late for {seconds:.0f} s")

        async def hurry() -> None:
            self._gateway.lag = lambda: dice.uniform(*LAG_SECONDS)

        self._for("lag", seconds, hurry)


VERBS = {"I": "inserts", "U": "edits", "D": "deletes"}


def in_words(done: Done) -> str:
    """As a reader of the story wants it."""
    named = f"{done.table.removesuffix('s')} {done.key}"
    values = ", ".join(f"{column} = {shown(value)}" for column, value in sorted(done.new.items()))
    return f"{VERBS[done.operation]} {named}{f' ({values})' if done.operation == 'U' else ''} as {done.number}"
