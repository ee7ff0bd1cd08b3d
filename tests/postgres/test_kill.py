"""kill -9 of PostgreSQL itself, of the server and of apps that write, at seeded points of a mixed workload; then nobody
touches anything until all is quiet.

SYNCLINE_TEST_KILLS and SYNCLINE_TEST_SEED make longer and other runs; `make kills` is one of two hundred points.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.integration.company import wait_for
from tests.integration.killing import KILLS, SEED, USERS, Workload, office_statements, play
from tests.postgres.serving import PostgresCompany

from syncline.testing.postgres_server import PostgresServer

DOWN_SECONDS_MAX = 60.0
PARENTS_OF_NOTES = "SELECT count(*) FROM notes n LEFT JOIN visits v ON v.id = n.visit_id WHERE v.id IS NULL"


class UnsteadyCompany(PostgresCompany):
    """Its database is killed now and then: who only reads asks again until it is back."""

    def execute(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        ends = time.monotonic() + DOWN_SECONDS_MAX
        while True:
            try:
                return super().execute(sql, *parameters)
            except psycopg.OperationalError as error:
                if not is_gone(error) or time.monotonic() > ends:
                    raise
                self.hang_up()
                time.sleep(0.05)


def is_gone(error: psycopg.OperationalError) -> bool:
    """The database went away, or is not back yet: nothing that we have done."""
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


class PostgresWorkload(Workload):
    """Two of nine points are PostgreSQL's: one of its processes, whereupon it ends all sessions and recovers, or all of
    them at once."""

    company: UnsteadyCompany
    victims = ("server", "server", "server", *USERS, *USERS, "postmaster", "backend")
    pause_seconds = 0.15  # all count on three rows, which an upload takes one after the other
    modules = (*Workload.modules, "syncline.source.postgres.source", "asyncpg")

    def write_as_office(self, number: int) -> None:
        """Once, though a commit may have come to pass whose answer was lost."""
        while True:
            try:
                with psycopg.connect(self.company.owner_url, autocommit=True) as db, db.transaction():
                    if not db.execute("SELECT 1 FROM notes WHERE id = %s", [f"office-{number}"]).fetchone():
                        for sql, parameters in office_statements(number):
                            db.execute(sql.replace("?", "%s").encode(), parameters)
                return
            except psycopg.OperationalError as error:
                if not is_gone(error):
                    raise
                time.sleep(0.05)

    def kill_database(self, name: str) -> None:
        server = self.company.server
        children = children_of(server.process)
        if name == "backend":
            with contextlib.suppress(ProcessLookupError):  # a session that has just ended
                os.kill(self._rng.choice(children), signal.SIGKILL)
            return
        killed = [server.process, *children]
        for pid in killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(is_known(pid) for pid in killed), "PostgreSQL is gone")
        time.sleep(self._rng.uniform(0, 0.3))
        server.start()

    def check_database(self) -> None:
        assert self.company.execute("SELECT 1") == [(1,)]

    def check_whole_database(self) -> None:
        """Every page is read, with its checksum; every index is built anew, and so looked through for doubles; where
        PostgreSQL brings its own check along, that too."""
        server, name = self.company.server, self.company.name
        place = ["--host", str(server.folder), "--port", str(server.port), "--username", "postgres"]
        server.run("pg_dump", *place, "--file", os.devnull, name)
        if self.company.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'amcheck'"):
            server.run("pg_amcheck", *place, "--install-missing", "--heapallindexed", name)
        server.run("reindexdb", *place, name)
        assert self.company.execute("SHOW data_checksums") == [("on",)]
        assert self.company.execute(PARENTS_OF_NOTES) == [(0,)]


def children_of(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found


def is_known(pid: int) -> bool:
    """A zombie, too: PostgreSQL takes it for a server that runs."""
    return Path(f"/proc/{pid}").exists()


@pytest.fixture
def company(own_postgres: Callable[..., PostgresServer], tmp_path: Path) -> Iterator[UnsteadyCompany]:
    company = UnsteadyCompany(tmp_path, own_postgres(durable=True, initdb=["--data-checksums"]))
    yield company
    company.close()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes by /proc")
@pytest.mark.timeout(240 + 20 * KILLS)
def test_kill_9_of_postgresql_too_loses_nothing_and_doubles_nothing(company: UnsteadyCompany) -> None:
    """P1, P2, P3, P4, P5, P7, P15."""
    play(PostgresWorkload(company, random.Random(SEED)))
