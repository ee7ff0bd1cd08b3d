"""A fresh database per test, and the host's own SQL on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.postgres.office import Office

from syncline.source.postgres import aside, unfit
from syncline.testing.postgres_server import DatabaseAddress, PostgresServer


class HostDatabase:
    """A database of the company's, and sessions on it as the company's programs have them: by psycopg, in autocommit
    unless a statement says BEGIN, values as psycopg gives them.

    `url` goes by the socket, `tcp_url` by the port with a password; the user is the server's superuser `postgres`."""

    def __init__(self, server: PostgresServer, address: DatabaseAddress) -> None:
        self.server = server
        self.name = address.name
        self.url = address.url
        self.tcp_url = address.tcp_url
        self._sessions: list[psycopg.Connection[Any]] = []
        self._host: psycopg.Connection[Any] | None = None

    def connect(self, user: str = "postgres", **options: Any) -> psycopg.Connection[Any]:
        """One more session; closed with the database."""
        url = self.server.address(self.name, user).url
        self._sessions.append(psycopg.connect(url, autocommit=True, **options))
        return self._sessions[-1]

    @property
    def host(self) -> psycopg.Connection[Any]:
        if self._host is None or self._host.closed:
            self._host = self.connect()
        return self._host

    def execute(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """The rows of the (last) statement, if it has any. Without parameters several statements may be one string."""
        cursor = self.host.execute(sql.encode(), parameters)
        while cursor.nextset():
            pass
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        for session in self._sessions:
            session.close()
        self.server.drop_database(self.name)


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[HostDatabase]:
    """A fresh, empty UTF-8 database."""
    database = HostDatabase(postgres_server, postgres_server.create_database())
    yield database
    database.close()


@pytest.fixture
def make_postgres(postgres_server: PostgresServer) -> Iterator[Any]:
    """`make_postgres(encoding="LATIN1")`: databases made otherwise, or more than one."""
    made: list[HostDatabase] = []

    def make(**options: Any) -> HostDatabase:
        made.append(HostDatabase(postgres_server, postgres_server.create_database(**options)))
        return made[-1]

    yield make
    for database in made:
        database.close()


@pytest.fixture
def office(
    postgres: HostDatabase, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Office]:
    """A service that runs beside the company's SQL; what failed is tried again at once."""
    monkeypatch.setattr(aside, "TRY_SECONDS", 0.2)
    monkeypatch.setattr(unfit, "LOOK_SECONDS", 0.2)
    made = Office(postgres, tmp_path, caplog)
    yield made
    postgres.execute(f'DROP OWNED BY "{made.role}"; DROP ROLE "{made.role}"')
