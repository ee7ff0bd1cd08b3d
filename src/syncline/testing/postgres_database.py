"""The company's database on PostgreSQL, as `company_database` has it on SQLite."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.types.string import TextLoader

from syncline.model.scopes import Plan
from syncline.source.port import ProvisionReport
from syncline.source.postgres.source import PostgresSource
from syncline.testing.postgres_server import DatabaseAddress, PostgresServer
from syncline.testing.world import Determinism

T = TypeVar("T")

_AS_TEXT = ("numeric", "uuid", "json", "jsonb", "date", "time", "timetz", "interval")
_HOST_SETTINGS = "-c timezone=UTC -c datestyle=ISO -c intervalstyle=iso_8601 -c lock_timeout=20s"
"""The host waits in the thread that the sources run in: whoever waits for one of them would wait for ever."""
_VIRTUAL_NOW = """
CREATE OR REPLACE FUNCTION syncline.now_us() RETURNS bigint LANGUAGE sql VOLATILE AS $body$
    SELECT coalesce(
        nullif(pg_catalog.current_setting('syncline_lab.now_us', true), '')::bigint,
        (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint
    )
$body$
"""


SILENCE_SECONDS = 600.0
"""Between two calls of `wait` nothing beats, and the company's own statements may take long."""


class PostgresDatabase:
    """A database of a server's, and sources that run on an event loop of its own, while `wait` waits for them."""

    has_many_writers = True

    def __init__(self, server: PostgresServer, folder: Path, *, address: DatabaseAddress | None = None) -> None:
        """A new empty database unless an `address` is given; dropped by `close` either way."""
        self.folder = folder
        self.server = server
        self.address = address or server.create_database()
        self.loop: asyncio.AbstractEventLoop | None = asyncio.new_event_loop()
        self._loop = self.loop
        self._world: Determinism | None = None
        self._sources: list[PostgresSource] = []
        self._options = _HOST_SETTINGS
        self.host = self.connect()

    @property
    def url(self) -> str:
        return self.address.url

    def connect(self) -> psycopg.Connection[Any]:
        """A connection as the host has one. Values come in the form that a replica has them."""
        connection = psycopg.connect(self.url, autocommit=True, options=self._options)
        for name in _AS_TEXT:
            connection.adapters.register_loader(name, TextLoader)
        connection.adapters.register_loader("bool", _BooleanLoader)
        connection.adapters.register_loader("timestamp", _TimestampLoader)
        connection.adapters.register_loader("timestamptz", _TimestampLoader)
        return connection

    def reconnect(self, *settings: str) -> None:
        """The host's own connection anew, with `settings` as "name=value"."""
        self.host.close()
        self._options = " ".join([_HOST_SETTINGS, *(f"-c {setting}" for setting in settings)])
        self.host = self.connect()

    def execute(self, sql: str, parameters: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        """With parameters, `?` marks their places."""
        return self._execute(self.host, sql, tuple(parameters))

    def begin_beside(self, sql: str, parameters: Iterable[Any]) -> Callable[[], None]:
        connection = self.connect()
        self._execute(connection, "BEGIN", ())
        self._execute(connection, sql, tuple(parameters))

        def commit() -> None:
            connection.execute("COMMIT")
            connection.close()

        return commit

    def _execute(self, connection: psycopg.Connection[Any], sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        if values:
            sql = sql.replace("%", "%%").replace("?", "%s")
        self._tell_time(connection)
        cursor = connection.execute(sql.encode(), values or None)
        return cursor.fetchall() if cursor.description else []

    def _tell_time(self, connection: psycopg.Connection[Any]) -> None:
        """What stamps the next statement's changes. A failed transaction takes nothing but its end."""
        if self._world and connection.info.transaction_status != TransactionStatus.INERROR:
            connection.execute(f"SET syncline_lab.now_us = {self._world.clock.now_us():d}".encode())

    def open(self, world: Determinism | None = None) -> PostgresSource:
        if world is None:
            source = PostgresSource(self.url)
        else:
            self._world = world
            source = _WorldlySource(self.url, clock=world.clock, draw=world.draw)
            source.after_provision = lambda: self.host.execute(_VIRTUAL_NOW.encode())
        source._sequencer.bear_silence(SILENCE_SECONDS)
        self._sources.append(source)
        return source

    def wait(self, awaitable: Awaitable[T]) -> T:
        return self._loop.run_until_complete(_await(awaitable))

    def close(self) -> None:
        self.host.close()
        try:
            for source in self._sources:
                self.wait(source.close())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()
            self.server.drop_database(self.address.name)


class _WorldlySource(PostgresSource):
    """Capture that it installs takes the time from the lab."""

    after_provision: Callable[[], object]

    async def provision(self, plan: Plan) -> ProvisionReport:
        report = await super().provision(plan)
        self.after_provision()
        return report

    async def adopt(self, plan: Plan) -> None:
        await super().adopt(plan)
        self.after_provision()


class _BooleanLoader(TextLoader):
    def load(self, data: Any) -> Any:
        return int(bytes(data) == b"t")


class _TimestampLoader(TextLoader):
    """Six digits, in UTC, without saying so."""

    def load(self, data: Any) -> Any:
        text = bytes(data).decode().removesuffix("+00")
        whole, _, fraction = text.partition(".")
        return f"{whole}.{fraction:0<6}" if text[0].isdigit() and not text.endswith("BC") else text


async def _await(awaitable: Awaitable[T]) -> T:
    return await awaitable
