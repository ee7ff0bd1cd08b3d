"""A mount namespace: disks that only the commands in it see, as small as a test wants, and gone when it ends."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.cli.conftest import Told, environment

SCHEMA = """
CREATE TABLE patients(id TEXT PRIMARY KEY, name TEXT, note TEXT);
WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 300)
INSERT INTO patients SELECT 'p' || n, hex(randomblob(100)), NULL FROM c;
"""
CONFIGURATION = """
[source]
url = "sqlite:///office/clinic.db"

[auth]
secret = "a-secret-of-the-mishap-tests-of-32-bytes-or-more"

[scope.patients]
tables = ["patients"]
"""
SQL = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=30)
with db:
    for row in db.execute(sys.argv[2]): print(*row, sep="|")
db.close()
"""
FILL = """
import sys
with open(sys.argv[1], "wb", buffering=0) as ballast:
    try:
        while True: ballast.write(b"x" * 512)
    except OSError: pass
"""


@cache
def rooms_are_possible() -> bool:
    if not shutil.which("unshare") or not shutil.which("nsenter"):
        return False
    tried = subprocess.run(
        ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"],
        capture_output=True,
        timeout=30,
        check=False,
    )
    return tried.returncode == 0


class Room:
    """Commands run in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._keeper = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", "echo ready; read end"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._keeper.stdout is not None and self._keeper.stdout.readline() == "ready\n"

    def command(self, *words: str) -> list[str]:
        inside = ["nsenter", "-t", str(self._keeper.pid), "-m", "--"]
        return [*inside, "sh", "-c", 'cd "$0" && exec "$@"', str(self.folder), *words]

    def run(self, *words: str) -> Told:
        done = subprocess.run(
            self.command(*words), capture_output=True, text=True, env=environment(), timeout=120, check=False
        )
        return Told(done.returncode, done.stdout, done.stderr)

    def must(self, *words: str) -> str:
        told = self.run(*words)
        assert told.status == 0, told
        return told.out

    # ------------------------------------------------------------ disks
    def disk(self, name: str, kib: int) -> None:
        """A folder with so much room."""
        (self.folder / name).mkdir()
        self.must("mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", name)

    def resize(self, name: str, kib: int) -> None:
        self.must("mount", "-o", f"remount,size={kib}k", name)

    def fill(self, name: str) -> None:
        self.must(sys.executable, "-c", FILL, f"{name}/ballast")

    def make_room(self, name: str) -> None:
        self.must("rm", f"{name}/ballast")

    def read_only(self, name: str) -> None:
        """A bind mount over it: what has files open for writing stays, what opens them from now on cannot."""
        self.must("mount", "--bind", name, name)
        self.must("mount", "-o", "remount,ro,bind", name)

    def writable(self, name: str) -> None:
        self.must("umount", name)

    def close(self) -> None:
        self._keeper.communicate("end\n", timeout=30)


class Clinic:
    """`office/` and `device/` are disks; the server is started by `serve`."""

    def __init__(self, room: Room) -> None:
        self.room = room
        room.disk("office", 4096)
        room.disk("device", 4096)
        (room.folder / "syncline.toml").write_text(CONFIGURATION, encoding="utf-8")
        room.must(sys.executable, "-c", "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])",
                  "office/clinic.db", SCHEMA)  # fmt: skip
        self._server: subprocess.Popen[str] | None = None
        self.url = ""

    def syncline(self, *words: str) -> Told:
        return self.room.run(sys.executable, "-m", "syncline", *words)

    def serve(self) -> None:
        assert self.syncline("provision").status == 0
        self._log = (self.room.folder / "server.log").open("wb")
        command = self.room.command(sys.executable, "-m", "syncline", "serve", "--port", "0")
        self._server = subprocess.Popen(command, env=environment(), text=True, stdout=subprocess.PIPE, stderr=self._log)
        assert self._server.stdout is not None
        self.url = self._server.stdout.readline().removeprefix("listening on ").strip()
        assert self.url, self.log()
        self._token = self.syncline("token", "--sub", "ann").out

    def log(self) -> str:
        return (self.room.folder / "server.log").read_text(encoding="utf-8")

    def sync(self, *, seconds: int = 20) -> Told:
        """`syncline device sync` of `device/ann.db`."""
        where = ("--db", "device/ann.db", "--server", self.url, "--token", self._token, "--timeout", str(seconds))
        return self.syncline("device", "sync", *where, "--json")

    def query(self, file: str, sql: str) -> str:
        return self.room.must(sys.executable, "-c", SQL, file, sql).strip()

    def close(self) -> None:
        if self._server is not None:
            self._server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._server.wait(30)
            self._server.kill()
            self._server.communicate(timeout=30)
            self._log.close()
