"""A company with a SQLite database, the server as a process of its own, and the road between it and the devices."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jwt

import syncline
from syncline import Replica
from syncline.cli import main
from syncline.testing.relay import Relay

PATIENCE_SECONDS = 60.0
"""How long a test waits for what must come by itself: most of it is for slow machines."""

SECRET = "a-secret-of-the-integration-tests-of-32-bytes-or-more"

TABLES = """
CREATE TABLE patients(id TEXT PRIMARY KEY, name TEXT NOT NULL, ssn TEXT CHECK(length(ssn) < 40));
CREATE TABLE visits(id TEXT PRIMARY KEY, patient_id TEXT NOT NULL REFERENCES patients(id),
  status TEXT NOT NULL DEFAULT 'planned' CHECK(status IN ('planned', 'done', 'missed')), n INTEGER NOT NULL DEFAULT 0);
CREATE TABLE notes(id TEXT PRIMARY KEY, visit_id TEXT NOT NULL REFERENCES visits(id), body TEXT);
CREATE TABLE orders(id TEXT PRIMARY KEY, patient_id TEXT NOT NULL REFERENCES patients(id), total INTEGER NOT NULL);
CREATE TABLE lines(id TEXT PRIMARY KEY, order_id TEXT NOT NULL REFERENCES orders(id), amount INTEGER NOT NULL);
CREATE TABLE medications(id TEXT PRIMARY KEY, name TEXT);
CREATE TABLE assignments(nurse TEXT, patient_id TEXT, PRIMARY KEY(nurse, patient_id));
CREATE TABLE audit(seq INTEGER PRIMARY KEY AUTOINCREMENT, visit_id TEXT NOT NULL, added INTEGER NOT NULL);
CREATE INDEX i1 ON visits(patient_id); CREATE INDEX i2 ON notes(visit_id); CREATE INDEX i3 ON orders(patient_id);
CREATE INDEX i4 ON lines(order_id);
CREATE TRIGGER visits_audit AFTER UPDATE OF n ON visits
  BEGIN INSERT INTO audit(visit_id, added) VALUES(new.id, new.n - old.n); END;
INSERT INTO patients VALUES('ada', 'Ada', 'SSN-OF-ADA'), ('bo', 'Bo', 'SSN-OF-BO'), ('cy', 'Cy', 'SSN-OF-CY');
INSERT INTO visits(id, patient_id) VALUES('v-ada', 'ada'), ('v-bo', 'bo'), ('v-cy', 'cy');
INSERT INTO notes VALUES('n-ada', 'v-ada', 'sleeps well'), ('n-cy', 'v-cy', 'canary-of-cy');
INSERT INTO orders VALUES('o-bo', 'bo', 100);
INSERT INTO lines VALUES('l1', 'o-bo', 40), ('l2', 'o-bo', 60);
INSERT INTO medications VALUES('m1', 'Aspirin');
INSERT INTO assignments VALUES('ann', 'ada'), ('ann', 'bo'), ('ben', 'bo'), ('ben', 'cy');
"""
"""Ann has Ada and Bo, Ben has Bo and Cy. `audit` is the company's own: a trigger appends to it, nobody syncs it."""

CONFIGURATION = f"""
[source]
url = "sqlite:///clinic.db"

[auth]
secret = "{SECRET}"

[scope.caseload]
root = "patients"
grant = "SELECT patient_id FROM assignments WHERE nurse = :sub"

[scope.caseload.tables]
visits = {{ parent = "patients" }}
notes = {{ parent = "visits" }}
orders = {{ parent = "patients" }}
lines = {{ parent = "orders" }}

[scope.formulary]
tables = ["medications"]
read_only = true

[columns]
patients = {{ hide = ["ssn"] }}

[merge.visits]
n = "add"
"""

