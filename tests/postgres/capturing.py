"""A captured database, and what stands in its queues."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tests.postgres.conftest import HostDatabase

from syncline.model.scopes import LinkConfig, Plan, PlanConfig, ScopeConfig, TableConfig
from syncline.source.postgres.source import PostgresSource
from syncline.testing.plans import plan_for

T = TypeVar("T")
TABLES = (
    "CREATE TABLE patients(id integer PRIMARY KEY, name text, region text, ssn text)",
    "CREATE TABLE visits(id integer PRIMARY KEY DEFERRABLE, patient_id integer REFERENCES patients ON UPDATE CASCADE "
    "ON DELETE SET NULL, status text, price numeric, extra json, UNIQUE (status, patient_id))",
    "CREATE TABLE drugs(id text PRIMARY KEY, name text, dose float8)",
    "CREATE TABLE assignments(nurse text, patient_id integer, remark text)",
    "INSERT INTO patients VALUES (1, 'Ada', 'north', '1'), (2, 'Bo', 'south', '2')",
    "INSERT INTO visits VALUES (10, 1, 'planned', 1.5, '{}'), (20, 2, 'done', 2, NULL)",
    "INSERT INTO drugs VALUES ('a', 'Aspirin', 0.5), ('b', 'Ibuprofen', 1)",
    "INSERT INTO assignments VALUES ('ann', 1, ''), ('ann', 2, '')",
)
CONFIG = PlanConfig(
    (
        ScopeConfig(
            "caseload",
            {"visits": TableConfig((LinkConfig(parent="patients"),))},
            root="patients",
            grant="SELECT patient_id FROM assignments WHERE nurse = :sub",
        ),
        ScopeConfig("formulary", {"drugs": TableConfig()}, read_only=True),
    ),
    hide={"patients": ("ssn",)},
)


class Clinic:
    """Sources run on an event loop of its own, while `wait` waits for them."""

    def __init__(self, database: HostDatabase, tables: tuple[str, ...], config: PlanConfig) -> None:
        self.database = database
        self.config = config
        self.loop = asyncio.new_event_loop()
        self._sources: list[PostgresSource] = []
        self.told: list[str] = []
        for statement in tables:
            database.execute(statement)
        self.source = self.open()
        self.plan: Plan = self.plan_now()

    def open(self, user: str = "postgres", **options: Any) -> PostgresSource:
        url = self.database.server.address(self.database.name, user).url
        self._sources.append(PostgresSource(url, tell=self.told.append, **options))
        return self._sources[-1]

    def wait(self, work: Awaitable[T]) -> T:
        async def all_of_it() -> T:
            return await work

        return self.loop.run_until_complete(all_of_it())

    def plan_now(self, source: PostgresSource | None = None) -> Plan:
        self.plan = self.wait(plan_for(source or self.source, self.config))
        return self.plan

    def provision(self, source: PostgresSource | None = None) -> Any:
        return self.wait((source or self.source).provision(self.plan))

    def execute(self, *statements: str) -> None:
        for statement in statements:
            self.database.execute(statement)

    def changes(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        """op, key and `columns` of what waits, in order of keys."""
        listed = ", ".join(("op::text", "k_1", *columns))
        return self.database.execute(f'SELECT {listed} FROM syncline."changelog_{table}" ORDER BY k_1, id')

    def gaps(self) -> list[str]:
        return [row[0] for row in self.database.execute("SELECT DISTINCT table_name FROM syncline.gap ORDER BY 1")]

    def empty(self) -> None:
        for (name,) in self.database.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'syncline'::regnamespace AND relkind = 'r' "
            "AND (relname LIKE 'changelog%' OR relname = 'gap')"
        ):
            self.database.execute(f'DELETE FROM syncline."{name}"')

    def close(self) -> None:
        for source in self._sources:
            self.wait(source.close())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


@contextmanager
def clinic_on(
    database: HostDatabase, tables: tuple[str, ...] = TABLES, config: PlanConfig = CONFIG
) -> Iterator[Clinic]:
    clinic = Clinic(database, tables, config)
    try:
        yield clinic
    finally:
        clinic.close()
