"""A device's file that is damaged, replaced, full, read-only, or none at all: told clearly, left unharmed, and mended.

Of the network: tests/integration/test_mishaps.py. Of wrong calls: tests/replica/test_misuse.py.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.replica.office import Office, execute, until

from syncline import Replica, ReplicaError
from syncline.errors import ReplicaStorageError, SourceError
from syncline.source.sqlite.source import SqliteSource

Damage = Callable[[Path], object]


def overwrite(start: int, stop: int | None) -> Damage:
    """Random bytes in the place of those from `start` to `stop`."""

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[start:stop] = os.urandom(len(content[start:stop]))
        path.write_bytes(content)

    return damage


DAMAGES: dict[str, tuple[Damage, str]] = {
    "random bytes in the header": (overwrite(0, 100), "not_a_database"),
    "random bytes in all pages but the first": (overwrite(4096, None), "replica_corrupt"),
    "a truncated file": (lambda path: os.truncate(path, path.stat().st_size // 2 + 100), "replica_corrupt"),
    "a text": (lambda path: path.write_text("Dear Ada, " * 50, encoding="utf-8"), "not_a_database"),
}


def agent_is_free(replica: Replica) -> bool:
    return not Path(f"{replica.path}-wal").exists() or Path(f"{replica.path}-wal").stat().st_size == 0


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file(name: str, replica: Replica, office: Office) -> None:
    """It is named, not written to, and a new file begins where the office is."""
    replica.sync(timeout=20)
    replica.stop()
    until(lambda: agent_is_free(replica))
    damage, code = DAMAGES[name]
    damage(replica.path)
    found = replica.path.read_bytes()
    for work in (lambda: replica.sync(timeout=20), replica.start, lambda: replica.status):
        with pytest.raises(ReplicaError) as caught:
            work()
        assert (caught.value.code, bool(caught.value.hint)) == (code, True)
    assert replica.path.read_bytes() == found, "it may still be wanted"
    replica.path.rename(replica.path.with_suffix(".damaged"))
    assert replica.sync(timeout=20).downloaded_rows == 1


def test_a_file_that_is_damaged_while_the_agent_runs(replica: Replica, office: Office) -> None:
    replica.sync(timeout=20)
    for number in range(100, 400):
        office.rows[number] = (number, "p-1", "planned", 5, "x" * 200)
    office.change(1, "p-1", "moved", 5, None)
    replica.sync(timeout=20)
    with closing(sqlite3.connect(replica.path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    overwrite(4096, None)(replica.path)
    office.change(1, "p-2", "moved again", 5, None)
    with pytest.raises(ReplicaError) as caught:
        replica.sync(timeout=20)
    assert caught.value.code == "replica_corrupt"


def test_an_empty_file_is_a_new_one(replica: Replica) -> None:
    replica.sync(timeout=20)
    replica.stop()
    for name in (replica.path, Path(f"{replica.path}-wal"), Path(f"{replica.path}-shm")):
        name.unlink(missing_ok=True)
    replica.path.touch()
    assert replica.sync(timeout=20).first_sync


def test_the_file_is_replaced_while_the_agent_has_it_open(replica: Replica, office: Office) -> None:
    """The agent says so and touches neither; started again it works with the file that is there now."""
    replica.sync(timeout=20)
    replica.stop()
    backup = replica.path.read_bytes()
    replica.start()
    until(lambda: replica.status.state == "live")
    other = replica.path.with_suffix(".restored")
    other.write_bytes(backup)
    for name in (Path(f"{replica.path}-wal"), Path(f"{replica.path}-shm")):
        name.unlink(missing_ok=True)
    other.replace(replica.path)
    office.change(1, "p-1", "moved", 5, None)
    until(lambda: replica.status.reason == "replica_replaced")
    assert execute(replica.path, "SELECT status FROM visits") == [("planned",)], "nothing was written to it"
    with pytest.raises(ReplicaError) as caught:
        replica.sync(timeout=20)
    assert caught.value.code == "replica_replaced" and "start it again" in caught.value.hint
    replica.stop()
    execute(replica.path, "UPDATE visits SET note = 'kept' WHERE id = 1")
    assert replica.sync(timeout=20).uploaded_mutations == 1
    assert office.rows[1][2:] == ("moved", 5, "kept") and execute(replica.path, "PRAGMA integrity_check") == [("ok",)]


def test_the_file_is_deleted_during_a_first_sync(
    replica: Replica, office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Told by an error, and not by a traceback."""
    download = office.download

    def deleting(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for name in (replica.path, Path(f"{replica.path}-wal"), Path(f"{replica.path}-shm")):
            name.unlink(missing_ok=True)
        yield from download(message)

    monkeypatch.setattr(office, "download", deleting)
    replica.on("status", lambda status: None)
    with pytest.raises(ReplicaError) as caught:
        replica.sync(timeout=20)
    assert caught.value.code == "replica_replaced" and "start it again" in caught.value.hint
    assert [record for record in caplog.records if record.exc_info] == []
    monkeypatch.undo()
    replica.stop()
    assert replica.sync(timeout=20).first_sync, "it begins anew"


class Limits:
    """What every connection of a replica is held to: `pages` it may grow to, `read_only`."""

    def __init__(self) -> None:
        self.pages: int | None = None
        self.read_only = False
        self.connections: list[sqlite3.Connection] = []

    def prepare(self, connection: sqlite3.Connection) -> None:
        self.connections.append(connection)
        self.apply(connection)

    def apply(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA max_page_count = {self.pages or 1_000_000}")
        connection.execute(f"PRAGMA query_only = {'ON' if self.read_only else 'OFF'}")

    def set(self, *, pages: int | None = None, read_only: bool = False) -> None:
        self.pages, self.read_only = pages, read_only
        for connection in self.connections:
            try:
                self.apply(connection)
            except sqlite3.ProgrammingError:
                continue  # closed


@pytest.fixture
def held(tmp_path: Path, office: Office) -> Iterator[tuple[Replica, Limits]]:
    limits = Limits()
    with Replica(tmp_path / "n.db", "https://x.org", "t", transport=office, prepare=limits.prepare) as replica:
        yield replica, limits


@pytest.mark.parametrize(("what", "code"), [("full", "replica_disk_full"), ("read-only", "replica_read_only")])
def test_the_agent_waits_for_its_disk_and_goes_on(
    what: str, code: str, held: tuple[Replica, Limits], office: Office
) -> None:
    """P1: the state says why; what was written before arrives, and what the office changed comes, once it is mended."""
    replica, limits = held
    replica.start()
    until(lambda: replica.status.state == "live")
    (size,) = execute(replica.path, "PRAGMA page_count")[0]
    limits.set(pages=size, read_only=what == "read-only")
    execute(replica.path, "UPDATE visits SET note = 'before'")
    office.change(2, "p-2", "x" * 200_000, 5, None)
    with pytest.raises(ReplicaStorageError) as caught:
        replica.sync(timeout=20)
    assert (caught.value.code, caught.value.retry, bool(caught.value.hint)) == (code, True, True)
    until(lambda: (replica.status.state, replica.status.reason) == ("waiting", code))
    limits.set()
    until(lambda: office.rows[1][4] == "before" and replica.status.pending == 0, 30)
    until(lambda: replica.status.state == "live" and replica.status.reason is None, 30)
    assert execute(replica.path, "SELECT id, length(status) FROM visits WHERE id = 2") == [(2, 200_000)]


def test_a_device_is_not_served_from(replica: Replica) -> None:
    """Its rows are somebody's copy, and its triggers would take the sequencer's work for the app's."""
    replica.sync(timeout=20)
    replica.stop()

    async def introspect() -> None:
        source = SqliteSource(replica.path, inline=True)
        try:
            await source.introspect()
        finally:
            await source.close()

    with pytest.raises(SourceError) as caught:
        asyncio.run(introspect())
    assert (caught.value.code, bool(caught.value.hint)) == ("source_is_replica", True)
