"""DDL that gives columns other values, of which no trigger hears: devices get the table anew. P2."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from tests.postgres import sequencing
from tests.postgres.sequencing import CASELOAD, Clinic, running

from syncline.errors import ConfigError, SchemaChangedError, SourceError
from syncline.source.postgres import provision, signatures
from syncline.source.postgres.connections import Connections
from syncline.source.postgres.reads import reads_of_filter
from syncline.source.postgres.source import PostgresSource
from syncline.testing.plans import plan_for

_MORE = """
CREATE TYPE mood AS ENUM('ok', 'sad');
CREATE DOMAIN felt AS mood;
CREATE TYPE span AS (low int, high int);
CREATE TABLE rights(nurse text, patient_id int);
ALTER TABLE medications ADD price numeric(10, 2), ADD felt felt, ADD moods mood[], ADD span span,
  ADD shown text GENERATED ALWAYS AS (lower(dose)) STORED;
INSERT INTO medications VALUES ('aspirin', 'One', 1.25, 'ok', '{ok,sad}', '(1,2)');
"""
_ANEW = {
    "a new scale": ("medications", "ALTER TABLE medications ALTER COLUMN price TYPE numeric(10, 2) USING price * 2"),
    "another label": ("medications", "ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'"),
    "one more attribute": ("medications", "ALTER TYPE span ADD ATTRIBUTE middle int"),
    "dropped and added": (
        "medications",
        "ALTER TABLE medications DROP COLUMN price, ADD COLUMN price numeric(10, 2)",
    ),
    "names exchanged": (
        "patients",
        "ALTER TABLE patients RENAME name TO old; ALTER TABLE patients RENAME region TO name; "
        "ALTER TABLE patients RENAME old TO region",
    ),
    "other parents": ("visits", "ALTER TABLE visits ALTER COLUMN patient_id TYPE int USING 6 - patient_id"),
    "other grants": ("rights", "ALTER TABLE rights ALTER COLUMN patient_id TYPE int USING patient_id + 1"),
}
_AS_BEFORE = {
    "a label more": ("ALTER TYPE mood ADD VALUE 'bad'",),
    "statistics": ("ALTER TABLE medications ALTER COLUMN dose SET STATISTICS 200", "ANALYZE medications"),
    "rights": ("GRANT SELECT (dose) ON medications TO PUBLIC",),
    "written anew as it was": ("VACUUM FULL medications", "VACUUM FULL visits"),
    "never NULL": ("ALTER TABLE medications ALTER COLUMN dose SET NOT NULL",),
    "a default": ("ALTER TABLE medications ALTER COLUMN dose SET DEFAULT ''",),
}


@pytest.fixture(autouse=True)
def _more_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    caseload, reference = CASELOAD.scopes
    caseload = replace(caseload, grant="SELECT patient_id FROM rights WHERE nurse = :sub")
    monkeypatch.setattr(sequencing, "CLINIC", sequencing.CLINIC + _MORE)
    monkeypatch.setattr(sequencing, "CASELOAD", replace(CASELOAD, scopes=(caseload, reference)))


async def adopted(source: PostgresSource) -> None:
    plan = await plan_for(source, sequencing.CASELOAD)
    await source.adopt(plan)


async def raised(clinic: Clinic) -> set[str]:
    """The tables that are sent anew once everything has been noticed; grants that are asked anew, too."""
    found: set[str] = set()
    while True:
        try:
            taken = await clinic.cut()
        except SchemaChangedError:
            await adopted(clinic.first)
            continue
        if taken is None:
            touched = await clinic.host.fetch("SELECT table_name FROM syncline.grant_touch")
            return found | {row[0] for row in touched}
        found |= set(taken.raised)


@pytest.mark.parametrize(("table", "statement"), _ANEW.values(), ids=_ANEW)
def test_a_table_of_which_ddl_changes_values_is_sent_anew(postgres: Any, table: str, statement: str) -> None:
    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            await clinic.host.execute(statement)
            assert table in await raised(clinic)
            assert await clinic.cut() is None

    running(story())


def test_another_expression_of_a_column_that_the_database_computes(postgres: Any) -> None:
    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            if clinic.host.get_server_version().major < 17:
                await clinic.host.execute(
                    "ALTER TABLE medications DROP COLUMN shown, ADD shown text GENERATED ALWAYS AS (upper(dose)) STORED"
                )
            else:
                await clinic.host.execute("ALTER TABLE medications ALTER COLUMN shown SET EXPRESSION AS (upper(dose))")
            assert await raised(clinic) == {"medications"}

    running(story())


@pytest.mark.parametrize("statements", _AS_BEFORE.values(), ids=_AS_BEFORE)
def test_ddl_that_leaves_the_values_alone_sends_nothing_anew(postgres: Any, statements: tuple[str, ...]) -> None:
    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            for statement in statements:
                await clinic.host.execute(statement)
            assert await raised(clinic) == set()

    running(story())


def test_a_label_that_came_while_it_ran_and_is_another_later(postgres: Any) -> None:
    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            await clinic.host.execute("ALTER TYPE mood ADD VALUE 'bad'")
            await clinic.host.execute("UPDATE medications SET felt = 'bad'")
            assert await raised(clinic) == set()
            await clinic.host.execute("ALTER TYPE mood RENAME VALUE 'bad' TO 'worse'")
            assert await raised(clinic) == {"medications"}

    running(story())


def test_a_migration_in_which_nobody_wrote_a_row_and_every_value_changed(postgres: Any) -> None:
    """The alarm is silent; the column looks as it did."""

    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            await clinic.first.suspend()
            await clinic.host.execute("ALTER TABLE medications ALTER COLUMN price TYPE numeric(10, 2) USING price * 2")
            plan = await plan_for(clinic.first, sequencing.CASELOAD)
            report = await clinic.first.provision(plan)
            assert report.anew == ("medications",)
            await clinic.first.adopt(plan)
            assert await raised(clinic) == {"medications"}

    running(story())


def test_while_no_server_ran(postgres: Any) -> None:
    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            await clinic.first.end_term("first")
            await clinic.host.execute("ALTER TABLE visits ALTER COLUMN body TYPE text USING upper(body)")
            plan = await plan_for(clinic.first, sequencing.CASELOAD)
            report = await clinic.first.provision(plan)
            assert report.anew == ("visits",)

    running(story())


# ---------------------------------------------------------------- other settings, other sessions
@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_database_in_which_every_transaction_begins_with_a_snapshot(
    postgres: Any, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    """A row that is written into a new partition while provisioning waits for it."""
    plain = "CREATE TABLE medications(name text PRIMARY KEY, dose text);"
    parted = (
        "CREATE TABLE medications(name text PRIMARY KEY, dose text) PARTITION BY RANGE(name);"
        "CREATE TABLE m_a PARTITION OF medications FOR VALUES FROM ('a') TO ('m');"
    )
    monkeypatch.setattr(sequencing, "CLINIC", sequencing.CLINIC.replace(plain, parted))

    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            await clinic.host.execute(
                f"ALTER DATABASE \"{postgres.name}\" SET default_transaction_isolation = '{level}'"
            )
            await clinic.host.execute(f'ALTER DATABASE "{postgres.name}" SET default_transaction_read_only = on')
            await clinic.first.end_term("first")
            await clinic.first.close()
            await clinic.host.execute("CREATE TABLE m_z PARTITION OF medications FOR VALUES FROM ('m') TO ('zz')")
            writer = await clinic.session()
            await writer.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; INSERT INTO m_z VALUES ('zinc', '')")
            source = PostgresSource(postgres.url)
            try:
                plan = await plan_for(source, sequencing.CASELOAD)
                provisioning = asyncio.create_task(source.provision(plan))
                while not await clinic.host.fetchval(
                    "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'm_z'::regclass)"
                ):
                    assert not provisioning.done()
                    await asyncio.sleep(0.01)
                await writer.execute("COMMIT")
                assert (await provisioning).anew == ("medications",)
            finally:
                await source.close()

    running(story())


def test_a_reader_that_waits_for_one_table_does_not_keep_the_others(postgres: Any) -> None:
    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            holder, other = await clinic.session(), await clinic.session()
            await holder.execute("BEGIN; LOCK TABLE visits IN ACCESS EXCLUSIVE MODE")
            connections = Connections(postgres.url)

            async def work(db: Any) -> int:
                return 1

            reading = asyncio.create_task(clinic.first._attached().standing.reading(connections, work, rows=True))
            try:
                while not await clinic.host.fetchval(
                    "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'visits'::regclass)"
                ):
                    assert not reading.done()
                    await asyncio.sleep(0.01)
                await other.execute("SET lock_timeout = '500ms'")
                await other.execute("ALTER TABLE patients ALTER COLUMN name SET STATISTICS 100")
                await other.execute("BEGIN; LOCK TABLE patients IN ACCESS EXCLUSIVE MODE; COMMIT")
                await holder.execute("ROLLBACK")
                assert await reading == 1
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
                await connections.close()

    running(story())


# ---------------------------------------------------------------- changes that wait
def test_the_host_writes_while_the_stamps_of_what_waits_are_taken(
    postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where that is interrupted: no checkpoint is taken before it has been finished."""
    monkeypatch.setattr(signatures, "_ROWS_AT_ONCE", 3)
    folded = 0

    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            writer = await clinic.session()
            await writer.execute("SET lock_timeout = '1s'")

            async def interrupted(*arguments: Any) -> bool:
                nonlocal folded
                folded += 1
                await writer.execute(f"UPDATE visits SET status = 'seen {folded}' WHERE id = 1")
                if folded == 3:
                    raise SourceError("The process was ended.")
                return await signatures.fold_aside(*arguments)

            monkeypatch.setattr(provision, "fold_aside", interrupted)
            await clinic.host.execute("UPDATE visits SET body = 'x' || body WHERE id <= 10")
            waiting = dict(await clinic.host.fetch("SELECT k_1, stamp FROM syncline.changelog_visits"))
            await clinic.host.execute("ALTER TABLE visits ADD COLUMN extra text")
            plan = await plan_for(clinic.first, sequencing.CASELOAD)
            with pytest.raises(SourceError, match="was ended"):
                await clinic.first.provision(plan)
            with pytest.raises(SchemaChangedError):
                await clinic.first.attach(plan)
            await adopted(clinic.first)
            assert folded == 5
            rows = await clinic.host.fetch("SELECT key, stamps FROM syncline.row_state WHERE table_name = 'visits'")
            stamps = {int(row["key"].strip("[]")): row["stamps"] for row in rows}
            assert set(stamps) == set(range(1, 11))
            assert all(str(stamp) in stamps[key] for key, stamp in waiting.items())
            assert await clinic.host.fetchval("SELECT count(*) FROM syncline.changelog_visits") == 5
            assert await clinic.host.fetchval("SELECT to_regclass('syncline.aside_visits')") is None
            assert await raised(clinic) == {"visits"}

    running(story())


