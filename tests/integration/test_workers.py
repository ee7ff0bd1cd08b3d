"""`syncline serve --workers N`, several servers on one source, and restarts that nobody notices."""

from __future__ import annotations

import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.integration.company import (
    Company,
    Process,
    Server,
    environment,
    query,
    token,
    wait_for,
    wait_for_rows,
    wait_for_scope,
)

from syncline.replica.file import ReplicaFile
from syncline.replica.transport import HttpTransport

WORKERS = 3


def serve_with_workers(company: Company, count: int = WORKERS) -> Server:
    options = ["--port", "0", "--workers", str(count), "--config", str(company.config)]
    log = company.folder / f"server-{len(company.servers)}.log"
    server = Server([sys.executable, "-m", "syncline", "serve", *options], company.folder, log)
    company.servers.append(server)
    company.road.lead_to(server)
    return server


def workers_of(server: Server) -> list[int]:
    """The process ids of the workers, not of helpers of multiprocessing."""
    found = subprocess.run(["pgrep", "-P", str(server.process.pid)], capture_output=True, text=True, check=False)
    return sorted(pid for pid in map(int, found.stdout.split()) if b"spawn_main" in command_of(pid))


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # it has ended since it was named
        return b""


def holder_of(company: Company) -> int:
    """The process that takes the checkpoints."""
    found = re.search(r"\d+", (company.folder / "clinic.db-syncline-lock.owner").read_text(encoding="utf-8"))
    return int(found[0]) if found else 0


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


with_processes = pytest.mark.skipif(not Path("/proc").exists(), reason="looks at processes by /proc")


# ---------------------------------------------------------------- workers
@with_processes
def test_when_the_worker_that_takes_the_checkpoints_is_killed_another_one_does_and_it_is_replaced(
    company: Company,
) -> None:
    """P2, P3, P6: devices on all of them go on; nothing is lost or doubled."""
    server = serve_with_workers(company)
    first = workers_of(server)
    assert len(first) == WORKERS
    ann, ben = company.live("ann"), company.live("ben")
    wait_for(lambda: holder_of(company) in first, "one of them takes the checkpoints")
    for round_ in range(3):
        holder = holder_of(company)
        os.kill(holder, signal.SIGKILL)
        query(ann.path, "UPDATE visits SET n = n + 1 WHERE id = 'v-bo'")
        query(ben.path, "INSERT INTO notes VALUES(?, 'v-cy', 'after the fall')", (f"n{round_}",))
        company.execute("UPDATE patients SET name = ? WHERE id = 'bo'", f"Bo {round_}")
        wait_for(lambda: ann.status.pending == 0 and ben.status.pending == 0, "both are delivered")
        for user, phone in (("ann", ann), ("ben", ben)):
            wait_for_scope(company, user, phone.path)
        wait_for(lambda gone=holder: holder_of(company) != gone, "another one has taken over")  # type: ignore[misc]
        wait_for(lambda: len(workers_of(server)) == WORKERS, "the dead one is replaced")
    assert company.execute("SELECT n FROM visits WHERE id = 'v-bo'") == [(3,)]
    assert company.execute("SELECT count(*) FROM audit") == [(3,)]


@with_processes
def test_sigterm_ends_all_workers_in_order(company: Company) -> None:
    server = serve_with_workers(company)
    ann = company.live("ann")
    workers = workers_of(server)
    assert len(workers) == WORKERS
    assert server.terminate() == 0
    assert all(is_gone(pid) for pid in workers)
    assert "Traceback" not in server.log()
    wait_for(lambda: ann.status.state in ("waiting", "offline"), "the device notices")
    query(ann.path, "INSERT INTO notes VALUES('n1', 'v-ada', 'meanwhile')")
    serve_with_workers(company)
    ann.connectivity_changed(online=True)
    wait_for(lambda: company.execute("SELECT count(*) FROM notes WHERE id = 'n1'") == [(1,)], "it comes back")


@with_processes
def test_workers_do_not_outlive_a_supervisor_that_is_killed(company: Company) -> None:
    server = serve_with_workers(company)
    workers = workers_of(server)
    assert len(workers) == WORKERS
    os.kill(workers[0], signal.SIGKILL)
    wait_for(lambda: len(set(workers_of(server)) - set(workers)) == 1, "one that is still starting takes its place")
    workers += workers_of(server)
    server.kill()
    wait_for(lambda: all(is_gone(pid) for pid in workers), "the workers are gone")


