"""One history of the acts world: any act at any time, as its script says."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from syncline.testing.company_database import CompanyDatabase, SqliteDatabase
from syncline.testing.dialect import SQLITE, Dialect
from syncline.testing.simulation.acts import STEPS, USERS, WEIGHTS, WORKLOAD, draw
from syncline.testing.simulation.checkers import Checkers
from syncline.testing.simulation.company import Company, Temper, Values
from syncline.testing.simulation.copies import Copies
from syncline.testing.simulation.devices import SimulatedDevice, put_prepared
from syncline.testing.simulation.migrations import KINDS, UNSEEN, Migrations
from syncline.testing.simulation.mishaps import Mishaps
from syncline.testing.simulation.oracle import BrokenPromiseError, Done
from syncline.testing.simulation.processes import ProcessDiedError, fault_of_disk
from syncline.testing.simulation.report import Report
from syncline.testing.simulation.script import Script, Step
from syncline.testing.simulation.server import SimulatedServer
from syncline.testing.simulation.storage import check_emptied, check_forgotten, check_log
from syncline.testing.simulation.traffic import Traffic
from syncline.testing.simulation.verified import check_verified
from syncline.testing.simulation.winners import Winners
from syncline.testing.world import SECOND_US, VirtualClock

SETTLE_ROUNDS_MAX = 100
INSTRUCTIONS_AT_WORK = 3_000
"""About as many as a checkpoint, a small upload or a small cut takes."""


BESIDE_OPEN = frozenset({"app", "upload", "download", "deliver", "checkpoint", "office", "reassign", "hello", "crash"})
"""What goes on while a transaction of the company's is open: it asks for no table as a whole."""

VERIFIED = 0.5
"""At the end of so many histories one of the devices is compared with its scope, and mended."""

PREPARED = 0.75
"""So many apps bring a file along in which the program is installed."""