# ---------------------------------------------------------------- computed when read
def test_a_column_that_is_computed_when_it_is_read(postgres: Any) -> None:
    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            if clinic.host.get_server_version().major < 18:
                pytest.skip("there are none before PostgreSQL 18")
            for table in ("medications", "visits"):
                column = "dose" if table == "medications" else "body"
                await clinic.host.execute(
                    f"ALTER TABLE {table} ADD louder text GENERATED ALWAYS AS (upper({column})) VIRTUAL, "
                    "ADD same int GENERATED ALWAYS AS (1) VIRTUAL"
                )
            await raised(clinic)
            await clinic.host.execute("UPDATE medications SET dose = 'two'; UPDATE visits SET body = 'b' WHERE id = 1")
            assert await clinic.host.fetch("SELECT * FROM syncline.gap") == []
            taken = await clinic.cut()
            assert taken and taken.raised == frozenset()
            image = "SELECT image FROM syncline.row_state WHERE table_name = 'medications'"
            assert '"two",' in await clinic.host.fetchval(image)
            assert '"TWO",1]' in await clinic.host.fetchval(image)
            stamps = "SELECT stamps FROM syncline.row_state WHERE table_name = 'visits' AND key = '[1]'"
            assert '"louder"' in await clinic.host.fetchval(stamps)
            assert '"status"' not in await clinic.host.fetchval(stamps)
            await clinic.host.execute("DELETE FROM medications")
            assert await clinic.host.fetch("SELECT * FROM syncline.gap") == []
            async with clinic.host.transaction():
                with pytest.raises(ConfigError, match="not stored"):
                    await reads_of_filter(clinic.host, "visits", "louder <> 'X'")

    running(story())
