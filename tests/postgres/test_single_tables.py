"""One table's trouble beside a running service of the least rights: that table stops, and what hangs on it; all else
goes on, is read by this process and by others, and the log, /readyz and doctor say the same. P1, P2, P18, P20."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.postgres.conftest import HostDatabase

from syncline.cli.doctor import _examine
from syncline.server.config import load_plan, parse_settings
from syncline.server.config_kept import KeptReads
from syncline.server.service import Service
from syncline.source.claims import GrantFailsError
from syncline.source.port import PageSize, Walk
from syncline.source.postgres import aside, unfit
from syncline.source.postgres.source import PostgresSource
from syncline.system.clock import SYSTEM_CLOCK

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


@pytest.fixture
def office(
    postgres: HostDatabase, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Office]:
    monkeypatch.setattr(aside, "TRY_SECONDS", 0.2)
    monkeypatch.setattr(unfit, "LOOK_SECONDS", 0.2)
    made = Office(postgres, tmp_path, caplog)
    yield made
    postgres.execute(f'DROP OWNED BY "{made.role}"; DROP ROLE "{made.role}"')


async def _follows(office: Office) -> None:
    """The other process hears of it, as one that stands by does."""
    try:
        await office.other.require_schema()
    except Exception:
        plan = await load_plan(office.settings, office.other, KeptReads(forgives_all=True))
        await office.other.adopt(plan)


def test_a_right_is_taken_and_given_back(office: Office) -> None:
    """P2, P18."""

    async def story() -> None:
        office.execute(f'REVOKE SELECT ON visits FROM "{office.role}"')
        await office.all_say("service_rights", "notes", "visits")
        await office.tells("patients", "UPDATE patients SET name = 'Ada L.'")
        await office.tells("medications", "UPDATE medications SET dose = '2'")
        before = office.told("notes")
        office.execute("UPDATE notes SET body = 'unseen'; UPDATE visits SET n = 2")
        await office.tells("patients", "UPDATE patients SET name = 'Ada'")
        assert office.told("notes") == before
        await _follows(office)
        assert await office.read() == await office.read(office.other) == {"patients", "medications"}

        office.execute(f'GRANT SELECT ON visits TO "{office.role}"')
        await office.until(lambda: office.told("notes") > before and office.told("visits") > before)
        await office.nothing_is_wrong()
        await _follows(office)
        assert await office.read() == {"patients", "visits", "notes", "medications"}

    office.run(story)


def test_a_schema_may_not_be_entered_and_may_again(office: Office) -> None:
    """P2, P18."""

    async def story() -> None:
        office.execute(f'REVOKE USAGE ON SCHEMA pharmacy FROM "{office.role}"')
        await office.all_say("service_rights", "pharmacy.stock")
        office.execute("INSERT INTO pharmacy.stock VALUES (1, 1)")
        await office.tells("medications", "UPDATE medications SET dose = '2'")
        before = office.head()
        office.execute(f'GRANT USAGE ON SCHEMA pharmacy TO "{office.role}"')
        await office.until(lambda: office.told("pharmacy.stock") > before)
        await office.nothing_is_wrong()

    office.run(story)


def test_a_label_that_a_filter_names_is_renamed_and_back(office: Office) -> None:
    """P2, P18, P20."""

    async def story() -> None:
        office.execute("ALTER TYPE state RENAME VALUE 'hidden' TO 'secret'")
        await office.all_say("query_fails", "notes", "visits")
        await office.tells("patients", "UPDATE patients SET name = 'Ada L.'")
        assert await office.read() == {"patients", "medications"}
        before = office.head()
        office.execute("ALTER TYPE state RENAME VALUE 'secret' TO 'hidden'; UPDATE visits SET state = 'hidden'")
        await office.until(lambda: office.told("visits") > before)
        await office.nothing_is_wrong()
        assert await office.read() == {"patients", "medications"}, "its note went with it"

    office.run(story)


def test_a_label_that_a_grant_names_is_renamed_and_back(office: Office) -> None:
    """P2, P8, P18: checkpoints are taken; nobody is told that nothing is granted, or anything else."""

    async def story() -> None:
        office.execute("ALTER TYPE standing RENAME VALUE 'over' TO 'ended'")
        said = await office.readiness_says("grant_fails")
        assert 'The grant of scope "caseload" cannot be asked' in said
        assert "caseload" in (await office.doctor())["grant_fails"]
        await office.tells("patients", "UPDATE patients SET name = 'Ada L.'")
        with pytest.raises(GrantFailsError):
            await office.read()
        office.execute("ALTER TYPE standing RENAME VALUE 'ended' TO 'over'")
        await office.nothing_is_wrong()
        assert await office.read() == {"patients", "visits", "notes", "medications"}

    office.run(story)


def test_a_table_that_a_grant_reads_may_not_be_read_and_may_again(office: Office) -> None:
    """P2, P8, P18: as above."""

    async def story() -> None:
        office.execute(f'REVOKE SELECT ON assignments FROM "{office.role}"')
        waits = "The grant of scope caseload reads it: checkpoints are taken, and devices wait."
        assert waits in await office.readiness_says("service_rights")
        assert waits in (await office.doctor())["service_rights"]
        await office.tells("patients", "UPDATE patients SET name = 'Ada L.'")
        with pytest.raises(GrantFailsError):
            await office.read()
        delta = await office.service.source.read_delta(await office.cursor(), BUCKETS, {}, [CLAIMS], 100)
        assert delta.valid
        office.execute(f'GRANT SELECT ON assignments TO "{office.role}"')
        await office.nothing_is_wrong()
        assert await office.read() == {"patients", "visits", "notes", "medications"}

    office.run(story)


def test_an_event_trigger_refuses_the_tables_that_cuts_make(office: Office) -> None:
    """P2, P18: of the tables that it lets pass checkpoints are taken; when it is gone, of all."""

    async def story() -> None:
        office.execute(
            "CREATE FUNCTION no_tables() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN "
            "IF current_query() LIKE '%_visits%' THEN RAISE EXCEPTION 'tables are made by the DBA alone'; END IF; "
            "END$$; CREATE EVENT TRIGGER no_tables ON ddl_command_start WHEN TAG IN ('CREATE TABLE AS', 'CREATE TABLE') "
            "EXECUTE FUNCTION no_tables()"
        )
        office.execute("UPDATE visits SET n = 2")
        await office.all_say("table_fails", "notes", "visits")
        assert "tables are made by the DBA alone" in await office.fault()
        await office.tells("patients", "UPDATE patients SET name = 'Ada L.'")
        await office.tells("medications", "UPDATE medications SET dose = '2'")
        assert await office.read() == await office.read(office.other) == {"patients", "medications"}
        assert office.other.stopped() == {"visits", "notes"} == office.service.source.stopped()
        assert office.other.troubles() == office.service.source.troubles()
        before = office.head()
        office.execute("DROP EVENT TRIGGER no_tables")
        await office.until(lambda: office.told("visits") > before)
        await office.nothing_is_wrong()
        assert await office.read(office.other) == {"patients", "visits", "notes", "medications"}

    office.run(story)


def test_an_event_trigger_refuses_the_views_by_which_queries_are_read(office: Office) -> None:
    """P18, P20: what was known to read these tables still does, and a new column is served as ever."""

    async def story() -> None:
        office.execute(
            "CREATE FUNCTION no_views() RETURNS event_trigger LANGUAGE plpgsql AS "
            "$$BEGIN RAISE EXCEPTION 'views are made by the DBA alone'; END$$; CREATE EVENT TRIGGER no_views "
            "ON ddl_command_start WHEN TAG IN ('CREATE VIEW') EXECUTE FUNCTION no_views()"
        )
        office.execute("ALTER TYPE state ADD VALUE 'done'")
        await office.tells("patients", "UPDATE patients SET name = 'Ada L.'")
        await office.tells("visits", "UPDATE visits SET n = 2")
        assert await office.fault() == ""
        office.execute("DROP EVENT TRIGGER no_views")

    office.run(story)


def test_a_column_comes_that_the_service_may_not_put_capture_on(office: Office) -> None:
    """P18, P20: until the owner has."""

    async def story() -> None:
        office.execute("ALTER TABLE visits ADD COLUMN remark text")
        await office.all_say("capture_lost", "notes", "visits")
        await office.tells("patients", "UPDATE patients SET name = 'Ada L.'")
        owner = PostgresSource(office.database.url, service_role=office.role)
        await owner.provision(await load_plan(office.settings, owner))
        await owner.close()
        await office.until(lambda: not office.gaps())
        await office.nothing_is_wrong()
        assert await office.read() == {"patients", "visits", "notes", "medications"}

    office.run(story)


def test_a_right_on_what_is_ours_is_no_single_tables_trouble(office: Office) -> None:
    """P3, P18: nothing could be told of any table; the service is not ready, and says why."""

    async def story() -> None:
        office.execute(f"REVOKE INSERT ON syncline.entry FROM \"{office.role}\"; UPDATE patients SET name = 'Unheard'")

        async def is_told() -> bool:
            return "[source_rights]" in await office.fault()

        await office.until(is_told)
        assert not (await office.service.readiness())["ready"] and not office.service.source.stopped()
        assert "service_rights" in await office.doctor()
        before = office.head()
        office.execute(f'GRANT INSERT ON syncline.entry TO "{office.role}"')
        await office.until(lambda: office.told("patients") > before)
        await office.nothing_is_wrong()

    office.run(story)
