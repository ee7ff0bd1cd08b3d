"""Whoever may alter a captured table gets at nobody's rights by it, whoever provisioned. P10, P15."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import psycopg
import pytest
from tests.postgres.capturing import clinic_on
from tests.postgres.conftest import HostDatabase
from tests.postgres.test_provision_by_hand import dump
from tests.postgres.test_provision_rights import FORMULARY, SUPERUSERS

from syncline.errors import SourceError
from syncline.model.scopes import PlanConfig, ScopeConfig, TableConfig


@pytest.fixture
def role(postgres: HostDatabase) -> Iterator[str]:
    """Of somebody who may create things in the schema public."""
    name = f"mallory_{postgres.name}"
    postgres.server.create_role(name)
    postgres.execute(f'GRANT CREATE ON SCHEMA public TO "{name}"')
    yield name
    postgres.execute(f'DROP OWNED BY "{name}" CASCADE')


OWNERS = (
    "SELECT DISTINCT pg_get_userbyid(proowner)::text FROM pg_proc WHERE pronamespace = 'syncline'::regnamespace "
    "AND proname LIKE 'capture%' UNION SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class "
    "WHERE relnamespace = 'syncline'::regnamespace AND relkind IN ('r', 'S') AND relname LIKE 'changelog%'"
)


def capture_role_of(database: HostDatabase) -> str:
    """One for this database alone: others of the same server are provisioned meanwhile."""
    return f"keeper_{database.name}"


def has_role(database: HostDatabase, name: str) -> bool:
    return database.execute(f"SELECT count(*) FROM pg_roles WHERE rolname = '{name}'") == [(1,)]


def rise_by_any_superuser_sql(role: str) -> str:
    return (
        "CREATE TABLE public.ran_as(role text); GRANT INSERT ON public.ran_as TO PUBLIC; "
        "CREATE FUNCTION public.rise() RETURNS void LANGUAGE plpgsql AS $f$ BEGIN "
        "INSERT INTO public.ran_as VALUES (current_user); "
        f"""IF current_setting('is_superuser') = 'on' OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
        THEN ALTER ROLE "{role}" SUPERUSER; END IF; END $f$"""
    )


def test_a_table_owner_who_changes_a_type_runs_casts_with_no_rights_of_whoever_provisioned(
    postgres: HostDatabase, role: str
) -> None:
    """The queue's column is a number, and stays one; what turns a column's new type into a number is the table
    owner's. The change is captured or leaves a gap, and the host's statement passes either way."""
    tables = (
        f'SET ROLE "{role}"',
        "CREATE TABLE drugs(id integer PRIMARY KEY, name text)",
        "INSERT INTO drugs VALUES (1, 'Aspirin')",
        "RESET ROLE",
    )
    with clinic_on(postgres, tables, FORMULARY) as clinic:
        source = clinic.open(capture_role=capture_role_of(postgres))
        clinic.provision(source)
        clinic.execute(
            f'SET ROLE "{role}"',
            rise_by_any_superuser_sql(role),
            "CREATE TYPE evil AS (n integer)",
            "CREATE FUNCTION public.number_of(evil) RETURNS integer LANGUAGE plpgsql AS "
            "$f$ BEGIN PERFORM public.rise(); RETURN ($1).n; END $f$",
            "CREATE CAST (evil AS integer) WITH FUNCTION public.number_of(evil) AS ASSIGNMENT",
            "ALTER TABLE drugs DROP CONSTRAINT drugs_pkey, ALTER COLUMN id TYPE evil USING ROW(id)::evil",
            "INSERT INTO drugs VALUES (ROW(2)::evil, 'Ibuprofen')",
            "RESET ROLE",
        )
        assert clinic.database.execute(SUPERUSERS.format(role=role)) == [(0,)]
        assert clinic.database.execute("SELECT DISTINCT role FROM ran_as") == [(capture_role_of(postgres),)]
        assert clinic.changes("drugs") or clinic.gaps() == ["drugs"]
        assert clinic.database.execute("SELECT count(*) FROM drugs") == [(2,)]
        assert clinic.wait(source.deprovision())
        assert not has_role(postgres, capture_role_of(postgres))


def test_analysing_the_queue_runs_nothing_with_the_rights_of_whoever_provisioned(
    postgres: HostDatabase, role: str
) -> None:
    """Autovacuum, and a superuser who says ANALYZE, compute statistics with the rights of a table's owner."""
    tables = (
        f'SET ROLE "{role}"',
        "CREATE FUNCTION public.far(integer, integer) RETURNS float8 IMMUTABLE LANGUAGE sql AS 'SELECT ($1 - $2)::float8'",
        "CREATE TYPE span AS RANGE (subtype = integer, subtype_diff = public.far)",
        "CREATE TABLE drugs(id integer PRIMARY KEY, doses span)",
        "RESET ROLE",
    )
    filtered = PlanConfig((ScopeConfig("formulary", {"drugs": TableConfig(where="doses IS NOT NULL")}),))
    with clinic_on(postgres, tables, filtered) as clinic:
        source = clinic.open(capture_role=capture_role_of(postgres))
        clinic.provision(source)
        clinic.execute(
            f'SET ROLE "{role}"',
            rise_by_any_superuser_sql(role),
            "CREATE OR REPLACE FUNCTION public.far(integer, integer) RETURNS float8 IMMUTABLE LANGUAGE plpgsql AS "
            "$f$ BEGIN PERFORM public.rise(); RETURN $1 - $2; END $f$",
            "INSERT INTO drugs SELECT n, int4range(n, n + 5)::text::span FROM generate_series(1, 50) n",
            "DELETE FROM drugs",
            "RESET ROLE",
        )
        with contextlib.suppress(psycopg.Error):
            clinic.execute("ANALYZE syncline.changelog_drugs")
        assert clinic.database.execute("SELECT count(*) FROM syncline.changelog_drugs WHERE o_1 IS NOT NULL") == [(50,)]
        assert clinic.database.execute(SUPERUSERS.format(role=role)) == [(0,)]
        assert clinic.wait(source.deprovision())


