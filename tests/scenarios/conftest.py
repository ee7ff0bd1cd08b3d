"""A small home-care company for the scenarios."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig
from syncline.testing.bench import Office

TABLES = """
CREATE TABLE facilities(id TEXT PRIMARY KEY, name TEXT);
CREATE TABLE patients(id TEXT PRIMARY KEY, name TEXT NOT NULL, ssn TEXT CHECK(length(ssn) < 20), facility_id TEXT REFERENCES facilities(id),
  phone TEXT);
CREATE TABLE visits(id TEXT PRIMARY KEY, patient_id TEXT NOT NULL REFERENCES patients(id), status TEXT NOT NULL DEFAULT 'planned'
  CHECK(status IN ('planned', 'done', 'missed')), summary TEXT, kilometres REAL DEFAULT 0, room TEXT UNIQUE, updated_at TEXT);
CREATE TABLE notes(id TEXT PRIMARY KEY, visit_id TEXT NOT NULL REFERENCES visits(id), body TEXT);
CREATE TABLE tickets(id INTEGER PRIMARY KEY, patient_id TEXT NOT NULL REFERENCES patients(id), body TEXT);
CREATE TABLE medications(id TEXT PRIMARY KEY, name TEXT);
CREATE TABLE assignments(nurse TEXT, patient_id TEXT, PRIMARY KEY(nurse, patient_id));
CREATE TABLE journal(what TEXT);
CREATE INDEX i1 ON patients(facility_id); CREATE INDEX i2 ON visits(patient_id); CREATE INDEX i3 ON notes(visit_id);
CREATE INDEX i4 ON tickets(patient_id);
CREATE TRIGGER visits_journal AFTER UPDATE ON visits BEGIN INSERT INTO journal VALUES('visit ' || new.id || ' ' || new.status); END;
CREATE TRIGGER done_is_done BEFORE UPDATE ON visits WHEN old.status = 'done' AND new.status = 'planned'
  BEGIN SELECT raise(ABORT, 'A finished visit cannot be planned again.'); END;
INSERT INTO facilities VALUES('f1', 'Pharmacy North'), ('f2', 'Pharmacy South'), ('f3', 'Nobody''s');
INSERT INTO patients VALUES('ada', 'Ada', 'SSN-ADA', 'f1', '1'), ('bo', 'Bo', 'SSN-BO', 'f1', '2'), ('cy', 'Cy', 'SSN-CY', 'f2', '3');
INSERT INTO visits(id, patient_id, room) VALUES('v-ada', 'ada', 'r1'), ('v-bo', 'bo', 'r2'), ('v-cy', 'cy', 'r3');
INSERT INTO notes VALUES('n-ada', 'v-ada', 'sleeps well'), ('n-cy', 'v-cy', 'canary-of-cy');
INSERT INTO tickets VALUES(1, 'ada', 'call');
INSERT INTO medications VALUES('m1', 'Aspirin');
INSERT INTO assignments VALUES('ann', 'ada'), ('ann', 'bo'), ('ben', 'bo'), ('ben', 'cy');
"""

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


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path, TABLES, CONFIG)
    yield office
    office.close()


@pytest.fixture
def make_office(tmp_path: Path) -> Iterator[Callable[..., Office]]:
    """`make_office(own_edit_may_leave=True)`: the same company with fields of the caseload's configuration changed."""
    made: list[Office] = []

    def make(**changes: object) -> Office:
        config = replace(CONFIG, scopes=(replace(CASELOAD, **changes), *CONFIG.scopes[1:]))  # type: ignore[arg-type]
        made.append(Office(tmp_path, TABLES, config))
        return made[-1]

    yield make
    for office in made:
        office.close()