SOURCES = Path(syncline.__file__).parents[1]
TESTS = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """For another process: it finds this Syncline and these tests, and warnings are errors there too."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SYNCLINE_")}
    paths = os.pathsep.join([str(SOURCES), str(TESTS), *filter(None, [kept.get("PYTHONPATH")])])
    return {
        **kept,
        "PYTHONPATH": paths,
        "PYTHONWARNINGS": "error",
        "PYTHONUNBUFFERED": "1",
    }


def token(user: str, **claims: Any) -> str:
    return jwt.encode({"sub": user, "exp": int(time.time()) + 3600, **claims}, SECRET, algorithm="HS256")


def wait_for(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """AssertionError unless it comes true by itself."""
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            raise AssertionError(f"not within {seconds:g} seconds: {what}")
        time.sleep(0.02)


def query(path: Path, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """One autocommitted statement of plain sqlite3; it may write."""
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as db:
        db.execute("PRAGMA foreign_keys = ON")
        return db.execute(sql, parameters).fetchall()


def query_elsewhere(path: Path, *statements: str) -> None:
    """The same in another process, that has never heard of Syncline: one transaction."""
    code = (
        "import sqlite3, sys\n"
        "with sqlite3.connect(sys.argv[1], timeout=30) as db:\n"
        "    for statement in sys.argv[2:]: db.execute(statement)\n"
        "db.close()"
    )
    subprocess.run([sys.executable, "-c", code, str(path), *statements], check=True, timeout=60)


class Process:
    """A process that says on its first line that it is ready. `kill` is kill -9."""

    def __init__(self, command: Sequence[str], folder: Path, log: Path, ready: str, *, stdin: bool = False) -> None:
        self._log = log
        with log.open("ab") as log_file:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment(),
                text=True,
                stdin=subprocess.PIPE if stdin else None,
                stdout=subprocess.PIPE,
                stderr=log_file,
            )
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline().strip()
        if not self.first_line.startswith(ready):
            status = self._end(signal.SIGKILL)
            told = log.read_text(encoding="utf-8")
            raise AssertionError(f"{' '.join(command)} did not start (status {status}):\n{told}")

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(60)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was written to a process that is gone
                    pipe.close()
        return status

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")


class Server(Process):
    """`url` has the port that was free."""

    def __init__(self, command: Sequence[str], folder: Path, log: Path) -> None:
        super().__init__(command, folder, log, "listening on http://")
        self.url = self.first_line.removeprefix("listening on ")
        self.port = int(self.url.rpartition(":")[2])


class Road(Relay):
    """The network between devices and servers: an address that stays when the server comes back on another port."""

    def lead_to(self, server: Server | None) -> None:
        """What is open is cut. None: nobody answers."""
        self.lead_to_port(server.port if server else None)


class Company:
    """The database, provisioned; its servers; and devices. Everything ends with `close`."""

    def __init__(self, folder: Path, tables: str = TABLES, configuration: str = CONFIGURATION) -> None:
        self.folder = folder
        self.path = folder / "clinic.db"
        self.config = folder / "syncline.toml"
        self.config.write_text(configuration, encoding="utf-8")
        self.make(tables)
        self.provision()
        self.road = Road()
        self.servers: list[Server] = []
        self._replicas: list[Replica] = []

    def make(self, tables: str) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as db:
            db.executescript(tables)

    def provision(self, *options: str) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            assert main.run(["provision", "--config", str(self.config), *options]) == 0

    # ------------------------------------------------------------ servers
    def serve(self, script: str = "", *options: str, road: bool = True) -> Server:
        """`syncline serve --port 0`; with `script`, after running it in the server's process. The road leads to it."""
        code = f"{script}\nfrom syncline.cli.main import main; main()"
        start = ["-c", code] if script else ["-m", "syncline"]
        command = [sys.executable, *start, "serve", "--port", "0", "--config", str(self.config), *options]
        server = Server(command, self.folder, self.folder / f"server-{len(self.servers)}.log")
        self.servers.append(server)
        if road:
            self.road.lead_to(server)
        return server

    # ------------------------------------------------------------ devices
    def device(self, user: str, name: str = "", url: str = "", **options: Any) -> Replica:
        """A replica that is stopped at the end; over the road, unless another `url` is named."""
        path = self.folder / f"{name or user}.device.db"
        replica = Replica(path, url or self.road.url, token(user), **options)
        self._replicas.append(replica)
        return replica

    def live(self, user: str, name: str = "", url: str = "", seconds: float = PATIENCE_SECONDS) -> Replica:
        """One that is connected."""
        replica = self.device(user, name, url)
        replica.start()
        wait_for(lambda: replica.status.state == "live" and replica.status.last_synced_at, f"{user} is live", seconds)
        return replica

    # ------------------------------------------------------------ looking
    def execute(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """The company's own SQL."""
        return query(self.path, sql, parameters)

    def scope_of(self, user: str) -> dict[str, list[tuple[Any, ...]]]:
        """What a user is to hold, by SQL of its own."""
        mine = f"SELECT patient_id FROM assignments WHERE nurse = '{user}'"
        visits = f"SELECT id FROM visits WHERE patient_id IN ({mine})"
        orders = f"SELECT id FROM orders WHERE patient_id IN ({mine})"
        return {
            "patients": self.execute(f"SELECT id, name FROM patients WHERE id IN ({mine}) ORDER BY 1"),
            "visits": self.execute(f"SELECT * FROM visits WHERE patient_id IN ({mine}) ORDER BY 1"),
            "notes": self.execute(f"SELECT * FROM notes WHERE visit_id IN ({visits}) ORDER BY 1"),
            "orders": self.execute(f"SELECT * FROM orders WHERE patient_id IN ({mine}) ORDER BY 1"),
            "lines": self.execute(f"SELECT * FROM lines WHERE order_id IN ({orders}) ORDER BY 1"),
            "medications": self.execute("SELECT * FROM medications ORDER BY 1"),
        }

    def close(self) -> None:
        for replica in self._replicas:
            with contextlib.suppress(syncline.SynclineError, OSError, sqlite3.Error):  # its file may be gone
                print(f"--- {replica.path.name}: {replica.status}", file=sys.stderr)
            replica.stop()
        for server in self.servers:
            server.kill()
            print(f"--- {server.url}\n{server.log()[-4000:]}", file=sys.stderr)  # pytest shows it where a test fails
        self.road.close()


def rows_of(path: Path, tables: Sequence[str]) -> dict[str, list[tuple[Any, ...]]]:
    """A replica's rows, read as one cut."""
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as db:
        db.execute("BEGIN")
        return {table: db.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in tables}


def bytes_of(path: Path) -> bytes:
    """Every byte of a database and its log."""
    names = [path, Path(f"{path}-wal"), Path(f"{path}-journal")]
    return b"".join(name.read_bytes() for name in names if name.exists())


def holds_scope(company: Company, user: str, path: Path) -> bool:
    wanted = company.scope_of(user)
    return rows_of(path, list(wanted)) == wanted


def wait_for_scope(company: Company, user: str, path: Path, seconds: float = PATIENCE_SECONDS) -> None:
    wait_for(lambda: holds_scope(company, user, path), f"{user}'s rows are the scope's", seconds)


def wait_for_rows(path: Path, sql: str, rows: list[tuple[Any, ...]], seconds: float = PATIENCE_SECONDS) -> None:
    wait_for(lambda: query(path, sql) == rows, f"{sql} -> {rows}", seconds)