def test_capture_belongs_to_a_role_that_may_do_nothing_else(postgres: HostDatabase) -> None:
    """Also of a database that was provisioned before there was such a role, or for another one: nothing is missed."""
    tables = ("CREATE TABLE drugs(id integer PRIMARY KEY, name text)",)
    keeper, other = capture_role_of(postgres), f"other_{postgres.name}"
    with clinic_on(postgres, tables, FORMULARY) as clinic:
        clinic.provision(clinic.open(capture_role=other))
        assert clinic.database.execute(OWNERS) == [(other,)]
        source = clinic.open(capture_role=keeper)
        report = clinic.provision(source)
        assert (report.created, report.anew) == ((), ())
        assert clinic.database.execute(OWNERS) == [(keeper,)]
        assert clinic.database.execute(
            "SELECT rolsuper, rolcanlogin, rolcreaterole, rolbypassrls, has_schema_privilege(oid, 'syncline', 'CREATE') "
            f"FROM pg_roles WHERE rolname = '{keeper}'"
        ) == [(False, False, False, False, False)]
        assert clinic.wait(source.deprovision())
        assert not has_role(postgres, keeper)
        clinic.execute(f'DROP ROLE "{other}"')


def test_a_role_that_may_do_more_is_refused_by_name(postgres: HostDatabase, role: str) -> None:
    tables = ("CREATE TABLE drugs(id integer PRIMARY KEY, name text)",)
    with clinic_on(postgres, tables, FORMULARY) as clinic:
        with pytest.raises(SourceError, match=rf'"{role}".*may sign in') as refused:
            clinic.provision(clinic.open(capture_role=role))
        assert refused.value.error_code == "name_taken"


