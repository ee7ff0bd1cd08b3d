"""The common row: a visit record of ten columns, about 250 bytes, with a UUID text key; and the company around it."""

from __future__ import annotations

import random
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path

VISIT_COLUMNS = (
    "id",
    "patient_id",
    "day",
    "starts_at",
    "minutes",
    "status",
    "mileage",
    "summary",
    "nurse",
    "updated_at",
)
VISITS = """CREATE TABLE visits (id TEXT PRIMARY KEY, patient_id TEXT REFERENCES patients, day TEXT, starts_at TEXT,
minutes INTEGER, status TEXT, mileage REAL, summary TEXT, nurse TEXT, updated_at TEXT)"""
COMPANY = f"""
CREATE TABLE patients (id TEXT PRIMARY KEY, name TEXT);
CREATE TABLE assignments (
  caregiver_id TEXT, patient_id TEXT REFERENCES patients, PRIMARY KEY (caregiver_id, patient_id));
{VISITS};
CREATE INDEX visits_patient ON visits (patient_id);
"""
CASELOAD = """
[scope.caseload]
root = "patients"
grant = "SELECT patient_id FROM assignments WHERE caregiver_id = :sub"
[scope.caseload.tables]
visits = { parent = "patients" }
"""
SHARED = """
[scope.reference]
tables = ["visits"]
"""
SHAPES = {"caseload": CASELOAD, "shared": SHARED}
"""`caseload`: a bucket for each of 100 patients; `shared`: one bucket that everybody holds."""

PATIENTS = 100
NURSE = "ann"
_WORDS = (
    "blood pressure taken",
    "dressing changed",
    "walked to the kitchen",
    "medication given",
    "wound clean",
    "appetite good",
    "slept badly",
    "daughter present",
    "pain at night",
    "next visit on Monday",
    "physiotherapist informed",
    "weight stable",
)

Row = tuple[str | int | float, ...]


def patient_key(number: int) -> str:
    return f"patient-{number:05d}"


def make_rows(count: int, seed: int = 1) -> Iterator[Row]:
    """Visits spread over the patients, in no order."""
    draw = random.Random(seed)
    for number in range(count):
        yield (
            str(uuid.UUID(int=draw.getrandbits(128), version=4)),
            patient_key(number % PATIENTS),
            f"2026-{draw.randrange(1, 13):02d}-{draw.randrange(1, 29):02d}",
            f"{draw.randrange(6, 20):02d}:{draw.randrange(60):02d}",
            draw.randrange(10, 120),
            draw.choice(("planned", "done", "cancelled")),
            draw.randrange(1, 900) / 10,
            "; ".join(draw.sample(_WORDS, 4)),
            f"nurse-{draw.randrange(40):02d}",
            f"2026-03-02 {draw.randrange(24):02d}:{draw.randrange(60):02d}:00.{draw.randrange(10**6):06d}",
        )


def make_company(path: Path, visits: int) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.executescript(COMPANY)
        db.execute("BEGIN")
        patients = [(patient_key(number), f"Patient {number}") for number in range(PATIENTS)]
        db.executemany("INSERT INTO patients VALUES (?, ?)", patients)
        db.executemany("INSERT INTO assignments VALUES (?, ?)", [(NURSE, key) for key, _ in patients])
        db.executemany(f"INSERT INTO visits VALUES ({', '.join('?' * 10)})", make_rows(visits))
        db.execute("COMMIT")
    finally:
        db.close()


def write_configuration(folder: Path, shape: str) -> Path:
    path = folder / "syncline.toml"
    path.write_text(
        '[source]\nurl = "sqlite:///company.db"\n\n[auth]\nsecret = "a secret of more than thirty-two bytes"\n'
        + SHAPES[shape],
        encoding="utf-8",
    )
    return path
