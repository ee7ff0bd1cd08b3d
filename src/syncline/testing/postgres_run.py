"""The PostgreSQL servers of one run of the tests: one per version, started by the first test that needs it, shared by
all worker processes, stopped when the run ends.

`run = begin_run()` in the process that controls the run, `run.close()` at its end; `SharedServers(folder).server("18")`
in any process. A run that was killed leaves its servers; the next run finds and ends them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from syncline.testing.postgres_server import Installation, PostgresServer, installed, short_folder

_PREFIX = "syncline-run-"


class SharedServers:
    """The servers below a folder, for processes that find one another by it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._servers: dict[str, PostgresServer] = {}

    def server(self, installation: Installation) -> PostgresServer:
        version = installation.version
        if version not in self._servers:
            with _locked(self.folder / f"{version}.lock"):
                server = PostgresServer(installation, self.folder / version)
                if server.running():
                    server.attach()
                else:
                    server.start()
            self._servers[version] = server
        return self._servers[version]


class Run(SharedServers):
    """Whoever holds this holds the servers: they are known to be nobody's when its process is gone."""

    def __init__(self, folder: Path, alive: IO[str]) -> None:
        super().__init__(folder)
        self._alive = alive

    def close(self) -> None:
        _remove(self.folder)
        self._alive.close()


def begin_run(root: Path | None = None) -> Run:
    """Also ends what runs that were killed have left. `root`: see `short_folder`."""
    root = root or short_folder()
    for folder in root.glob(f"{_PREFIX}*"):
        held = _take(folder / "alive")
        if held:
            _remove(folder)
            held.close()
    made = Path(tempfile.mkdtemp(prefix="syncline-begins-", dir=root))
    made.chmod(0o711)  # the servers' user passes through to their folders, which are closed to all others
    alive = _take(made / "alive")
    assert alive
    # Under its own name only when it is locked, or a run that begins now would take it for one that was left.
    return Run(made.rename(root / f"{_PREFIX}{made.name.rpartition('-')[2]}"), alive)


def _remove(folder: Path) -> None:
    for version, installation in installed().items():
        if (folder / version).exists():
            PostgresServer(installation, folder / version).close()
    shutil.rmtree(folder, ignore_errors=True)


def _take(path: Path) -> IO[str] | None:
    """The lock on this file, or None: somebody has it, it is another user's, or gone."""
    try:
        if path.parent.stat().st_uid != os.getuid():
            return None
        file = path.open("a")
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
