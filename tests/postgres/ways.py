"""A company on PostgreSQL as the stories of this folder see it: the host's own sessions, and what devices should hold.

Nothing here knows how capture is made. What a device should hold is said by a plain SELECT of another driver.
"""

from __future__ import annotations

import asyncio
import datetime
import threading
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar, cast

import psycopg
import pytest
from psycopg.types.string import TextLoader
from tests.postgres.conftest import HostDatabase

from syncline.errors import SchemaChangedError, SourceBusyError, SynclineError
from syncline.model.identifiers import quote
from syncline.model.scopes import LinkConfig, Plan, PlanConfig, ScopeConfig, TableConfig
from syncline.server.service import Service
from syncline.source.port import Checkpoint
from syncline.source.postgres.source import PostgresSource
from syncline.testing.bench import Phone
from syncline.testing.contract_lab import Company, SourceLab
from syncline.testing.plans import plan_for
from syncline.testing.postgres_server import PostgresServer

T = TypeVar("T")
OpenTown = Callable[..., "Town"]
"""`open_town(statements, config)`; more arguments are PostgresSource's, and `database=` another than the test's own."""

ATTEMPTS_MAX = 200
HOST_SECONDS_MAX = 60.0
TEXTS = ("numeric", "json", "jsonb", "money", "interval")
"""Types that a replica shows as PostgreSQL prints them."""

Session = psycopg.Connection[tuple[Any, ...]]
Deed = str | Callable[["Town"], None]
"""One statement of the company's, or something that it does."""

ONE_VERSION = pytest.mark.parametrize("postgres_version", ["18"], ids=["pg18"], indirect=True)
"""For variants in which the versions do not differ, of tests that run on all of them: the suite has minutes, not hours."""

TABLES = (
    "CREATE TABLE patients(id integer PRIMARY KEY, name text NOT NULL, region text)",
    "CREATE TABLE visits(id integer PRIMARY KEY, patient_id integer NOT NULL REFERENCES patients ON UPDATE CASCADE "
    "ON DELETE CASCADE DEFERRABLE, status text NOT NULL DEFAULT 'planned', minutes integer DEFAULT 0)",
    "CREATE TABLE notes(id integer PRIMARY KEY, visit_id integer NOT NULL REFERENCES visits ON UPDATE CASCADE "
    "ON DELETE CASCADE DEFERRABLE, body text)",
    "CREATE TABLE assignments(nurse text, patient_id integer, PRIMARY KEY(nurse, patient_id))",
    "CREATE INDEX ON visits(patient_id)",
    "CREATE INDEX ON notes(visit_id)",
    "INSERT INTO patients SELECT p, 'patient ' || p, 'north' FROM generate_series(1, 5) p",
    "INSERT INTO visits SELECT p * 10 + n, p FROM generate_series(1, 5) p, generate_series(1, 2) n",
    "INSERT INTO notes SELECT id * 10, id, 'note of ' || id FROM visits",
    "INSERT INTO assignments VALUES('ann', 1), ('ann', 2), ('ann', 3), ('ben', 3), ('ben', 4)",
)


def caseload(*more: ScopeConfig, read_only: bool = False, **tables: TableConfig) -> PlanConfig:
    """A nurse has her patients with their visits and notes, and `tables`."""
    scope = ScopeConfig(
        "caseload",
        {
            "visits": TableConfig((LinkConfig(parent="patients"),)),
            "notes": TableConfig((LinkConfig(parent="visits"),)),
            **tables,
        },
        root="patients",
        grant="SELECT patient_id FROM assignments WHERE nurse = :sub",
        read_only=read_only,
    )
    return PlanConfig((scope, *more))


def everybody(*tables: str, read_only: bool = False) -> ScopeConfig:
    """One bucket that every user has."""
    return ScopeConfig("everybody", {table: TableConfig() for table in tables}, read_only=read_only)


def for_everybody(*tables: str, read_only: bool = False) -> PlanConfig:
    return PlanConfig((everybody(*tables, read_only=read_only),))


