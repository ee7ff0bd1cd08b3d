"""kill -9 of the server and of apps that write, at seeded points of a mixed workload; then nobody touches anything until
all is quiet.

SYNCLINE_TEST_KILLS and SYNCLINE_TEST_SEED make longer and other runs.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.integration.company import Company, Process, query, token, wait_for_rows, wait_for_scope

KILLS = int(os.environ.get("SYNCLINE_TEST_KILLS", "12"))
SEED = int(os.environ.get("SYNCLINE_TEST_SEED", "1"))
QUIET_SECONDS = 120.0
OUTBOXES = ("patients", "visits", "notes", "orders", "lines")


class App(Process):
    """An app's process; each life of it has another seed, and so other keys."""

    def __init__(self, company: Company, user: str, seed: int) -> None:
        path = app_file(company, user)
        command = [sys.executable, "-m", "tests.integration.app"]
        arguments = [str(path), company.road.url, token(user), user, str(seed)]
        super().__init__(command + arguments, company.folder, company.folder / f"{user}.log", "ready", stdin=True)

    def rest(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("rest\n")
        self.process.stdin.flush()


def app_file(company: Company, user: str) -> Path:
    return company.folder / f"{user}.device.db"


class Office(threading.Thread):
    """The company's own program: it counts, too, and edits what the devices edit."""

    def __init__(self, company: Company) -> None:
        super().__init__(daemon=True)
        self._company = company
        self._ending = threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        number = 0
        try:
            with contextlib.closing(sqlite3.connect(self._company.path, timeout=30, isolation_level=None)) as db:
                while not self._ending.wait(0.02):
                    number += 1
                    visit = ("v-ada", "v-bo", "v-cy")[number % 3]
                    db.execute("BEGIN IMMEDIATE")
                    db.execute("UPDATE visits SET n = n + 1 WHERE id = ?", (visit,))
                    db.execute("INSERT INTO notes VALUES(?, ?, 'counted')", (f"office-{number}", visit))
                    db.execute("UPDATE patients SET name = ? WHERE id = ?", (f"name {number}", visit[2:]))
                    db.execute("COMMIT")
        except Exception as error:
            self.error = error

    def end(self) -> None:
        self._ending.set()
        self.join(60)
        assert self.error is None, f"P15: a write of the company's failed: {self.error}"


class Workload:
    """Server, two apps and an office; `kill` ends one of the first three and brings it back in the background."""

    def __init__(self, company: Company, rng: random.Random) -> None:
        self.company = company
        self._rng = rng
        self._lives = 0
        self._pool = ThreadPoolExecutor(3)
        company.serve()
        self.office = Office(company)
        self._running: dict[str, Future[Process]] = {name: self._start(name) for name in ("ann", "ben")}
        self._running["server"] = self._pool.submit(lambda: company.servers[-1])
        for each in self._running.values():
            each.result(120)
        self.office.start()

    def _start(self, name: str) -> Future[Process]:
        self._lives += 1
        if name == "server":
            return self._pool.submit(self.company.serve)
        return self._pool.submit(App, self.company, name, self._lives)

    def kill(self) -> str:
        name = self._rng.choice(["server", "server", "ann", "ben"])
        process = self._running[name].result(120)
        time.sleep(self._rng.uniform(0, 1.5))
        process.kill()
        if name == "server":
            self.company.road.lead_to(None)
            assert query(self.company.path, "PRAGMA integrity_check") == [("ok",)]
            time.sleep(self._rng.uniform(0, 0.4))
        else:
            check_file(self.company, name)
        self._running[name] = self._start(name)
        return name

    def rest(self) -> None:
        """Everything runs again, and nobody writes."""
        for name, each in self._running.items():
            process = each.result(120)
            if name != "server":
                assert isinstance(process, App)
                process.rest()
        self.office.end()

    def close(self) -> None:
        self.office.end()
        for each in self._running.values():
            each.result(120).kill()
        self._pool.shutdown()
        for user in ("ann", "ben"):
            print(
                f"--- {user}\n{(self.company.folder / f'{user}.log').read_text(encoding='utf-8')[-4000:]}",
                file=sys.stderr,
            )


def check_file(company: Company, user: str) -> None:
    """P4: what was committed is there with its outbox entry, and the numbers of the outbox have no gap."""
    path = app_file(company, user)
    diary = Path(f"{path}.diary").read_text(encoding="utf-8").splitlines()
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        db.execute("BEGIN")
        rows = {key for (key,) in db.execute("SELECT id FROM notes WHERE id LIKE ?", (f"{user}-%",))}
        seq, included = db.execute("SELECT seq, included FROM syncline_state").fetchone()
        entries = [
            (number, table, operation, key)
            for table in OUTBOXES
            for number, operation, key in db.execute(f"SELECT seq, op, k0 FROM syncline_outbox_{table}")
        ]
        db.execute("COMMIT")
    assert rows >= set(diary)
    assert sorted(entry[0] for entry in entries) == list(range(included + 1, seq + 1))
    waiting = {key for _, table, operation, key in entries if (table, operation) == ("notes", "I")}
    assert waiting <= rows
    arrived = {key for (key,) in company.execute("SELECT id FROM notes WHERE id LIKE ?", f"{user}-%")}
    assert rows <= waiting | arrived


@pytest.mark.slow
@pytest.mark.timeout(240 + 20 * KILLS)
def test_kill_9_loses_nothing_and_doubles_nothing(company: Company) -> None:
    """P1, P2, P3, P4, P5, P7, P15."""
    rng = random.Random(SEED)
    workload = Workload(company, rng)
    killed: dict[str, int] = {}
    try:
        for _ in range(KILLS):
            name = workload.kill()
            killed[name] = killed.get(name, 0) + 1
            assert unbalanced(company) == [], "P7: an order without its lines"
        workload.rest()
        for user in ("ann", "ben"):
            wait_for_rows(app_file(company, user), "SELECT seq - included FROM syncline_state", [(0,)], QUIET_SECONDS)
        for user in ("ann", "ben"):
            wait_for_scope(company, user, app_file(company, user), QUIET_SECONDS)
    finally:
        workload.close()
    for user in ("ann", "ben"):
        check_file(company, user)
        assert query(app_file(company, user), "SELECT * FROM syncline_rejections") == []
    check_source(company)
    counts: list[tuple[Any, ...]] = company.execute("SELECT count(*) FROM audit")
    print(f"seed {SEED}: killed {killed}; {counts[0][0]} increments, each exactly once")


def unbalanced(company: Company) -> list[tuple[Any, ...]]:
    return company.execute(
        "SELECT o.id, o.total, sum(l.amount) FROM orders o LEFT JOIN lines l ON l.order_id = o.id "
        "GROUP BY o.id HAVING o.total IS NOT sum(l.amount)"
    )


def check_source(company: Company) -> None:
    """P3, P5: the counters equal the notes that were written with them, and the audit has a line for each."""
    assert company.execute("PRAGMA integrity_check") == [("ok",)]
    assert unbalanced(company) == []
    notes = "SELECT visit_id, count(*) FROM notes WHERE body LIKE 'counted%' GROUP BY 1 ORDER BY 1"
    assert company.execute("SELECT id, n FROM visits ORDER BY 1") == company.execute(notes)
    assert company.execute("SELECT visit_id, count(*) FROM audit GROUP BY 1 ORDER BY 1") == company.execute(notes)
    assert company.execute("SELECT DISTINCT added FROM audit") == [(1,)]
    for user in ("ann", "ben"):
        diary = Path(f"{app_file(company, user)}.diary").read_text(encoding="utf-8").splitlines()
        arrived = {key for (key,) in company.execute("SELECT id FROM notes WHERE id LIKE ?", f"{user}-%")}
        assert set(diary) <= arrived
        assert len(diary) == len(set(diary))
