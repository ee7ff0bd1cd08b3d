"""A company's database, a real server and real devices, each in a process of its own; what arrived is compared by plain SQL.

Nothing here imports Syncline: the commands run as a person runs them, every edit is another program's sqlite3, and what a
device should hold is said by SELECTs that a test writes by hand.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT.parent / "shared" / "data"

SECRET = "acceptance-" * 4

COMMAND_SECONDS_MAX = 120.0
SETTLE_SECONDS_MAX = 60.0

Statement = str | tuple[str, tuple[Any, ...]]
Report = dict[str, Any]


class Rows(NamedTuple):
    """Columns, and how often each row of values and their types is there."""

    names: tuple[str, ...]
    content: Counter[tuple[Any, ...]]


WRITER = """
import json, sqlite3, sys
path, statements = json.load(sys.stdin)
db = sqlite3.connect(path, timeout=30, isolation_level=None)
db.execute("PRAGMA foreign_keys = ON")
db.execute("BEGIN IMMEDIATE")
counts = [db.execute(*statement).rowcount for statement in statements]
db.execute("COMMIT")
db.close()
print(json.dumps(counts))
"""


def sample(name: str) -> Path:
    """A sample database that lies beside the checkout; without it the test is skipped."""
    path = SAMPLES / name
    if not path.exists():
        where = f"../{SAMPLES.relative_to(ROOT.parent).as_posix()}/{name}"
        pytest.skip(f"the sample database {where} (counted from the repository) is not there")
    return path


def environment() -> dict[str, str]:
    """For another process: it finds this Syncline, warnings are errors there too, and its output is buffered as usual."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SYNCLINE_", "PYTHONUNBUF"))}
    paths = os.pathsep.join([str(ROOT / "src"), *filter(None, [kept.get("PYTHONPATH")])])
    return {**kept, "PYTHONPATH": paths, "PYTHONWARNINGS": "error"}


def execute_elsewhere(path: Path, *statements: Statement) -> list[int]:
    """Run statements as one transaction of another program with plain sqlite3; how many rows each changed."""
    calls = [[each] if isinstance(each, str) else list(each) for each in statements]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WRITER],
        input=json.dumps([str(path), calls]),
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counts: list[int] = json.loads(done.stdout)
    return counts


def query(path: Path, sql: str, parameters: Mapping[str, Any] | tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path, timeout=30)) as db:
        return db.execute(sql, parameters).fetchall()


def column_names(path: Path, table: str) -> list[str]:
    with closing(sqlite3.connect(path, timeout=30)) as db:
        return _column_names(db, table)


def _column_names(db: sqlite3.Connection, table: str) -> list[str]:
    return [name for (name,) in db.execute("SELECT name FROM pragma_table_info(?) ORDER BY cid", (table,))]


def schema_dump(path: Path) -> list[tuple[Any, ...]]:
    """Every object of the file and its text, in the order in which they were made."""
    return query(path, "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY rowid")


def journal_mode(path: Path) -> str:
    return str(query(path, "PRAGMA journal_mode")[0][0])


def content_dump(path: Path, tables: Iterable[str]) -> dict[str, Rows]:
    """Each table's rows with the type of every value."""
    with closing(sqlite3.connect(path, timeout=30)) as db:
        return {table: typed_rows(db, f'SELECT * FROM "{table}"') for table in tables}


def tables_of(path: Path) -> list[str]:
    """The tables of the file that are not Syncline's and not SQLite's own."""
    names = query(path, "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY name")
    return [name for (name,) in names if not name.startswith(("syncline_", "sqlite_"))]


def typed_rows(db: sqlite3.Connection, select: str, parameters: Mapping[str, Any] | None = None) -> Rows:
    """What `select` gives, each value beside its typeof(); floats compare to the last bit."""
    described = db.execute(f"SELECT * FROM ({select}) LIMIT 0", parameters or {}).description
    names = tuple(name[0] for name in described)
    columns = ", ".join(f'"{name}", typeof("{name}")' for name in names)
    return Rows(names, Counter(db.execute(f"SELECT {columns} FROM ({select})", parameters or {})))


def compare(source: Path, device: Path, selects: Mapping[str, str], user: str) -> list[str]:
    """What differs between the source and a device, for people; nothing if the device holds exactly the user's rows.

    `selects` has one SELECT per table, by the words of the task. It runs on both files; and the table on the device must
    hold nothing beside what it gives.
    """
    found: list[str] = []
    if (tables := tables_of(device)) != sorted(selects):
        found.append(f"tables: {tables} instead of {sorted(selects)}")
    with closing(sqlite3.connect(source, timeout=30)) as office, closing(sqlite3.connect(device, timeout=30)) as db:
        for table in selects.keys() & set(tables):
            expected = typed_rows(office, selects[table], {"sub": user})
            actual = typed_rows(db, selects[table], {"sub": user})
            found += [f"{table}: {line}" for line in differences(expected, actual)]
            ((present,),) = db.execute(f'SELECT count(*) FROM "{table}"').fetchall()
            if present != expected.content.total():
                found.append(f"{table}: {present} rows on the device instead of {expected.content.total()}")
            if (columns := _column_names(db, table)) != list(expected.names):
                found.append(f"{table}: the device has the columns {columns}")
    return found


def differences(expected: Rows, actual: Rows) -> list[str]:
    if expected == actual:
        return []
    if expected.names != actual.names:
        return [f"columns {actual.names} instead of {expected.names}"]
    missing = [f"missing {row}" for row in (expected.content - actual.content).elements()]
    return missing + [f"too much {row}" for row in (actual.content - expected.content).elements()]


