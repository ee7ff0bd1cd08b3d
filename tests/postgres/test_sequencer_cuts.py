"""What a cut takes, in which order it looks, and what keeps it from being taken.

INVARIANTS: P2 (no commit is missed, none is split), P3 (one checkpoint is one consistent cut).
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.postgres.sequencing import CASELOAD, Clinic, running

from syncline.errors import SchemaChangedError, SourceError
from syncline.source.port import TermLostError
from syncline.source.postgres.watchdog import GaveWayError
from syncline.testing.plans import plan_for

_IS_READING = """
SELECT EXISTS(SELECT FROM pg_stat_activity WHERE query LIKE '%pg_sleep(100)%' AND wait_event = 'PgSleep'
    AND datname = current_database() AND pid <> pg_backend_pid())
"""
ASLEEP = "SELECT asleep_until > clock_timestamp() FROM syncline.pulse"
_IS_BLOCKED = "SELECT cardinality(pg_blocking_pids($1)) > 0"


def test_a_visit_that_moves_leaves_one_bucket_and_enters_another(postgres: Any) -> None:
    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            await clinic.host.execute("UPDATE visits SET patient_id = 4 WHERE id = 1")
            taken = await clinic.cut()
            assert taken and taken.buckets == {"caseload[2]", "caseload[4]"} and taken.tables == {"visits"}
            assert await clinic.lines(taken.head.checkpoint) == {
                ("caseload[2]", "visits", "[1]", "R"),
                ("caseload[4]", "visits", "[1]", "P"),
            }

    running(story())


def test_a_patient_who_goes_takes_the_visits_along_and_a_renamed_one_does_not(postgres: Any) -> None:
    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            await clinic.host.execute("UPDATE patients SET name = 'Anna' WHERE id = 1")
            taken = await clinic.cut()
            assert taken and await clinic.lines(taken.head.checkpoint) == {("caseload[1]", "patients", "[1]", "P")}
            await clinic.host.execute("DELETE FROM visits WHERE patient_id = 3; DELETE FROM patients WHERE id = 3")
            taken = await clinic.cut()
            assert taken and {line[3] for line in await clinic.lines(taken.head.checkpoint)} == {"R"}
            assert taken.changes == 5 and taken.buckets == {"caseload[3]"}

    running(story())


def test_a_row_that_a_bucket_held_only_between_two_cuts_gets_a_remove(postgres: Any) -> None:
    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            await clinic.host.execute("INSERT INTO visits VALUES(100, 1, 'open', 'x')")
            await clinic.host.execute("UPDATE visits SET patient_id = 2 WHERE id = 100")
            taken = await clinic.cut()
            assert taken and await clinic.lines(taken.head.checkpoint) == {
                ("caseload[1]", "visits", "[100]", "R"),
                ("caseload[2]", "visits", "[100]", "P"),
            }

    running(story())


def test_who_commits_late_is_in_the_next_cut_and_never_split(postgres: Any) -> None:
    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            late = await clinic.session()
            await late.execute("BEGIN; UPDATE visits SET body = 'late' WHERE id = 1")
            await clinic.host.execute("UPDATE visits SET body = 'early' WHERE id = 2")
            taken = await clinic.cut()
            assert taken and await clinic.lines(taken.head.checkpoint) == {("caseload[3]", "visits", "[2]", "P")}
            assert await clinic.cut() is None
            await late.execute("UPDATE patients SET name = 'late' WHERE id = 5; COMMIT")
            taken = await clinic.cut()
            assert taken and {line[1] for line in await clinic.lines(taken.head.checkpoint)} == {"visits", "patients"}
            assert await clinic.cut() is None

    running(story())


def test_a_poll_looks_at_no_dead_rows_while_a_report_keeps_vacuum_back(postgres: Any) -> None:
    """Also while one of the company's own transactions runs for hours."""

    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            report, batch_job = await clinic.session(), await clinic.session()
            await report.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM visits")
            await batch_job.execute("BEGIN; UPDATE medications SET dose = ''; SELECT pg_current_xact_id()")
            for _ in range(20):
                await clinic.host.execute("UPDATE visits SET body = body || '.', status = 'open'")
                await clinic.host.execute(
                    "INSERT INTO visits SELECT i, 1, 'open', '' FROM generate_series(1000, 1300) AS i; "
                    "DELETE FROM visits WHERE id >= 1000"
                )
                assert await clinic.cut()
            assert await clinic.cut() is None
            sequencer = clinic.first._sequencer
            async with sequencer._lease.session() as db:
                from syncline.source.postgres.checkpoint_sql import poll_sql

                attached = clinic.first._attached()
                rows = await db.fetch(
                    f"EXPLAIN (ANALYZE, BUFFERS, FORMAT TEXT) {poll_sql(attached.sql.captures.values())}",
                    *sequencer._seen.arguments,
                    [],
                )
            plan = "\n".join(row[0] for row in rows)
            touched = sum(int(part.split()[0]) for part in plan.split("hit=")[1:2])
            assert touched < 60, plan  # 12,000 dead rows lie on far more pages

    running(story())


