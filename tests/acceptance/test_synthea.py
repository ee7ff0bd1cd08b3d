"""Synthea's hospital records, as files come in the field and as a careful team would load them: a provider's caseload.

The sample lies beside the checkout, in ../shared/data/synthea; without it these tests are skipped.
"""

from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.acceptance.conftest import MakeLab
from tests.acceptance.lab import (
    Device,
    Lab,
    column_names,
    compare,
    content_dump,
    journal_mode,
    present_in_bytes,
    sample,
    schema_dump,
    tables_of,
    wait_until,
)

HIDDEN = ("ssn", "drivers", "passport")

# Three providers of the sample. Anna shares one patient with Ben; Carla shares none with them.
ANNA = "26770feb-36bd-33a6-a255-4acfc0cc3310"
BEN = "52c491d3-23fe-360f-bed8-4f78fc095e95"
CARLA = "84871f55-aae0-396d-b394-b8fe7f58fd69"

# What a user should have, in the words of the task.
MINE = "SELECT patient FROM encounters WHERE provider = :sub"
SEEN = f"SELECT id FROM encounters WHERE patient IN ({MINE})"
PROVIDERS = (
    f"SELECT provider FROM encounters WHERE patient IN ({MINE})"
    f" UNION SELECT providerid FROM claims WHERE patientid IN ({MINE})"
)


def selects_of(lab: Lab) -> dict[str, str]:
    patient = ", ".join(f'"{name}"' for name in column_names(lab.source, "patients") if name.lower() not in HIDDEN)
    return {
        "patients": f"SELECT {patient} FROM patients WHERE id IN ({MINE})",
        "encounters": f"SELECT * FROM encounters WHERE patient IN ({MINE})",
        "careplans": f"SELECT * FROM careplans WHERE encounter IN ({SEEN})",
        "claims": f"SELECT * FROM claims WHERE patientid IN ({MINE})",
        "providers": f"SELECT * FROM providers WHERE id IN ({PROVIDERS})",
        "organizations": (
            "SELECT * FROM organizations WHERE id IN"
            f" (SELECT organization FROM providers WHERE id IN ({PROVIDERS})"
            f" UNION SELECT organization FROM encounters WHERE patient IN ({MINE}))"
        ),
        "payers": f"SELECT * FROM payers WHERE id IN (SELECT payer FROM encounters WHERE patient IN ({MINE}))",
    }


def secrets_of(lab: Lab) -> list[str]:
    """Every hidden value of every patient."""
    return [value for row in lab.rows(f"SELECT {', '.join(HIDDEN)} FROM patients") for value in row if value]


def patients_of(lab: Lab, user: str) -> set[str]:
    return {key for (key,) in lab.rows("SELECT DISTINCT patient FROM encounters WHERE provider = ?", user)}


def assert_in_step(lab: Lab, selects: dict[str, str], *devices: Device) -> None:
    """P1, P8, P9, P16: exactly the user's rows, to the last bit; no hidden value and no other patient in any byte."""
    secrets = secrets_of(lab)
    patients = dict(lab.rows("SELECT id, address FROM patients"))
    for device in devices:
        assert compare(lab.source, device.path, selects, device.user) == []
        mine = patients_of(lab, device.user)
        others = patients.keys() - mine
        # A conflict goes on naming the key that the user herself had edited, but nothing else of that patient.
        named = {
            each for (key,) in device.rows("SELECT key FROM syncline_conflicts") for each in json.loads(key).values()
        }
        assert present_in_bytes(device.path, others - named) == []
        assert present_in_bytes(device.path, [patients[key] for key in others]) == []
        assert present_in_bytes(device.path, secrets) == []
        assert present_in_bytes(device.path, [patients[key] for key in mine]) != []  # the search does find things


