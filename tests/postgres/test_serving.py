"""`syncline serve` on PostgreSQL: the database goes away and comes back, servers die, stop and go on, and rights are
few. Phones are connected all the while."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.integration.company import Server, environment, query, wait_for, wait_for_rows, wait_for_scope
from tests.postgres.serving import SERVICE, PostgresCompany, fault, readiness

from syncline.server.sequencer import STANDBY_SECONDS
from syncline.source.postgres.lease import SILENCE_SECONDS
from syncline.testing.postgres_server import PostgresServer

OpenCompany = Callable[..., PostgresCompany]
with_processes = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="looks at processes by /proc")


@pytest.fixture
def open_company(own_postgres: Callable[..., PostgresServer], tmp_path: Path) -> Iterator[OpenCompany]:
    """`open_company({"max_connections": 20})`; more arguments are PostgresServer's."""
    made: list[PostgresCompany] = []

    def make(settings: dict[str, object] | None = None, **more: Any) -> PostgresCompany:
        made.append(PostgresCompany(tmp_path, own_postgres(settings, **more)))
        return made[-1]

    yield make
    for company in made:
        company.close()


# ---------------------------------------------------------------- the database goes away
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_postgresql_restarts_under_a_running_server(open_company: OpenCompany, mode: str) -> None:
    """P2, P3, P18: what was committed before arrives with no new write to wake anybody; so does what the phones wrote
    meanwhile; /readyz says why nothing goes on."""
    company = open_company(durable=True)
    server = company.serve()
    ann, ben = company.live("ann"), company.live("ben")
    query(ann.path, "INSERT INTO notes VALUES('n1', 'v-ada', 'before')")
    wait_for(lambda: company.execute("SELECT count(*) FROM notes WHERE id = 'n1'") == [(1,)], "her note arrived")
    company.execute("UPDATE patients SET name = 'Renamed' WHERE id = 'bo'")  # and at once:
    company.server.stop(mode)
    query(ann.path, "UPDATE visits SET n = n + 1 WHERE id = 'v-bo'")
    query(ben.path, "INSERT INTO notes VALUES('n2', 'v-cy', 'meanwhile')")
    wait_for(lambda: "[source_unreachable]" in fault(server), "/readyz says what is missing")
    assert not readiness(server)["ready"]
    company.hang_up()
    company.server.start()
    wait_for(lambda: ann.status.pending == 0 and ben.status.pending == 0, "what they wrote is delivered")
    for user, phone in (("ann", ann), ("ben", ben)):
        wait_for_scope(company, user, phone.path)
    assert query(ann.path, "SELECT name FROM patients WHERE id = 'bo'") == [("Renamed",)]
    assert company.execute("SELECT n FROM visits WHERE id = 'v-bo'") == [(1,)]
    wait_for(lambda: readiness(server) == {**readiness(server), "ready": True, "fault": None}, "it is ready again")
    assert server.process.poll() is None
    assert company.execute("SELECT count(*) FROM audit") == [(1,)]


HELD = """
import asyncio, sys
from pathlib import Path
from syncline import limits
limits.PAGE_ROWS_MAX, limits.PROGRESS_BYTES_TARGET = 1, 1
from syncline.server.job import Job
next_page = Job._next_page
async def held(self):
    print("<page>", file=sys.stderr, flush=True)
    while not Path("go-on").exists():
        await asyncio.sleep(0.01)
    return await next_page(self)
Job._next_page = held
"""
"""One row a page; what comes after the first page waits for the test."""


