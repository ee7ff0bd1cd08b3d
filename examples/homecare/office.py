"""The office: an application that has always written to clinic.db, with plain SQL, and knows nothing of Syncline."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

from examples.homecare.company import TODAY
from examples.homecare.names import choose_language, choose_name, choose_street
from examples.homecare.texts import OFFICE_SUMMARIES, counted

PLANNED = "SELECT id FROM visits WHERE nurse_id = ? AND status = 'planned' ORDER BY planned_at, id LIMIT 30"
MOVABLE = """
SELECT mine.patient_id FROM assignments AS mine
WHERE mine.nurse_id = :loser AND mine.ended_at IS NULL
  AND NOT EXISTS (SELECT 1 FROM assignments AS theirs WHERE theirs.patient_id = mine.patient_id
                  AND theirs.nurse_id = :gainer AND theirs.ended_at IS NULL)
  AND EXISTS (SELECT 1 FROM visits WHERE visits.patient_id = mine.patient_id AND visits.status = 'planned')
ORDER BY mine.patient_id
"""


@dataclass(frozen=True)
class Patient:
    id: str
    name: str


def new_key() -> str:
    return str(uuid.uuid4())


def now_text() -> str:
    return datetime.now().strftime("%Y-%m-%d %H:%M:%S")


class Office:
    """One desk with one connection. Every method is one transaction and answers what was done, in words."""

    def __init__(self, path: Path, random: Random) -> None:
        self._random = random
        self._db = sqlite3.connect(path, timeout=15, isolation_level=None)
        self._db.execute("PRAGMA foreign_keys = ON")

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def nurse_name(self, nurse: str) -> str:
        return str(self._db.execute("SELECT name FROM nurses WHERE id = ?", (nurse,)).fetchone()[0])

    def patient(self, key: str) -> Patient:
        return Patient(*self._db.execute("SELECT id, name FROM patients WHERE id = ?", (key,)).fetchone())

    def choose_visit(self, nurse: str) -> str | None:
        keys = [str(row[0]) for row in self._db.execute(PLANNED, (nurse,))]
        return self._random.choice(keys) if keys else None

    def reschedule(self, visit: str) -> str:
        """Another column than the nurse writes: both changes stay."""
        minutes = self._random.choice((-40, -20, 20, 40, 60))
        with self._transaction() as db:
            db.execute(
                "UPDATE visits SET planned_at = strftime('%Y-%m-%d %H:%M:%S', planned_at, ?) WHERE id = ?",
                (f"{minutes:+} minutes", visit),
            )
        return f"moved {self._of(visit)} by {minutes:+} minutes"

    def write_summary(self, visit: str) -> str:
        """The column that the nurse writes too: whoever is later wins, and the other value is kept for a person."""
        text = self._random.choice(OFFICE_SUMMARIES)
        with self._transaction() as db:
            db.execute("UPDATE visits SET summary = ? WHERE id = ?", (text, visit))
        return f"wrote on {self._of(visit)}: “{text}”"

    def correct_kilometres(self, visit: str) -> str:
        """Added up with what the nurse counts meanwhile."""
        with self._transaction() as db:
            db.execute("UPDATE visits SET kilometres = kilometres + 2 WHERE id = ?", (visit,))
        return f"added 2 km of detour to {self._of(visit)}"

    def change_dose(self, nurse: str) -> str:
        with self._transaction() as db:
            row = db.execute(
                "SELECT id, patient_id FROM prescriptions WHERE patient_id IN (SELECT patient_id FROM assignments"
                " WHERE nurse_id = ? AND ended_at IS NULL) ORDER BY id LIMIT 1 OFFSET ?",
                (nurse, self._random.randrange(3)),
            ).fetchone()
            if row is None:
                return "found no prescription to change"
            dose = self._random.choice(("½-0-0", "1-0-½", "0-0-2", "stopped by the practice"))
            db.execute("UPDATE prescriptions SET dose = ? WHERE id = ?", (dose, row[0]))
        return f"changed a dose of {self.patient(row[1]).name} to {dose}"

    def change_formulary(self) -> str:
        """Everybody's row: one line in the feed, however many devices hold it."""
        with self._transaction() as db:
            rows = db.execute("SELECT id, substance, strength FROM medications ORDER BY id").fetchall()
            key, substance, strength = self._random.choice(rows)
            db.execute("UPDATE medications SET advice = ? WHERE id = ?", (f"Recall checked {now_text()}.", key))
        return f"put a recall notice on {substance} {strength} for everybody"

    def movable_patients(self, loser: str, gainer: str) -> list[str]:
        return [str(row[0]) for row in self._db.execute(MOVABLE, {"loser": loser, "gainer": gainer})]

    def reassign(self, loser: str, gainer: str, patient: str | None = None) -> Patient | None:
        """Give a patient, and the visits planned with him or her, to a colleague. None: there is nobody to give."""
        candidates = [patient] if patient else self.movable_patients(loser, gainer)
        if not candidates:
            return None
        chosen = self._random.choice(candidates)
        with self._transaction() as db:
            db.execute(
                "UPDATE assignments SET ended_at = ? WHERE nurse_id = ? AND patient_id = ? AND ended_at IS NULL",
                (now_text(), loser, chosen),
            )
            self._assign(gainer, chosen)
            db.execute(
                "UPDATE visits SET nurse_id = ? WHERE nurse_id = ? AND patient_id = ? AND status = 'planned'",
                (gainer, loser, chosen),
            )
        return self.patient(chosen)

    def admit_patient(self, nurse: str) -> Patient:
        """A new patient with two visits and a prescription, in one transaction: the device gets all or nothing."""
        random, language = self._random, choose_language(self._random)
        patient = Patient(new_key(), choose_name(random, language))
        digits = uuid.UUID(patient.id).int
        security = f"99{digits % 10}-{digits // 10 % 100:02}-{digits // 1_000 % 10_000:04}"
        phone = f"+44 7911 {digits % 1_000_000:06}"
        with self._transaction() as db:
            facility = db.execute("SELECT id FROM facilities ORDER BY id LIMIT 1").fetchone()[0]
            db.execute(
                "INSERT INTO patients (id, name, born_on, ssn, street, phone, language, facility_id)"
                " VALUES (?, ?, '1941-06-12', ?, ?, ?, ?, ?)",
                (patient.id, patient.name, security, choose_street(random), phone, language, facility),
            )
            self._assign(nurse, patient.id)
            for hours in (15, 19):
                planned = (datetime(TODAY.year, TODAY.month, TODAY.day) + timedelta(hours=hours)).isoformat(" ")
                db.execute(
                    "INSERT INTO visits (id, patient_id, nurse_id, planned_at) VALUES (?, ?, ?, ?)",
                    (new_key(), patient.id, nurse, planned),
                )
            db.execute(
                "INSERT INTO prescriptions SELECT ?, ?, id, '1-0-0', ?, NULL FROM medications ORDER BY id LIMIT 1",
                (new_key(), patient.id, TODAY.isoformat()),
            )
        return patient

    def plan_visits(self, nurse: str) -> str:
        """A visit for each of her patients, so that a long demonstration never runs out of work."""
        with self._transaction() as db:
            patients = db.execute(
                "SELECT patient_id FROM assignments WHERE nurse_id = ? AND ended_at IS NULL", (nurse,)
            ).fetchall()
            rows = [(new_key(), row[0], nurse, f"{TODAY} {self._random.randrange(6, 21):02}:00:00") for row in patients]
            db.executemany("INSERT INTO visits (id, patient_id, nurse_id, planned_at) VALUES (?, ?, ?, ?)", rows)
        return f"plans {counted(len(rows), 'visit')} for {self.nurse_name(nurse)}"

    def _assign(self, nurse: str, patient: str) -> None:
        self._db.execute(
            "INSERT INTO assignments (id, nurse_id, patient_id, started_at) VALUES (?, ?, ?, ?)",
            (new_key(), nurse, patient, now_text()),
        )

    def _of(self, visit: str) -> str:
        row = self._db.execute(
            "SELECT patients.name FROM visits JOIN patients ON patients.id = visits.patient_id WHERE visits.id = ?",
            (visit,),
        ).fetchone()
        return f"the visit to {row[0]}" if row else "a visit that is gone"
