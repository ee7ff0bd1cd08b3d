"""Makes the clinic's database: the same seed and size always give the same content.

Every table draws from a random generator of its own, so that asking for more visits does not rename the patients.
Dates stand around one fixed day, `TODAY`, for the same reason.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from random import Random

from examples.homecare.formulary import doses_of, medication_rows
from examples.homecare.names import choose_language, choose_name, choose_street
from examples.homecare.texts import NOTES, PATIENT_REMARKS, write_note, write_summary

TODAY = date(2026, 11, 23)
HISTORY_DAYS = 35
PLANNED_DAYS = 7
DAY_SLOTS = tuple(time(hour, minute) for hour in range(6, 21) for minute in (0, 20, 40))
SCHEMA = Path(__file__).with_name("schema.sql")
FACILITY_KINDS = (
    ("pharmacy", ("Linden Pharmacy", "Market Pharmacy", "St George's Pharmacy", "Harbour Pharmacy", "Apotheke am Tor")),
    ("clinic", ("Riverside Practice", "Dr Osei & Partners", "Old Town Health Centre", "Northgate Surgery")),
    ("hospital", ("Saltmarsh General Hospital", "Sisters of Mercy Hospital")),
)

Row = tuple[object, ...]


@dataclass(frozen=True)
class Size:
    """How large the company is. 40 nurses, 1,200 patients and 20,000 visits take about two seconds."""

    nurses: int = 40
    patients: int = 1_200
    visits: int = 20_000
    seed: int = 1

    def __post_init__(self) -> None:
        if min(self.nurses, self.patients, self.visits) < 1:
            raise ValueError("A company has at least one nurse, one patient and one visit.")


@dataclass(frozen=True)
class Person:
    """A nurse or a patient, as far as the other tables need to know."""

    id: str
    language: str


@dataclass(frozen=True)
class Visit:
    id: str
    nurse: Person
    day: date
    done: bool


def nurse_id(number: int) -> str:
    """`nurse-03`; also the `sub` of her token and the name of her file."""
    return f"nurse-{number:02}"


def build_company(path: Path, size: Size) -> None:
    """Write a new clinic.db; what stood at `path` must be gone."""
    connection = sqlite3.connect(path)
    try:
        connection.executescript(SCHEMA.read_text(encoding="utf-8"))
        with connection:
            _fill(connection, size)
    finally:
        connection.close()


def _fill(connection: sqlite3.Connection, size: Size) -> None:
    def random(table: str) -> Random:
        return Random(f"{size.seed}:{table}")

    def insert(table: str, rows: Iterable[Row]) -> None:
        kept = list(rows)
        if kept:
            marks = ", ".join("?" * len(kept[0]))
            connection.executemany(f"INSERT INTO {table} VALUES ({marks})", kept)

    nurses, nurse_rows = _nurses(random("nurses"), size.nurses)
    facility_rows = list(_facilities(random("facilities"), max(3, size.patients // 20)))
    patients, patient_rows = _patients(random("patients"), size.patients, [str(row[0]) for row in facility_rows])
    carers, assignment_rows = _assignments(random("assignments"), nurses, patients)
    visits, visit_rows = _visits(random("visits"), size.visits, patients, carers)
    medications = medication_rows()
    insert("nurses", nurse_rows)
    insert("facilities", facility_rows)
    insert("patients", patient_rows)
    insert("assignments", assignment_rows)
    insert("visits", visit_rows)
    insert("notes", _notes(random("notes"), visits))
    insert("medications", medications)
    insert("prescriptions", _prescriptions(random("prescriptions"), patients, medications))


def _nurses(random: Random, count: int) -> tuple[list[Person], list[Row]]:
    people: list[Person] = []
    rows: list[Row] = []
    for number in range(1, count + 1):
        language = choose_language(random)
        people.append(Person(nurse_id(number), language))
        rows.append((nurse_id(number), choose_name(random, language), f"+44 7700 {900000 + number}", language))
    return people, rows


def _facilities(random: Random, count: int) -> Iterable[Row]:
    for number in range(1, count + 1):
        kind, names = random.choices(FACILITY_KINDS, (6, 5, 1))[0]
        name = f"{random.choice(names)} {random.choice(('East', 'West', 'Central', 'No. 2', '')).strip()}".strip()
        yield f"f-{number:04}", kind, name, choose_street(random), f"+44 1632 {960000 + number}"


def _patients(random: Random, count: int, facilities: list[str]) -> tuple[list[Person], list[Row]]:
    """Social security numbers are unique, and of the 9xx range that is never given out: they are nobody's."""
    people: list[Person] = []
    rows: list[Row] = []
    for number in range(1, count + 1):
        language = choose_language(random)
        person = Person(f"p-{number:05}", language)
        born = date(1924, 1, 1) + timedelta(days=random.randrange(365 * 38))
        people.append(person)
        rows.append(
            (
                person.id,
                choose_name(random, language),
                born.isoformat(),
                social_security_number(number),
                choose_street(random),
                f"+44 20 7946 {number:05}",
                language,
                random.choice(facilities) if random.random() < 0.94 else None,
                random.choice(PATIENT_REMARKS) if random.random() < 0.4 else None,
            )
        )
    return people, rows


