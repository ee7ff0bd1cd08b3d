"""The home-care company whose nurses the stories of the suite are about, and what its stories share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig
from syncline.testing.bench import Office, Phone
from syncline.testing.contract_lab import ContractFixtures, SourceLab
from syncline.testing.dialect import Dialect

MakeOffice = Callable[..., Office]

CASELOAD = ScopeConfig(
    "caseload",
    {
        "visits": TableConfig((LinkConfig(parent="patients"),)),
        "notes": TableConfig((LinkConfig(parent="visits"),)),
        "tickets": TableConfig((LinkConfig(parent="patients"),)),
        "facilities": TableConfig((LinkConfig(referenced_by="patients"),), read_only=True),
    },
    root="patients",
    grant="SELECT patient_id FROM assignments WHERE nurse = :sub",
)
CONFIG = PlanConfig(
    scopes=(CASELOAD, ScopeConfig("formulary", {"medications": TableConfig()}, read_only=True)),
    hide={"patients": ("ssn",)},
    merge={"visits": {"kilometres": "add", "updated_at": "server"}},
)


def clinic_tables(dialect: Dialect) -> tuple[str, ...]:
    """The company's tables, its own triggers and its first rows."""
    return (
        "CREATE TABLE facilities(id TEXT PRIMARY KEY, name TEXT)",
        "CREATE TABLE patients(id TEXT PRIMARY KEY, name TEXT NOT NULL, ssn TEXT CHECK(length(ssn) < 20), "
        "facility_id TEXT REFERENCES facilities(id) DEFERRABLE, phone TEXT)",
        "CREATE TABLE visits(id TEXT PRIMARY KEY, patient_id TEXT NOT NULL REFERENCES patients(id) DEFERRABLE, "
        "status TEXT NOT NULL DEFAULT 'planned' CHECK(status IN ('planned', 'done', 'missed')), summary TEXT, "
        "kilometres DOUBLE PRECISION DEFAULT 0, room TEXT UNIQUE, updated_at TEXT)",
        "CREATE TABLE notes(id TEXT PRIMARY KEY, visit_id TEXT NOT NULL REFERENCES visits(id) DEFERRABLE, body TEXT)",
        f"CREATE TABLE tickets(id {dialect.generated_key}, patient_id TEXT NOT NULL REFERENCES patients(id) DEFERRABLE, body TEXT)",
        "CREATE TABLE medications(id TEXT PRIMARY KEY, name TEXT)",
        "CREATE TABLE assignments(nurse TEXT, patient_id TEXT, PRIMARY KEY(nurse, patient_id))",
        "CREATE TABLE journal(what TEXT)",
        "CREATE INDEX i1 ON patients(facility_id)",
        "CREATE INDEX i2 ON visits(patient_id)",
        "CREATE INDEX i3 ON notes(visit_id)",
        "CREATE INDEX i4 ON tickets(patient_id)",
        *dialect.trigger(
            "visits_journal",
            "AFTER UPDATE",
            "visits",
            "new.id IS NOT NULL",
            "INSERT INTO journal VALUES('visit ' || new.id || ' ' || new.status)",
        ),
        *dialect.trigger(
            "done_is_done",
            "BEFORE UPDATE",
            "visits",
            "old.status = 'done' AND new.status = 'planned'",
            dialect.refusal("A finished visit cannot be planned again."),
        ),
        "INSERT INTO facilities VALUES('f1', 'Pharmacy North'), ('f2', 'Pharmacy South'), ('f3', 'Nobody''s')",
        "INSERT INTO patients VALUES('ada', 'Ada', 'SSN-ADA', 'f1', '1'), ('bo', 'Bo', 'SSN-BO', 'f1', '2'), ('cy', 'Cy', 'SSN-CY', 'f2', '3')",
        "INSERT INTO visits(id, patient_id, room) VALUES('v-ada', 'ada', 'r1'), ('v-bo', 'bo', 'r2'), ('v-cy', 'cy', 'r3')",
        "INSERT INTO notes VALUES('n-ada', 'v-ada', 'sleeps well'), ('n-cy', 'v-cy', 'canary-of-cy')",
        "INSERT INTO tickets VALUES(1, 'ada', 'call')",
        "INSERT INTO medications VALUES('m1', 'Aspirin')",
        "INSERT INTO assignments VALUES('ann', 'ada'), ('ann', 'bo'), ('ben', 'bo'), ('ben', 'cy')",
    )


def synced(office: Office, user: str = "ann", **claims: Any) -> Phone:
    """A new phone, in step."""
    phone = office.phone(user, **claims)
    phone.sync()
    return phone


def codes(phone: Phone) -> list[str]:
    return [rejection["code"] for rejection in phone.rejections()]


class ClinicFixtures(ContractFixtures):
    @pytest.fixture
    def open_office(self, lab: SourceLab) -> Iterator[MakeOffice]:
        """`open_office(statements, config)`: a company of these tables, on the lab's database and a virtual clock."""
        made: list[Office] = []

        def make(tables: Iterable[str], config: PlanConfig) -> Office:
            made.append(Office(lab.folder, tables, config, database=lab))
            return made[-1]

        yield make
        for office in made:
            office.close()

    @pytest.fixture
    def make_office(self, open_office: MakeOffice, dialect: Dialect) -> MakeOffice:
        """`make_office(own_edit_may_leave=True)`: the company with fields of the caseload's configuration changed."""

        def make(**changes: Any) -> Office:
            config = replace(CONFIG, scopes=(replace(CASELOAD, **changes), *CONFIG.scopes[1:]))
            return open_office(clinic_tables(dialect), config)

        return make

    @pytest.fixture
    def office(self, make_office: MakeOffice) -> Office:
        return make_office()