@pytest.mark.parametrize("attributes", ["LOGIN", "LOGIN CREATEROLE"])
def test_an_owner_who_is_no_superuser_makes_the_role_if_it_may(postgres: HostDatabase, attributes: str) -> None:
    """As on managed services. Without the right to make roles, or to use one that a person made, capture runs with
    the owner's own rights, and doctor says so."""
    keeper, owner = capture_role_of(postgres), f"owner_{postgres.name}"
    postgres.server.create_role(owner, attributes)
    postgres.execute(
        f'GRANT CREATE ON DATABASE "{postgres.name}" TO "{owner}"',
    )
    postgres.execute(f'GRANT CREATE ON SCHEMA public TO "{owner}"')
    tables = (f'SET ROLE "{owner}"', "CREATE TABLE drugs(id integer PRIMARY KEY, name text)", "RESET ROLE")
    with clinic_on(postgres, tables, FORMULARY) as clinic:
        source = clinic.open(owner, capture_role=keeper)
        before = dump(postgres)
        for _ in range(2):
            clinic.provision(source)
        if "CREATEROLE" not in attributes:
            assert clinic.database.execute(OWNERS) == [(owner,)]
            assert any(keeper in text for text in clinic.told)
            found = clinic.wait(source.diagnose(clinic.plan))
            assert [(each.code, each.is_note) for each in found if each.code == "capture_owner"] == [
                ("capture_owner", True)
            ]
            clinic.execute(f'CREATE ROLE "{keeper}" NOLOGIN', f'GRANT "{keeper}" TO "{owner}"')
            clinic.provision(source)
        assert clinic.database.execute(OWNERS) == [(keeper,)]
        clinic.execute(f'SET ROLE "{owner}"', "INSERT INTO drugs VALUES (1, 'Aspirin')", "RESET ROLE")
        assert clinic.changes("drugs") == [("I", 1)]
        found = clinic.wait(source.diagnose(clinic.plan))
        assert not [each for each in found if each.code in ("capture_owner", "foreign_rights")]
        assert clinic.wait(source.deprovision())
        assert dump(postgres) == before
        assert has_role(postgres, keeper) == ("CREATEROLE" not in attributes)
    postgres.execute(f'DROP OWNED BY "{owner}" CASCADE')
    postgres.execute(f'DROP ROLE IF EXISTS "{keeper}"')
    postgres.execute(f'DROP ROLE "{owner}"')


def test_the_script_of_a_dba_makes_the_role_too(postgres: HostDatabase) -> None:
    tables = ("CREATE TABLE drugs(id integer PRIMARY KEY, name text)",)
    with clinic_on(postgres, tables, FORMULARY) as clinic:
        source = clinic.open(capture_role=capture_role_of(postgres))
        statements = clinic.wait(source.provision_script(clinic.plan))
        for _ in range(2):
            clinic.execute(";\n".join(statements))
        assert clinic.database.execute(OWNERS) == [(capture_role_of(postgres),)]
        clinic.provision(source)
        assert clinic.database.execute(OWNERS) == [(capture_role_of(postgres),)]
        assert clinic.wait(source.deprovision())


def test_a_role_that_another_database_uses_stays(
    postgres: HostDatabase, make_postgres: Callable[..., HostDatabase]
) -> None:
    tables = ("CREATE TABLE drugs(id integer PRIMARY KEY, name text)",)
    keeper = capture_role_of(postgres)
    with clinic_on(postgres, tables, FORMULARY) as clinic, clinic_on(make_postgres(), tables, FORMULARY) as other:
        for each in (clinic, other):
            each.provision(each.open(capture_role=keeper))
        assert clinic.wait(clinic.source.deprovision())
        assert has_role(postgres, keeper)
        other.execute("INSERT INTO drugs VALUES (1, 'Aspirin')")
        assert other.changes("drugs") == [("I", 1)]
        assert other.wait(other.source.deprovision())
        assert not has_role(postgres, keeper)