def of(nurse: str) -> dict[str, str]:
    """What a nurse should have of `TABLES`, in the words of the task."""
    mine = f"SELECT patient_id FROM assignments WHERE nurse = '{nurse}'"
    return {
        "patients": f"id IN ({mine})",
        "visits": f"patient_id IN ({mine})",
        "notes": f"visit_id IN (SELECT id FROM visits WHERE patient_id IN ({mine}))",
    }


def as_replica(value: object) -> object:
    """The form that docs/types.md gives a value of the usual types."""
    match value:
        case bool():
            return int(value)
        case Decimal() | uuid.UUID():
            return str(value)
        case datetime.datetime():
            return value.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
        case datetime.date():
            return value.isoformat()
        case memoryview() | bytearray():
            return bytes(value)
    return value


def in_one_transaction(*statements: str) -> Deed:
    def run(town: Town) -> None:
        with town.host.transaction():
            town.execute(*statements)

    return run


class Beside:
    """What a `Company` needs of its database: sources on it, which run in a thread of their own."""

    def __init__(self, url: str, folder: Path, **options: Any) -> None:
        """`options`: as PostgresSource has them."""
        self.folder = folder
        self._url = url
        self._options = options
        self._sources: list[PostgresSource] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def open(self) -> PostgresSource:
        source = PostgresSource(self._url, **self._options)
        self._sources.append(source)
        return source

    def wait(self, awaitable: Awaitable[T]) -> T:
        async def run() -> T:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def close(self) -> None:
        for source in self._sources:
            self.wait(source.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Town(Company):
    """A company being served. `execute` is its own session; `connect` opens more of them."""

    def __init__(
        self, database: HostDatabase, folder: Path, statements: Iterable[str], config: PlanConfig, **options: Any
    ) -> None:
        self.database = database
        self.term = "term-1"
        self.host = self.connect()
        self.execute(*statements)
        beside = Beside(options.pop("url", database.url), folder, **options)
        try:
            super().__init__(cast(SourceLab, beside), (), config)
        except BaseException:
            beside.close()
            raise

    # ------------------------------------------------------------ the company
    def connect(self, user: str = "postgres", **parameters: Any) -> Session:
        """One more session of the host's; `parameters` as psycopg has them (options, …)."""
        session = self.database.connect(user, **parameters)
        for name in TEXTS:
            session.adapters.register_loader(name, TextLoader)
        session.execute("SET timezone = 'UTC'; SET client_encoding = 'UTF8'")
        return session

    def execute(self, *statements: str) -> None:
        for statement in statements:
            self.host.execute(statement.encode())

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        return self.host.execute(query.encode()).fetchall()

    def do(self, *deeds: Deed) -> None:
        for deed in deeds:
            self.execute(deed) if isinstance(deed, str) else deed(self)

    def copy(self, target: str, rows: Iterable[tuple[Any, ...]]) -> None:
        with self.host.cursor() as cursor, cursor.copy(f"COPY {target} FROM STDIN".encode()) as stream:
            for row in rows:
                stream.write_row(row)

    def rows(self, table: str, where: str = "1 = 1") -> list[str]:
        synced = self.plan.tables[table]
        columns = ", ".join(quote(column) for column in synced.columns)
        place = ".".join(quote(part) for part in synced.table.place)
        found = self.ask(f"SELECT {columns} FROM {place} WHERE {where}")
        return sorted(repr(tuple(map(as_replica, row))) for row in found)

    # ------------------------------------------------------------ Syncline
    def checkpoint(self) -> Checkpoint | None:
        """As the service's loop does: one that gave way comes again."""
        for _ in range(ATTEMPTS_MAX):
            try:
                return self.wait(self.source.take_checkpoint(self.term))
            except SourceBusyError:
                continue
            except SchemaChangedError:
                try:
                    self.wait(self.make_plan_anew())
                except (SourceBusyError, SchemaChangedError):
                    continue
        raise AssertionError("The sequencer does not get through.")

    async def make_plan_anew(self) -> Plan:
        self.plan = await plan_for(self.source, self._config)
        await self.source.adopt(self.plan)
        self.service = Service(self.source, self.plan, self.clock, wait_for_marker=self._pass_marker)
        return self.plan

    async def _pass_marker(self) -> None:
        await self.source.put_marker()
        await self.source.take_checkpoint(self.term)

    def drain(self) -> int:
        """Checkpoints until nothing waits; how many changes they took."""
        total = 0
        while (taken := self.checkpoint()) is not None:
            total += taken.changes
        return total

    def agrees(self, phone: Phone, wanted: Mapping[str, str] | None = None, **more: str) -> None:
        """Once the sequencer has noticed what the company did; until then a phone is asked to come again."""
        self.checkpoint()
        super().agrees(phone, wanted, **more)

    def agree(self, phones: Mapping[str, Phone] | Iterable[Phone], wanted: Mapping[str, str]) -> None:
        """Each of the phones, and one that comes new, holds exactly what `wanted` names."""
        known = list(phones.values()) if isinstance(phones, Mapping) else list(phones)
        for phone in (*known, self.new_phone(known[0].identity.user)):
            self.agrees(phone, wanted)

    def close(self) -> None:
        super().close()
        cast(Beside, self.lab).close()


def write_and_compare(town: Town, *deeds: Deed) -> None:
    """One phone follows every deed, others come only in the end, and all hold the source's rows."""
    ann, later, ben = town.phone("ann"), town.phone("ann"), town.phone("ben")
    for deed in deeds:
        town.do(deed)
        town.agrees(ann, of("ann"))
    town.agree([ann, later], of("ann"))
    town.agree([ben], of("ben"))


@dataclass
class Hosts:
    """Sessions of the host's in threads of their own; what one of them raises is raised by `join`."""

    errors: list[BaseException] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                self.errors.append(error)

        thread = threading.Thread(target=run)
        self._threads.append(thread)
        thread.start()

    def busy(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(HOST_SECONDS_MAX)
            assert not thread.is_alive(), "a host does not come to an end"
        if self.errors:
            raise self.errors[0]


def beside(town: Town, work: Callable[[], None], *phones: Phone) -> None:
    """The company works in another thread while checkpoints are taken and the phones sync."""
    hosts = Hosts()
    hosts.start(work)
    while hosts.busy():
        town.checkpoint()
        for phone in phones:
            sync_or_wait(phone)
    hosts.join()


def sync_or_wait(phone: Phone) -> bool:
    """False where the phone was asked to come again: the schema is moving, or fits nothing just now, or somebody holds
    the database."""
    try:
        phone.sync()
    except SynclineError:
        return False
    return True


class Ways:
    """Fixtures of the stories. `town` is the home-care company of `TABLES`; `open_town(statements, config)` another."""

    @pytest.fixture
    def open_town(self, postgres: HostDatabase, tmp_path: Path) -> Iterator[OpenTown]:
        made: list[Town] = []

        def make(
            statements: Iterable[str], config: PlanConfig, *, database: HostDatabase = postgres, **options: Any
        ) -> Town:
            made.append(Town(database, tmp_path, statements, config, **options))
            return made[-1]

        yield make
        for town in made:
            town.close()

    @pytest.fixture
    def own_database(self, own_postgres: Callable[..., PostgresServer]) -> Iterator[Callable[..., HostDatabase]]:
        """`own_database({"wal_level": "logical"})`: on a server that is the test's alone. To be asked for before
        `open_town`, so that the town is closed first."""
        made: list[HostDatabase] = []

        def make(settings: dict[str, object] | None = None, **more: Any) -> HostDatabase:
            server = own_postgres(settings, **more)
            made.append(HostDatabase(server, server.create_database()))
            return made[-1]

        yield make
        for database in made:
            database.close()

    @pytest.fixture
    def town(self, open_town: OpenTown) -> Town:
        return open_town(TABLES, caseload())
