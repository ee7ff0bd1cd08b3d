"""A mixed workload that is killed at seeded points: a server, two apps that write, and an office that writes, too."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.integration.app import EDIT_EVERY, GROUP_EVERY, PAUSE_SECONDS
from tests.integration.company import Company, query, token, wait_for_rows, wait_for_scope
from tests.integration.zygote import SERVER_MODULES, Child, ServerChild, Zygote

KILLS = int(os.environ.get("SYNCLINE_TEST_KILLS", "12"))
SEED = int(os.environ.get("SYNCLINE_TEST_SEED", "1"))
QUIET_SECONDS = 120.0 + KILLS
START_SECONDS = 120.0
ALIVE_SECONDS = 0.8
"""Something is killed after at most this time in which everything was alive."""

USERS = ("ann", "ben")
OUTBOXES = ("patients", "visits", "notes", "orders", "lines")


class App(Child):
    """An app's process; each life of it has another seed, and so other keys."""

    def __init__(self, zygote: Zygote, company: Company, user: str, seed: int, pause_seconds: float) -> None:
        arguments = [str(app_file(company, user)), company.road.url, token(user), user, str(seed), str(pause_seconds)]
        super().__init__(zygote, "tests.integration.app:main", arguments, company.folder / f"{user}.log", "ready")


def app_file(company: Company, user: str) -> Path:
    return company.folder / f"{user}.device.db"


def diary_of(company: Company, user: str) -> list[str]:
    return Path(f"{app_file(company, user)}.diary").read_text(encoding="utf-8").splitlines()


class Office(threading.Thread):
    """The company's own program: it counts, too, and edits what the devices edit. `write` is one transaction of it."""

    def __init__(self, write: Callable[[int], None], pause_seconds: float) -> None:
        super().__init__(daemon=True)
        self._write = write
        self._pause_seconds = pause_seconds
        self._ending = threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        number = 0
        try:
            while not self._ending.wait(self._pause_seconds):
                number += 1
                self._write(number)
        except Exception as error:
            self.error = error

    def end(self) -> None:
        self._ending.set()
        if self.ident is not None:
            self.join(60)
        assert self.error is None, f"P15: a write of the company's failed: {self.error!r}"


def office_statements(number: int) -> list[tuple[str, tuple[Any, ...]]]:
    visit = ("v-ada", "v-bo", "v-cy")[number % 3]
    return [
        ("UPDATE visits SET n = n + 1 WHERE id = ?", (visit,)),
        ("INSERT INTO notes VALUES(?, ?, 'counted')", (f"office-{number}", visit)),
        ("UPDATE patients SET name = ? WHERE id = ?", (f"name {number}", visit[2:])),
    ]


