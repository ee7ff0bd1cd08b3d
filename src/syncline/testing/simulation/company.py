"""The company: its database, its own application, and who may see which patient."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig
from syncline.system.database import Prepare
from syncline.testing.simulation.oracle import HIDDEN_N, Rows

VISITS = (
    "id TEXT PRIMARY KEY, patient_id TEXT, status TEXT CHECK(status IS NOT 'bad'), note, n INTEGER NOT NULL DEFAULT 0, "
    "updated_at INTEGER"
)
LINES = "id TEXT PRIMARY KEY, visit_id TEXT, label TEXT CHECK(label IS NOT 'bad')"
DEFINED = {"visits": VISITS, "lines": LINES}
DERIVED = {
    "visits": (
        "CREATE INDEX visits_patient ON visits(patient_id)",
        "CREATE TRIGGER host_stamps AFTER UPDATE ON visits WHEN new.updated_at IS old.updated_at "
        "BEGIN UPDATE visits SET updated_at = coalesce(updated_at, 0) + 1 WHERE id = new.id; END",
        "CREATE TRIGGER host_locks BEFORE DELETE ON visits WHEN old.status = 'locked' "
        "BEGIN SELECT raise(ABORT, 'locked'); END",
    ),
    "lines": ("CREATE INDEX lines_visit ON lines(visit_id)",),
}
"""The company's own indexes and triggers, which a rebuilt table needs again."""

CANARY = "CANARY-"
"""Begins every patient's name: no file may hold it that may not hold the patient."""
SECRET = "SECRET-"
"""Begins every hidden value."""
BEGINNING = (
    "CREATE TABLE patients(id TEXT PRIMARY KEY, name TEXT, ssn TEXT)",
    f"CREATE TABLE visits({VISITS})",
    f"CREATE TABLE lines({LINES})",
    "CREATE TABLE assignments(nurse TEXT, patient_id TEXT)",
    *DERIVED["visits"],
    *DERIVED["lines"],
    "INSERT INTO patients SELECT value, 'CANARY-' || value, 'SECRET-' || value FROM json_each('[\"a\",\"b\",\"c\"]')",
    "INSERT INTO visits(id, patient_id, status) VALUES('v1', 'a', 'open'), ('v2', 'b', 'open'), ('v3', 'c', 'open')",
    "INSERT INTO lines VALUES('l1', 'v1', 'x'), ('l2', 'v2', 'y')",
    "INSERT INTO assignments VALUES('u1', 'a'), ('u1', 'b'), ('u2', 'b'), ('u2', 'c')",
)
KEYS = {"visits": [f"v{number}" for number in range(1, 7)], "lines": [f"l{number}" for number in range(1, 5)]}
TABLES = ("patients", "visits", "lines")
PATIENTS = ("a", "b", "c")


def config_for(*, is_filtered: bool) -> PlanConfig:
    """The configuration; a person may have one that filters put in the place of one that does not."""
    where = f"n <> {HIDDEN_N}" if is_filtered else None
    caseload = ScopeConfig(
        "caseload",
        {
            "visits": TableConfig((LinkConfig(parent="patients", on={"patient_id": "id"}),), where=where),
            "lines": TableConfig((LinkConfig(parent="visits", on={"visit_id": "id"}),)),
        },
        root="patients",
        grant="SELECT patient_id FROM assignments WHERE nurse = :sub",
    )
    return PlanConfig(
        scopes=(caseload,),
        hide={"patients": ("ssn",)},
        merge={"visits": {"n": "add", "updated_at": "server"}},
    )