def sign_token(claims: Mapping[str, Any]) -> str:
    """A JWT as any identity provider signs it, without a process for each (`syncline token` makes the same)."""
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = hmac.digest(SECRET.encode(), signed, "sha256")
    return b".".join((signed, base64.urlsafe_b64encode(signature).rstrip(b"="))).decode()


def present_in_bytes(path: Path, canaries: Iterable[str]) -> list[str]:
    """Which of these texts occur anywhere in the device's files: free pages, WAL and outbox included."""
    files = [path, *path.parent.glob(f"{path.name}-*")]
    content = b"\0".join(file.read_bytes() for file in files if file.is_file())
    return sorted({canary for canary in canaries if canary.encode() in content})


def wait_until(condition: Callable[[], bool], what: str, seconds: float = SETTLE_SECONDS_MAX) -> float:
    """Seconds until the condition held."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - started


@dataclass(frozen=True)
class Told:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Device:
    """One installation and its user."""

    path: Path
    user: str

    def execute(self, *statements: Statement) -> list[int]:
        """The app's own SQL, in a process of its own and in one transaction."""
        return execute_elsewhere(self.path, *statements)

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return query(self.path, sql, parameters)


@dataclass
class Lab:
    """A folder with the company's database, Syncline beside it, and its devices."""

    folder: Path
    source: Path
    url: str = ""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    # ------------------------------------------------------------ the office
    def execute(self, *statements: Statement) -> list[int]:
        """Another program of the company's, in one transaction."""
        return execute_elsewhere(self.source, *statements)

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return query(self.source, sql, parameters)

    def configure(self, scopes: str) -> None:
        text = f'[source]\nurl = "sqlite:///{self.source.name}"\n\n[auth]\nsecret = "{SECRET}"\n\n{scopes}'
        (self.folder / "syncline.toml").write_text(text, encoding="utf-8")

    def syncline(self, *arguments: str) -> Told:
        process = self._start(*arguments, output=subprocess.PIPE)
        out, err = process.communicate(timeout=COMMAND_SECONDS_MAX)
        return Told(process.returncode, out.decode(), err.decode())

    def must(self, *arguments: str) -> Told:
        """A command that has to end well and to say nothing on standard error."""
        told = self.syncline(*arguments)
        assert (told.status, told.err) == (0, ""), f"{arguments}: {told}"
        return told

    def _start(self, *arguments: str, output: Any, errors: Any = subprocess.PIPE) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "syncline", *arguments]
        process = subprocess.Popen(command, cwd=self.folder, env=environment(), stdout=output, stderr=errors)
        self.processes.append(process)
        return process

    @contextmanager
    def serving(self) -> Iterator[None]:
        """The server, on a free port; it must end cleanly and must not have been surprised."""
        output, log = self.folder / "server.out", self.folder / "server.log"
        with output.open("wb") as out, log.open("wb") as err:
            process = self._start("serve", "--port", "0", output=out, errors=err)
        wait_until(lambda: process.poll() is not None or b"listening on" in output.read_bytes(), "the server listens")
        address = re.search(r"listening on (http://\S+)", output.read_text())
        assert address, log.read_text()
        self.url = address[1]
        try:
            yield
        except BaseException:
            print(log.read_text()[-4000:], file=sys.stderr)
            raise
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=COMMAND_SECONDS_MAX) == 0, log.read_text()
        assert not re.search(r"Traceback|Warning|\bERROR\b", log.read_text()), log.read_text()

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream:
                    stream.close()

    # ------------------------------------------------------------ the devices
    def devices(self, **users: str) -> list[Device]:
        """New devices by name, with a token of their user's."""
        made = []
        for name, user in users.items():
            folder = self.folder / name
            folder.mkdir()
            (folder / "token").write_text(sign_token({"sub": user, "exp": int(time.time()) + 3600}))
            made.append(Device(folder / "replica.db", user))
        return made

    def _arguments(self, device: Device) -> list[str]:
        return ["--db", str(device.path), "--server", self.url, "--token", f"@{device.path.parent / 'token'}"]

    def sync(self, *devices: Device) -> list[Report]:
        """`syncline device sync` for all of them at once, each in its own process; their reports."""
        started = [
            self._start("device", "sync", *self._arguments(device), "--json", output=subprocess.PIPE)
            for device in devices
        ]
        reports: list[Report] = []
        for process in started:
            out, err = process.communicate(timeout=COMMAND_SECONDS_MAX)
            assert (process.returncode, err) == (0, b""), (out, err)
            reports.append(json.loads(out))
        assert all(report["pending"] == 0 for report in reports), reports
        return reports

    def verify(self, *devices: Device) -> None:
        """`syncline verify`: not a row differs from the source, and every table could be compared."""
        for device in devices:
            _, _, *where = self._arguments(device)
            report = self.must("verify", "--device-db", str(device.path), *where, "--json").json
            assert report["ok"] and not report["differences"] and not report["changed"], report
            assert report["tables"] == len(tables_of(device.path)) and report["rows"] > 0, report

    @contextmanager
    def running(self, device: Device) -> Iterator[None]:
        """`syncline device run`, until the block ends; it ends cleanly."""
        output = device.path.with_suffix(".out")
        with output.open("wb") as out:
            process = self._start("device", "run", *self._arguments(device), output=out, errors=out)
        wait_until(lambda: process.poll() is not None or b"live" in output.read_bytes(), "the device is live")
        assert process.poll() is None, output.read_text()
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=COMMAND_SECONDS_MAX) == 0, output.read_text()
        assert "Traceback" not in output.read_text(), output.read_text()

    def status(self, device: Device) -> Any:
        return self.must("device", "status", "--db", str(device.path), "--json").json

    def rejections(self, device: Device) -> Any:
        return self.must("device", "rejections", "--db", str(device.path), "--json").json