class Workload:
    """`kill` ends one of the `victims` (a name may stand there twice) and brings it back in the background."""

    victims: Sequence[str] = ("server", "server", *USERS)
    pause_seconds = PAUSE_SECONDS
    """How long each of those who write waits between two transactions, at most."""

    def __init__(self, company: Company, rng: random.Random) -> None:
        self.company = company
        self.killed: Counter[str] = Counter()
        self._rng = rng
        self._lives = 0
        self._pool = ThreadPoolExecutor(3)
        self.office = Office(self.write_as_office, self.pause_seconds)
        self._zygote = Zygote(company.folder, self.modules)
        self._running: dict[str, Future[Child]] = {"server": self._start("server")}
        self._running["server"].result(START_SECONDS)
        self._running |= {name: self._start(name) for name in USERS}
        self._wait_until_all_run()
        self.office.start()

    # ------------------------------------------------------------ what differs between databases
    modules: Sequence[str] = (*SERVER_MODULES, "tests.integration.app")

    def write_as_office(self, number: int) -> None:
        with contextlib.closing(sqlite3.connect(self.company.path, timeout=30, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            for sql, parameters in office_statements(number):
                db.execute(sql, parameters)
            db.execute("COMMIT")

    def check_database(self) -> None:
        assert self.company.execute("PRAGMA integrity_check") == [("ok",)]

    def check_whole_database(self) -> None:
        """At the end, however long it takes."""
        self.check_database()

    def kill_database(self, name: str) -> None:
        """One of the `victims` that is no process of ours; it is back when this returns."""
        raise NotImplementedError(name)

    # ------------------------------------------------------------ one point
    def kill(self) -> None:
        self._wait_until_all_run()
        time.sleep(self._rng.uniform(0, ALIVE_SECONDS))
        name = self._rng.choice(self.victims)
        self.killed[name] += 1
        if name not in self._running:
            self.kill_database(name)
            self.check_database()
            return
        self._running[name].result().kill()
        if name == "server":
            self.company.road.lead_to(None)
            self.check_database()
            time.sleep(self._rng.uniform(0, 0.3))
        else:
            check_file(self.company, name)
        self._running[name] = self._start(name)

    def _start(self, name: str) -> Future[Child]:
        self._lives += 1
        if name == "server":
            return self._pool.submit(self._serve, self._lives)
        return self._pool.submit(App, self._zygote, self.company, name, self._lives, self.pause_seconds)

    def _serve(self, life: int) -> Child:
        server: Any = ServerChild(self._zygote, self.company.folder / f"server-{life}.log")
        self.company.servers.append(server)
        self.company.road.lead_to(server)
        return server

    def _wait_until_all_run(self) -> None:
        for each in self._running.values():
            each.result(START_SECONDS)

    # ------------------------------------------------------------ the end
    def rest(self) -> None:
        """Everything runs again, and nobody writes."""
        self._wait_until_all_run()
        for user in USERS:
            self._running[user].result().tell("rest")
        self.office.end()

    def close(self) -> None:
        for each in self._running.values():
            with contextlib.suppress(Exception):
                each.result(START_SECONDS).kill()
        self._pool.shutdown()
        self._zygote.close()
        for user in USERS:
            log = self.company.folder / f"{user}.log"
            print(f"--- {user}\n{log.read_text(encoding='utf-8')[-4000:] if log.exists() else ''}", file=sys.stderr)
        self.office.end()


def play(workload: Workload, kills: int = KILLS) -> None:
    """So many kills; then nobody touches anything until all is quiet; then everything is compared."""
    company = workload.company
    begun = time.monotonic()
    try:
        for _ in range(kills):
            workload.kill()
            assert unbalanced(company) == [], "P7: an order without its lines"
        workload.rest()
        for user in USERS:
            file = app_file(company, user)
            wait_for_rows(file, "SELECT seq - included FROM syncline_state", [(0,)], QUIET_SECONDS)
        for user in USERS:
            wait_for_scope(company, user, app_file(company, user), QUIET_SECONDS)
    finally:
        workload.close()
    for user in USERS:
        check_file(company, user)
        check_diary(company, user)
        assert query(app_file(company, user), "SELECT * FROM syncline_rejections") == []
    workload.check_whole_database()
    check_counts(company)
    written = sum(len(diary_of(company, user)) for user in USERS)
    ((increments,),) = company.execute("SELECT count(*) FROM audit")
    print(
        f"seed {SEED}: {kills} kills in {time.monotonic() - begun:.0f} s: {dict(sorted(workload.killed.items()))}; "
        f"{written} transactions of apps acknowledged to their users, {increments} increments, each exactly once"
    )


# ---------------------------------------------------------------- what must hold
def check_file(company: Company, user: str) -> None:
    """P3, P4: what was committed is there with its outbox entry, the numbers of the outbox have no gap, and what left
    the outbox is in the source."""
    diary = diary_of(company, user)
    with contextlib.closing(sqlite3.connect(app_file(company, user), timeout=30, isolation_level=None)) as db:
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
    assert rows <= waiting | arrived(company, user)


def check_diary(company: Company, user: str) -> None:
    """P3, P5: the source has what the app noted as done, and at most one transaction of each life that was cut short
    between its commit and the note."""
    diary = diary_of(company, user)
    assert len(diary) == len(set(diary))
    came = arrived(company, user)
    assert set(diary) <= came
    unnoted = Counter(key.split("-")[1] for key in came - set(diary))
    assert not unnoted or max(unnoted.values()) == 1, unnoted
    bodies: dict[str, str] = dict(company.execute("SELECT id, body FROM notes WHERE id LIKE ?", f"{user}-%"))  # type: ignore[arg-type]
    orders = {key for (key,) in company.execute("SELECT id FROM orders WHERE id LIKE ?", f"{user}-%")}
    for key, following in itertools.pairwise(diary):
        number = int(key.rpartition("-")[2])
        if following.rpartition("-")[0] != key.rpartition("-")[0]:
            continue  # it was killed before it had done all that belongs to this number, or afterwards
        assert (key in orders) == (number % GROUP_EVERY == 0), f"P3: the order {key}"
        assert bodies[key] == ("counted!" if number % EDIT_EVERY == 0 else "counted"), f"P3: the edit of {key}"


def check_counts(company: Company) -> None:
    """P5, P7: the counters equal the notes that were written with them, and the audit has a line for each."""
    assert unbalanced(company) == []
    notes = "SELECT visit_id, count(*) FROM notes WHERE body LIKE 'counted%' GROUP BY 1 ORDER BY 1"
    assert company.execute("SELECT id, n FROM visits ORDER BY 1") == company.execute(notes)
    assert company.execute("SELECT visit_id, count(*) FROM audit GROUP BY 1 ORDER BY 1") == company.execute(notes)
    assert company.execute("SELECT DISTINCT added FROM audit") == [(1,)]


def arrived(company: Company, user: str) -> set[str]:
    return {key for (key,) in company.execute("SELECT id FROM notes WHERE id LIKE ?", f"{user}-%")}


def unbalanced(company: Company) -> list[tuple[Any, ...]]:
    return company.execute(
        "SELECT o.id, o.total, sum(l.amount) FROM orders o LEFT JOIN lines l ON l.order_id = o.id "
        "GROUP BY o.id, o.total HAVING count(l.id) = 0 OR o.total <> sum(l.amount)"
    )