# ---------------------------------------------------------------- as it comes
KEYLESS = {
    *("allergies", "claims_transactions", "conditions", "devices", "imaging_studies", "immunizations", "medications"),
    *("observations", "payer_transitions", "procedures", "supplies"),
}
AS_IT_COMES = """
[scope.caseload]
root = "patients"
grant = "SELECT DISTINCT patient FROM encounters WHERE provider = :sub"

[scope.caseload.tables]
encounters = { parent = "patients", on = { patient = "id" } }
careplans = { parent = "encounters", on = { encounter = "id" } }
claims = { parent = "patients", on = { patientid = "id" } }
providers = [
    { referenced_by = "encounters", on = { id = "provider" }, read_only = true },
    { referenced_by = "claims", on = { id = "providerid" } },
]
organizations = [
    { referenced_by = "providers", on = { id = "organization" }, read_only = true },
    { referenced_by = "encounters", on = { id = "organization" } },
]
payers = { referenced_by = "encounters", on = { id = "payer" }, read_only = true }

[columns]
patients = { hide = ["ssn", "drivers", "passport"] }
"""


def test_init_check_and_provision_on_tables_without_keys(lab_of: MakeLab) -> None:
    """P15: what has no key is named with reason and remedy, the rest can sync; a round trip leaves the file as it was."""
    lab = lab_of(sample("synthea/synthea.sqlite"))
    tables, schema, mode = tables_of(lab.source), schema_dump(lab.source), journal_mode(lab.source)
    content = content_dump(lab.source, tables)

    written = lab.syncline("init", f"sqlite:///{lab.source.name}")
    assert written.status == 0
    assert all(f'"{table}" cannot sync' in written.err for table in KEYLESS)
    assert lab.must("check").out.startswith("The configuration fits")  # what `init` proposes is valid as it is

    lab.configure(AS_IT_COMES)
    report = lab.must("check", "--json").json
    assert report["ok"] and report["errors"] == []
    assert {entry["table"] for entry in report["refused_tables"]} == KEYLESS
    assert all("no primary key" in entry["reason"] for entry in report["refused_tables"])
    assert all("Give it a primary key" in entry["remedy"] for entry in report["refused_tables"])
    assert report["unsynced_tables"] == []
    assert schema_dump(lab.source) == schema  # `check` changes nothing

    created = lab.must("provision", "--json").json
    assert sorted(created["created"]) == sorted(set(tables) - KEYLESS)
    assert [entry for entry in schema_dump(lab.source) if not entry[1].startswith(("syncline_", "sqlite_"))] == [
        entry for entry in schema if not entry[1].startswith("sqlite_")
    ]
    assert content_dump(lab.source, tables) == content
    lab.must("deprovision", "--yes")
    assert (schema_dump(lab.source), journal_mode(lab.source)) == (schema, mode)
    assert content_dump(lab.source, tables) == content


def test_a_scope_over_a_table_without_a_key_is_refused(lab_of: MakeLab) -> None:
    """P15: before anything is installed, and by name."""
    lab = lab_of(sample("synthea/synthea.sqlite"))
    schema = schema_dump(lab.source)
    lab.configure(
        AS_IT_COMES.replace("payers =", 'allergies = { parent = "patients", on = { patient = "id" } }\npayers =')
    )
    for command in (("check",), ("provision",)):
        told = lab.syncline(*command)
        assert told.status == 2
        assert "allergies" in told.err and "primary key" in told.err
    assert schema_dump(lab.source) == schema


