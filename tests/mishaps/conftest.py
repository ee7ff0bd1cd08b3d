"""The replica and the server in a test's hand are those of tests/replica; the company in a room is of `room`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.mishaps.room import Clinic, Room, rooms_are_possible
from tests.replica.office import Office

from syncline import Replica


@pytest.fixture
def office() -> Office:
    return Office()


@pytest.fixture
def replica(tmp_path: Path, office: Office) -> Iterator[Replica]:
    with Replica(tmp_path / "nurse.db", "https://sync.example.org", "token", transport=office) as replica:
        yield replica


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    """A company and a device on small disks that can be filled and made read-only."""
    if not rooms_are_possible():
        pytest.skip("unshare(1), nsenter(1) and the right to mount are needed for a disk of the test's own")
    room = Room(tmp_path)
    clinic = Clinic(room)
    yield clinic
    clinic.close()
    room.close()