class Simulation:
    """`report` counts what happened and tells the story. All that is random inside a step is drawn from that step's own
    dice: others can be left out."""

    def __init__(
        self,
        script: Script,
        folder: Path,
        page_rows: int | None = None,
        database: CompanyDatabase | None = None,
        dialect: Dialect = SQLITE,
        temper: Temper | None = None,
    ) -> None:
        self._script = script
        self.rng = rng = script.dice("world")
        self.clock = VirtualClock()
        self.report = report = Report()
        self._values = Values(
            rng, temper or Temper.draw(script.dice("temper")), has_loose_types=dialect.has_loose_types
        )
        self._owns_database = database is None
        self.company = Company(database or SqliteDatabase(folder), dialect, rng, self._values)
        self.server = SimulatedServer(self.company, self.clock.skewed(0), rng, report, self._meanwhile)
        if page_rows is not None:
            self.server.make_pages(page_rows)
        self.migrations = Migrations(self.company, self.server, rng)
        self._checkers = Checkers(self.server, report)
        self.traffic = Traffic(self.server, self._checkers, self.clock, rng, report, script.faults)
        self.devices = [self._device(name, user, folder) for name, user in USERS.items()]
        self._winners = Winners(self.clock)
        self.company.wrote = self._winners.office_wrote
        copies = Copies(self.server, self.devices, self.clock, report, self._hang_up)
        self.mishaps = Mishaps(
            *(rng, report, self.server, self.devices, self.migrations, self._winners, copies),
            hang_up=self._hang_up,
            note_written=self._note_written,
        )
        self._acts = self._named_acts()
        if not self._values.deletes or rng.random() < 0.5:
            for device in self.devices:
                self.traffic.download(device)
                self._deliver_all()
        self.traffic.is_faulty = True

    @property
    def stats(self) -> Counter[str]:
        return self.report.operations

    def close(self) -> None:
        self._heal()
        self.company.end_overlap()
        for device in self.devices:
            device.close()
        self.migrations.close()
        self.server.close()
        if self._owns_database:
            self.company.database.close()

    def _device(self, name: str, user: str, folder: Path) -> SimulatedDevice:
        skew = self.rng.choice((0, 0, 1, -1)) * self.rng.randint(0, 4_000 * SECOND_US)
        path = folder / f"{name}.db"
        if self._script.dice(f"app {name}").random() < PREPARED:
            put_prepared(path, self.server.service.program)
        device = SimulatedDevice(name, user, path, self.clock.skewed(skew), self.rng)
        self.traffic.greet(device)
        return device

    def _named_acts(self) -> dict[str, Callable[[SimulatedDevice], object]]:
        """By the names of WEIGHTS."""
        found = dict[str, Any]()
        for name in WEIGHTS:
            found[name] = getattr(self.traffic, name, None) or getattr(self.mishaps, name, None)
            found[name] = found[name] or getattr(self, f"_{name}")
        return found

    def _hang_up(self, device: SimulatedDevice) -> None:
        self._do("hang_up", device)

    # ------------------------------------------------------------ one history
    def run(self) -> Report:
        """To its quiet end."""
        try:
            for step in self._script.steps:
                self._step(step)
            self.rng.seed(f"{self._script.seed}/settle")
            self._settle()
            for device in self.devices:
                self._checkers.check_quiet(device)
                check_emptied(device, self.report)
            self._winners.check(self.server, self.devices, self.report)
            dice = self._script.dice("verification")
            if dice.random() < VERIFIED:
                check_verified(self.server, dice.choice(self.devices), self.report)
            self._forget_everything()
        except BrokenPromiseError as error:
            error.report = self.report
            raise
        except Exception as error:
            broken = BrokenPromiseError(f"an exception that nobody foresaw: {type(error).__name__}", str(error))
            broken.report = self.report
            raise broken from error
        finally:
            self.report.trace = self.traffic.trace.hexdigest()
        return self.report

    def _step(self, step: Step) -> None:
        self.rng.seed(f"{self._script.seed}/{step.number}")
        self.clock.advance(self.rng.randint(2_000, 40_000))
        device = next((device for device in self.devices if device.name == step.device), None)
        self.report.events += 1
        self.traffic.trace.update(step.act.encode() + step.device.encode())
        if device is not None:
            self._do(step.act, device)
            self._check_all()

    def _do(self, act: str, device: SimulatedDevice) -> None:
        """One act, unless somebody dies of it."""
        try:
            if device.needs_hello and act in ("upload", "download", "go_live"):
                self.traffic.greet(device)
            if act == "upload" and not device.knows_time:
                self._winners.doubt_waiting(device)
            if act not in BESIDE_OPEN:
                self.company.end_overlap()
            self._acts[act](device)
        except ProcessDiedError as death:
            self.mishaps.bury(death)

    def _check_all(self) -> None:
        for device in self.devices:
            if self._checkers.check(device):
                check_log(device, self.report)

    def _settle(self) -> None:
        """Liveness: no faults and no new writes; everything must drain by itself (P2)."""
        if self.traffic.is_faulty:
            self.report.tell("all faults end")
        self.traffic.is_faulty = False
        self._heal()
        self.company.end_overlap()
        self.migrations.finish()
        for device in self.devices:
            self.traffic.hang_up(device)
        for count in range(SETTLE_ROUNDS_MAX):
            if self.server.needs_restart:
                self.server.restart(whole=True)
            for device in self.devices:
                self.clock.advance(1_000)
                if not count or device.needs_hello:
                    self.traffic.greet(device)
                self.traffic.upload(device)
                self.traffic.download(device)
                self._deliver_all()
            self.server.checkpoint()
            if count and all(map(self._checkers.is_quiet, self.devices)):
                return

    def _forget_everything(self) -> None:
        """P13: the retention passes over all that ever happened, then everybody syncs once more: what was deleted stays
        deleted, and what was there stays."""
        check_forgotten(self.server, self.report)
        self._settle()
        for device in self.devices:
            self._checkers.check_converged(device)
        self.report.look("P13")

    def _heal(self) -> None:
        for process in (self.server.process, *(device.process for device in self.devices)):
            if process is not None:
                process.disarm()
        self.mishaps.free_disks(self.devices[0])

    def _deliver_all(self) -> None:
        while self.traffic:
            self.traffic.deliver()
            self._check_all()

    # ------------------------------------------------------------ the office
    def _office(self, device: SimulatedDevice) -> None:
        self.clock.advance(self.rng.randint(0, 2_000))
        if self.company.database.has_many_writers and self.rng.random() < 0.4:
            self.company.overlap()
            self.report.note("office writes that overlap")
        self.company.work()
        self.report.note("office writes")

    def _reassign(self, device: SimulatedDevice) -> None:
        self.company.reassign()
        self.server.note_grants()
        self.report.note("reassignments")
        self.report.tell("the office gives a patient, or takes one away")

    def _migrate(self, device: SimulatedDevice, kinds: Sequence[str] = KINDS) -> None:
        if not self.migrations.is_under_way:
            self._winners.give_up()
            kind = self.migrations.begin(kinds)
            self.report.note(f"migration {kind}")
            self.report.tell(f"the company begins a migration: {kind}")

    def _lose_capture(self, device: SimulatedDevice) -> None:
        """What the company writes for a while is seen by no trigger of ours."""
        self._migrate(device, UNSEEN)

    def _migrate_on(self, device: SimulatedDevice) -> None:
        self.migrations.go_on()

    async def _meanwhile(self) -> None:
        """While a download waits for the sequencer."""
        for _ in range(self.rng.randint(0, 2)):
            self._office(self.devices[0])
            if self.rng.random() < 0.2:
                self._reassign(self.devices[0])
            if self.rng.random() < 0.5:
                await self.server.take_checkpoint()

    # ------------------------------------------------------------ the server
    def _checkpoint(self, device: SimulatedDevice) -> None:
        self.server.checkpoint()

    def _die_at_work(self, device: SimulatedDevice) -> None:
        """The server or the device has few instructions left, and much to do."""
        if self.rng.random() < 0.5:
            self.mishaps.die(device, self.rng.randint(1, INSTRUCTIONS_AT_WORK))
        else:
            self.mishaps.die_server(device, self.rng.randint(1, INSTRUCTIONS_AT_WORK))
        for act in self.rng.sample(("checkpoint", "upload", "deliver"), k=3):
            self._do(act, device)

    def _restart(self, device: SimulatedDevice) -> None:
        is_whole = not self.migrations.is_under_way and self.rng.random() < 0.5
        self.report.tell("the server is restarted" if is_whole else "another sequencer takes over")
        if is_whole:
            self._cut_streams()
        self.server.restart(whole=is_whole)
        self.report.note("restarts")

    def _reconfigure(self, device: SimulatedDevice) -> None:
        if not self.migrations.is_under_way:
            self.report.tell("the server is provisioned with another configuration")
            self._cut_streams()
            self.server.reconfigure()
            self.report.note("reconfigured")

    def _cut_streams(self) -> None:
        for device in self.devices:
            self.traffic.hang_up(device)

    def _prune(self, device: SimulatedDevice) -> None:
        before_us = self.server.clock.now_us() - self.rng.choice((20_000, 100_000, 3_600 * SECOND_US))
        if self.mishaps.copies.oldest_us is not None:
            before_us = min(before_us, self.mishaps.copies.oldest_us)
        self._doubt_waiting()
        self.server.prune(before_us)
        self.report.note("prunes")
        self.report.tell("the server forgets what is old")

    def _wait(self, device: SimulatedDevice) -> None:
        self._doubt_waiting()
        self.clock.advance(self.rng.randint(1, 20_000) * SECOND_US)
        self.report.tell("hours pass")

    def _doubt_waiting(self) -> None:
        for device in self.devices:
            self._winners.doubt_waiting(device)

    # ------------------------------------------------------------ devices
    def _app(self, device: SimulatedDevice) -> None:
        try:
            done = device.write(self._values)
        except sqlite3.OperationalError as error:
            fault = fault_of_disk(error)
            if fault is None:
                raise
            self.report.strike(fault)
            return
        self._note_written(device, done)

    def _note_written(self, device: SimulatedDevice, done: list[Done]) -> None:
        self.report.note("mutations", len(done))
        for each in done:
            self._winners.app_wrote(device, each)
            self.report.tell(f"{device.name} {each.in_words()}")

    def _beat(self, _: SimulatedDevice) -> None:
        self.server.do(self.server.beat)