# ---------------------------------------------------------------- loaded with care
TYPED = """
CREATE TABLE organizations(
  Id TEXT PRIMARY KEY NOT NULL, NAME TEXT NOT NULL, ADDRESS TEXT, CITY TEXT, STATE TEXT, ZIP TEXT, LAT REAL, LON REAL,
  PHONE TEXT, REVENUE REAL, UTILIZATION INTEGER);
CREATE TABLE providers(
  Id TEXT PRIMARY KEY NOT NULL, ORGANIZATION TEXT NOT NULL REFERENCES organizations(Id), NAME TEXT NOT NULL, GENDER TEXT,
  SPECIALITY TEXT, ADDRESS TEXT, CITY TEXT, STATE TEXT, ZIP TEXT, LAT REAL, LON REAL, UTILIZATION INTEGER);
CREATE TABLE payers(
  Id TEXT PRIMARY KEY NOT NULL, NAME TEXT NOT NULL, ADDRESS TEXT, CITY TEXT, STATE_HEADQUARTERED TEXT, ZIP TEXT,
  PHONE TEXT, AMOUNT_COVERED REAL, AMOUNT_UNCOVERED REAL, REVENUE REAL, QOLS_AVG REAL, MEMBER_MONTHS INTEGER);
CREATE TABLE patients(
  Id TEXT PRIMARY KEY NOT NULL, BIRTHDATE DATE NOT NULL, DEATHDATE DATE, SSN TEXT NOT NULL UNIQUE, DRIVERS TEXT,
  PASSPORT TEXT, "FIRST" TEXT NOT NULL, "LAST" TEXT NOT NULL, MARITAL TEXT, GENDER TEXT CHECK (GENDER IN ('M', 'F')),
  ADDRESS TEXT, CITY TEXT, STATE TEXT, ZIP TEXT, LAT REAL, LON REAL,
  HEALTHCARE_EXPENSES REAL NOT NULL, HEALTHCARE_COVERAGE REAL NOT NULL DEFAULT 0.0);
CREATE TABLE encounters(
  Id TEXT PRIMARY KEY NOT NULL, START TEXT NOT NULL, STOP TEXT,
  PATIENT TEXT NOT NULL REFERENCES patients(Id), ORGANIZATION TEXT NOT NULL REFERENCES organizations(Id),
  PROVIDER TEXT NOT NULL REFERENCES providers(Id), PAYER TEXT NOT NULL REFERENCES payers(Id), ENCOUNTERCLASS TEXT,
  CODE INTEGER, DESCRIPTION TEXT, BASE_ENCOUNTER_COST REAL, TOTAL_CLAIM_COST REAL, PAYER_COVERAGE REAL,
  REASONCODE INTEGER, REASONDESCRIPTION TEXT);
CREATE TABLE careplans(
  Id TEXT PRIMARY KEY NOT NULL, START TEXT NOT NULL, STOP TEXT, PATIENT TEXT NOT NULL REFERENCES patients(Id),
  ENCOUNTER TEXT NOT NULL REFERENCES encounters(Id) ON DELETE CASCADE, CODE INTEGER, DESCRIPTION TEXT);
CREATE TABLE conditions(
  START TEXT NOT NULL, STOP TEXT, PATIENT TEXT NOT NULL REFERENCES patients(Id),
  ENCOUNTER TEXT NOT NULL REFERENCES encounters(Id) ON DELETE CASCADE, CODE INTEGER NOT NULL, DESCRIPTION TEXT,
  PRIMARY KEY (PATIENT, ENCOUNTER, CODE, START)) WITHOUT ROWID;
CREATE TABLE observations(
  LINE INTEGER PRIMARY KEY, DATE TEXT NOT NULL, PATIENT TEXT NOT NULL REFERENCES patients(Id),
  ENCOUNTER TEXT REFERENCES encounters(Id) ON DELETE CASCADE, CATEGORY TEXT, CODE TEXT, DESCRIPTION TEXT,
  VALUE NUMERIC, UNITS TEXT, TYPE TEXT);
CREATE TABLE claims(
  Id TEXT PRIMARY KEY NOT NULL, PATIENTID TEXT NOT NULL REFERENCES patients(Id),
  PROVIDERID TEXT NOT NULL REFERENCES providers(Id), SUPERVISINGPROVIDERID TEXT REFERENCES providers(Id),
  APPOINTMENTID TEXT REFERENCES encounters(Id) ON DELETE SET NULL, SERVICEDATE TEXT, STATUS1 TEXT, STATUSP TEXT,
  OUTSTANDING1 REAL, OUTSTANDINGP REAL);
CREATE TABLE claims_transactions(
  ID TEXT PRIMARY KEY NOT NULL, CLAIMID TEXT NOT NULL REFERENCES claims(Id) ON DELETE CASCADE, CHARGEID INTEGER,
  TYPE TEXT, AMOUNT REAL, METHOD TEXT, FROMDATE TEXT, TODATE TEXT, UNITS INTEGER, UNITAMOUNT REAL, PAYMENTS REAL,
  OUTSTANDING REAL);
CREATE INDEX providers_organization ON providers(ORGANIZATION);
CREATE INDEX encounters_patient ON encounters(PATIENT, START);
CREATE INDEX encounters_provider ON encounters(PROVIDER);
CREATE INDEX encounters_organization ON encounters(ORGANIZATION);
CREATE INDEX encounters_payer ON encounters(PAYER);
CREATE INDEX careplans_patient ON careplans(PATIENT);
CREATE INDEX careplans_encounter ON careplans(ENCOUNTER);
CREATE INDEX conditions_encounter ON conditions(ENCOUNTER);
CREATE INDEX observations_patient ON observations(PATIENT);
CREATE INDEX observations_encounter ON observations(ENCOUNTER);
CREATE INDEX claims_patient ON claims(PATIENTID);
CREATE INDEX claims_provider ON claims(PROVIDERID);
CREATE INDEX claims_supervisor ON claims(SUPERVISINGPROVIDERID);
CREATE INDEX claims_appointment ON claims(APPOINTMENTID);
CREATE INDEX claims_transactions_claim ON claims_transactions(CLAIMID);
CREATE VIEW open_claims AS SELECT Id, PATIENTID FROM claims WHERE STATUSP <> 'CLOSED';
"""
LOADED = (
    *("organizations", "providers", "payers", "patients", "encounters", "careplans", "conditions", "observations"),
    *("claims", "claims_transactions"),
)
WITH_KEYS = """
[scope.caseload]
root = "patients"
grant = "SELECT PATIENT FROM encounters WHERE PROVIDER = :sub"

[scope.caseload.tables]
encounters = { parent = "patients" }
careplans = [{ parent = "encounters" }, { parent = "patients" }]
conditions = { parent = "encounters" }
observations = { parent = "patients" }
claims = { parent = "patients" }
claims_transactions = { parent = "claims" }
providers = [
    { referenced_by = "encounters", read_only = true },
    { referenced_by = "claims", on = { Id = "PROVIDERID" } },
]
organizations = [{ referenced_by = "providers", read_only = true }, { referenced_by = "encounters" }]
payers = { referenced_by = "encounters", read_only = true }

[columns]
patients = { hide = ["SSN", "DRIVERS", "PASSPORT"] }
"""
MORE = {
    "conditions": f"SELECT * FROM conditions WHERE ENCOUNTER IN ({SEEN})",
    "observations": f"SELECT * FROM observations WHERE PATIENT IN ({MINE})",
    "claims_transactions": (
        f"SELECT * FROM claims_transactions WHERE CLAIMID IN (SELECT Id FROM claims WHERE PATIENTID IN ({MINE}))"
    ),
}


