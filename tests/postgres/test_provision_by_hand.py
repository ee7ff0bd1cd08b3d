"""Capture put in by a DBA, served by a role with the least rights, lost, put back, and taken out. P2, P20."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from tests.postgres.capturing import Clinic, clinic_on
from tests.postgres.conftest import HostDatabase

from syncline.errors import SchemaChangedError, SourceBusyError, SourceError
from syncline.model.scopes import ScopeConfig, TableConfig
from syncline.source.postgres import locking, roles
from syncline.source.postgres.source import PostgresSource


@pytest.fixture
def clinic(postgres: HostDatabase) -> Iterator[Clinic]:
    with clinic_on(postgres) as clinic:
        yield clinic


@pytest.fixture
def service(clinic: Clinic) -> Iterator[str]:
    """A role that may sign in, and nothing else."""
    name = f"service_{clinic.database.name}"
    clinic.execute(*roles.create_role(name))
    yield name
    clinic.execute(f'DROP OWNED BY "{name}"', f'DROP ROLE "{name}"')


def dump(database: HostDatabase) -> str:
    written = database.server.run("pg_dump", "--schema-only", database.url).stdout
    return "\n".join(line for line in written.splitlines() if "restrict " not in line)


# ---------------------------------------------------------------- put in, taken out
def test_deprovision_leaves_the_schema_as_it_was(clinic: Clinic, service: str) -> None:
    before = dump(clinic.database)
    owner = clinic.open(service_role=service)
    clinic.provision(owner)
    assert dump(clinic.database) != before
    assert clinic.wait(owner.deprovision())
    assert dump(clinic.database) == before
    assert not clinic.wait(owner.deprovision())


def test_provision_twice_changes_nothing_the_second_time(clinic: Clinic) -> None:
    report = clinic.provision()
    assert set(report.created) == {"patients", "visits", "drugs", "assignments"}
    versions = "SELECT oid, xmin::text FROM pg_trigger WHERE tgname LIKE 'syncline%' ORDER BY 1"
    before = clinic.database.execute(versions)
    again = clinic.provision()
    assert again.created == ()
    assert clinic.database.execute(versions) == before
    assert clinic.wait(clinic.source.pending_provision(clinic.plan)) == []


def test_a_schema_of_that_name_that_is_not_ours_is_left_alone(clinic: Clinic) -> None:
    clinic.execute("CREATE SCHEMA syncline", "CREATE TABLE syncline.payroll(id integer)")
    with pytest.raises(SourceError, match="not ours"):
        clinic.provision()
    assert not clinic.wait(clinic.source.deprovision())
    assert clinic.database.execute("SELECT count(*) FROM syncline.payroll") == [(0,)]


def test_what_was_granted_is_taken_back_from_tables_that_were_renamed(clinic: Clinic, service: str) -> None:
    """Also from one whose name another table has now, and in a schema that was renamed."""
    clinic.execute("CREATE SCHEMA ward", "ALTER TABLE drugs SET SCHEMA ward", "CREATE TABLE public.beds(id int)")
    clinic.config = replace(
        clinic.config, scopes=(clinic.config.scopes[0], ScopeConfig("formulary", {"ward.drugs": TableConfig()}))
    )
    clinic.plan_now()
    owner = clinic.open(service_role=service)
    clinic.provision(owner)
    renames = (
        "ALTER TABLE visits RENAME TO appointments",
        "ALTER TABLE patients RENAME TO clients",
        "ALTER TABLE beds RENAME TO visits",
        "ALTER SCHEMA ward RENAME TO hall",
        "ALTER TABLE hall.drugs RENAME TO medicines",
    )
    clinic.execute(*renames)
    removal = clinic.wait(owner.deprovision())
    assert removal.found
    assert removal.left == ()
    left = [line for line in dump(clinic.database).splitlines() if service in line or "syncline" in line.lower()]
    assert left == []


def test_a_view_of_the_companys_on_ours_stops_deprovision_and_stays(clinic: Clinic) -> None:
    clinic.provision()
    clinic.execute("CREATE VIEW heads AS SELECT head FROM syncline.checkpoint")
    with pytest.raises(SourceError, match="depend"):
        clinic.wait(clinic.source.deprovision())
    assert clinic.database.execute("SELECT count(*) FROM heads") == [(0,)]
    clinic.execute("DROP VIEW heads")
    assert clinic.wait(clinic.source.deprovision())


def test_deprovision_refuses_while_a_server_runs(clinic: Clinic) -> None:
    clinic.provision()
    clinic.wait(clinic.source.attach(clinic.plan))
    assert clinic.wait(clinic.source.begin_term("one"))
    other = clinic.open()
    with pytest.raises(SourceBusyError, match="server_running"):
        clinic.wait(other.deprovision())
    clinic.wait(clinic.source.end_term("one"))
    assert clinic.wait(other.deprovision())


# ---------------------------------------------------------------- locks
def test_a_table_that_is_locked_is_waited_for_and_what_was_done_stays_done(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "PATIENCE_SECONDS", 0.0)
    clinic.execute("BEGIN", "LOCK TABLE patients IN ROW EXCLUSIVE MODE")
    impatient = PostgresSource(f"{clinic.database.url}", tell=clinic.told.append)
    with pytest.raises(SourceBusyError, match='"patients" is locked'):
        clinic.wait(impatient.provision(clinic.plan))
    clinic.wait(impatient.close())
    clinic.execute("COMMIT")
    pending = clinic.wait(clinic.source.pending_provision(clinic.plan))
    assert 'install capture on "drugs"' not in pending
    assert 'install capture on "patients"' in pending
    clinic.provision()
    assert clinic.wait(clinic.source.pending_provision(clinic.plan)) == []


def test_two_provisions_do_not_meet(clinic: Clinic) -> None:
    clinic.execute(f"SELECT pg_advisory_lock({locking.PROVISION_LOCK[0]}, {locking.PROVISION_LOCK[1]})")
    with pytest.raises(SourceBusyError, match="another process"):
        clinic.provision()


# ---------------------------------------------------------------- the least rights
def test_the_script_of_a_dba_is_all_that_a_service_without_rights_needs(clinic: Clinic, service: str) -> None:
    owner = clinic.open(service_role=service)
    statements = clinic.wait(owner.provision_script(clinic.plan))
    for _ in range(2):
        clinic.execute(";\n".join(statements))
    server = clinic.open(service)
    clinic.wait(server.adopt(clinic.plan_now(server)))
    assert clinic.wait(server.begin_term("one"))
    clinic.execute("UPDATE visits SET status = 'x'")
    checkpoint = clinic.wait(server.take_checkpoint("one"))
    assert checkpoint
    assert checkpoint.tables >= {"visits"}
    clinic.wait(server.end_term("one"))


def test_a_table_of_which_capture_is_lost_stops_and_the_rest_goes_on(clinic: Clinic, service: str) -> None:
    owner = clinic.open(service_role=service)
    clinic.provision(owner)
    server = clinic.open(service)
    clinic.wait(server.attach(clinic.plan_now(server)))
    clinic.wait(server.begin_term("one"))
    clinic.wait(server.take_checkpoint("one"))
    clinic.execute("DROP TRIGGER syncline_update ON visits", "UPDATE visits SET status = 'unseen'")
    with pytest.raises(SchemaChangedError):
        clinic.wait(server.take_checkpoint("one"))
    clinic.wait(server.adopt(clinic.plan_now(server)))
    standing = server._attached().standing
    assert standing.broken == {"visits"}
    clinic.execute("UPDATE drugs SET name = 'x'", "DELETE FROM visits")
    checkpoint = clinic.wait(server.take_checkpoint("one"))
    assert checkpoint
    assert checkpoint.tables == {"drugs"}
    assert server.stopped() == {"visits"}

    clinic.provision(owner)
    with pytest.raises(SchemaChangedError):
        clinic.wait(server.take_checkpoint("one"))
    clinic.wait(server.adopt(clinic.plan_now(server)))
    checkpoint = clinic.wait(server.take_checkpoint("one"))
    assert checkpoint
    assert checkpoint.raised == {"visits"}
    clinic.wait(server.end_term("one"))


def test_row_security_that_would_hide_rows_is_named(clinic: Clinic, service: str) -> None:
    clinic.provision(clinic.open(service_role=service))
    clinic.execute("ALTER TABLE drugs ENABLE ROW LEVEL SECURITY")

    async def found(source: PostgresSource) -> tuple[str, ...]:
        async with source._db.snapshot() as db:
            return await roles.rls_findings(db, clinic.plan)

    assert clinic.wait(found(clinic.open(service))) == ("drugs",)
    assert clinic.wait(found(clinic.source)) == ()


def test_a_table_whose_rows_are_newly_hidden_stops_nothing_else(clinic: Clinic, service: str) -> None:
    """P1, P20: it is sent anew once the service may read all of it again."""
    clinic.provision(clinic.open(service_role=service))
    server = clinic.open(service)
    clinic.wait(server.attach(clinic.plan_now(server)))
    clinic.wait(server.begin_term("one"))
    clinic.wait(server.take_checkpoint("one"))
    clinic.execute("ALTER TABLE drugs ENABLE ROW LEVEL SECURITY", "UPDATE drugs SET name = 'x'")
    with pytest.raises(SchemaChangedError):
        clinic.wait(server.take_checkpoint("one"))
    with pytest.raises(SchemaChangedError, match="Row security"):
        clinic.wait(clinic.open(service).attach(clinic.plan))
    clinic.wait(server.adopt(clinic.plan_now(server)))
    assert server.stopped() == {"drugs"}
    clinic.execute("UPDATE visits SET status = 'going on'")
    checkpoint = clinic.wait(server.take_checkpoint("one"))
    assert checkpoint
    assert checkpoint.tables == {"visits"}

    clinic.execute(f'ALTER ROLE "{service}" BYPASSRLS')
    with pytest.raises(SchemaChangedError):
        clinic.wait(server.take_checkpoint("one"))
    clinic.wait(server.adopt(clinic.plan_now(server)))
    assert server.stopped() == frozenset()
    checkpoint = clinic.wait(server.take_checkpoint("one"))
    assert checkpoint
    assert checkpoint.raised == {"drugs"}
    clinic.wait(server.end_term("one"))


# ---------------------------------------------------------------- what happened while nobody looked
@pytest.mark.parametrize(
    ("deeds", "missed"),
    [
        (("ALTER TABLE drugs DISABLE TRIGGER ALL", "DELETE FROM drugs", "ALTER TABLE drugs ENABLE TRIGGER ALL"), True),
        (
            (
                "ALTER TABLE drugs DISABLE TRIGGER syncline_delete",
                "DELETE FROM drugs",
                "ALTER TABLE drugs ENABLE ALWAYS TRIGGER syncline_delete",
            ),
            True,
        ),
        (("VACUUM FULL drugs", "CREATE INDEX ON drugs(name)", "ANALYZE drugs", "VACUUM FULL pg_trigger"), False),
        (("GRANT SELECT ON drugs TO PUBLIC", "COMMENT ON TABLE drugs IS 'x'"), False),
    ],
)
def test_capture_that_was_switched_off_and_on_again_is_noticed(
    clinic: Clinic, deeds: tuple[str, ...], missed: bool
) -> None:
    clinic.provision()
    clinic.wait(clinic.source.attach(clinic.plan))
    clinic.wait(clinic.source.begin_term("one"))
    clinic.wait(clinic.source.take_checkpoint("one"))
    clinic.execute(*deeds)
    if missed:
        with pytest.raises(SchemaChangedError):
            clinic.wait(clinic.source.take_checkpoint("one"))
        clinic.wait(clinic.source.adopt(clinic.plan_now()))
    checkpoint = clinic.wait(clinic.source.take_checkpoint("one"))
    assert (checkpoint.raised if checkpoint else set()) == ({"drugs"} if missed else set())
    clinic.wait(clinic.source.end_term("one"))


def test_a_restored_dump_is_served_and_has_missed_nothing(
    clinic: Clinic, postgres: HostDatabase, make_postgres: Callable[..., HostDatabase]
) -> None:
    """What a dump writes anew has other identities, and what is done to it afterwards counts as ever."""
    clinic.provision()
    clinic.wait(clinic.source.attach(clinic.plan))
    assert clinic.wait(clinic.source.begin_term("one"))
    clinic.execute("INSERT INTO patients VALUES (7, 'Ada', 'secret')")
    copy = make_postgres()
    dumped = postgres.server.folder / f"{postgres.name}.dump"
    postgres.server.run("pg_dump", "--format=custom", f"--file={dumped}", postgres.url)
    postgres.server.run("pg_restore", f"--dbname={copy.url}", str(dumped))
    with clinic_on(copy, ()) as restored:
        restored.wait(restored.source.attach(restored.plan))
        assert restored.wait(restored.source.begin_term("two"))
        checkpoint = restored.wait(restored.source.take_checkpoint("two"))
        assert checkpoint is not None
        assert (checkpoint.changes, checkpoint.raised) == (1, set())
        copy.execute("ALTER TABLE drugs DISABLE TRIGGER syncline_insert")
        copy.execute("ALTER TABLE drugs ENABLE ALWAYS TRIGGER syncline_insert")
        with pytest.raises(SchemaChangedError):
            restored.wait(restored.source.attach(restored.plan))
        restored.wait(restored.source.end_term("two"))
    clinic.wait(clinic.source.end_term("one"))
