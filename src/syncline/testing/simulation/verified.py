"""Verifications at the end of a history: nobody is told that he differs who does not, and what differs is mended."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from syncline.testing.simulation.company import TABLES
from syncline.testing.simulation.devices import SimulatedDevice
from syncline.testing.simulation.oracle import BrokenPromiseError
from syncline.testing.simulation.report import Report
from syncline.testing.simulation.server import SimulatedServer, identity_of
from syncline.testing.verifying import damage, verify


def check_verified(server: SimulatedServer, device: SimulatedDevice, report: Report) -> None:
    """P1, of a device that is quiet."""
    phone = _phone(server, device)
    found = verify(phone)
    if found.differences or found.not_compared:
        told = [*(each.in_words() for each in found.differences), *found.not_compared]
        raise BrokenPromiseError("P1 a verification finds what is not so", device.name, told)
    for table in TABLES:
        damage(phone, f"DELETE FROM {table}")
    found = verify(phone, repair=True)
    if not found.is_whole:
        told = [each.in_words() for each in found.differences if not each.repaired]
        raise BrokenPromiseError("P1 a verification does not mend what it finds", device.name, told)
    report.note("rows mended", sum(each.rows_there for each in found.differences))
    report.look("P1")


def _phone(server: SimulatedServer, device: SimulatedDevice) -> Any:
    office = SimpleNamespace(service=server.service, wait=server.call)
    return cast(Any, SimpleNamespace(file=device.file, identity=identity_of(device.user), office=office))
