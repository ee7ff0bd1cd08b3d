"""Whatever becomes of capture, the host's statement passes, and what was missed is known. P2, P20."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from tests.postgres.capturing import Clinic, clinic_on
from tests.postgres.conftest import HostDatabase

from syncline.errors import SchemaChangedError
from syncline.source.postgres import provision


@pytest.fixture
def clinic(postgres: HostDatabase) -> Iterator[Clinic]:
    with clinic_on(postgres) as clinic:
        clinic.provision()
        yield clinic


@pytest.mark.parametrize(
    "breaking",
    [
        "ALTER TABLE visits DROP COLUMN status",
        "ALTER TABLE visits RENAME COLUMN status TO state",
        "ALTER TABLE visits ALTER COLUMN patient_id TYPE text, DROP CONSTRAINT visits_patient_id_fkey",
        "ALTER TABLE syncline.changelog_visits DROP COLUMN o_1",
        "ALTER TABLE syncline.changelog_visits ADD CHECK (false)",
        "DROP TABLE syncline.changelog_visits",
        "DELETE FROM syncline.pulse",
    ],
)
def test_an_error_inside_capture_leaves_a_gap_and_lets_the_host_pass(clinic: Clinic, breaking: str) -> None:
    clinic.execute(breaking, "UPDATE visits SET price = 7")
    assert clinic.database.execute("SELECT DISTINCT price FROM visits") == [(7,)]
    assert clinic.gaps() == ["visits"]


def test_a_longer_text_than_the_column_held_when_capture_was_put_in_is_captured(postgres: HostDatabase) -> None:
    with clinic_on(postgres) as clinic:
        clinic.execute("ALTER TABLE drugs ALTER COLUMN id TYPE varchar(3)")
        clinic.plan_now()
        clinic.provision()
        clinic.execute("ALTER TABLE drugs ALTER COLUMN id TYPE varchar(9)", "INSERT INTO drugs VALUES ('longer')")
        assert clinic.changes("drugs") == [("I", "longer")]
        assert clinic.gaps() == []


def test_where_not_even_the_gap_can_be_written_the_host_passes_and_the_fingerprint_tells(clinic: Clinic) -> None:
    clinic.wait(clinic.source.attach(clinic.plan))
    clinic.execute(
        "DROP TABLE syncline.gap, syncline.changelog_visits", "UPDATE visits SET price = 7", "TRUNCATE drugs"
    )
    assert clinic.database.execute("SELECT DISTINCT price FROM visits") == [(7,)]
    with pytest.raises(Exception, match="schema_changed"):
        clinic.wait(clinic.source.require_schema())


def test_a_cancelled_statement_is_cancelled(clinic: Clinic) -> None:
    clinic.execute(
        "CREATE OR REPLACE FUNCTION syncline.now_us() RETURNS bigint LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_sleep(60); RETURN 1; END'",
        "SET statement_timeout = '200ms'",
    )
    with pytest.raises(psycopg.errors.QueryCanceled):
        clinic.execute("UPDATE visits SET price = 7")
    clinic.execute("RESET statement_timeout")
    assert clinic.database.execute("SELECT count(*) FROM visits WHERE price = 7") == [(0,)]


def test_the_applications_role_needs_no_new_right(clinic: Clinic) -> None:
    server, name = clinic.database.server, clinic.database.name
    role = f"app_{name}"
    server.create_role(role)
    clinic.execute(f'GRANT SELECT, UPDATE, INSERT ON drugs TO "{role}"')
    application = clinic.database.connect(role)
    application.execute("SET search_path = pg_temp, public")
    application.execute("CREATE TEMP TABLE pulse(floor_us bigint, asleep boolean)")
    application.execute("CREATE FUNCTION pg_temp.pg_notify(text, text) RETURNS int LANGUAGE sql AS 'SELECT 1'")
    application.execute("UPDATE public.drugs SET name = 'x' WHERE id = 'a'")
    assert clinic.changes("drugs") == [("U", "a")]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        application.execute("SELECT * FROM syncline.changelog_drugs")
    clinic.execute(f'DROP OWNED BY "{role}"')


def test_what_a_transaction_takes_back_was_never_captured(clinic: Clinic) -> None:
    clinic.execute(
        "BEGIN; UPDATE drugs SET name = 'x'; ROLLBACK",
        "BEGIN; SAVEPOINT a; UPDATE drugs SET name = 'y' WHERE id = 'a'; ROLLBACK TO a; "
        "UPDATE drugs SET name = 'z' WHERE id = 'b'; COMMIT",
    )
    assert clinic.changes("drugs") == [("U", "b")]


def test_what_is_changed_again_while_capture_is_put_back_is_put_back_next_time(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P20: only what this role may not put back is left to a person."""
    put_in = provision.provision

    async def put_in_and_lose(*arguments: Any) -> Any:
        report = await put_in(*arguments)
        clinic.execute("DROP TRIGGER syncline_insert ON drugs")
        return report

    clinic.execute("DROP TRIGGER syncline_insert ON drugs")
    with monkeypatch.context() as patched:
        patched.setattr(provision, "provision", put_in_and_lose)
        with pytest.raises(SchemaChangedError, match="drugs"):
            clinic.wait(clinic.source.adopt(clinic.plan))
    clinic.wait(clinic.source.adopt(clinic.plan))
    clinic.execute("INSERT INTO drugs VALUES ('c')")
    assert clinic.changes("drugs") == [("I", "c")]