def run(
    seed: int,
    folder: Path,
    steps: int = STEPS,
    *,
    often: Mapping[str, float] | None = None,
    page_rows: int | None = None,
    database: CompanyDatabase | None = None,
    dialect: Dialect = SQLITE,
    temper: Temper | None = None,
) -> Simulation:
    """Draw one history and play it to its quiet end; BrokenPromiseError if a checker found something. `often`: acts
    that are to come more or less often than in WEIGHTS; `page_rows`: how many rows a page has, else drawn; `database`:
    an empty one, spoken to in `dialect`, in place of a SQLite file; `temper`: its kind of company, else drawn."""
    script = draw(WORKLOAD, seed, steps, often)
    return play_script(script, folder, page_rows=page_rows, database=database, dialect=dialect, temper=temper)


def play_script(
    script: Script,
    folder: Path,
    *,
    page_rows: int | None = None,
    database: CompanyDatabase | None = None,
    dialect: Dialect = SQLITE,
    temper: Temper | None = None,
) -> Simulation:
    """The same, of a script that is there already. The folder is empty."""
    simulation = Simulation(script, folder, page_rows, database, dialect, temper)
    try:
        simulation.run()
    finally:
        simulation.close()
    return simulation


def play(script: Script, folder: Path) -> Report:
    """As workloads are played."""
    return play_script(script, folder).report
