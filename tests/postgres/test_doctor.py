"""What `doctor` finds in a PostgreSQL database, and that each remedy which is a statement to type mends it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest
from tests.postgres.conftest import HostDatabase

from syncline.errors import ConfigError
from syncline.model.scopes import LinkConfig, Plan, PlanConfig, ScopeConfig, TableConfig
from syncline.source.port import Finding
from syncline.source.postgres import diagnosis
from syncline.source.postgres.source import PostgresSource
from syncline.testing.plans import plan_for

SETTINGS = {"commits_not_durable", "autovacuum_off", "doorbell_off"}
"""The servers that tests share are set up so; each has a test of its own."""
CONFIG = PlanConfig(
    scopes=(
        ScopeConfig(
            name="care",
            tables={"patients": TableConfig(), "visits": TableConfig(links=(LinkConfig("patients", None, None),))},
            root="patients",
            grant="SELECT patient_id FROM assignments WHERE nurse = :sub",
        ),
    )
)


class Clinic:
    """A provisioned database, and a doctor who comes as a role of one's choice."""

    def __init__(self, database: HostDatabase) -> None:
        self.database = database
        database.execute(
            "CREATE TABLE patients(id integer PRIMARY KEY, name text);"
            "CREATE TABLE visits(id integer, patient_id integer REFERENCES patients, PRIMARY KEY(id)) PARTITION BY RANGE (id);"
            "CREATE TABLE visits_low PARTITION OF visits FOR VALUES FROM (0) TO (100);"
            "CREATE INDEX ON visits(patient_id);"
            "CREATE TABLE assignments(nurse text, patient_id integer, PRIMARY KEY(nurse, patient_id))"
        )
        self.roles: list[str] = []

    def role(self) -> str:
        name = f"{self.database.name}_service"
        self.database.server.create_role(name)
        self.roles.append(name)
        return name

    def provision(self, role: str = "") -> None:
        self.run(self.database.url, role, "provision")

    def findings(self, role: str = "") -> list[Finding]:
        url = self.database.server.address(self.database.name, role).url if role else self.database.url
        return self.run(url, "", "diagnose")

    def codes(self, role: str = "") -> set[str]:
        return {each.code for each in self.findings(role)} - SETTINGS

    def type(self, code: str, role: str = "") -> None:
        """The statements of a finding's remedy."""
        found = next(each for each in self.findings(role) if each.code == code)
        statements = re.findall(r"(?:Type: |; )?((?:ALTER|GRANT|SELECT|VACUUM|ROLLBACK|CREATE)[^;]*;)", found.remedy)
        assert statements, found.remedy
        for statement in statements:
            self.database.execute(statement)

    def run(self, url: str, role: str, what: str) -> list[Finding]:
        async def work() -> list[Finding]:
            owner = PostgresSource(self.database.url)
            source = PostgresSource(url, service_role=role)
            try:
                plan: Plan = await plan_for(owner, CONFIG)
                if what == "provision":
                    await source.provision(plan)
                    return []
                return await source.diagnose(plan)
            finally:
                await source.close()
                await owner.close()

        return asyncio.run(work())

    def close(self) -> None:
        for role in self.roles:
            self.database.execute(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')


@pytest.fixture
def clinic(postgres: HostDatabase) -> Iterator[Clinic]:
    made = Clinic(postgres)
    yield made
    made.close()


@pytest.fixture
def provisioned(clinic: Clinic) -> Clinic:
    clinic.provision()
    return clinic


def test_before_provisioning_one_is_told_to(clinic: Clinic) -> None:
    assert clinic.codes() == {"not_provisioned"}


def test_a_good_installation_has_nothing_wrong(provisioned: Clinic) -> None:
    assert provisioned.codes() == set()


def test_a_dropped_trigger(provisioned: Clinic) -> None:
    provisioned.database.execute("DROP TRIGGER syncline_update ON patients")
    found = next(each for each in provisioned.findings() if each.code == "capture_lost")
    assert "patients" in found.what and "syncline provision" in found.remedy
    provisioned.provision()
    assert "capture_lost" not in provisioned.codes()


def test_a_disabled_trigger_is_enabled_by_what_one_is_told_to_type(provisioned: Clinic) -> None:
    provisioned.database.execute("ALTER TABLE patients DISABLE TRIGGER syncline_insert")
    assert "capture_disabled" in provisioned.codes()
    provisioned.type("capture_disabled")
    assert "capture_disabled" not in provisioned.codes()


def test_a_partition_that_was_attached_later(provisioned: Clinic) -> None:
    provisioned.database.execute("CREATE TABLE visits_high PARTITION OF visits FOR VALUES FROM (100) TO (200)")
    found = next(each for each in provisioned.findings() if each.code == "partition_uncaptured")
    assert "visits_high" in found.what and "visits_low" not in found.what
    provisioned.provision()
    assert "partition_uncaptured" not in provisioned.codes()


def test_rights_that_lack_are_given_by_what_one_is_told_to_type(clinic: Clinic) -> None:
    role = clinic.role()
    clinic.provision(role)
    assert clinic.codes(role) == set(), "provisioning gave what serving needs"
    clinic.database.execute(f'REVOKE SELECT ON patients FROM "{role}"')
    assert clinic.codes(role) == {"service_rights"}
    clinic.type("service_rights", role)
    assert clinic.codes(role) == set()
    clinic.database.execute(f'REVOKE USAGE ON SCHEMA syncline FROM "{role}"')
    assert "service_rights" in clinic.codes(role)
    clinic.type("service_rights", role)
    assert clinic.codes(role) == set()


def test_row_security_that_would_hide_rows(clinic: Clinic) -> None:
    role = clinic.role()
    clinic.provision(role)
    clinic.database.execute("ALTER TABLE patients ENABLE ROW LEVEL SECURITY")
    assert "row_security" not in clinic.codes(), "its owner sees all"
    assert "row_security" in clinic.codes(role)
    clinic.type("row_security", role)
    assert "row_security" not in clinic.codes(role)


def test_a_queue_that_nobody_empties(provisioned: Clinic) -> None:
    provisioned.database.execute("INSERT INTO patients VALUES(1, 'Ada'), (2, 'Bo')")
    found = next(each for each in provisioned.findings() if each.code == "not_served")
    assert "2 captured changes" in found.what and "patients" in found.what


def test_a_queue_that_waits_though_a_server_is_there(provisioned: Clinic) -> None:
    provisioned.database.execute("INSERT INTO patients VALUES(1, 'Ada')")
    active = provisioned.database.connect()
    active.execute("SELECT pg_advisory_lock(%s, %s)", diagnosis.LOCK_KEYS)
    assert provisioned.codes() == set(), "it has only just come"
    provisioned.database.execute("UPDATE syncline.changelog_patients SET stamp = stamp - 300000000")
    found = next(each for each in provisioned.findings() if each.code == "queue_waits")
    assert "5 minutes" in found.what


def test_changes_that_may_have_been_missed(provisioned: Clinic) -> None:
    provisioned.database.execute("TRUNCATE visits")
    assert "capture_gap" in provisioned.codes()


def test_a_transaction_that_was_left_open(provisioned: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    report = provisioned.database.connect(application_name="nightly report")
    report.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM patients")
    assert "long_transaction" not in provisioned.codes(), "not for long"
    monkeypatch.setattr(diagnosis, "HELD_SECONDS", 0.0)
    found = next(each for each in provisioned.findings() if each.code == "long_transaction")
    assert "nightly report" in found.what
    provisioned.type("long_transaction")
    assert "long_transaction" not in provisioned.codes()


def test_our_tables_that_nobody_vacuums(provisioned: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "autovacuum_off" in {each.code for each in provisioned.findings()}, "the test's server has none"
    provisioned.database.execute("INSERT INTO patients VALUES(1, 'Ada'); DELETE FROM syncline.changelog_patients")
    monkeypatch.setattr(diagnosis, "DEAD_ROWS_MAX", 0)
    provisioned.database.host.execute("SELECT pg_sleep(0)")
    for _ in range(100):
        if "queue_bloated" in provisioned.codes():
            break
    else:
        pytest.fail("no dead rows were seen")


def test_a_server_that_forgets_what_it_acknowledged(provisioned: Clinic) -> None:
    assert "commits_not_durable" in {each.code for each in provisioned.findings()}, "the test's server is so"


def test_clocks_that_differ(provisioned: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    real = diagnosis.time.time
    monkeypatch.setattr(diagnosis.time, "time", lambda: real() - 60)
    found = next(each for each in provisioned.findings() if each.code == "clock_apart")
    assert re.search(r"\b(59|60) s ahead of", found.what)


def test_a_join_without_an_index_is_a_note_with_the_statement_to_type(provisioned: Clinic) -> None:
    provisioned.database.execute("DROP INDEX visits_patient_id_idx")
    found = next(each for each in provisioned.findings() if each.code == "index_missing")
    assert found.is_note
    assert 'CREATE INDEX CONCURRENTLY ON "public"."visits"("patient_id");' in found.remedy


def test_a_prepared_transaction_and_the_bell_that_is_off(own_postgres, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    server = own_postgres({"max_prepared_transactions": 5})
    database = HostDatabase(server, server.create_database())
    clinic = Clinic(database)
    clinic.provision()
    database.execute("BEGIN; INSERT INTO assignments VALUES('ann', 1); PREPARE TRANSACTION 'two-phase'")
    monkeypatch.setattr(diagnosis, "HELD_SECONDS", 0.0)
    found = {each.code: each for each in clinic.findings()}
    assert found["doorbell_off"].is_note
    assert "'two-phase'" in found["prepared_transaction"].what
    clinic.type("prepared_transaction")
    assert "prepared_transaction" not in clinic.codes()
    database.close()


def test_sql_ascii_is_refused_with_the_reason(make_postgres) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError) as refused:
        Clinic(make_postgres(encoding="SQL_ASCII")).provision()
    assert refused.value.error_code == "source_encoding"
