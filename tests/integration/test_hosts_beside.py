"""Others beside us: the company's own programs on the database, and a second server."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.integration.company import (
    Company,
    environment,
    holds_scope,
    query,
    query_elsewhere,
    wait_for,
    wait_for_rows,
    wait_for_scope,
)

HOST_SECONDS = 4.0


def run_host(company: Company, seconds: float = HOST_SECONDS) -> dict[str, Any]:
    """What the host's tight loop told."""
    command = [sys.executable, "-m", "tests.integration.host", str(company.path), str(seconds)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=seconds + 120, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


class Reader(threading.Thread):
    """An app's screen that looks at a device's orders all the time; `wrong` holds what it must never see."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._ending = threading.Event()
        self.wrong: list[tuple[Any, ...]] = []
        self.seen: set[tuple[Any, ...]] = set()
        self.start()

    def run(self) -> None:
        with contextlib.closing(sqlite3.connect(self._path, timeout=60, isolation_level=None)) as db:
            while not self._ending.wait(0.002):
                total, lines, state = db.execute(
                    "SELECT total, (SELECT sum(amount) FROM lines WHERE order_id = o.id), "
                    "(SELECT group_concat(amount) FROM lines WHERE order_id = o.id) FROM orders o WHERE id = 'o-bo'"
                ).fetchone()
                self.seen.add((total, state))
                if total != lines:
                    self.wrong.append((total, lines))

    def end(self) -> None:
        self._ending.set()
        self.join(60)


def test_a_host_in_a_tight_loop_never_fails_and_its_transactions_stay_whole(
    company: Company, capsys: pytest.CaptureFixture[str]
) -> None:
    """P7, P15: none of its writes fails; devices see its transactions whole; how much it is slowed is printed."""
    before = run_host(company, 1.5)
    company.serve()
    ann, ben = company.live("ann"), company.live("ben")
    readers = [Reader(replica.path) for replica in (ann, ben)]
    during = run_host(company)
    for user, replica in (("ann", ann), ("ben", ben)):
        wait_for_scope(company, user, replica.path)
    for reader in readers:
        reader.end()
    with capsys.disabled():
        rates = [told["transactions"] / seconds for told, seconds in ((before, 1.5), (during, HOST_SECONDS))]
        print(
            f"\n    the host alone: {rates[0]:,.0f} transactions/s, beside a server and two devices {rates[1]:,.0f}; "
            f"median {before['median_ms']} and {during['median_ms']} ms, 99 % {before['p99_ms']} and "
            f"{during['p99_ms']} ms, worst {before['worst_ms']} and {during['worst_ms']} ms; "
            f"states seen by devices: {[len(reader.seen) for reader in readers]}"
        )
    assert during["errors"] == []
    assert during["moves"] > 0
    for reader in readers:
        assert reader.wrong == []
        assert len(reader.seen) > 3
    assert company.execute("PRAGMA integrity_check") == [("ok",)]


def test_a_host_that_holds_the_write_lock_delays_and_breaks_nothing(company: Company) -> None:
    """P2, P15: devices wait for a long transaction of the company's; then everything drains by itself."""
    company.serve()
    ann = company.live("ann")
    with contextlib.closing(sqlite3.connect(company.path, timeout=30, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE patients SET name = 'slow' WHERE id = 'bo'")
        query_elsewhere(ann.path, "INSERT INTO notes VALUES('meanwhile', 'v-ada', 'x')")
        time.sleep(3)
        assert query(ann.path, "SELECT name FROM patients WHERE id = 'bo'") == [("Bo",)]
        assert ann.status.pending == 1
        db.execute("COMMIT")
    wait_for(lambda: ann.status.pending == 0 and holds_scope(company, "ann", ann.path), "all is drained")
    assert company.execute("SELECT body FROM notes WHERE id = 'meanwhile'") == [("x",)]


def test_a_host_that_reads_for_long_stops_nobody(company: Company) -> None:
    """P2, P15: a report that keeps a read transaction open for minutes."""
    company.serve()
    ann = company.live("ann")
    with contextlib.closing(sqlite3.connect(company.path, timeout=30, isolation_level=None)) as db:
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM patients").fetchall()
        query_elsewhere(company.path, "UPDATE patients SET name = 'new' WHERE id = 'bo'")
        query_elsewhere(ann.path, "INSERT INTO notes VALUES('meanwhile', 'v-ada', 'x')")
        wait_for(lambda: ann.status.pending == 0 and holds_scope(company, "ann", ann.path), "nobody waits")
        assert db.execute("SELECT name FROM patients WHERE id = 'bo'").fetchall() == [("Bo",)]
        db.execute("COMMIT")


def test_two_servers_one_sequencer_and_the_standby_takes_over(company: Company) -> None:
    """P2, P6: devices of both servers get news while the first takes the checkpoints, and after it was killed."""
    first = company.serve()
    second = company.serve(road=False)
    ann, ben = company.live("ann", url=first.url), company.live("ben", url=second.url)

    query_elsewhere(company.path, "INSERT INTO notes VALUES('x', 'v-bo', 'office')")
    query_elsewhere(ann.path, "INSERT INTO notes VALUES('a', 'v-bo', 'Ann')")
    query_elsewhere(ben.path, "INSERT INTO notes VALUES('b', 'v-bo', 'Ben')")
    for replica in (ann, ben):
        wait_for_rows(replica.path, "SELECT count(*) FROM notes WHERE visit_id = 'v-bo'", [(3,)])
        wait_for_rows(replica.path, "SELECT seq - included FROM syncline_state", [(0,)])
    assert open_terms(company) == 1

    query_elsewhere(company.path, "UPDATE assignments SET nurse = 'ben' WHERE patient_id = 'ada'")
    wait_for_scope(company, "ben", ben.path, 20)  # the standby's device
    wait_for_scope(company, "ann", ann.path)

    terms = company.execute("SELECT count(*) FROM syncline_term")
    query_elsewhere(company.path, "UPDATE patients SET name = 'just before' WHERE id = 'ada'")
    first.kill()
    query_elsewhere(company.path, "UPDATE patients SET name = 'just after' WHERE id = 'cy'")
    query_elsewhere(ben.path, "INSERT INTO notes VALUES('c', 'v-cy', 'Ben again')")
    wait_for(lambda: ben.status.pending == 0 and holds_scope(company, "ben", ben.path), "the standby has taken over")
    assert open_terms(company) == 1
    assert company.execute("SELECT count(*) FROM syncline_term") == [(terms[0][0] + 1,)]
    third = company.serve(road=False)
    ben_too = company.live("ben", "ben-too", url=third.url)
    assert holds_scope(company, "ben", ben_too.path)
    assert open_terms(company) == 1


def open_terms(company: Company) -> int:
    return int(company.execute("SELECT count(*) FROM syncline_term WHERE last IS NULL")[0][0])
