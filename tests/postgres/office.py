"""The company with its database, a service of the least rights that runs beside it, and what all accounts say of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from syncline.cli.doctor import _examine
from syncline.server.config import load_plan, parse_settings
from syncline.server.config_kept import KeptReads
from syncline.server.service import Service
from syncline.source.port import PageSize, Walk
from syncline.source.postgres.source import PostgresSource
from syncline.system.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from tests.postgres.conftest import HostDatabase

CLAIMS = {"sub": "ann"}
BUCKETS = frozenset({"caseload[1]", "reference[]"})
TABLES = """
CREATE TYPE state AS ENUM ('open', 'hidden');
CREATE TYPE standing AS ENUM ('now', 'over');
CREATE TABLE patients(id int PRIMARY KEY, name text);
CREATE TABLE visits(id int PRIMARY KEY, patient_id int REFERENCES patients, state state NOT NULL DEFAULT 'open', n int);
CREATE TABLE notes(id int PRIMARY KEY, visit_id int REFERENCES visits, body text);
CREATE TABLE medications(id int PRIMARY KEY, dose text);
CREATE TABLE assignments(nurse text, patient_id int, standing standing NOT NULL DEFAULT 'now');
CREATE SCHEMA pharmacy;
CREATE TABLE pharmacy.stock(id int PRIMARY KEY, n int);
INSERT INTO patients VALUES (1, 'Ada');
INSERT INTO visits VALUES (1, 1);
INSERT INTO notes VALUES (1, 1, 'a note');
INSERT INTO medications VALUES (1, '1');
INSERT INTO assignments VALUES ('ann', 1);
"""
CONFIGURATION = """
[source]
url = "{url}"
[auth]
secret = "a secret of thirty-two bytes or more"
[scope.caseload]
root = "patients"
grant = "SELECT patient_id FROM assignments WHERE nurse = :sub AND standing <> 'over'"
[scope.caseload.tables]
visits = {{ parent = "patients", where = "state <> 'hidden'" }}
notes = {{ parent = "visits" }}
[scope.reference]
tables = ["medications", "pharmacy.stock"]
"""


class Office:
    """The company with its database, and `service` as it runs; another process of it reads."""

    def __init__(self, database: HostDatabase, folder: Path, logged: pytest.LogCaptureFixture) -> None:
        self.database = database
        self.role = f"service_{database.name}"
        self._logged = logged
        database.execute(TABLES)
        database.server.create_role(self.role)
        url = database.server.address(database.name, self.role).url
        self.settings = parse_settings(CONFIGURATION.format(url=url), folder=folder, environment={})
        self.url = url
        self.service: Service

    def run(self, story: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def running() -> None:
            owner = PostgresSource(self.database.url, service_role=self.role)
            plan = await load_plan(self.settings, owner)
            await owner.provision(plan)
            await owner.close()
            source, kept = PostgresSource(self.url), KeptReads()
            self.other = PostgresSource(self.url)
            self.service = Service(
                source,
                await load_plan(self.settings, source, kept),
                SYSTEM_CLOCK,
                load_plan=lambda: load_plan(self.settings, source, kept),
            )
            await self.service.open()
            await self.other.attach(plan)
            try:
                await self.tells("medications", "UPDATE medications SET dose = 'begun'")
                await asyncio.wait_for(story(), 100)
            finally:
                await self.service.close()
                await self.other.close()

        asyncio.run(running())

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        return self.database.execute(sql)

    # ------------------------------------------------------------ what has become of it
    def head(self) -> int:
        [(found,)] = self.execute("SELECT coalesce(max(head), 0) FROM syncline.checkpoint")
        return int(found)

    def gaps(self) -> set[str]:
        return {row[0] for row in self.execute("SELECT DISTINCT table_name FROM syncline.gap")}

    def told(self, table: str) -> int:
        """The checkpoint at which anything was last told of it."""
        [(entry, raised)] = self.execute(
            f"SELECT (SELECT coalesce(max(checkpoint), 0) FROM syncline.entry WHERE table_name = '{table}'), "
            f"(SELECT coalesce(max(checkpoint), 0) FROM syncline.generation WHERE table_name = '{table}')"
        )
        return max(int(entry), int(raised))

    async def until(self, found: Callable[[], bool | Awaitable[bool]]) -> None:
        async with asyncio.timeout(60):
            while True:
                answer = found()
                if answer if isinstance(answer, bool) else await answer:
                    return
                await asyncio.sleep(0.02)

    async def tells(self, table: str, change: str) -> None:
        """The office's change is told to devices."""
        before = self.head()
        self.execute(change)
        await self.until(lambda: self.told(table) > before)

    async def cursor(self) -> tuple[str, int]:
        found = await self.service.source.read_head()
        return found.term, found.checkpoint - 1

    # ------------------------------------------------------------ what is said of it
    async def fault(self) -> str:
        return (await self.service.readiness())["fault"] or ""

    async def readiness_says(self, code: str) -> str:
        async def says() -> bool:
            return f"[{code}]" in await self.fault()

        await self.until(says)
        assert (await self.service.readiness())["ready"], "all else goes on"
        return await self.fault()

    async def doctor(self) -> dict[str, str]:
        source = PostgresSource(self.url)
        try:
            found = await _examine(self.settings, source)
        finally:
            await source.close()
        return {each.code: each.what for each in found if not each.is_note and each.code not in _SERVERS_OWN}

    async def all_say(self, code: str, *stopped: str) -> None:
        """The three accounts name the same tables."""
        named = f"Devices get nothing new of {', '.join(stopped)} until it is mended; all else goes on."
        assert named in await self.readiness_says(code)
        assert named in (await self.doctor())[code]
        assert any(named in record.getMessage() for record in self._logged.records if record.levelno == logging.ERROR)

    async def nothing_is_wrong(self) -> None:
        async def is_mended() -> bool:
            return not (await self.fault() or self.gaps())

        await self.until(is_mended)
        assert await self.doctor() == {}

    async def read(self, source: PostgresSource | None = None, buckets: frozenset[str] = BUCKETS) -> set[str]:
        """A device's cut, and its first page: the tables that this brings rows of."""
        source = source or self.service.source  # type: ignore[assignment]
        assert source is not None
        cut = await source.read_cut("device", CLAIMS, buckets, None, 0)
        assert cut.valid and cut.granted >= buckets
        page = await source.read_page(CLAIMS, Walk(buckets), None, (), PageSize(100, 100_000))
        return {rows.table for rows in page.rows}


_SERVERS_OWN = {"commits_not_durable", "autovacuum_off", "doorbell_off"}
