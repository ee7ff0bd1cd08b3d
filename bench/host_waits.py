"""How long a busy host waits because Syncline stands beside it: `python -m bench.host_waits`.

Two files with the same rows, both in WAL mode; beside one of them a server, a device that follows, and a device that
writes. Several host programs update and insert in short transactions, in turns on the one file and on the other, so
that what else the machine does falls on both. A wait is the time from BEGIN IMMEDIATE to the end of COMMIT. How long
our own transactions held the lock meanwhile stands beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.holds import read_holds
from bench.processes import Server, environment, syncline

ROUNDS = 4
PATIENTS = 50
THINK_SECONDS = 0.002
"""Between two transactions of one program: three of them make about a thousand commits a second."""
DEVICE_WRITES_PER_SECOND = 20
"""Transactions of the writing device's app."""
SECRET = "a-secret-of-the-benchmark-of-32-bytes-or-more"

TABLES = f"""
PRAGMA journal_mode = WAL;
CREATE TABLE patients(id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE visits(
  id INTEGER PRIMARY KEY, patient_id INTEGER NOT NULL REFERENCES patients(id), status TEXT, n INTEGER);
CREATE TABLE notes(id TEXT PRIMARY KEY, visit_id INTEGER NOT NULL REFERENCES visits(id), body TEXT);
CREATE INDEX visits_patient ON visits(patient_id);
CREATE INDEX notes_visit ON notes(visit_id);
WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < {PATIENTS})
  INSERT INTO patients SELECT i, 'patient ' || i FROM c;
WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < {PATIENTS * 100})
  INSERT INTO visits SELECT i, 1 + i % {PATIENTS}, 'planned', 0 FROM c;
"""
CONFIGURATION = f"""
[source]
url = "sqlite:///clinic.db"
[auth]
secret = "{SECRET}"
[scope.caseload]
root = "patients"
grant = "SELECT id FROM patients WHERE :sub <> ''"
[scope.caseload.tables]
visits = {{ parent = "patients" }}
notes = {{ parent = "visits" }}
"""


@dataclass(frozen=True)
class Waits:
    """How many transactions a second, and how long each took (ms)."""

    commits_per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    failed: int


def write_for(path: str, seconds: float, number: int, mark: str) -> tuple[list[float], int]:
    """One host program: plain sqlite3 with its usual five seconds of patience. Seconds per commit; failures."""
    waits: list[float] = []
    failed = 0
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            turn = len(waits) + failed
            visit = 1 + (turn * 37 + number * 1009) % (PATIENTS * 100)
            begun = time.perf_counter()
            try:
                db.execute("BEGIN IMMEDIATE")
                db.execute("UPDATE visits SET n = n + 1, status = 'seen' WHERE id = ?", (visit,))
                if turn % 4 == 0:
                    db.execute("INSERT INTO notes VALUES(?, ?, 'by the host')", (f"{mark}-{number}-{turn}", visit))
                db.execute("COMMIT")
                waits.append(time.perf_counter() - begun)
            except sqlite3.OperationalError:
                failed += 1
                if db.in_transaction:
                    db.execute("ROLLBACK")
            time.sleep(THINK_SECONDS)
    return waits, failed


def run_round(
    pool: multiprocessing.pool.Pool, path: Path, writers: int, seconds: float, mark: str
) -> list[tuple[list[float], int]]:
    return pool.starmap(write_for, [(str(path), seconds, number, mark) for number in range(writers)])


def summary(waits: list[float], failed: int, seconds: float) -> Waits:
    ordered = sorted(waits)
    p50, p99, most = (
        round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 2) for share in (0.5, 0.99, 1.0)
    )
    return Waits(len(ordered) / seconds, p50, p99, most, failed)


@contextlib.contextmanager
def devices(folder: Path, url: str) -> Iterator[None]:
    """One that follows, and one whose app writes all the time."""
    processes = []
    for user in ("ann", "ben"):
        token = syncline(folder, "token", "--sub", user).strip()
        db = str(folder / f"{user}.db")
        syncline(folder, "device", "sync", "--db", db, "--server", url, "--token", token)
        command = [sys.executable, "-m", "syncline", "device", "run", "--db", db, "--server", url, "--token", token]
        processes.append(
            subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
    app = [sys.executable, "-m", "bench.host_waits", "--app", str(folder / "ben.db")]
    processes.append(subprocess.Popen(app, env=environment(), cwd=Path(__file__).parents[1]))
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)


def write_on_device(path: str) -> None:
    """An app on a device, until it is ended."""
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as db:
        db.execute("PRAGMA foreign_keys = ON")
        for turn in range(10**9):
            visit = 1 + turn % (PATIENTS * 100)
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO notes VALUES(lower(hex(randomblob(16))), ?, 'by a device')", (visit,))
            db.execute("UPDATE visits SET status = 'done' WHERE id = ?", (visit,))
            db.execute("COMMIT")
            time.sleep(1 / DEVICE_WRITES_PER_SECOND)


def measure(folder: Path, writers: int, seconds: float) -> dict[str, Waits]:
    """The host's waits `alone` and `beside`, after `seconds` of writing each, in turns; and `held`: the lock by us."""
    (folder / "syncline.toml").write_text(CONFIGURATION, encoding="utf-8")
    for name in ("alone.db", "clinic.db"):
        with contextlib.closing(sqlite3.connect(folder / name)) as db:
            db.executescript(TABLES)
    syncline(folder, "provision")
    waits: dict[str, list[float]] = {"alone": [], "beside": []}
    failed = {"alone": 0, "beside": 0}
    windows = []
    context = multiprocessing.get_context("spawn")
    server = Server(folder, module="bench.holds")
    with server, devices(folder, server.url), context.Pool(writers) as pool:
        for number in range(ROUNDS):
            for kind, name in (("alone", "alone.db"), ("beside", "clinic.db")):
                begun = time.monotonic()
                for told, failures in run_round(pool, folder / name, writers, seconds / ROUNDS, f"round-{number}"):
                    waits[kind] += told
                    failed[kind] += failures
                if kind == "beside":
                    windows.append((begun, time.monotonic()))
    found = {kind: summary(waits[kind], failed[kind], seconds) for kind in waits}
    return {**found, "held": summary(read_holds(folder, windows), 0, seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.host_waits", description=__doc__.partition("\n")[0])
    parser.add_argument("--writers", type=int, default=3, help="host programs that write (default 3)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of writing on each file (default 20)")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--app", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.app:
        write_on_device(options.app)
        return
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.writers, options.seconds)
    ratio = found["beside"].commits_per_second / found["alone"].commits_per_second
    if options.json:
        print(json.dumps({"throughput_ratio": round(ratio, 3), **{kind: asdict(each) for kind, each in found.items()}}))
        return
    print(f"{options.writers} host programs, {options.seconds:g} s on each file; a wait is BEGIN IMMEDIATE to COMMIT")
    print("held: how long Syncline's own transactions had the lock, while the host wrote beside it")
    for kind, each in found.items():
        print(
            f"{kind:>7}: {each.commits_per_second:7.0f} commits/s   p50 {each.p50_ms:7.2f} ms   "
            f"p99 {each.p99_ms:7.2f} ms   max {each.max_ms:7.2f} ms   {each.failed} failed"
        )
    print(f"Beside Syncline the host does {ratio:.0%} of what it does alone.")


if __name__ == "__main__":
    main()