def test_what_keeps_a_worker_from_starting_is_told_as_by_one_server(company: Company) -> None:
    company.execute("DROP TABLE syncline_meta")
    command = [sys.executable, "-m", "syncline", "serve", "--port", "0", "--workers", "2"]
    told = subprocess.run(
        command, cwd=company.folder, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr == (
        "Error: Capture is not installed in this database. Run: syncline provision [not_provisioned]\n"
    )


# ---------------------------------------------------------------- no state in a process
def test_a_session_may_be_spread_over_servers(company: Company) -> None:
    """P5: hello at one, upload at another, download at a third, the stream at the second: nothing depends on it."""
    servers = [company.serve(road=False) for _ in range(3)]
    transports = [HttpTransport(server.url, token("ann")) for server in servers]
    with closing(ReplicaFile(company.folder / "ann.device.db")) as file:

        def hello(number: int) -> None:
            sent = file.store.now_us()
            answer = transports[number].hello(file.hello_request())
            assert file.accept_hello(answer, sent, file.store.now_us()).device

        def download(number: int, wait: float = 0) -> None:
            for frame in transports[number].download(file.download_request(with_buckets=True, wait=wait)):
                file.receive(frame)

        hello(0)
        download(1)
        query(file.path, "UPDATE visits SET n = n + 1 WHERE id = 'v-ada'")
        request = file.upload_request()
        assert request
        for number in (2, 0, 1):  # the same request again, as after a lost answer: at other servers
            assert file.accept_upload(transports[number].upload(request)).last == 1
        while file.pending():
            download(0, wait=5)
        hello(2)
        assert company.execute("SELECT n FROM visits WHERE id = 'v-ada'") == [(1,)]
        stream = transports[1].live(file.download_request(with_buckets=True))
        try:
            company.execute("UPDATE patients SET name = 'New' WHERE id = 'ada'")
            for frame in stream.frames():
                file.receive(frame)
                if query(file.path, "SELECT name FROM patients WHERE id = 'ada'") == [("New",)]:
                    break
        finally:
            stream.close()
        assert company.execute("SELECT count(*) FROM syncline_device") == [(1,)]
    for transport in transports:
        transport.close()


# ---------------------------------------------------------------- rolling restart
class App(Process):
    """A nurse's app, writing without a pause until it rests."""

    def __init__(self, company: Company, user: str) -> None:
        self.path = company.folder / f"{user}.device.db"
        command = [sys.executable, "-m", "tests.integration.app", str(self.path), company.road.url, token(user), user]
        super().__init__([*command, "1"], company.folder, company.folder / f"{user}.log", "ready", stdin=True)

    def rest(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("rest\n")
        self.process.stdin.flush()

    def written(self) -> set[str]:
        diary = Path(f"{self.path}.diary")
        return set(diary.read_text(encoding="utf-8").splitlines()) if diary.exists() else set()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_rolling_restart_loses_and_doubles_nothing_while_everybody_writes(workers: int, company: Company) -> None:
    """P2, P3, P5, P6: the old and the new server overlap on one source; the proxy moves over; the old one ends."""
    rng = random.Random(workers)
    current = serve_with_workers(company, workers)
    apps = [App(company, "ann"), App(company, "ben")]

    def wait_for_more(so_far: list[int], more: int) -> None:
        wait_for(
            lambda: all(len(app.written()) >= count + more for app, count in zip(apps, so_far, strict=True)),
            "the apps go on writing",
        )

    try:
        for number in range(4):
            company.execute("UPDATE patients SET name = ? WHERE id = 'bo'", f"Bo {number}")
            so_far = [len(app.written()) for app in apps]
            successor = serve_with_workers(company, workers)  # the road leads to it at once
            assert current.terminate() == 0
            current = successor
            wait_for_more(so_far, rng.randint(5, 20))
        for app in apps:
            app.rest()
        for app in apps:
            wait_for_rows(app.path, "SELECT seq - included FROM syncline_state", [(0,)])
        for user, app in zip(("ann", "ben"), apps, strict=True):
            wait_for_scope(company, user, app.path)
            assert query(app.path, "SELECT * FROM syncline_rejections") == []
    finally:
        for app in apps:
            app.kill()
    check_counts(company, apps)


def check_counts(company: Company, apps: list[App]) -> None:
    """Each counted visit has its note, once."""
    counted = "SELECT visit_id, count(*) FROM notes WHERE body LIKE 'counted%' GROUP BY 1 ORDER BY 1"
    notes: list[tuple[Any, ...]] = company.execute(counted)
    assert company.execute("SELECT id, n FROM visits WHERE n > 0 ORDER BY 1") == notes
    assert company.execute("SELECT visit_id, count(*) FROM audit GROUP BY 1 ORDER BY 1") == notes
    arrived = {key for (key,) in company.execute("SELECT id FROM notes")}
    for app in apps:
        assert app.written() <= arrived
    assert company.execute("SELECT count(*) FROM syncline_device") == [(2,)]
    with closing(sqlite3.connect(company.path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
