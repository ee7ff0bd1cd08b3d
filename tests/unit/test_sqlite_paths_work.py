"""How much the database does for a batch, counted in steps of its virtual machine."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig
from syncline.source.sqlite.source import SqliteSource
from syncline.source.sqlite.threads import drive
from syncline.testing.plans import plan_for

TABLES = """
CREATE TABLE patients(id TEXT PRIMARY KEY, name TEXT);
CREATE TABLE visits(id TEXT PRIMARY KEY, patient_id TEXT, n INTEGER);
CREATE TABLE notes(id INTEGER PRIMARY KEY, visit_id TEXT);
CREATE TABLE assignments(nurse TEXT, patient_id TEXT);
CREATE INDEX i1 ON visits(patient_id); CREATE INDEX i2 ON notes(visit_id);
INSERT INTO patients VALUES('p', 'Ada'); INSERT INTO visits VALUES('v', 'p', 0);
"""
CONFIG = PlanConfig(
    scopes=(
        ScopeConfig(
            "caseload",
            {
                "visits": TableConfig((LinkConfig(parent="patients", on={"patient_id": "id"}),), where="n >= 0"),
                "notes": TableConfig((LinkConfig(parent="visits", on={"visit_id": "id"}),)),
            },
            root="patients",
            grant="SELECT patient_id FROM assignments WHERE nurse = :sub",
        ),
    )
)
STEPS_AT_ONCE = 1_000


class Counted:
    """Counts what every connection of a source does."""

    def __init__(self) -> None:
        self.thousands = 0

    def __call__(self, connection: sqlite3.Connection) -> None:
        connection.set_progress_handler(self._count, STEPS_AT_ONCE)

    def _count(self) -> int:
        self.thousands += 1
        return 0


def _work_for(path: Path, changes: int) -> int:
    """Of a batch in which one visit, its patient, and that visit's notes change so many times each."""
    with sqlite3.connect(path) as db:
        db.executescript(TABLES)
    db.close()
    counted = Counted()
    source = SqliteSource(path, prepare=counted, inline=True)
    drive(source.provision(drive(plan_for(source, CONFIG))))
    drive(source.attach(drive(plan_for(source, CONFIG))))
    drive(source.begin_term("t"))
    with sqlite3.connect(path) as db:
        for number in range(changes):
            db.execute("INSERT INTO notes VALUES(?, 'v')", (number,))
            db.execute("UPDATE visits SET n = n + 1")
            db.execute("UPDATE patients SET name = ?", (str(number),))
    db.close()
    before = counted.thousands
    taken = drive(source.take_checkpoint("t"))
    assert taken is not None and taken.changes == 3 * changes
    drive(source.close())
    return counted.thousands - before


def test_a_visit_that_changes_often_while_notes_are_written_costs_each_change_once(tmp_path: Path) -> None:
    """Twice the changes are about twice the work: while a server was away an outage's worth of them waits."""
    assert _work_for(tmp_path / "twice.db", 2_000) < 3 * _work_for(tmp_path / "once.db", 1_000)