def load_typed(folder: Path, path: Path) -> None:
    """The csv files into `TYPED`: an empty field is NULL, the column's type decides what becomes of the rest."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript(TYPED)
        db.execute("PRAGMA foreign_keys = ON")
        with db:
            for table in LOADED:
                present = column_names_of(db, table)
                with (folder / f"{table}.csv").open(encoding="utf-8", newline="") as file:
                    reader = csv.DictReader(file)
                    columns = [name for name in reader.fieldnames or () if name in present]
                    names, marks = ", ".join(f'"{name}"' for name in columns), ", ".join("?" * len(columns))
                    rows = ([row[name] or None for name in columns] for row in reader)
                    db.executemany(f"INSERT INTO {table}({names}) VALUES({marks})", rows)


def column_names_of(db: sqlite3.Connection, table: str) -> set[str]:
    return {name for (name,) in db.execute("SELECT name FROM pragma_table_info(?)", (table,))}


# ---------------------------------------------------------------- a day
SHARED = "280ee8b5-6ebb-11cf-e4db-8cf101827ec7"  # Anna's and Ben's
MOVES = "c2d1b552-0725-58ca-03fa-158d3437c06c"  # Anna's, by one encounter alone
STAYS = "261ad2a4-7c6f-da54-6a5b-3441beab9a6a"  # Anna's


def one(lab: Lab, sql: str, *parameters: str) -> str:
    return str(lab.rows(f"{sql} LIMIT 1", *parameters)[0][0])


def edit_offline_and_in_the_office(lab: Lab, phone: Device, tablet: Device, carla: Device) -> None:
    """Nobody is connected. The phone is edited after the office, so its value of the one shared column is the newest."""
    encounter = one(lab, "SELECT id FROM encounters WHERE patient = ? AND provider = ? ORDER BY id", SHARED, ANNA)
    claims_of = "SELECT id FROM claims WHERE patientid = ? ORDER BY id"
    assert (
        lab.execute(
            ("UPDATE encounters SET description = 'by the office', code = 7 WHERE id = ?", (encounter,)),
            ("UPDATE patients SET city = 'Worcester' WHERE id = ?", (SHARED,)),
            (
                "UPDATE payers SET name = name || ' Ltd' WHERE id = (SELECT payer FROM encounters WHERE id = ?)",
                (encounter,),
            ),
            (
                "INSERT INTO claims(id, patientid, providerid, status1) VALUES('claim-office', ?, ?, 'BILLED')",
                (SHARED, ANNA),
            ),
            ("DELETE FROM claims WHERE id = ?", (one(lab, claims_of, SHARED),)),
            # Anna moves to another organization, which nobody of hers pointed at before.
            (
                "UPDATE providers SET organization = (SELECT max(id) FROM organizations WHERE id NOT IN"
                " (SELECT organization FROM encounters)) WHERE id = ?",
                (ANNA,),
            ),
        )
        == [1] * 6
    )
    assert lab.execute(
        ("UPDATE encounters SET provider = ? WHERE patient = ? AND provider = ?", (CARLA, MOVES, ANNA))
    ) == [1]

    assert (
        phone.execute(
            ("UPDATE patients SET address = 'Ünter 🌻 1', \"first\" = '' WHERE id = ?", (SHARED,)),
            ("UPDATE encounters SET description = 'by the phone' WHERE id = ?", (encounter,)),
            (
                "UPDATE claims SET status1 = NULL, outstanding1 = '0.30000000000000004' WHERE id = ?",
                (one(lab, claims_of, STAYS),),
            ),
            ("DELETE FROM careplans WHERE id = (SELECT min(id) FROM careplans WHERE patient = ?)", (SHARED,)),
        )
        == [1] * 4
    )
    assert phone.execute(
        (
            'INSERT INTO encounters(id, "start", patient, organization, provider, payer, total_claim_cost)'
            " SELECT 'encounter-phone', '2026-11-22T08:00:00Z', patient, organization, provider, payer, '129.10'"
            " FROM encounters WHERE id = ?",
            (encounter,),
        ),
        (
            'INSERT INTO careplans(id, "start", patient, encounter, description)'
            " VALUES('plan-phone', '2026-11-22', ?, 'encounter-phone', 'Walk daily')",
            (SHARED,),
        ),
    ) == [1, 1]
    assert tablet.execute(("UPDATE patients SET address = 'address-of-the-lost' WHERE id = ?", (MOVES,))) == [1]
    assert carla.execute(
        "UPDATE providers SET name = 'Me' WHERE id = (SELECT min(id) FROM providers)",
        (
            'INSERT INTO careplans(id, "start", patient, encounter, description)'
            " VALUES('plan-carla', '2026-11-22', ?, ?, 'not hers')",
            (STAYS, one(lab, "SELECT id FROM encounters WHERE patient = ? ORDER BY id", STAYS)),
        ),
    ) == [1, 1]


def assert_edits_arrived(lab: Lab, tablet: Device, carla: Device) -> None:
    """P9, P12, P16, P22: what was meant came about, and who lost can see it."""
    assert lab.rows('SELECT address, "first", city FROM patients WHERE id = ?', SHARED) == [
        ("Ünter 🌻 1", "", "Worcester")
    ]
    assert one(lab, "SELECT count(*) FROM encounters WHERE description = 'by the phone' AND code = 7") == "1"
    assert lab.rows("SELECT encounter FROM careplans WHERE id IN ('plan-phone', 'plan-carla')") == [
        ("encounter-phone",)
    ]
    assert patients_of(lab, ANNA) == {SHARED, STAYS}
    assert MOVES in patients_of(lab, CARLA)
    claims = lab.rows("SELECT status1, outstanding1 FROM claims WHERE patientid = ? ORDER BY id", STAYS)
    assert claims[0][0] is None and float(claims[0][1]) == 0.1 + 0.2

    conflicts = lab.must("conflicts", "--json").json
    assert sorted((each["kind"], each["server"], each["device_value"]) for each in conflicts) == [
        ("gone", None, "address-of-the-lost"),
        ("won", "by the office", "by the phone"),
    ]
    assert tablet.rows("SELECT count(*) FROM syncline_rejections") == [(0,)]
    assert present_in_bytes(tablet.path, ["address-of-the-lost"]) == []
    name, careplan = lab.rejections(carla)
    assert (name["table"], name["code"], list(name["values"].values())) == ("providers", "read_only", ["Me"])
    assert (careplan["table"], careplan["code"], careplan["values"]) == ("careplans", "scope", None)


def change_hands_while_connected(lab: Lab, ben: Device) -> None:
    """P2: both directions and a grant, with the device running and nobody asking it to sync."""
    secret = one(lab, "SELECT ssn FROM patients WHERE id = ?", STAYS)
    with lab.running(ben):
        lab.execute(("UPDATE patients SET marital = 'W' WHERE id = ?", (SHARED,)))
        wait_until(
            lambda: ben.rows("SELECT marital FROM patients WHERE id = ?", SHARED) == [("W",)], "the office's change"
        )
        ben.execute(("UPDATE patients SET zip = '01234' WHERE id = ?", (SHARED,)))
        wait_until(lambda: lab.rows("SELECT zip FROM patients WHERE id = ?", SHARED) == [("01234",)], "Ben's change")
        lab.execute(("UPDATE encounters SET provider = ? WHERE patient = ?", (BEN, STAYS)))
        wait_until(lambda: ben.rows("SELECT 1 FROM patients WHERE id = ?", STAYS) == [(1,)], "a patient comes")
        lab.execute(("UPDATE encounters SET provider = ? WHERE patient = ?", (ANNA, STAYS)))
        wait_until(lambda: ben.rows("SELECT 1 FROM patients WHERE id = ?", STAYS) == [], "a patient leaves")
    assert present_in_bytes(ben.path, [STAYS, secret]) == []


def live_a_day(lab: Lab, selects: dict[str, str]) -> list[Device]:
    """Three devices: first sync, edits on all sides, sync; after each they are compared. The server is running."""
    devices = lab.devices(phone=ANNA, tablet=ANNA, carla=CARLA)
    phone, tablet, carla = devices
    reports = lab.sync(*devices)
    assert all(report["first_sync"] and report["downloaded_rows"] > 100 for report in reports)
    assert_in_step(lab, selects, *devices)

    edit_offline_and_in_the_office(lab, phone, tablet, carla)
    (report,) = lab.sync(phone)
    assert (report["uploaded_mutations"], report["rejected"], report["conflicts"]) == (6, 0, 1)
    assert report["removed_rows"] > 0
    lab.sync(tablet, carla)
    assert_in_step(lab, selects, *devices)
    assert_edits_arrived(lab, tablet, carla)
    return devices


@pytest.mark.slow
def test_a_caseload_on_the_file_as_it_comes(lab_of: MakeLab) -> None:
    """P1, P8, P9, P15, P16: all TEXT, no foreign key; three devices of two providers, a patient who changes hands."""
    lab = lab_of(sample("synthea/synthea.sqlite"))
    schema, mode = schema_dump(lab.source), journal_mode(lab.source)
    lab.configure(AS_IT_COMES)
    lab.must("provision")
    with lab.serving():
        live_a_day(lab, selects_of(lab))
    lab.must("deprovision", "--yes")
    assert (schema_dump(lab.source), journal_mode(lab.source)) == (schema, mode)
    assert [file.name for file in lab.folder.glob("source.db*")] == ["source.db"]


@pytest.mark.slow
def test_a_caseload_with_types_and_foreign_keys(lab_of: MakeLab, tmp_path: Path) -> None:
    """P1, P8, P9, P11, P15, P16: paths by declared keys, floats, a composite key, cascades of the office's."""
    load_typed(sample("synthea/csv"), tmp_path / "source.db")
    lab = lab_of(tmp_path / "source.db")
    schema, mode = schema_dump(lab.source), journal_mode(lab.source)
    lab.configure(WITH_KEYS)
    report = lab.must("check", "--json").json
    assert (report["errors"], report["warnings"], report["refused_tables"]) == ([], [], [])
    lab.must("provision")
    selects = selects_of(lab) | MORE
    with lab.serving():
        devices = live_a_day(lab, selects)
        (ben,) = lab.devices(ben=BEN)  # who comes late has to end where the others are
        change_hands_while_connected(lab, ben)
        keys_and_cascades(lab, devices[0])
        lab.sync(*devices[1:], ben)
        assert_in_step(lab, selects, *devices, ben)
        for device in (*devices, ben):
            assert device.rows("PRAGMA foreign_key_check") == []
    lab.must("deprovision", "--yes")
    assert (schema_dump(lab.source), journal_mode(lab.source)) == (schema, mode)
    assert [file.name for file in lab.folder.glob("source.db*")] == ["source.db"]