def social_security_number(number: int) -> str:
    """Looks drawn, and never repeats: 7,919 has no divisor in common with the number of all numbers."""
    drawn = number * 7_919 % 10_000_000
    return f"9{drawn // 1_000_000:02}-{drawn // 10_000 % 100:02}-{drawn % 10_000:04}"


def _assignments(
    random: Random, nurses: list[Person], patients: list[Person]
) -> tuple[dict[str, list[Person]], list[Row]]:
    """Who cares for whom: one nurse each, sometimes a second, and some who did in the past."""
    carers: dict[str, list[Person]] = {}
    rows: list[Row] = []
    for number, patient in enumerate(patients):
        first = nurses[number % len(nurses)]
        others = [nurse for nurse in random.sample(nurses, min(3, len(nurses))) if nurse is not first]
        carers[patient.id] = [first, *others[: int(random.random() < 0.25)]]
        since = (TODAY - timedelta(days=random.randint(HISTORY_DAYS, 900))).isoformat()
        for nurse in carers[patient.id]:
            rows.append((f"a-{len(rows) + 1:06}", nurse.id, patient.id, since, None))
        if len(others) > 1 and random.random() < 0.2:
            ended = (TODAY - timedelta(days=random.randint(1, HISTORY_DAYS))).isoformat()
            rows.append((f"a-{len(rows) + 1:06}", others[-1].id, patient.id, since, ended))
    return carers, rows


def _visits(
    random: Random, count: int, patients: list[Person], carers: dict[str, list[Person]]
) -> tuple[list[Visit], list[Row]]:
    """Visits in the order of time: five weeks of history, today, and the week to come."""
    days = HISTORY_DAYS + PLANNED_DAYS
    visits: list[Visit] = []
    rows: list[Row] = []
    for number in range(count):
        patient = patients[number % len(patients)] if number < len(patients) else random.choice(patients)
        nurse = random.choices(carers[patient.id], (4, 1)[: len(carers[patient.id])])[0]
        day = TODAY - timedelta(days=HISTORY_DAYS) + timedelta(days=(number * days) // count)
        done = day < TODAY
        planned = datetime.combine(day, random.choice(DAY_SLOTS))
        status = random.choices(("done", "missed", "cancelled"), (95, 2, 3))[0] if done else "planned"
        visit = Visit(f"v-{number + 1:06}", nurse, day, status == "done")
        summary = write_summary(random) if visit.done else None
        updated = datetime.combine(min(day, TODAY - timedelta(days=1)), time(21))
        visits.append(visit)
        rows.append(
            (
                visit.id,
                patient.id,
                nurse.id,
                planned.isoformat(" "),
                random.choice((15, 20, 30, 30, 45, 60)),
                status,
                random.randint(1, 14) if visit.done else 0,
                summary,
                updated.isoformat(" "),
            )
        )
    return visits, rows


def _notes(random: Random, visits: list[Visit]) -> Iterable[Row]:
    number = 0
    for visit in visits:
        if visit.done and random.random() < 0.55:
            number += 1
            language = visit.nurse.language if visit.nurse.language in NOTES and random.random() < 0.5 else "en"
            written = datetime.combine(visit.day, random.choice(DAY_SLOTS)) + timedelta(minutes=random.randint(5, 19))
            yield f"n-{number:06}", visit.id, visit.nurse.id, write_note(random, language), written.isoformat(" ")


def _prescriptions(
    random: Random, patients: list[Person], medications: list[tuple[str, str, str, str, str | None]]
) -> Iterable[Row]:
    number = 0
    for patient in patients:
        for medication in random.sample(medications, random.choice((1, 2, 3, 3, 4, 5))):
            number += 1
            since = (TODAY - timedelta(days=random.randint(3, 700))).isoformat()
            until = (TODAY + timedelta(days=random.randint(1, 60))).isoformat() if random.random() < 0.15 else None
            yield f"rx-{number:06}", patient.id, medication[0], random.choice(doses_of(medication[3])), since, until
