"""Writes that end in the middle while whoever writes lives on."""

from __future__ import annotations

import random
import resource
import sqlite3
from pathlib import Path

import pytest

from syncline.testing.simulation.processes import BYTES_LEFT, Process, fault_of_disk
from syncline.testing.simulation.short_writes import ending_at
from syncline.testing.world import VirtualClock


def test_only_the_first_part_is_written_and_then_files_grow_as_ever(tmp_path: Path) -> None:
    path = tmp_path / "a"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with path.open("wb", buffering=0) as file, ending_at(5):
        assert file.write(b"ABCDEFGH") == 5
        with pytest.raises(OSError, match="too large"):
            file.write(b"FGH")
    assert path.read_bytes() == b"ABCDE"
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == before


def test_a_log_ends_inside_a_frame_and_the_transaction_was_never_there(tmp_path: Path) -> None:
    """P6: what was committed before is there, and nothing of what was not."""
    path = tmp_path / "device.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE note(text)")
    connection.execute("INSERT INTO note VALUES ('kept')")
    log = Path(f"{path}-wal")
    before = log.stat().st_size
    process = Process("device", path, VirtualClock(), random.Random(1))
    process.shorten_writes()
    with process.on_its_disk(), pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute("INSERT INTO note VALUES (?)", ("x" * 50_000,))
    assert fault_of_disk(caught.value) == "short write"
    assert log.stat().st_size == before + BYTES_LEFT
    assert connection.execute("SELECT text FROM note").fetchall() == [("kept",)]
    process.free_disk()
    with process.on_its_disk():
        connection.execute("INSERT INTO note VALUES (?)", ("x" * 50_000,))
    assert connection.execute("SELECT count(*) FROM note").fetchone() == (2,)
    connection.close()