def keys_and_cascades(lab: Lab, phone: Device) -> None:
    """A composite key, children before their parent, and a key that the database makes; a cascade in the source."""
    encounter, patient = lab.rows(
        "SELECT ENCOUNTER, PATIENT FROM observations WHERE PATIENT = ? AND ENCOUNTER <> '' GROUP BY 1, 2 ORDER BY 1",
        SHARED,
    )[0]
    (claim,), *_ = phone.rows("SELECT Id FROM claims WHERE PATIENTID = ? ORDER BY Id", STAYS)
    gone = phone.rows("SELECT count(*) FROM claims_transactions WHERE CLAIMID = ?", claim)[0][0]
    assert phone.execute(
        ("DELETE FROM claims_transactions WHERE CLAIMID = ?", (claim,)),
        ("DELETE FROM claims WHERE Id = ?", (claim,)),
    ) == [gone, 1]
    assert phone.execute(
        ("INSERT INTO conditions VALUES('2026-11-22', NULL, ?, ?, 38341003, 'Hypertension')", (patient, encounter)),
        ("INSERT INTO observations(DATE, PATIENT, VALUE) VALUES('2026-11-22', ?, 1.5)", (patient,)),
    ) == [1, 1]
    reports = lab.sync(phone)
    assert (reports[0]["uploaded_mutations"], reports[0]["rejected"]) == (gone + 3, 1)
    refused = lab.rejections(phone)
    assert [(each["table"], each["code"], each["values"]["VALUE"]) for each in refused] == [
        ("observations", "generated_key", 1.5)
    ]
    assert lab.rows("SELECT DESCRIPTION FROM conditions WHERE START = '2026-11-22'") == [("Hypertension",)]

    assert lab.execute(("DELETE FROM encounters WHERE Id = ?", (encounter,))) == [1]
    reports = lab.sync(phone)
    assert reports[0]["removed_rows"] >= 3  # the encounter, its observations, the condition just made
    assert phone.rows("SELECT 1 FROM conditions WHERE ENCOUNTER = ?", encounter) == []
