"""Whoever provisions may be a superuser; nobody gets at its rights, or at what capture notes, by that. P10, P15."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from tests.postgres.capturing import TABLES, Clinic, clinic_on
from tests.postgres.conftest import HostDatabase

from syncline.model.scopes import PlanConfig, ScopeConfig, TableConfig

FORMULARY = PlanConfig((ScopeConfig("formulary", {"drugs": TableConfig()}),))
SUPERUSERS = "SELECT count(*) FROM pg_roles WHERE rolname = '{role}' AND rolsuper"


@pytest.fixture
def role(postgres: HostDatabase) -> Iterator[str]:
    """Of somebody who may create things in the schema public."""
    name = f"nurse_{postgres.name}"
    postgres.server.create_role(name)
    postgres.execute(f'GRANT CREATE ON SCHEMA public TO "{name}"')
    yield name
    postgres.execute(f'DROP OWNED BY "{name}" CASCADE')


def rise_sql(role: str) -> str:
    """A function that makes the role a superuser, if one can be had to call it."""
    return (
        "CREATE FUNCTION public.rise() RETURNS void LANGUAGE plpgsql AS $f$ BEGIN "
        f"""IF current_user = 'postgres' THEN ALTER ROLE "{role}" SUPERUSER; END IF; END $f$"""
    )


def test_a_cast_of_the_tables_owner_is_not_run_by_capture(postgres: HostDatabase, role: str) -> None:
    tables = (
        f'SET ROLE "{role}"',
        "CREATE TYPE kind AS ENUM ('a', 'b')",
        "CREATE TABLE drugs(id kind PRIMARY KEY, name text)",
        "INSERT INTO drugs VALUES ('a', 'Aspirin')",
        "RESET ROLE",
    )
    with clinic_on(postgres, tables, FORMULARY) as clinic:
        clinic.provision()
        clinic.execute(
            f'SET ROLE "{role}"',
            rise_sql(role),
            "CREATE FUNCTION public.spell(kind) RETURNS text IMMUTABLE LANGUAGE plpgsql AS "
            "$f$ BEGIN PERFORM public.rise(); RETURN enum_out($1)::text; END $f$",
            "CREATE CAST (kind AS text) WITH FUNCTION public.spell(kind)",
            "UPDATE drugs SET name = 'x'",
            "UPDATE drugs SET id = 'b'",
            "RESET ROLE",
        )
        assert clinic.database.execute(SUPERUSERS.format(role=role)) == [(0,)]
        assert clinic.changes("drugs") == [("U", "a"), ("D", "a"), ("I", "b")]
        assert clinic.gaps() == []
        assert clinic.wait(clinic.source.deprovision())


def test_an_operator_in_a_schema_that_is_looked_at_is_not_run_by_provisioning(
    postgres: HostDatabase, role: str
) -> None:
    trap = (
        f'SET ROLE "{role}"',
        rise_sql(role),
        "CREATE FUNCTION public.same(oid, regclass) RETURNS boolean LANGUAGE plpgsql AS "
        "$f$ BEGIN PERFORM public.rise(); RETURN $1::int8 = $2::oid::int8; END $f$",
        "CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = public.same)",
        "CREATE FUNCTION public.quote_ident(name) RETURNS text LANGUAGE plpgsql AS "
        "$f$ BEGIN PERFORM public.rise(); RETURN pg_catalog.quote_ident($1::text); END $f$",
        "RESET ROLE",
    )
    with clinic_on(postgres, (*TABLES, *trap)) as clinic:
        clinic.provision()
        clinic.wait(clinic.source.attach(clinic.plan))
        clinic.wait(clinic.source.pending_provision(clinic.plan))
        for statement in clinic.wait(clinic.source.provision_script(clinic.plan)):
            clinic.execute(statement)
        assert clinic.database.execute(SUPERUSERS.format(role=role)) == [(0,)]
        assert clinic.wait(clinic.source.deprovision())
        assert clinic.database.execute(SUPERUSERS.format(role=role)) == [(0,)]


def _reads(clinic: Clinic, role: str) -> list[str]:
    return [
        row[0]
        for row in clinic.database.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'syncline'::regnamespace AND relkind = 'r' "
            f"AND has_table_privilege('{role}', oid, 'SELECT')"
        )
    ]


@pytest.mark.parametrize("by_hand", [False, True])
def test_default_privileges_of_the_company_do_not_open_what_capture_notes(
    postgres: HostDatabase, role: str, by_hand: bool
) -> None:
    with clinic_on(postgres) as clinic:
        clinic.execute(
            f'ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO "{role}", PUBLIC',
            f'ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO "{role}"',
        )
        if by_hand:
            for statement in clinic.wait(clinic.source.provision_script(clinic.plan)):
                clinic.execute(statement)
        clinic.provision()
        assert _reads(clinic, role) == []
        reader = clinic.database.connect(role)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("SELECT * FROM syncline.row_state")
        clinic.execute(f'ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM "{role}", PUBLIC')


def test_doctor_says_who_else_may_read_what_capture_notes(postgres: HostDatabase, role: str) -> None:
    with clinic_on(postgres) as clinic:
        clinic.provision()
        assert "foreign_rights" not in {each.code for each in clinic.wait(clinic.source.diagnose(clinic.plan))}
        clinic.execute(f'GRANT SELECT ON syncline.row_state TO "{role}"')
        (found,) = [each for each in clinic.wait(clinic.source.diagnose(clinic.plan)) if each.code == "foreign_rights"]
        clinic.execute(found.remedy.removeprefix("Type: "))
        assert _reads(clinic, role) == []
