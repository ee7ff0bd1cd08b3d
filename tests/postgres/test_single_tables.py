"""One table's trouble beside a running service of the least rights: that table stops, and what hangs on it; all else
goes on, is read by this process and by others, and the log, /readyz and doctor say the same. P1, P2, P18, P20."""

from __future__ import annotations

import pytest
from tests.postgres.office import BUCKETS, CLAIMS, Office

from syncline.errors import ConfigError
from syncline.server.config import load_plan
from syncline.server.config_kept import KeptReads
from syncline.source.claims import GrantFailsError
from syncline.source.postgres.source import PostgresSource


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


def test_a_table_that_is_stopped_makes_no_other_dear(office: Office) -> None:
    """P2, P18: what waits of the others is looked for among the newest changes alone; when the table is followed again,
    nothing of it is left lying, however old."""

    async def story() -> None:
        sequencer = office.service.source._sequencer  # type: ignore[attr-defined]
        office.execute(f'REVOKE SELECT ON visits FROM "{office.role}"')
        await office.readiness_says("service_rights")
        office.execute("UPDATE visits SET n = 2")
        await office.tells("medications", "UPDATE medications SET dose = '2'")
        before = sequencer._seen.xmax
        assert before > 0
        await office.tells("medications", "UPDATE medications SET dose = '3'")
        assert sequencer._seen.xmax > before
        assert office.execute("SELECT count(*) FROM syncline.changelog_visits") == [(1,)]
        office.execute(f'GRANT SELECT ON visits TO "{office.role}"')
        await office.nothing_is_wrong()
        await office.until(lambda: office.execute("SELECT count(*) FROM syncline.changelog_visits") == [(0,)])

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
        with pytest.raises(ConfigError):  # of a server that starts now
            await load_plan(office.settings, office.other)
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


@pytest.mark.parametrize("state", ["P0001", "MY001"])
def test_an_event_trigger_refuses_the_tables_that_cuts_make(office: Office, state: str) -> None:
    """P2, P18: of the tables that it lets pass checkpoints are taken; when it is gone, of all. Whatever number the
    company has given to what it says."""

    async def story() -> None:
        office.execute(
            "CREATE FUNCTION no_tables() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN "
            "IF current_query() LIKE '%_visits%' THEN RAISE EXCEPTION 'tables are made by the DBA alone' "
            f"USING ERRCODE = '{state}'; END IF; "
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
