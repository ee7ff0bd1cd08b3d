"""Synthea's hospital records, loaded with care into PostgreSQL: typed, with foreign keys, a provider's caseload.

The sample lies beside the checkout, in ../shared/data/synthea; without it this test is skipped.
"""

from __future__ import annotations

import csv

import pytest
from tests.acceptance.lab import Device, present_in_bytes, sample, wait_until
from tests.postgres.applications.office import Office

ANNA = "26770feb-36bd-33a6-a255-4acfc0cc3310"
BEN = "52c491d3-23fe-360f-bed8-4f78fc095e95"
CARLA = "84871f55-aae0-396d-b394-b8fe7f58fd69"
SHARED = "280ee8b5-6ebb-11cf-e4db-8cf101827ec7"  # Anna's and Ben's
STAYS = "261ad2a4-7c6f-da54-6a5b-3441beab9a6a"  # Anna's

TABLES = """
CREATE TYPE gender AS ENUM ('M', 'F');
CREATE DOMAIN cost AS numeric CHECK (value >= 0);
CREATE TABLE organizations(
  "Id" uuid PRIMARY KEY, "NAME" text NOT NULL, "CITY" varchar(60), "LAT" double precision, "REVENUE" numeric);
CREATE TABLE providers(
  "Id" uuid PRIMARY KEY, "ORGANIZATION" uuid NOT NULL REFERENCES organizations, "NAME" text NOT NULL, "GENDER" gender,
  "LAT" real);
CREATE TABLE payers("Id" uuid PRIMARY KEY, "NAME" text NOT NULL, "AMOUNT_COVERED" numeric(20, 4));
CREATE TABLE patients(
  "Id" uuid PRIMARY KEY, "BIRTHDATE" date NOT NULL, "DEATHDATE" date, "SSN" text NOT NULL UNIQUE, "FIRST" text NOT NULL,
  "LAST" text NOT NULL, "GENDER" gender, "ADDRESS" text, "ZIP" char(5), "LAT" double precision, "HEALTHCARE_EXPENSES" cost,
  "DEAD" boolean GENERATED ALWAYS AS ("DEATHDATE" IS NOT NULL) STORED);
CREATE TABLE encounters(
  "Id" uuid PRIMARY KEY, "START" timestamptz NOT NULL, "STOP" timestamptz, "PATIENT" uuid NOT NULL REFERENCES patients,
  "ORGANIZATION" uuid NOT NULL REFERENCES organizations, "PROVIDER" uuid NOT NULL REFERENCES providers,
  "PAYER" uuid NOT NULL REFERENCES payers, "CODE" bigint, "DESCRIPTION" text, "TOTAL_CLAIM_COST" numeric(12, 2));
CREATE TABLE conditions(
  "START" date NOT NULL, "STOP" date, "PATIENT" uuid NOT NULL REFERENCES patients,
  "ENCOUNTER" uuid NOT NULL REFERENCES encounters ON DELETE CASCADE, "CODE" bigint NOT NULL, "DESCRIPTION" text,
  PRIMARY KEY ("PATIENT", "ENCOUNTER", "CODE", "START"));
CREATE TABLE observations(
  line bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "DATE" timestamptz NOT NULL,
  "PATIENT" uuid NOT NULL REFERENCES patients, "ENCOUNTER" uuid REFERENCES encounters ON DELETE SET NULL, "CODE" text,
  "VALUE" text, "UNITS" text, "TYPE" text);
CREATE TABLE claims(
  "Id" uuid PRIMARY KEY, "PATIENTID" uuid NOT NULL REFERENCES patients, "PROVIDERID" uuid NOT NULL REFERENCES providers,
  "APPOINTMENTID" uuid REFERENCES encounters ON DELETE SET NULL, "SERVICEDATE" timestamptz, "STATUS1" text,
  "OUTSTANDING1" numeric);
CREATE INDEX ON encounters("PATIENT"); CREATE INDEX ON encounters("PROVIDER"); CREATE INDEX ON encounters("PAYER");
CREATE INDEX ON encounters("ORGANIZATION"); CREATE INDEX ON providers("ORGANIZATION"); CREATE INDEX ON conditions("ENCOUNTER");
CREATE INDEX ON observations("PATIENT"); CREATE INDEX ON claims("PATIENTID"); CREATE INDEX ON claims("PROVIDERID");
"""
LOADED = ("organizations", "providers", "payers", "patients", "encounters", "conditions", "observations", "claims")
CONFIGURATION = """
[scope.caseload]
root = "patients"
grant = 'SELECT "PATIENT" FROM encounters WHERE "PROVIDER" = :sub'

[scope.caseload.tables]
encounters = { parent = "patients" }
conditions = { parent = "encounters" }
observations = { parent = "patients" }
claims = { parent = "patients" }
providers = [{ referenced_by = "encounters", read_only = true }, { referenced_by = "claims", read_only = true }]
organizations = [
    { referenced_by = "providers", read_only = true },
    { referenced_by = "encounters", read_only = true },
]
payers = { referenced_by = "encounters", read_only = true }

[columns]
patients = { hide = ["SSN"] }
"""
MINE = 'SELECT "PATIENT" FROM encounters WHERE "PROVIDER" = %(sub)s::uuid'
SEEN = f'SELECT "Id" FROM encounters WHERE "PATIENT" IN ({MINE})'
PROVIDERS = (
    f'SELECT "PROVIDER" FROM encounters WHERE "PATIENT" IN ({MINE}) UNION '
    f'SELECT "PROVIDERID" FROM claims WHERE "PATIENTID" IN ({MINE})'
)
SELECTS = {
    "patients": 'SELECT "Id", "BIRTHDATE", "DEATHDATE", "FIRST", "LAST", "GENDER"::text, "ADDRESS", "ZIP", "LAT", '
    f'"HEALTHCARE_EXPENSES", "DEAD" FROM patients WHERE "Id" IN ({MINE})',
    "encounters": f'SELECT * FROM encounters WHERE "PATIENT" IN ({MINE})',
    "conditions": f'SELECT * FROM conditions WHERE "ENCOUNTER" IN ({SEEN})',
    "observations": f'SELECT * FROM observations WHERE "PATIENT" IN ({MINE})',
    "claims": f'SELECT * FROM claims WHERE "PATIENTID" IN ({MINE})',
    "providers": f'SELECT * FROM providers WHERE "Id" IN ({PROVIDERS})',
    "organizations": f'SELECT * FROM organizations WHERE "Id" IN (SELECT "ORGANIZATION" FROM providers WHERE "Id" IN '
    f'({PROVIDERS}) UNION SELECT "ORGANIZATION" FROM encounters WHERE "PATIENT" IN ({MINE}))',
    "payers": f'SELECT * FROM payers WHERE "Id" IN (SELECT "PAYER" FROM encounters WHERE "PATIENT" IN ({MINE}))',
}


