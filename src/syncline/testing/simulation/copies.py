"""Copies of files that come back: a phone restored from its backup, a phone set up as another one's clone, and a server
that goes on with yesterday's file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from syncline.testing.simulation.acts import clone_name
from syncline.testing.simulation.devices import DeviceCopy, SimulatedDevice
from syncline.testing.simulation.report import Report
from syncline.testing.simulation.server import ServerCopy, SimulatedServer
from syncline.testing.world import VirtualClock


@dataclass
class Copies:
    """All that were taken, the newest of each file. `hang_up` cuts a device's line."""

    server: SimulatedServer
    devices: list[SimulatedDevice]
    clock: VirtualClock
    report: Report
    hang_up: Callable[[SimulatedDevice], None]

    def __post_init__(self) -> None:
        self._of_devices: dict[str, DeviceCopy] = {}
        self._of_server: ServerCopy | None = None
        self.oldest_us: int | None = None
        """When the first one was taken: the retention is longer than anything stays in a drawer."""

    def _note_time(self) -> None:
        if self.oldest_us is None:
            self.oldest_us = self.server.clock.now_us()

    # ------------------------------------------------------------ devices
    def back_up(self, device: SimulatedDevice) -> None:
        self._note_time()
        self._of_devices[device.name] = device.copy()
        self.report.tell(f"somebody copies {device.name}'s file")

    def restore(self, device: SimulatedDevice) -> None:
        """The older copy comes back; what was written since and not yet sent is lost with the phone."""
        copy = self._of_devices.get(device.name)
        if copy is not None:
            self.hang_up(device)
            device.become(copy)
            self.report.strike("restored device")
            self.report.tell(f"{device.name} is restored from the copy of its file")

    def clone(self, device: SimulatedDevice) -> None:
        """A new phone is set up from this one, and both go on. Of each there is one clone."""
        name = clone_name(device.name)
        if name not in {each.name for each in self.devices}:
            self._note_time()
            self.devices.append(device.clone(name, self.clock.skewed(device.clock.skew_us)))
            self.report.strike("cloned device")
            self.report.tell(f"{device.name} is cloned: {name}")

    # ------------------------------------------------------------ the server
    def back_up_server(self) -> None:
        self._note_time()
        self._of_server = self.server.copy()
        self.report.tell("the company's file is backed up")

    def restore_server(self) -> None:
        if self._of_server is None:
            return
        for device in self.devices:
            self.hang_up(device)
            device.outlive_server()
        self.report.strike("restored server")
        self.report.tell("the company's file is restored from the backup")
        self.server.become(self._of_server)  # it may die as it begins anew: the time is lost all the same
