"""Whoever writes, however his session is set up, beside us on PostgreSQL: nothing is lost, nothing of his fails (P1, P15)."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from tests.postgres.conftest import HostDatabase
from tests.postgres.ways import ONE_VERSION, TABLES, Hosts, OpenTown, Town, Ways, caseload, for_everybody, of

COUNTERS = "CREATE TABLE counters(id integer PRIMARY KEY, n integer NOT NULL DEFAULT 0)"
OwnDatabase = Callable[..., HostDatabase]

WRITERS = 6
TURNS = 60


class TestWriters(Ways):
    def test_many_writers_that_commit_out_of_order(self, open_town: OpenTown) -> None:
        """P6: numbers are drawn long before some of them commit; checkpoints go on meanwhile and no row is lost."""
        town = open_town((COUNTERS,), for_everybody("counters"))
        ann = town.phone("ann")
        hosts = Hosts()

        def write(number: int) -> None:
            session = town.connect()
            for turn in range(TURNS):
                with session.transaction():
                    session.execute("INSERT INTO counters VALUES(%s, 1)", (number * 1000 + turn,))
                    # Those of even numbers hold their transaction open over many commits of the others.
                    if number % 2 == 0:
                        session.execute("SELECT pg_sleep(%s)", (0.001 * (turn % 7),))
                    session.execute("UPDATE counters SET n = n + 1 WHERE id = %s", (number * 1000 + turn // 2,))

        for number in range(WRITERS):
            hosts.start(lambda number=number: write(number))
        taken = 0
        while hosts.busy():
            taken += town.checkpoint() is not None
        hosts.join()
        town.agree([ann], {"counters": "true"})
        assert ann.execute("SELECT count(*) FROM counters") == [(WRITERS * TURNS,)]
        assert taken > 1

    def test_a_transaction_that_is_open_for_long_holds_nobody_up(self, town: Town) -> None:
        """P1: neither the changes of others, nor its own when it commits at last."""
        ann = town.phone("ann")
        slow = town.connect()
        slow.execute("BEGIN")
        slow.execute("UPDATE visits SET status = 'slow' WHERE id = 11")
        town.execute("UPDATE visits SET status = 'quick' WHERE id = 12")
        town.agrees(ann, of("ann"))
        assert ann.execute("SELECT status FROM visits WHERE id IN (11, 12) ORDER BY id") == [("planned",), ("quick",)]
        for n in range(20):
            town.execute(f"UPDATE visits SET minutes = {n} WHERE id = 12")
            town.checkpoint()
        slow.execute("COMMIT")
        town.agree([ann], of("ann"))
        assert ann.execute("SELECT status FROM visits WHERE id = 11") == [("slow",)]

    def test_a_long_reader_holds_nobody_up(self, town: Town) -> None:
        """P1: as pg_dump and reports are."""
        ann = town.phone("ann")
        reader = town.connect()
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT count(*) FROM visits")
        for n in range(30):
            town.execute(f"UPDATE visits SET minutes = {n}")
            town.checkpoint()
        town.agree([ann], of("ann"))
        reader.execute("COMMIT")

    def test_serializable_hosts_are_not_disturbed(self, open_town: OpenTown) -> None:
        """P15: capture adds no conflict between transactions that touch different rows, and a retried one counts once."""
        town = open_town(
            (COUNTERS, "INSERT INTO counters SELECT n FROM generate_series(1, 40) n"), for_everybody("counters")
        )
        ann = town.phone("ann")
        hosts = Hosts()
        failures: list[int] = []

        def write(number: int) -> None:
            session = town.connect()
            session.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
            done = 0
            while done < TURNS:
                try:
                    with session.transaction():
                        session.execute("UPDATE counters SET n = n + 1 WHERE id = %s", (number,))
                    done += 1
                except psycopg.errors.SerializationFailure:
                    failures.append(number)

        for number in range(1, WRITERS + 1):
            hosts.start(lambda number=number: write(number))
        while hosts.busy():
            town.checkpoint()
        hosts.join()
        town.agree([ann], {"counters": "true"})
        assert ann.execute("SELECT sum(n) FROM counters") == [(WRITERS * TURNS,)]
        # Predicate locks on small tables are coarse, so a few failures are PostgreSQL's own; a queue of ours that every
        # writer reads or writes at one place would make it most of them.
        assert len(failures) < WRITERS * TURNS

    def test_a_repeatable_read_transaction_writes_after_a_checkpoint(self, town: Town) -> None:
        """P6, P15: its snapshot is older than several cuts; it neither fails nor is overlooked."""
        ann = town.phone("ann")
        old = town.connect()
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT * FROM notes")
        for n in range(5):
            town.execute(f"UPDATE visits SET minutes = {n}")
            town.checkpoint()
        old.execute("UPDATE notes SET body = 'written late'")
        town.checkpoint()
        old.execute("COMMIT")
        town.agree([ann], of("ann"))
        assert ann.execute("SELECT DISTINCT body FROM notes") == [("written late",)]

    def test_a_transaction_stays_whole(self, open_town: OpenTown) -> None:
        """P7: lines and their total, of several tables, however checkpoints fall between commits."""
        town = open_town(
            (
                "CREATE TABLE bills(id integer PRIMARY KEY, total integer)",
                "CREATE TABLE lines(id integer PRIMARY KEY, bill integer REFERENCES bills, amount integer)",
                "INSERT INTO bills VALUES(1, 0)",
            ),
            for_everybody("bills", "lines"),
        )
        ann = town.phone("ann")
        hosts = Hosts()

        def write() -> None:
            session = town.connect()
            for n in range(150):
                with session.transaction():
                    session.execute("INSERT INTO lines VALUES(%s, 1, %s)", (n, n))
                    session.execute("UPDATE bills SET total = total + %s", (n,))

        hosts.start(write)
        while hosts.busy():
            ann.sync()
            ((total, lines),) = ann.execute("SELECT total, (SELECT coalesce(sum(amount), 0) FROM lines) FROM bills")
            assert total == lines
        hosts.join()
        town.agree([ann], {"bills": "true", "lines": "true"})


class TestPreparedTransactions(Ways):
    @ONE_VERSION
    def test_two_phase_commit(self, own_database: OwnDatabase, open_town: OpenTown) -> None:
        """P6, P15: PREPARE TRANSACTION works, asleep or awake; rows count when COMMIT PREPARED says so."""
        database = own_database({"max_prepared_transactions": 10})
        town = open_town(TABLES, caseload(), database=database)
        ann = town.phone("ann")
        assert not town.wait(town.source.wait_for_change(3.0))  # long enough to fall asleep, where that is allowed
        town.execute(
            "UPDATE syncline.pulse SET asleep_until = 'infinity'",  # before this server was started with other settings
            "BEGIN",
            "UPDATE visits SET status = 'prepared' WHERE id = 11",
            "DELETE FROM notes",
            "PREPARE TRANSACTION 'one'",
        )
        town.execute("UPDATE visits SET status = 'other' WHERE id = 12")
        town.agrees(ann, of("ann"))
        assert ann.execute("SELECT status FROM visits WHERE id = 11") == [("planned",)]
        town.execute("COMMIT PREPARED 'one'")
        town.agrees(ann, of("ann"))
        assert ann.execute("SELECT count(*) FROM notes") == [(0,)]
        town.execute("BEGIN", "DELETE FROM visits", "PREPARE TRANSACTION 'two'", "ROLLBACK PREPARED 'two'")
        town.agree([ann], of("ann"))


class TestSessions(Ways):
    def test_a_role_that_knows_nothing_of_us(self, town: Town) -> None:
        """P15: it has rights on its tables, none on the schema `syncline`, and needs none."""
        town.execute(
            "CREATE ROLE clerk_of_the_town LOGIN",
            "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public TO clerk_of_the_town",
        )
        try:
            ann = town.phone("ann")
            clerk = town.connect("clerk_of_the_town")
            for statement in (
                "INSERT INTO notes VALUES(1, 11, 'by the clerk')",
                "UPDATE notes SET body = 'again', id = 2 WHERE id = 1",
                "DELETE FROM patients WHERE id = 2",
                "TRUNCATE notes",
            ):
                clerk.execute(statement.encode())
                town.agrees(ann, of("ann"))
            for table in town.ask(
                "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'syncline'"
            ):
                for verb in ("SELECT * FROM {}", "DELETE FROM {}", "TRUNCATE {}"):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        clerk.execute(verb.format(table[0]).encode())
            for (call,) in town.ask(
                "SELECT format('%I.%I', nspname, proname) FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace "
                "WHERE nspname = 'syncline'"
            ):
                with pytest.raises(psycopg.Error):
                    clerk.execute(f"SELECT {call}()".encode())
            clerk.close()
        finally:
            town.execute("DROP OWNED BY clerk_of_the_town", "DROP ROLE clerk_of_the_town")

    @ONE_VERSION
    @pytest.mark.parametrize(
        "options",
        [
            "-c search_path=",
            "-c search_path=pg_temp",
            "-c search_path=nowhere,pg_catalog",
            "-c timezone=Asia/Kathmandu -c datestyle=German -c intervalstyle=sql_standard",
            "-c bytea_output=escape -c extra_float_digits=-5 -c standard_conforming_strings=off",
            "-c quote_all_identifiers=on -c row_security=off -c check_function_bodies=off",
            "-c client_encoding=LATIN1 -c lc_numeric=C -c array_nulls=off",
            "-c transform_null_equals=on -c default_transaction_isolation=serializable",
            "-c plpgsql.variable_conflict=error -c plpgsql.extra_errors=all",
            "-c enable_seqscan=off -c enable_indexscan=off -c jit=on -c jit_above_cost=0",
            "-c default_transaction_deferrable=on -c default_transaction_isolation=serializable",
            "-c xmlbinary=hex -c backslash_quote=off -c lo_compat_privileges=on",
            "-c work_mem=64kB -c temp_buffers=800kB -c default_table_access_method=heap",
        ],
    )
    def test_odd_settings_of_a_session(self, town: Town, options: str) -> None:
        """P15, P16: what a host sets for itself changes nothing of what arrives."""
        ann = town.phone("ann")
        odd = town.connect(options=options)
        for statement in (
            "INSERT INTO public.notes VALUES(1, 11, 'odd')",
            "UPDATE public.notes SET body = body || '!', id = id + 1000000",
            "UPDATE public.visits SET patient_id = 2 WHERE patient_id = 1",
            "DELETE FROM public.visits WHERE id = 21",
        ):
            odd.execute(statement.encode())
        town.agree([ann], of("ann"))

    def test_a_function_named_like_ours_in_a_schema_that_comes_first(self, town: Town) -> None:
        """P15: nobody makes our functions, which run with their owner's rights, call his."""
        town.execute("CREATE ROLE mallory_of_the_town LOGIN")
        try:
            town.execute(
                "CREATE SCHEMA trap AUTHORIZATION mallory_of_the_town",
                "GRANT ALL ON ALL TABLES IN SCHEMA public TO mallory_of_the_town",
                f'GRANT CREATE, TEMPORARY ON DATABASE "{town.database.name}" TO mallory_of_the_town',
            )
            ann = town.phone("ann")
            mallory = town.connect("mallory_of_the_town")
            caught = "BEGIN RAISE EXCEPTION 'caught as %', current_user; END"
            for name, arguments, answer in (
                ("now", "", "timestamptz"),
                ("clock_timestamp", "", "timestamptz"),
                ("now_us", "", "bigint"),
                ("pg_notify", "text, text", "void"),
                ("current_setting", "text, boolean", "text"),
                ("pg_current_xact_id", "", "xid8"),
                ("set_config", "text, text, boolean", "text"),
                ("coalesce_", "bigint", "bigint"),
                ("int4eq", "integer, integer", "boolean"),
            ):
                mallory.execute(
                    f"CREATE FUNCTION trap.{name}({arguments}) RETURNS {answer} LANGUAGE plpgsql AS $$ {caught} $$".encode()
                )
            for operator in ("=", "<>", "+", "||"):
                for left in ("integer", "bigint", "text"):
                    mallory.execute(
                        f"CREATE FUNCTION trap.op(a {left}, b {left}) RETURNS boolean LANGUAGE plpgsql AS $$ {caught} $$".encode()
                        if operator == "="
                        else b"SELECT"
                    )
                    mallory.execute(
                        f"CREATE OPERATOR trap.{operator} (LEFTARG = {left}, RIGHTARG = {left}, FUNCTION = trap.op)".encode()
                    )
            mallory.execute("CREATE TEMPORARY TABLE pulse(floor_us bigint, asleep boolean)")
            mallory.execute("CREATE TEMPORARY TABLE gap(table_name text, mark text)")
            mallory.execute("SET search_path = trap, pg_temp, syncline, public, pg_catalog")
            for statement in (
                "INSERT INTO notes VALUES(1, 11, 'x'), (2, 12, 'y')",
                "UPDATE notes SET body = 'z' WHERE id OPERATOR(pg_catalog.<) 3",
                "UPDATE visits SET patient_id = 2",
                "DELETE FROM notes",
                "TRUNCATE notes",
            ):
                mallory.execute(statement.encode())
            town.agree([ann], of("ann"))
            assert town.ask("SELECT count(*) FROM syncline.gap") == [(0,)]
            mallory.close()
        finally:
            town.execute("DROP OWNED BY mallory_of_the_town CASCADE", "DROP ROLE mallory_of_the_town")

    def test_a_host_cannot_forge_stamps_that_break_the_queue(self, town: Town) -> None:
        """P15, P18: any text in a setting of our name is the host's own business, and his write passes."""
        ann = town.phone("ann")
        for stamp in ("", "nonsense", "99999999999999999999999", "-1", "1e3"):
            forger = town.connect()
            forger.execute(
                "SELECT set_config('syncline.stamp', %s, false), set_config('syncline.writer', %s, false)",
                (stamp, stamp),
            )
            forger.execute("UPDATE notes SET body = body || '.'")
            town.agrees(ann, of("ann"))
        town.agree([ann], of("ann"))

    def test_errors_inside_capture_never_break_the_host(self, town: Town) -> None:
        """P15: our queue is damaged in every way; the host's write passes each time, and the rows arrive once capture
        has been put back."""
        ann = town.phone("ann")
        queue = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'syncline' AND tablename LIKE '%notes%'"
        ((changelog,),) = town.ask(queue)
        for damage in (
            f"ALTER TABLE {changelog} ADD CONSTRAINT never CHECK (false) NOT VALID",
            f"ALTER TABLE {changelog} RENAME TO elsewhere",
            "DELETE FROM syncline.pulse",
        ):
            town.execute("BEGIN", damage)
            town.execute(
                "UPDATE notes SET body = 'passes'",
                "INSERT INTO notes VALUES(1, 11, 'x')",
                "DELETE FROM notes WHERE id = 1",
            )
            town.execute("COMMIT")
            assert town.ask("SELECT DISTINCT body FROM notes") == [("passes",)]
            if "RENAME" in damage:
                town.execute(f"ALTER TABLE syncline.elsewhere RENAME TO {changelog.partition('.')[2]}")
            if "CHECK" in damage:
                town.execute(f"ALTER TABLE {changelog} DROP CONSTRAINT never")
            if "pulse" in damage:
                continue
            town.agrees(ann, of("ann"))
        town.execute("UPDATE notes SET body = 'still passes'")
