"""One history: everything that happens, drawn from a seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from syncline.testing.company_database import CompanyDatabase, SqliteDatabase
from syncline.testing.dialect import SQLITE, Dialect
from syncline.testing.simulation.checkers import Checkers
from syncline.testing.simulation.company import Company, Values
from syncline.testing.simulation.devices import SimulatedDevice
from syncline.testing.simulation.migrations import Migrations
from syncline.testing.simulation.server import SimulatedServer
from syncline.testing.simulation.traffic import Traffic
from syncline.testing.world import SECOND_US, Determinism, VirtualClock

USERS = {"d1": "u1", "d2": "u1", "d3": "u2"}
WEIGHTS = {
    "app": 14.0,
    "upload": 12.0,
    "download": 14.0,
    "deliver": 36.0,
    "checkpoint": 10.0,
    "office": 6.0,
    "reassign": 3.0,
    "hello": 1.0,
    "crash": 2.0,
    "restart": 0.4,
    "skew": 0.3,
    "migrate": 0.8,
    "migrate_on": 4.0,
    "reconfigure": 0.2,
    "prune": 0.8,
    "wait": 0.5,
    "go_live": 6.0,
    "tell": 8.0,
    "listen": 14.0,
    "hang_up": 0.5,
    "beat": 0.5,
}
"""How often each act comes, beside the others."""
SETTLE_ROUNDS_MAX = 100


class Simulation:
    """`stats` counts what happened; `traffic.trace` is a digest of all events and messages."""

    def __init__(
        self,
        seed: int,
        folder: Path,
        often: Mapping[str, float] | None = None,
        page_rows: int | None = None,
        database: CompanyDatabase | None = None,
        dialect: Dialect = SQLITE,
    ) -> None:
        self._weights = {**WEIGHTS, **(often or {})}
        self.rng = rng = random.Random(seed)
        self.clock = VirtualClock()
        self.stats: Counter[str] = Counter()
        determinism = Determinism(self.clock, random.Random(seed + 1))
        self._values = Values(rng, has_loose_types=dialect.has_loose_types)
        self._owns_database = database is None
        self.company = Company(database or SqliteDatabase(folder), dialect, rng, self._values)
        self.server = SimulatedServer(self.company, self.clock, determinism, rng, self.stats, self._meanwhile)
        if page_rows is not None:
            self.server.make_pages(page_rows)
        self.migrations = Migrations(self.company, self.server, rng)
        self._checkers = Checkers(self.server)
        self.traffic = Traffic(self.server, self._checkers, self.clock, rng, self.stats)
        self._acts = self._named_acts()
        self.devices = [self._device(name, user, folder) for name, user in USERS.items()]

    def close(self) -> None:
        for device in self.devices:
            self.traffic.hang_up(device)
            device.end()
        self.migrations.close()
        self.server.close()
        if self._owns_database:
            self.company.database.close()

    def _device(self, name: str, user: str, folder: Path) -> SimulatedDevice:
        skew = self.rng.choice((0, 0, 1, -1)) * self.rng.randint(0, 4_000 * SECOND_US)
        device = SimulatedDevice(name, user, folder / f"{name}.db", self.clock.skewed(skew), self.rng)
        self.traffic.greet(device, is_lossy=False)
        return device

    def _named_acts(self) -> dict[str, Callable[[SimulatedDevice], object]]:
        """By the names of WEIGHTS."""
        traffic, found = self.traffic, dict[str, Any]()
        for name in WEIGHTS:
            found[name] = getattr(traffic, name) if hasattr(traffic, name) else getattr(self, f"_{name}")
        return found

    # ------------------------------------------------------------ one history
    def run(self, steps: int) -> None:
        for _ in range(steps):
            self._step()
        self.traffic.is_faulty = False
        self._settle()
        for device in self.devices:
            self._checkers.check_quiet(device)

    def _step(self) -> None:
        self.clock.advance(self.rng.randint(500, 4_000))
        device = self.rng.choice(self.devices)
        act = self.rng.choices(list(self._weights), list(self._weights.values()))[0]
        self.stats["events"] += 1
        self.traffic.trace.update(act.encode() + device.name.encode())
        self._acts[act](device)
        self._check_all()

    def _check_all(self) -> None:
        for device in self.devices:
            self._checkers.check(device)

    def _settle(self) -> None:
        """Liveness: no faults and no new writes; everything must drain by itself (P2)."""
        self.migrations.finish()
        for device in self.devices:
            self.traffic.hang_up(device)
        for count in range(SETTLE_ROUNDS_MAX):
            for device in self.devices:
                self.clock.advance(1_000)
                self.traffic.greet(device, is_lossy=False)
                self.traffic.upload(device)
                self.traffic.download(device)
                self._deliver_all()
            self.server.checkpoint()
            if count > 3 and all(map(self._checkers.is_quiet, self.devices)):
                return

    def _deliver_all(self) -> None:
        while self.traffic:
            self.traffic.deliver()
            self._check_all()

    # ------------------------------------------------------------ the office
    def _office(self, device: SimulatedDevice) -> None:
        self.clock.advance(self.rng.randint(0, 2_000))
        self.company.work()
        self.stats["office writes"] += 1

    def _reassign(self, device: SimulatedDevice) -> None:
        self.company.reassign()
        self.server.note_grants()
        self.stats["reassignments"] += 1

    def _migrate(self, device: SimulatedDevice) -> None:
        if not self.migrations.is_under_way:
            self.stats[f"migration {self.migrations.begin()}"] += 1

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

    def _restart(self, device: SimulatedDevice) -> None:
        is_whole = not self.migrations.is_under_way and self.rng.random() < 0.5
        if is_whole:
            self._cut_streams()
        self.server.restart(whole=is_whole)
        self.stats["restarts"] += 1

    def _reconfigure(self, device: SimulatedDevice) -> None:
        if not self.migrations.is_under_way:
            self._cut_streams()
            self.server.reconfigure()
            self.stats["reconfigured"] += 1

    def _cut_streams(self) -> None:
        for device in self.devices:
            self.traffic.hang_up(device)

    def _prune(self, device: SimulatedDevice) -> None:
        age_us = self.rng.choice((20_000, 100_000, 3_600 * SECOND_US))
        self.server.prune(self.clock.now_us() - age_us)
        self.stats["prunes"] += 1

    def _wait(self, device: SimulatedDevice) -> None:
        """Hours pass."""
        self.clock.advance(self.rng.randint(1, 20_000) * SECOND_US)

    # ------------------------------------------------------------ devices
    def _app(self, device: SimulatedDevice) -> None:
        self.stats["mutations"] += device.write(self._values)

    def _crash(self, device: SimulatedDevice) -> None:
        self.traffic.hang_up(device)
        device.crash()
        self.stats["crashes"] += 1

    def _skew(self, device: SimulatedDevice) -> None:
        device.clock.skew_us += self.rng.randint(-1_000 * SECOND_US, 1_000 * SECOND_US)

    def _beat(self, _: SimulatedDevice) -> None:
        self.server.do(self.server.beat)


def run(
    seed: int,
    folder: Path,
    steps: int = 160,
    *,
    often: Mapping[str, float] | None = None,
    page_rows: int | None = None,
    database: CompanyDatabase | None = None,
    dialect: Dialect = SQLITE,
) -> Simulation:
    """Play one history to its quiet end; BrokenPromiseError if a checker found something. `often`: acts that are to
    come more or less often than in WEIGHTS; `page_rows`: how many rows a page has, else drawn; `database`: an empty
    one, spoken to in `dialect`, in place of a SQLite file."""
    simulation = Simulation(seed, folder, often, page_rows, database, dialect)
    try:
        simulation.run(steps)
    finally:
        simulation.close()
    return simulation
