"""What goes wrong in the acts world, but for the network: processes die, disks are full, clocks are set, copies come
back."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from syncline.testing.simulation.copies import Copies
from syncline.testing.simulation.devices import SimulatedDevice
from syncline.testing.simulation.migrations import Migrations
from syncline.testing.simulation.oracle import Done
from syncline.testing.simulation.processes import ProcessDiedError
from syncline.testing.simulation.report import Report
from syncline.testing.simulation.server import SimulatedServer
from syncline.testing.simulation.winners import Winners
from syncline.testing.world import SECOND_US

YEAR_US = 365 * 86_400 * SECOND_US


@dataclass
class Mishaps:
    """The public methods are acts, by the names of `acts.WEIGHTS`. `hang_up` cuts a device's line whoever dies of it;
    `note_written` is told what an app turned out to have committed."""

    rng: random.Random
    report: Report
    server: SimulatedServer
    devices: list[SimulatedDevice]
    migrations: Migrations
    winners: Winners
    copies: Copies
    hang_up: Callable[[SimulatedDevice], None]
    note_written: Callable[[SimulatedDevice, list[Done]], None]

    # ------------------------------------------------------------ death
    def die(self, device: SimulatedDevice, instructions: int | None = None) -> None:
        """The device's process has so many instructions left, else a drawn number."""
        device.process.arm(instructions or self._instructions(), in_commit=self.rng.random() < 0.3)

    def die_server(self, device: SimulatedDevice, instructions: int | None = None) -> None:
        if self.server.process is not None:
            self.server.process.arm(instructions or self._instructions(), in_commit=self.rng.random() < 0.3)

    def _instructions(self) -> int:
        """Most die soon, some late in a large piece of work."""
        return int(10 ** self.rng.uniform(0.0, 4.3))

    def bury(self, death: ProcessDiedError) -> None:
        has_power = self.rng.random() < 0.6
        who = death.process.died_as
        self.report.crash(who)
        if not has_power:
            self.report.strike("torn log")
        for device in self.devices:
            if death.process is device.process:
                self.report.tell(f"{device.name} dies inside a statement{'' if has_power else ', and the power goes'}")
                self._bury_device(device, has_power=has_power)
                return
        self.report.tell(f"the server dies inside a statement as {who}{'' if has_power else ', and the power goes'}")
        self.migrations.close()
        self.server.bury(has_power=has_power)
        self.migrations.finish()
        self.server.start_anew()

    def _bury_device(self, device: SimulatedDevice, *, has_power: bool) -> None:
        self.note_written(device, device.begin_anew(has_power=has_power))
        self.hang_up(device)

    # ------------------------------------------------------------ clocks
    def crash(self, device: SimulatedDevice) -> None:
        self.hang_up(device)
        device.crash()
        self.report.crash("device")
        self.report.tell(f"{device.name} crashes between two statements")

    def skew(self, device: SimulatedDevice) -> None:
        us = self.rng.choice((1_000 * SECOND_US, 1_000 * SECOND_US, YEAR_US, 10 * YEAR_US))
        self.winners.doubt_waiting(device)
        device.knows_time = False
        device.clock.skew_us += self.rng.randint(-us, us)
        self.report.strike("clock jump")
        self.report.tell(f"{device.name}'s clock jumps")

    def skew_server(self, _: SimulatedDevice) -> None:
        us = self.rng.choice((10 * SECOND_US, 3_600 * SECOND_US, YEAR_US))
        self.winners.give_up()
        self.server.clock.skew_us += self.rng.randint(-us, us)
        self.report.strike("clock jump of the server")
        self.report.tell("the server's clock jumps")

    # ------------------------------------------------------------ disks
    def fill_disk(self, device: SimulatedDevice) -> None:
        """It is full at once, or after a page, or fills while something is being written."""
        pages = self.rng.choice((0, 0, 1, None))
        if pages is None:
            device.process.shorten_writes()
        else:
            device.process.fill_disk(pages)

    def fill_server_disk(self, device: SimulatedDevice) -> None:
        if self.server.process is not None and not self.migrations.is_under_way:
            self.server.process.fill_disk(self.rng.choice((0, 0, 0, 1)))

    def free_disks(self, _: SimulatedDevice) -> None:
        for process in (self.server.process, *(device.process for device in self.devices)):
            if process is not None:
                process.free_disk()

    # ------------------------------------------------------------ copies
    def back_up(self, device: SimulatedDevice) -> None:
        self.copies.back_up(device)

    def restore(self, device: SimulatedDevice) -> None:
        self.winners.give_up()
        self.copies.restore(device)

    def clone(self, device: SimulatedDevice) -> None:
        self.winners.give_up()
        self.copies.clone(device)

    def back_up_server(self, _: SimulatedDevice) -> None:
        if self.server.process is not None and not self.migrations.is_under_way:
            self.copies.back_up_server()

    def restore_server(self, _: SimulatedDevice) -> None:
        if not self.migrations.is_under_way:
            self.winners.give_up()
            self.copies.restore_server()