def test_of_two_that_both_believe_to_be_active_only_one_commits(postgres: Any) -> None:
    """The first one's session is ended behind its back, and the second begins a term."""

    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            second = await clinic.another()
            assert await second.begin_term("second") is None
            await clinic.host.execute("SELECT pg_terminate_backend($1)", await clinic.sequencer_pid())
            while await second.begin_term("second") is None:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            await clinic.host.execute("UPDATE visits SET body = 'x' WHERE id = 1")
            before = await clinic.head()
            with pytest.raises(TermLostError):
                await clinic.settled()
            assert await clinic.head() == before
            taken = await clinic.settled(second, "second")
            assert taken and taken.head.checkpoint == before + 1

    running(story())


def test_a_sequencer_whose_pooler_shares_out_sessions_cannot_commit_after_another(postgres: Any) -> None:
    """Both hold "the" lock: what stops the one behind is the term in the fenced row."""

    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            await clinic.host.execute("UPDATE syncline.checkpoint SET term = 'of another one'")
            await clinic.host.execute("UPDATE visits SET body = 'x' WHERE id = 1")
            with pytest.raises(TermLostError):
                await clinic.cut()
            await clinic.host.execute("UPDATE syncline.checkpoint SET term = 'first', head = head + 1")
            with pytest.raises(TermLostError):
                await clinic.cut()
            assert not await clinic.lines(await clinic.head())

    running(story())


def test_a_stopped_process_loses_its_lock_and_one_that_goes_on_in_time_keeps_its_term(postgres: Any) -> None:
    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            limits = dict(
                await clinic.first._sequencer._lease._session.fetch(
                    "SELECT name, setting FROM pg_settings WHERE name LIKE 'idle%session_timeout'"
                )
            )
            of_idle = {"idle_session_timeout": "3000"} if postgres.server.installation.version != "13" else {}
            assert limits == {"idle_in_transaction_session_timeout": "3000", **of_idle}
            await clinic.host.execute("SELECT pg_terminate_backend($1)", await clinic.sequencer_pid())
            await clinic.host.execute("UPDATE visits SET body = 'x' WHERE id = 1")
            taken = await clinic.settled()
            assert taken and taken.head.term == "first"

    running(story())


def test_a_table_that_is_being_altered_is_waited_for_and_not_taken_for_empty(postgres: Any) -> None:
    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            host = await clinic.session()
            await host.execute("BEGIN; ALTER TABLE visits ALTER COLUMN status TYPE varchar(40)")
            await clinic.host.execute("UPDATE patients SET name = 'x' WHERE id = 1")
            cut = asyncio.ensure_future(clinic.settled())
            await asyncio.sleep(0.3)
            assert not cut.done()
            await host.execute("COMMIT")
            with pytest.raises(SchemaChangedError):
                await cut
            await clinic.first.adopt(await plan_for(clinic.first, CASELOAD))
            while taken := await clinic.settled():
                assert "R" not in {line[3] for line in await clinic.lines(taken.head.checkpoint)}

    running(story())


def test_an_alter_does_not_wait_behind_a_cut_that_takes_for_ever(postgres: Any) -> None:
    """The host's ALTER passes, the cut starts again, and nothing of it is lost."""

    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            stopper, migration = await clinic.session(), await clinic.session()
            await clinic.host.execute("UPDATE visits SET body = 'x' WHERE id = 1")
            # The cut waits at a line of ours that somebody has locked, with its locks on the company's tables held.
            await stopper.execute("BEGIN; LOCK TABLE syncline.entry IN EXCLUSIVE MODE")
            sequencing = asyncio.ensure_future(_with_long_waits(clinic))
            pid = await clinic.sequencer_pid()
            while not await clinic.host.fetchval(_IS_BLOCKED, pid):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            blocked = await clinic.waits(migration, "BEGIN; LOCK TABLE visits IN ACCESS EXCLUSIVE MODE; COMMIT")
            await asyncio.wait_for(blocked, 5)
            await stopper.execute("COMMIT")
            taken = await sequencing
            assert taken and ("caseload[2]", "visits", "[1]", "P") in await clinic.lines(taken.head.checkpoint)

    running(story())


async def _with_long_waits(clinic: Clinic) -> Any:
    from syncline.source.postgres import sequencer

    kept, sequencer.LOCK_SECONDS = sequencer.LOCK_SECONDS, 60.0
    try:
        return await clinic.settled()
    finally:
        sequencer.LOCK_SECONDS = kept


