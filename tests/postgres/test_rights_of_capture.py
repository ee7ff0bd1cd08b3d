"""What capture needs of ours besides its triggers, taken away and put back: nothing is missed without a word. P2, P20."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.postgres.capturing import Clinic, clinic_on
from tests.postgres.conftest import HostDatabase
from tests.postgres.office import Office

from syncline.errors import SchemaChangedError, SourceError
from syncline.server.config import load_plan
from syncline.source.postgres.belongings import base_tables
from syncline.source.postgres.source import PostgresSource

ALL = {"patients", "visits", "drugs", "assignments"}
KEEPER = (
    "SELECT DISTINCT pg_get_userbyid(proowner)::text FROM pg_proc "
    "WHERE pronamespace = to_regnamespace('syncline') AND proname LIKE 'capture%'"
)
LOSSES = (
    "REVOKE ALL ON SCHEMA syncline FROM {keeper}",
    "REVOKE ALL ON syncline.gap FROM {keeper}",
    "REVOKE ALL ON syncline.pulse FROM {keeper}",
    "REVOKE ALL ON FUNCTION syncline.now_us() FROM {keeper}",
    "REVOKE ALL ON syncline.changelog_drugs FROM {keeper}",
    "REVOKE ALL ON SCHEMA syncline FROM {keeper}; REVOKE ALL ON syncline.gap, syncline.pulse FROM {keeper}",
)


def keeper_of(database: HostDatabase) -> str:
    [(name,)] = database.execute(KEEPER)
    return f'"{name}"'


def begin(clinic: Clinic) -> None:
    clinic.wait(clinic.source.attach(clinic.plan))
    assert clinic.wait(clinic.source.begin_term("one"))
    clinic.wait(clinic.source.take_checkpoint("one"))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_right_that_capture_needs_is_put_back_and_what_was_missed_is_sent_anew(
    postgres: HostDatabase, loss: str
) -> None:
    with clinic_on(postgres) as clinic:
        clinic.provision()
        begin(clinic)
        clinic.execute(loss.format(keeper=keeper_of(postgres)), "UPDATE drugs SET name = 'unseen'")
        found = clinic.wait(clinic.source.diagnose(clinic.plan))
        assert any("cannot be written down" in each.what for each in found if each.code == "capture_lost")
        assert clinic.wait(clinic.source.pending_provision(clinic.plan))
        with pytest.raises(SchemaChangedError):
            clinic.wait(clinic.source.take_checkpoint("one"))
        clinic.wait(clinic.source.adopt(clinic.plan_now()))
        checkpoint = clinic.wait(clinic.source.take_checkpoint("one"))
        assert checkpoint
        assert checkpoint.raised >= {"drugs"}
        clinic.execute("UPDATE drugs SET name = 'seen'")
        assert clinic.wait(clinic.source.take_checkpoint("one"))
        assert clinic.gaps() == []
        assert clinic.wait(clinic.source.pending_provision(clinic.plan)) == []
        clinic.wait(clinic.source.end_term("one"))
        assert clinic.wait(clinic.source.deprovision())


def test_a_dump_that_was_restored_without_rights_is_not_served_until_they_are_back(
    postgres: HostDatabase, make_postgres: Callable[..., HostDatabase]
) -> None:
    """`pg_restore -x`."""
    with clinic_on(postgres) as clinic:
        clinic.provision()
        begin(clinic)
        copy = make_postgres()
        dumped = postgres.server.folder / f"{postgres.name}.dump"
        postgres.server.run("pg_dump", "--format=custom", f"--file={dumped}", postgres.url)
        postgres.server.run("pg_restore", "-x", f"--dbname={copy.url}", str(dumped))
        with clinic_on(copy, ()) as restored:
            copy.execute("INSERT INTO patients VALUES (8, 'Unseen', 'north', '1')")
            with pytest.raises(SchemaChangedError):
                restored.wait(restored.source.attach(restored.plan))
            assert "capture_lost" in {each.code for each in restored.wait(restored.source.diagnose(restored.plan))}
            assert set(restored.provision().anew) == ALL - {"assignments"}
            restored.wait(restored.source.attach(restored.plan))
            assert restored.wait(restored.source.begin_term("two"))
            checkpoint = restored.wait(restored.source.take_checkpoint("two"))
            assert checkpoint
            assert checkpoint.raised == ALL - {"assignments"}
            copy.execute("INSERT INTO patients VALUES (9, 'Seen', 'north', '1')")
            assert restored.changes("patients") == [("I", 9)]
            restored.wait(restored.source.end_term("two"))
        clinic.wait(clinic.source.end_term("one"))
        clinic.wait(clinic.source.deprovision())


def test_a_right_that_somebody_gave_back_by_hand_is_not_taken_for_capture_that_never_failed(
    postgres: HostDatabase,
) -> None:
    """A service that may not put capture on has seen it missing: the table waits for who may, and is sent anew."""
    service = f"service_{postgres.name}"
    postgres.server.create_role(service)
    with clinic_on(postgres) as clinic:
        owner = clinic.open(service_role=service)
        clinic.provision(owner)
        server = clinic.open(service)
        clinic.wait(server.attach(clinic.plan_now(server)))
        assert clinic.wait(server.begin_term("one"))
        clinic.wait(server.take_checkpoint("one"))
        keeper = keeper_of(postgres)
        clinic.execute(f"REVOKE USAGE ON SCHEMA syncline FROM {keeper}", "UPDATE drugs SET name = 'unseen'")
        with pytest.raises(SchemaChangedError):
            clinic.wait(server.take_checkpoint("one"))
        clinic.wait(server.adopt(clinic.plan_now(server)))
        assert server.stopped() == ALL
        assert {each.code for each in server.troubles()} == {"capture_lost"}
        clinic.execute(f"GRANT USAGE ON SCHEMA syncline TO {keeper}")
        with pytest.raises(SchemaChangedError):
            clinic.wait(server.take_checkpoint("one"))
        clinic.wait(server.adopt(clinic.plan_now(server)))
        assert server.stopped() == ALL
        clinic.provision(owner)
        with pytest.raises(SchemaChangedError):
            clinic.wait(server.take_checkpoint("one"))
        clinic.wait(server.adopt(clinic.plan_now(server)))
        checkpoint = clinic.wait(server.take_checkpoint("one"))
        assert checkpoint
        assert checkpoint.raised == ALL - {"assignments"}
        clinic.wait(server.end_term("one"))
        assert clinic.wait(owner.deprovision())
    postgres.execute(f'DROP OWNED BY "{service}"; DROP ROLE "{service}"')


def test_who_may_not_give_the_right_is_told_so(postgres: HostDatabase) -> None:
    owner = f"owner_{postgres.name}"
    postgres.server.create_role(owner)
    postgres.execute(f'GRANT CREATE ON SCHEMA public TO "{owner}"')
    with clinic_on(postgres) as clinic:
        clinic.provision()
        clinic.execute(f"REVOKE USAGE ON SCHEMA syncline FROM {keeper_of(postgres)}")
        clinic.execute(
            *(f'ALTER TABLE {table} OWNER TO "{owner}"' for table in sorted(ALL)),
            f'GRANT USAGE ON SCHEMA syncline TO "{owner}"',
            f'GRANT ALL ON ALL TABLES IN SCHEMA syncline TO "{owner}"',
        )
        with pytest.raises(SourceError):
            clinic.provision(clinic.open(owner))
        assert set(clinic.provision().anew) == set(), "no term began yet"
        assert clinic.wait(clinic.source.pending_provision(clinic.plan)) == []
        assert clinic.wait(clinic.source.deprovision())
    postgres.execute(f'DROP OWNED BY "{owner}" CASCADE; DROP ROLE "{owner}"')


# ---------------------------------------------------------------- beside a running service
def test_a_running_service_that_may_not_put_it_back_says_so(office: Office) -> None:
    """P18: the log, /readyz and doctor."""

    async def story() -> None:
        office.execute(f"REVOKE ALL ON SCHEMA syncline FROM {keeper_of(office.database)}")
        office.execute("UPDATE medications SET dose = 'unseen'")
        await office.all_say(
            "capture_lost", "assignments", "medications", "notes", "patients", "pharmacy.stock", "visits"
        )
        owner = PostgresSource(office.database.url, service_role=office.role)
        await owner.provision(await load_plan(office.settings, owner))
        await owner.close()
        await office.nothing_is_wrong()
        await office.tells("medications", "UPDATE medications SET dose = 'seen'")

    office.run(story)


def test_a_table_of_ours_is_dropped_and_put_back(office: Office) -> None:
    """P18: nothing can be told meanwhile; what a missing table was to note counts as missed."""

    async def story() -> None:
        head = office.head()
        office.execute("DROP TABLE syncline.gap; TRUNCATE visits, notes")

        async def is_told() -> bool:
            return "syncline.gap is gone" in await office.fault()

        await office.until(is_told)
        assert not (await office.service.readiness())["ready"]
        assert "syncline.gap is gone" in (await office.doctor())["capture_lost"]
        owner = PostgresSource(office.database.url, service_role=office.role)
        plan = await load_plan(office.settings, owner)
        assert "put back" in (await owner.pending_provision(plan))[0]
        await owner.provision(plan)
        await owner.close()
        await office.until(lambda: all(office.told(name) > head for name in ("visits", "notes", "patients")))
        await office.nothing_is_wrong()
        await office.tells("medications", "UPDATE medications SET dose = 'seen'")

    office.run(story)


def test_each_table_of_ours_may_be_dropped_and_is_put_back(postgres: HostDatabase) -> None:
    """But for `meta`, without which nobody could say that the schema is ours."""
    with clinic_on(postgres) as clinic:
        clinic.provision()
        for number, name in enumerate(sorted({*base_tables()} - {"meta"})):
            clinic.wait(clinic.source.attach(clinic.plan))
            assert clinic.wait(clinic.source.begin_term(f"term {number}"))
            clinic.wait(clinic.source.take_checkpoint(f"term {number}"))
            clinic.execute(f"DROP TABLE syncline.{name}")
            with pytest.raises(SourceError):
                clinic.wait(clinic.source.take_checkpoint(f"term {number}"))
            clinic.wait(clinic.source.end_term(f"term {number}"))
            with pytest.raises(SchemaChangedError, match=f"syncline.{name} is gone"):
                clinic.wait(clinic.source.attach(clinic.plan))
            anew = clinic.provision().anew
            assert set(anew) == (set() if name == "term" else ALL - {"assignments"}), "no term, and no cursor is valid"
            assert clinic.wait(clinic.source.pending_provision(clinic.plan)) == []
        assert clinic.wait(clinic.source.deprovision())
