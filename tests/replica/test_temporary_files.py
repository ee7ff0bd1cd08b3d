"""No row of a patient's goes through a temporary file: what the system calls deleted may be read from a disk for long."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.integration.company import environment

_IN_MODIFY, _IN_CREATE = 0x2, 0x100
"""A newer SQLite makes files without a name (O_TMPFILE): of these only the writing is told."""
_EVENT = struct.Struct("iIII")

DEVICE = """
import sqlite3, sys
from pathlib import Path
from tests.replica.conftest import LINES, VISITS
from tests.replica.messages import Bench, drop, plan_of
from tests.replica.paging import Paging
from tests.replica.staging import visits
from syncline.model.program import build_program
from syncline.replica.file import ReplicaFile

if sys.argv[2] == "app":  # another program, that sorts more than it has room for
    db = sqlite3.connect(sys.argv[1] + "/app.db")
    db.execute("PRAGMA cache_size = 10")
    db.execute("WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 40000) "
               "SELECT n, hex(zeroblob(200)) AS x FROM c ORDER BY x, -n").fetchone()
    sys.exit()
bench = Bench(ReplicaFile(Path(sys.argv[1], "replica.db")), build_program(plan_of(VISITS, LINES)))
bench.hello()
pages = [[visits(number * 2000, 2000, "b[1]", "x" * 500)] for number in range(8)]
Paging(bench, ["b[1]"], pages).run()
assert len(bench.rows("visits")) == 16000
with bench.file.transaction() as db:
    db.execute("UPDATE visits SET note = 'y' || note WHERE id < 5000")
bench.cut(visits(0, 500, "b[1]", "z" * 500))
bench.cut(drop("b[1]"), included=5000)
assert not bench.file.state().purge_pending
bench.file.close()
"""


@contextmanager
def watched(folder: Path) -> Iterator[list[str]]:
    """The names of all files that were made or written there, gone again or not."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    assert descriptor >= 0 and libc.inotify_add_watch(descriptor, os.fsencode(folder), _IN_MODIFY | _IN_CREATE) >= 0
    made: list[str] = []
    try:
        yield made
        while True:
            try:
                events = os.read(descriptor, 65536)
            except BlockingIOError:
                break
            while events:
                *_, length = _EVENT.unpack_from(events)
                made.append(events[_EVENT.size : _EVENT.size + length].rstrip(b"\0").decode())
                events = events[_EVENT.size + length :]
    finally:
        os.close(descriptor)


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
@pytest.mark.parametrize("who", ["app", "device"])
def test_the_agent_makes_no_temporary_file(tmp_path: Path, who: str) -> None:
    """P8: a first load with its indexes, a large write of the app's, a revocation. That of another program's sorter
    shows that the watch would notice."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    places = {"SQLITE_TMPDIR": str(folder), "TMPDIR": str(folder)}
    with watched(folder) as made:
        ran = subprocess.run(
            [sys.executable, "-c", DEVICE, str(tmp_path), who],
            env={**environment(), **places},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ran.returncode == 0, ran.stderr
    assert bool(made) == (who == "app"), made
