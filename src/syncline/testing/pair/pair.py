"""The company, its server, and the devices of two of its people."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

from syncline.testing.pair.device import SETTLE_SECONDS, Device, settle
from syncline.testing.pair.server import Server
from syncline.testing.pair.settings import PairSettings, User
from syncline.testing.pair.source import Source, Templates


class Pair:
    """`source`, `server` and `devices`, which are online and in step. All ends with `close`, or the `with` block.

    `templates`: where databases that are provisioned already come from; those of several pairs share them.
    """

    def __init__(self, settings: PairSettings, folder: Path, templates: Templates | None = None) -> None:
        self.settings = settings
        self._folder = folder
        self._life = ExitStack()
        self.devices: list[Device] = []
        path = folder / "source.db"
        (templates or Templates(folder)).copy(settings, path)
        self.source = Source(path)
        with ExitStack() as life:
            self.server = Server(settings.serving(path))
            life.callback(self.server.close)
            life.callback(self._close_devices)
            for user in settings.users:
                self.device(user, settled=False)
            self.settle()
            self._life = life.pop_all()

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def device(self, user: User, *, online: bool = True, settled: bool = True) -> Device:
        """One more, of any user; in step, unless it is not `online` or not to be `settled`."""
        called = re.sub(r"[^\w-]", "_", user)[:40] if isinstance(user, str) else "device"  # a folder has this name
        name = f"{called}-{len(self.devices) + 1}"
        device = Device(self._folder, name, user, self.settings, self.server)
        self.devices.append(device)
        if online:
            device.online()
            if settled:
                device.settle()
        return device

    @property
    def online(self) -> list[Device]:
        """Those that have a signal."""
        return [device for device in self.devices if device.is_online]

    def settle(self, seconds: float = SETTLE_SECONDS) -> None:
        """Waits until the devices that are online and the company's database have nothing more to tell each other."""
        settle(self.server, self.online, seconds)

    def assert_in_step(self) -> None:
        """AssertionError unless every device that is online has just what its user may see in the source, value for
        value. Both sides compute digests of each table; those that differ are named."""
        self.settle()
        for device in self.online:
            report = device.replica.verify()
            differing = "; ".join(each.in_words() for each in report.differences)
            assert not differing, f"{device.name} differs from its user's scope: {differing}"
            assert not report.not_compared, f"{device.name}: {', '.join(report.not_compared)} cannot be compared"

    def close(self) -> None:
        self._life.close()

    def _close_devices(self) -> None:
        with ExitStack() as all_of_them:
            for device in self.devices:
                all_of_them.callback(device.close)