def test_postgresql_restarts_in_the_middle_of_an_answer(open_company: OpenCompany) -> None:
    """P2, P18: the device is told why its answer ends, and goes on with the page after; the log has a line of it, and
    nothing that looks like a fault of ours."""
    company = open_company(durable=True)
    server = company.serve(HELD)
    ann = company.device("ann")
    reasons: list[str | None] = []
    ann.on("status", lambda status: reasons.append(status.reason))
    ann.start()
    wait_for(lambda: "<page>" in server.log(), "an answer has begun")
    company.server.stop("immediate")
    (company.folder / "go-on").touch()
    wait_for(lambda: "source_unreachable" in reasons, "she is told")
    company.hang_up()
    company.server.start()
    wait_for_scope(company, "ann", ann.path)
    told = [line for line in server.log().splitlines() if "broke off" in line]
    assert told and all("of ann" in line and "[source_unreachable]" in line for line in told)
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_without_postgresql_a_server_does_not_start_and_says_so(open_company: OpenCompany, workers: str) -> None:
    """P18."""
    company = open_company()
    company.server.stop()
    command = [sys.executable, "-m", "syncline", "serve", "--port", "0", "--workers", workers]
    told = subprocess.run(
        command, cwd=company.folder, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.count("\n") == 1 and told.stderr.endswith("[source_unreachable]\n"), told.stderr
    assert company.password not in told.stderr


def test_a_server_waits_for_a_database_that_is_only_starting(open_company: OpenCompany) -> None:
    """P2. One that replays its log lets nobody in; `hot_standby = off` makes that last as long as the test likes."""
    company = open_company()
    company.server.stop()
    (company.server.data / "standby.signal").touch()
    company.hang_up()
    company.server.start({"hot_standby": "off"})
    log = company.folder / "server-0.log"
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(company.serve)
        try:
            wait_for(lambda: log.exists() and "waiting for the database" in log.read_text(), "it says that it waits")
            assert not starting.done()
        finally:
            company.server.run("pg_ctl", "-D", str(company.server.data), "promote")
        assert starting.result(60).url
    ann = company.live("ann")
    company.execute("UPDATE patients SET name = 'Later' WHERE id = 'ada'")
    wait_for_scope(company, "ann", ann.path)


def test_no_connection_is_left_for_us(open_company: OpenCompany) -> None:
    """P2, P3, P18: others have taken them all. It is told, tried again, and nothing is lost."""
    company = open_company({"max_connections": 30, "superuser_reserved_connections": 3})
    server = company.serve()
    ann = company.live("ann")
    company.execute("CREATE ROLE report LOGIN")
    reports: list[psycopg.Connection[Any]] = []

    def crowd() -> bool:
        """Whether all places are taken, and none of them by the service."""
        company.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ?", SERVICE)
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                reports.append(psycopg.connect(company.server.address(company.name, "report").url))
        return company.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = ?", SERVICE) == [(0,)]

    try:
        wait_for(crowd, "the reports have it all")
        query(ann.path, "UPDATE visits SET n = n + 1 WHERE id = 'v-ada'")
        company.execute("UPDATE patients SET name = 'Crowded' WHERE id = 'ada'")
        wait_for(lambda: "[source_connections]" in fault(server), "/readyz names it")
    finally:
        for report in reports:
            report.close()
    wait_for(lambda: ann.status.pending == 0, "her change is delivered")
    wait_for_scope(company, "ann", ann.path)
    assert company.execute("SELECT n FROM visits WHERE id = 'v-ada'") == [(1,)]


# ---------------------------------------------------------------- several servers
def taken_over(company: PostgresCompany, other: Server) -> float:
    """How many seconds from now on it took until the other one is the sequencer; shown with -s, and not asserted."""
    begun = time.monotonic()
    wait_for(lambda: company.active_process() == other.process.pid, "the other one is the sequencer")
    return time.monotonic() - begun


def test_a_standby_is_there_within_five_seconds_by_the_numbers() -> None:
    assert SILENCE_SECONDS + STANDBY_SECONDS < 5


@with_processes
def test_one_of_two_servers_is_killed_and_the_other_goes_on(open_company: OpenCompany) -> None:
    """P2, P3, P6: phones at both gateways hear of everything, whoever takes the checkpoints."""
    company = open_company()
    first, second = company.serve(road=False), company.serve(road=False)
    servers = {server.process.pid: server for server in (first, second)}
    ann, ben = company.live("ann", url=first.url), company.live("ben", url=second.url)
    wait_for(lambda: company.active_process() in servers, "one of them is the sequencer")
    company.execute("UPDATE patients SET name = 'Both' WHERE id = 'bo'")
    for user, phone in (("ann", ann), ("ben", ben)):
        wait_for_scope(company, user, phone.path)
    active = company.active_process()
    other = next(server for pid, server in servers.items() if pid != active)
    os.kill(active, signal.SIGKILL)
    company.execute("UPDATE patients SET name = 'One' WHERE id = 'bo'")
    print(f"killed: the other one took over after {taken_over(company, other):.1f} s")
    user, phone = ("ann", ann) if other is first else ("ben", ben)
    query(phone.path, "UPDATE visits SET n = n + 1 WHERE id = 'v-bo'")
    wait_for(lambda: phone.status.pending == 0, "delivered by the other one")
    wait_for_scope(company, user, phone.path)
    assert company.active_process() == other.process.pid
    assert company.execute("SELECT n FROM visits WHERE id = 'v-bo'") == [(1,)]


@with_processes
def test_a_stopped_server_comes_back_as_a_standby(open_company: OpenCompany) -> None:
    """P2, P6: it believes to be active when it wakes, and commits nothing; its phones hear of everything."""
    company = open_company()
    if int(company.server.installation.version) < 14:
        pytest.skip("PostgreSQL before 14 does not end silent sessions")
    first, second = company.serve(road=False), company.serve(road=False)
    servers = {server.process.pid: server for server in (first, second)}
    phones = {first: company.live("ann", url=first.url), second: company.live("ben", url=second.url)}
    users = {first: "ann", second: "ben"}
    wait_for(lambda: company.active_process() in servers, "one of them is the sequencer")
    stopped = servers[company.active_process()]
    other = first if stopped is second else second
    [(before,)] = company.execute("SELECT term FROM syncline.checkpoint")
    os.kill(stopped.process.pid, signal.SIGSTOP)
    try:
        print(f"stopped: the other one took over after {taken_over(company, other):.1f} s")
        company.execute("UPDATE patients SET name = 'Meanwhile' WHERE id = 'bo'")
        wait_for_scope(company, users[other], phones[other].path)
        [(after,)] = company.execute("SELECT term FROM syncline.checkpoint")
        assert before != after and company.active_process() == other.process.pid
    finally:
        os.kill(stopped.process.pid, signal.SIGCONT)
    company.execute("UPDATE patients SET name = 'Afterwards' WHERE id = 'bo'")
    for server, phone in phones.items():
        wait_for_scope(company, users[server], phone.path)
    query(phones[stopped].path, "INSERT INTO notes VALUES('n1', 'v-bo', 'still here')")
    wait_for_rows(phones[other].path, "SELECT body FROM notes WHERE id = 'n1'", [("still here",)])
    wait_for(lambda: readiness(stopped)["ready"], "it follows")
    assert company.execute("SELECT term FROM syncline.checkpoint") == [(after,)], "the old one has committed nothing"
    assert company.execute("SELECT count(*) FROM syncline.term WHERE last IS NULL") == [(1,)]


@with_processes
def test_two_workers_of_one_server(open_company: OpenCompany) -> None:
    """P2, P3: the one that takes the checkpoints dies; the other does, and another one is started."""
    company = open_company()
    company.serve("", "--workers", "2")
    ann, ben = company.live("ann"), company.live("ben")
    wait_for(company.active_process, "one of them is the sequencer")
    active = company.active_process()
    os.kill(active, signal.SIGKILL)
    query(ann.path, "UPDATE visits SET n = n + 1 WHERE id = 'v-bo'")
    company.execute("UPDATE patients SET name = 'After the fall' WHERE id = 'bo'")
    wait_for(lambda: ann.status.pending == 0, "delivered")
    for user, phone in (("ann", ann), ("ben", ben)):
        wait_for_scope(company, user, phone.path)
    wait_for(lambda: company.active_process() not in (0, active), "another one is the sequencer")


# ---------------------------------------------------------------- capture that is lost
def test_capture_of_one_table_is_lost_and_the_service_may_not_put_it_back(open_company: OpenCompany) -> None:
    """P18, P20: the rest goes on; /readyz and doctor name the table; a person with the owner's login mends it."""
    company = open_company()
    server = company.serve()
    ann = company.live("ann")
    company.execute("DROP TRIGGER syncline_update ON notes")
    wait_for(lambda: "notes" in fault(server) and "[capture_lost]" in fault(server), "/readyz names the table")
    assert readiness(server)["ready"], "all else goes on"
    company.execute("UPDATE notes SET body = 'unseen' WHERE id = 'n-ada'")
    company.execute("UPDATE patients SET name = 'Still told' WHERE id = 'ada'")
    wait_for_rows(ann.path, "SELECT name FROM patients WHERE id = 'ada'", [("Still told",)])
    command = [sys.executable, "-m", "syncline", "doctor"]
    told = subprocess.run(
        command, cwd=company.folder, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert told.returncode == 1 and "[capture_lost]" in told.stdout and "notes" in told.stdout
    assert company.password not in told.stdout + told.stderr
    company.provision()
    wait_for_scope(company, "ann", ann.path)
    wait_for(lambda: not fault(server), "nothing is wrong any more")


# ---------------------------------------------------------------- standbys
@pytest.fixture
def follow(tmp_path: Path) -> Iterator[Callable[[PostgresServer], PostgresServer]]:
    """`follow(server)`: a running standby of it, by pg_basebackup."""
    made: list[PostgresServer] = []

    def make(primary: PostgresServer) -> PostgresServer:
        standby = PostgresServer(primary.installation, Path(f"{primary.folder}-standby"))
        made.append(standby)
        address = f"host={primary.folder} port={primary.port} user=postgres"
        backup = primary.run("pg_basebackup", "-D", f"{primary.folder}/copy", "-d", address, "-R", "-X", "stream")
        assert not backup.stderr.strip("\n").startswith("pg_basebackup: error")
        standby.folder.mkdir(mode=0o700)
        owner = primary.data.stat()
        os.chown(standby.folder, owner.st_uid, owner.st_gid)
        (primary.folder / "copy").rename(standby.data)
        (standby.folder / "password").write_text(primary.password)
        standby.start()
        return standby

    yield make
    for server in made:
        server.close()


def test_a_standby_is_no_source(open_company: OpenCompany, follow: Callable[..., PostgresServer]) -> None:
    """P15, P18: everything can be read there, and nothing written."""
    company = open_company()
    standby = follow(company.server)
    text = company.config.read_text(encoding="utf-8")
    company.config.write_text(text.replace(f":{company.server.port}/", f":{standby.port}/"), encoding="utf-8")
    for verb, status in (("serve", 2), ("provision", 2), ("doctor", 1)):
        command = [sys.executable, "-m", "syncline", verb, *(["--port", "0"] if verb == "serve" else [])]
        told = subprocess.run(
            command, cwd=company.folder, env=environment(), capture_output=True, text=True, timeout=60, check=False
        )
        assert told.returncode == status, verb
        assert "standby" in told.stdout + told.stderr and "Traceback" not in told.stderr, (verb, told)
        assert company.password not in told.stdout + told.stderr


def test_the_standby_is_promoted_and_devices_lose_nothing(
    own_postgres: Callable[..., PostgresServer], follow: Callable[..., PostgresServer], tmp_path: Path
) -> None:
    """P2, P3: an address with both hosts leads to whoever can be written."""
    server = own_postgres(durable=True)
    standby = follow(server)
    hosts = f"127.0.0.1:{server.port},127.0.0.1:{standby.port}"
    address = f"postgresql://{SERVICE}:{server.password}@{hosts}/{{database}}?target_session_attrs=read-write"
    company = PostgresCompany(tmp_path, server, address)
    try:
        company.serve()
        ann = company.live("ann")
        company.execute("UPDATE patients SET name = 'On the old one' WHERE id = 'ada'")
        wait_for_scope(company, "ann", ann.path)
        [(written,)] = company.execute("SELECT pg_current_wal_lsn()::text")
        with psycopg.connect(standby.address().url, autocommit=True) as db:
            replayed = b"SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
            wait_for(lambda: db.execute(replayed, (written,)).fetchone() == (True,), "the standby has it")
            server.stop("immediate")
            query(ann.path, "INSERT INTO notes VALUES('n1', 'v-ada', 'in between')")
            db.execute("SELECT pg_promote()")
        company.hang_up()
        company.owner_url = standby.address(company.name).url
        wait_for(lambda: ann.status.pending == 0, "delivered to the new one")
        wait_for_scope(company, "ann", ann.path)
        company.execute("UPDATE patients SET name = 'On the new one' WHERE id = 'ada'")
        wait_for_scope(company, "ann", ann.path)
        assert company.execute("SELECT body FROM notes WHERE id = 'n1'") == [("in between",)]
    finally:
        company.close()