class Values:
    """Draws what apps write."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._count = 0

    def text(self, prefix: str) -> str:
        """Mostly one that was never seen before; now and then one that others write too."""
        self._count += 1
        return self._rng.choice("AB") if self._rng.random() < 0.4 else f"{prefix}{self._count}"

    def draw(self, table: str, others: Iterable[str] = ()) -> dict[str, Any]:
        """A row without its key. `others`: columns that migrations have brought."""
        rng = self._rng
        extra = {column: self.text("x") for column in others if rng.random() < 0.4}
        if table == "lines":
            label = "bad" if rng.random() < 0.06 else self.text("l")
            return {"visit_id": rng.choice(KEYS["visits"]), "label": label, **extra}
        status = "bad" if rng.random() < 0.06 else "locked" if rng.random() < 0.08 else self.text("s")
        note = rng.choice((self.text("t"), rng.random(), rng.randbytes(3), None))
        return {"patient_id": rng.choice("abbc"), "status": status, "note": note, "n": rng.randint(0, 3), **extra}


class Company:
    """Plain SQL on its own file, by a connection that knows nothing of ours."""

    def __init__(self, path: Path, rng: random.Random, values: Values, prepare: Prepare) -> None:
        self.path = path
        self._rng = rng
        self._values = values
        self.db = sqlite3.connect(path, isolation_level=None)
        prepare(self.db)
        self.run(*BEGINNING)

    def run(self, *statements: str) -> None:
        """In one transaction."""
        self.db.execute("BEGIN IMMEDIATE")
        for statement in statements:
            self.db.execute(statement)
        self.db.execute("COMMIT")

    # ------------------------------------------------------------ looking
    def columns(self, table: str) -> list[str]:
        """None at all while a migration has the table away."""
        return [row[1] for row in self.db.execute(f"PRAGMA table_info({table})")]

    def others(self, table: str) -> list[str]:
        """The columns that migrations have brought."""
        return [column for column in self.columns(table) if column.startswith("x")]

    def rows(self, columns: dict[str, tuple[str, ...]]) -> Rows:
        """All rows of the synced tables, with these columns."""
        found: Rows = {}
        for table, names in columns.items():
            for row in self.db.execute(f"SELECT {', '.join(names)} FROM {table}"):
                found[table, row[names.index("id")]] = dict(zip(names, row, strict=True))
        return found

    def granted(self, nurse: str) -> set[str]:
        return {row[0] for row in self.db.execute("SELECT patient_id FROM assignments WHERE nurse = ?", (nurse,))}

    # ------------------------------------------------------------ changing
    def work(self) -> None:
        """A few changes in one transaction."""
        self.db.execute("BEGIN IMMEDIATE")
        for _ in range(self._rng.randint(1, 3)):
            table = self._rng.choice(("visits", "visits", "lines"))
            if self.columns(table):
                self._change(table)
        self.db.execute("COMMIT")

    def _change(self, table: str) -> None:
        rng, key = self._rng, self._rng.choice(KEYS[table])
        drawn = self._values.draw(table, self.others(table))
        values = {column: "fine" if value == "bad" else value for column, value in drawn.items()}
        exists = self.db.execute(f"SELECT 1 FROM {table} WHERE id = ?", (key,)).fetchone()
        if not exists or rng.random() < 0.15:
            verb = "INSERT OR REPLACE" if exists else "INSERT"
            insert(self.db, table, key, values, verb)
        elif rng.random() < 0.2:
            unlocked = " AND status IS NOT 'locked'" if table == "visits" else ""
            self.db.execute(f"DELETE FROM {table} WHERE id = ?{unlocked}", (key,))
        else:
            column = rng.choice(list(values))
            self.db.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (values[column], key))

    def hand_over(self) -> None:
        """All visits of one patient become those of another, and their lines with them."""
        if self.columns("visits"):
            one, other = self._rng.sample(PATIENTS, 2)
            self.db.execute("UPDATE visits SET patient_id = ? WHERE patient_id = ?", (other, one))

    def reassign(self) -> None:
        """A nurse gets a patient, or loses one."""
        where = (self._rng.choice(("u1", "u2")), self._rng.choice(PATIENTS))
        if not self.db.execute("DELETE FROM assignments WHERE nurse = ? AND patient_id = ?", where).rowcount:
            self.db.execute("INSERT INTO assignments(nurse, patient_id) VALUES(?, ?)", where)


def insert(db: sqlite3.Connection, table: str, key: str, values: dict[str, Any], verb: str = "INSERT") -> None:
    places = ", ".join("?" * (len(values) + 1))
    db.execute(f"{verb} INTO {table}(id, {', '.join(values)}) VALUES({places})", (key, *values.values()))
