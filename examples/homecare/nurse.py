"""A simulated nurse: what she does is plain SQL on her own file, whether there is a signal or not.

She does it in the three ways an app may: over `replica.connect()`, as a group by `replica.transaction()`, and by a
connection that knows nothing of Syncline.
"""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random

from examples.homecare.device import Device, Owner, Tell
from examples.homecare.office import now_text
from examples.homecare.texts import write_note, write_summary

PLANNED = """
SELECT visits.id, patients.name FROM visits JOIN patients ON patients.id = visits.patient_id
WHERE visits.nurse_id = ? AND visits.status = 'planned' ORDER BY visits.planned_at, visits.id LIMIT 12
"""
VISIT = """
SELECT visits.id, patients.name FROM visits JOIN patients ON patients.id = visits.patient_id WHERE visits.id = ?
"""
VISIT_TO = """
SELECT visits.id, patients.name FROM visits JOIN patients ON patients.id = visits.patient_id
WHERE visits.patient_id = ? AND visits.status = 'planned' ORDER BY visits.planned_at LIMIT 1
"""
SET_OUT = "UPDATE visits SET status = 'on_the_way' WHERE id = ?"
FINISH = """
UPDATE visits SET status = 'done', kilometres = kilometres + :kilometres, summary = :summary WHERE id = :visit
"""
NOTE = "INSERT INTO notes (id, visit_id, author, text, written_at) VALUES (:id, :visit, :author, :text, :at)"
MISTYPE = "UPDATE visits SET status = 'finnished' WHERE id = ?"
CORRECT = """
UPDATE medications SET advice = 'Half of it will do.'
WHERE id = (SELECT id FROM medications ORDER BY id LIMIT 1 OFFSET ?)
"""


@dataclass(frozen=True)
class Visit:
    id: str
    patient: str


class Nurse(Device):
    """Every method is one thing that she does; without a visit named, at one of her next. None: she has none left."""

    def __init__(self, owner: Owner, file: Path, url: str, token: str, tell: Tell, random: Random) -> None:
        super().__init__(owner, file, url, token, tell)
        self.notes_written: list[str] = []
        self._language = owner.language
        self._random = random

    def choose_visit(self) -> Visit | None:
        rows = self.db.execute(PLANNED, (self.key,)).fetchall()
        return Visit(*self._random.choice(rows)) if rows else None

    def find_visit(self, key: str) -> Visit | None:
        return self._visit(VISIT, key)

    def find_visit_to(self, patient: str) -> Visit | None:
        return self._visit(VISIT_TO, patient)

    def finish_visit(self, visit: Visit | None = None) -> Visit | None:
        """The visit and its note as one group: the server takes both or none."""
        visit = visit or self.choose_visit()
        if visit is None:
            return None
        with self.replica.transaction() as db:
            self._finish(db, visit)
            self._note(db, visit)
        self.say(f"finishes the visit to {visit.patient}, with a note", "green")
        return visit

    def write_note(self, visit: Visit | None = None) -> Visit | None:
        """One row over the replica's connection."""
        visit = visit or self.choose_visit()
        if visit is None:
            return None
        with self.db as db:
            self._note(db, visit)
        self.say(f"writes a note about {visit.patient}", "green")
        return visit

    def set_out(self) -> Visit | None:
        """By a connection that is not ours: any program may write to the file."""
        visit = self.choose_visit()
        if visit is None:
            return None
        with closing(sqlite3.connect(self.file, timeout=15)) as db, db:
            db.execute(SET_OUT, (visit.id,))
        self.say(f"sets out for {visit.patient}", "green")
        return visit

    def mistype_status(self) -> Visit | None:
        """The device has no CHECK; the clinic's database has, and refuses."""
        visit = self.choose_visit()
        if visit is None:
            return None
        with self.db as db:
            db.execute(MISTYPE, (visit.id,))
        self.say(f"mistypes the status of the visit to {visit.patient}: “finnished”", "magenta")
        return visit

    def correct_formulary(self) -> None:
        """The formulary is read-only for devices: her file lets her or does not, the server surely does not."""
        try:
            with self.db as db:
                db.execute(CORRECT, (self._random.randrange(20),))
        except sqlite3.Error as error:
            self.say(f"may not correct the formulary: {error}", "magenta")
        else:
            self.say("corrects the formulary, which is not hers to write", "magenta")

    def act(self) -> None:
        """One thing that a nurse does, by chance."""
        what = self._random.choices(
            (self.finish_visit, self.write_note, self.set_out, self.mistype_status, self.correct_formulary),
            (9, 7, 4, 0.5, 0.5),
        )[0]
        what()

    def _visit(self, query: str, key: str) -> Visit | None:
        row = self.db.execute(query, (key,)).fetchone()
        return Visit(*row) if row else None

    def _finish(self, db: sqlite3.Connection, visit: Visit) -> None:
        values = {"visit": visit.id, "kilometres": self._random.randint(1, 9), "summary": write_summary(self._random)}
        db.execute(FINISH, values)

    def _note(self, db: sqlite3.Connection, visit: Visit) -> None:
        text = write_note(self._random, self._language)
        key = str(uuid.uuid4())
        values = {"id": key, "visit": visit.id, "author": self.key, "text": text, "at": now_text()}
        db.execute(NOTE, values)
        self.notes_written.append(key)