def test_a_key_too_long_for_the_feed_is_left_out_and_stops_nobody(
    postgres: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            await clinic.host.execute("INSERT INTO medications VALUES(repeat('x', 6000), 'long'), ('aspirin', '1')")
            taken = await clinic.cut()
            assert taken and await clinic.lines(taken.head.checkpoint) == {
                ("reference[]", "medications", '["aspirin"]', "P")
            }
            assert "left out on all devices" in caplog.text
            assert await clinic.cut() is None

    running(story())


def test_a_row_above_the_limit_of_a_frame_is_a_put_without_an_image(postgres: Any) -> None:
    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            await clinic.host.execute("UPDATE visits SET body = repeat('x', 13000000) WHERE id = 1")
            assert await clinic.cut()
            assert await clinic.host.fetchval("SELECT image IS NULL FROM syncline.row_state WHERE key = '[1]'")

    running(story())


def test_what_the_database_says_of_a_cut_is_told_and_the_next_one_may_go_well(postgres: Any) -> None:
    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            await clinic.host.execute("ALTER TABLE syncline.entry ADD CONSTRAINT broken CHECK (table_name <> 'visits')")
            await clinic.host.execute("UPDATE visits SET body = 'x' WHERE id = 1")
            with pytest.raises(SourceError, match="broken"):
                await clinic.cut()
            await clinic.host.execute("ALTER TABLE syncline.entry DROP CONSTRAINT broken")
            assert await clinic.cut()

    running(story())


def test_a_bulk_statement_becomes_one_checkpoint(postgres: Any) -> None:
    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            await clinic.host.execute(
                "INSERT INTO visits SELECT i, 1 + i % 5, CASE i % 2 WHEN 0 THEN 'open' ELSE 'hidden' END, 'w' "
                "FROM generate_series(1001, 13000) AS i"
            )
            taken = await clinic.cut()
            assert taken and taken.changes == 12_000 and len(await clinic.lines(taken.head.checkpoint)) == 6_000
            await clinic.host.execute(
                "UPDATE visits SET patient_id = 1 + patient_id % 5, status = 'open' WHERE id > 1000"
            )
            taken = await clinic.cut()
            lines = await clinic.lines(taken.head.checkpoint) if taken else set()
            assert [line[3] for line in lines].count("P") == 12_000
            assert [line[3] for line in lines].count("R") == 6_000

    running(story())


def test_a_cut_goes_on_when_the_server_is_started_anew(own_postgres: Any) -> None:
    async def story() -> None:
        server = own_postgres()
        async with Clinic(server.create_database().url) as clinic:
            await clinic.host.execute("UPDATE visits SET body = 'x' WHERE id = 1")
            await clinic.host.close()
            await asyncio.to_thread(
                server.run, "pg_ctl", "-D", str(server.data), "-l", str(server.log), "-m", "fast", "restart"
            )
            clinic.host = await clinic.session()
            taken = await clinic.settled()
            assert taken and taken.buckets == {"caseload[2]"}

    running(story())


def test_a_lost_connection_is_no_crash_for_those_who_wait(postgres: Any) -> None:
    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            waiting = asyncio.ensure_future(clinic.first.wait_for_change(30.0))
            await asyncio.sleep(0.1)
            await clinic.host.execute("SELECT pg_terminate_backend($1)", await clinic.sequencer_pid())
            with pytest.raises(SourceError):
                await waiting
            assert await clinic.settled() is None

    running(story())


def test_a_standby_wakes_with_the_next_checkpoint_and_a_sleeping_sequencer_by_the_doorbell(postgres: Any) -> None:
    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            second = await clinic.another()
            assert await second.begin_term("second") is None
            standby = asyncio.ensure_future(second.wait_for_change(100.0))
            await clinic.host.execute("UPDATE visits SET body = 'x' WHERE id = 1")
            assert await clinic.cut()
            assert await standby
            active = asyncio.ensure_future(clinic.first.wait_for_change(100.0))
            while not await clinic.host.fetchval(ASLEEP):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
            await clinic.host.execute("UPDATE visits SET body = 'y' WHERE id = 1")
            assert await active
            assert await clinic.cut()
            assert not await clinic.host.fetchval(ASLEEP)

    running(story())


def test_our_own_upload_wakes_the_sequencer_at_once(postgres: Any) -> None:
    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            assert await clinic.cut() is None
            waiting = asyncio.ensure_future(clinic.first.wait_for_change(100.0))
            await asyncio.sleep(0)
            marker = await clinic.first.put_marker()
            assert await waiting
            assert not await clinic.first.marker_passed(marker)
            assert await clinic.cut()
            assert await clinic.first.marker_passed(marker)

    running(story())


def test_a_host_that_waits_for_a_page_gets_its_table(postgres: Any) -> None:
    """A guarded statement that would run for ever is cancelled, and told as something to try again."""

    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            connections = clinic.first._db
            migration = await clinic.session()

            async def page() -> None:
                async with connections.snapshot() as db:
                    await db.execute("LOCK TABLE visits IN ACCESS SHARE MODE")
                    async with connections.watchdog.guard(db):
                        await db.execute("SELECT pg_sleep(100) FROM visits LIMIT 1")

            reading = asyncio.ensure_future(page())
            while not await clinic.host.fetchval(_IS_READING):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            alter = await clinic.waits(migration, "ALTER TABLE visits ALTER COLUMN body SET DEFAULT ''")
            await asyncio.wait_for(alter, 5)
            with pytest.raises(GaveWayError):
                await reading

    running(story())