def load(office: Office) -> None:
    """The csv files by COPY; an empty field is NULL."""
    folder = sample("synthea/csv")
    office.load(TABLES)
    with office.database.connect() as session:
        for table in LOADED:
            present = [
                name
                for (name,) in session.execute(
                    "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND attgenerated = '' "
                    "AND attidentity = ''",
                    (table,),
                )
            ]
            with (folder / f"{table}.csv").open(encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file)
                columns = [name for name in reader.fieldnames or () if name in present]
                names = ", ".join(f'"{name}"' for name in columns)
                with session.cursor() as cursor, cursor.copy(f"COPY {table}({names}) FROM STDIN".encode()) as stream:
                    for row in reader:
                        stream.write_row([row[name] or None for name in columns])


def assert_in_step(office: Office, *devices: Device) -> None:
    """P1, P8, P9, P16: exactly the user's rows; no hidden value and no other patient's address in any byte."""
    office.in_step(SELECTS, *devices)
    secrets = [ssn for (ssn,) in office.ask('SELECT "SSN" FROM patients')]
    for device in devices:
        others = office.ask(f'SELECT "ADDRESS" FROM patients WHERE "Id" NOT IN ({MINE})', {"sub": device.user})
        assert present_in_bytes(device.path, [*secrets, *(address for (address,) in others)]) == []
        assert device.rows("PRAGMA foreign_key_check") == []


@pytest.mark.slow
def test_a_caseload_in_the_hospital(office: Office) -> None:
    """P1, P8, P9, P11, P15, P16: uuid keys, enums, domains, numerics; a patient who changes hands while connected."""
    load(office)
    schema = office.schema_dump()
    office.configure(CONFIGURATION)
    report = office.must("check", "--json").json
    assert (report["errors"], report["refused_tables"]) == ([], [])
    office.must("provision")
    with office.serving():
        phone, tablet, carla = devices = office.devices(phone=ANNA, tablet=ANNA, carla=CARLA)
        assert all(report["downloaded_rows"] > 100 for report in office.sync(*devices))
        assert_in_step(office, *devices)

        ((encounter,),) = phone.rows(f"SELECT min(Id) FROM encounters WHERE PATIENT = '{SHARED}'")
        office.write(
            f'UPDATE encounters SET "DESCRIPTION" = \'by the office\', "CODE" = 7 WHERE "Id" = \'{encounter}\'',
            f"UPDATE patients SET \"ZIP\" = '01234', \"DEATHDATE\" = '2026-11-22' WHERE \"Id\" = '{SHARED}'",
            'UPDATE observations SET "VALUE" = "VALUE" || \' ±\', "DATE" = "DATE" + interval \'1 us\'',
            f'DELETE FROM encounters WHERE "Id" IN (SELECT "ENCOUNTER" FROM conditions WHERE "PATIENT" = \'{STAYS}\')',
        )
        assert phone.execute(
            f"UPDATE patients SET ADDRESS = 'Ünter 🌻 1' WHERE Id = '{SHARED}'",
            f"UPDATE encounters SET DESCRIPTION = 'by the phone' WHERE Id = '{encounter}'",
            f"INSERT INTO conditions VALUES('2026-11-22', NULL, '{SHARED}', '{encounter}', 38341003, 'Hypertension')",
        ) == [1, 1, 1]
        (report, *_) = office.sync(phone)
        assert (report["uploaded_mutations"], report["rejected"]) == (3, 0)
        office.sync(tablet, carla)
        assert_in_step(office, *devices)
        assert office.ask(f'SELECT "DESCRIPTION", "CODE" FROM encounters WHERE "Id" = \'{encounter}\'') == [
            ("by the phone", 7)
        ]

        (ben,) = office.devices(ben=BEN)
        office.sync(ben)
        with office.running(ben):
            office.write(f"UPDATE encounters SET \"PROVIDER\" = '{BEN}' WHERE \"PATIENT\" = '{STAYS}'")
            wait_until(lambda: ben.rows("SELECT 1 FROM patients WHERE Id = ?", STAYS) == [(1,)], "a patient comes")
            office.write(f"UPDATE encounters SET \"PROVIDER\" = '{ANNA}' WHERE \"PATIENT\" = '{STAYS}'")
            wait_until(lambda: ben.rows("SELECT 1 FROM patients WHERE Id = ?", STAYS) == [], "a patient leaves")
        office.sync(phone, tablet, carla, ben)
        assert_in_step(office, phone, tablet, carla, ben)
    office.must("deprovision", "--yes")
    assert office.schema_dump() == schema
