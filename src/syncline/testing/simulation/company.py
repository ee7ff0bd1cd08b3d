"""The company: its database, its own application, and who may see which patient."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig
from syncline.testing.company_database import CompanyDatabase
from syncline.testing.dialect import Dialect
from syncline.testing.simulation.oracle import HIDDEN_N, Rows


def defined(dialect: Dialect) -> dict[str, str]:
    """The columns of the tables that the company rebuilds."""
    status, label = dialect.differ("status", "'bad'"), dialect.differ("label", "'bad'")
    note = "note" if dialect.has_typeless_columns else "note TEXT"
    return {
        "visits": f"id TEXT PRIMARY KEY, patient_id TEXT, status TEXT CHECK({status}), {note}, "
        "n INTEGER NOT NULL DEFAULT 0, updated_at INTEGER",
        "lines": f"id TEXT PRIMARY KEY, visit_id TEXT, label TEXT CHECK({label})",
    }


def derived(dialect: Dialect) -> dict[str, tuple[str, ...]]:
    """The company's own indexes and triggers, which a rebuilt table needs again."""
    unstamped = f"NOT ({dialect.differ('new.updated_at', 'old.updated_at')})"
    stamp = "UPDATE visits SET updated_at = coalesce(updated_at, 0) + 1 WHERE id = new.id"
    return {
        "visits": (
            "CREATE INDEX visits_patient ON visits(patient_id)",
            *dialect.trigger("host_stamps", "AFTER UPDATE", "visits", unstamped, stamp),
            *dialect.trigger(
                "host_locks", "BEFORE DELETE", "visits", "old.status = 'locked'", dialect.refusal("locked")
            ),
        ),
        "lines": ("CREATE INDEX lines_visit ON lines(visit_id)",),
    }


CANARY = "CANARY-"
"""Begins every patient's name: no file may hold it that may not hold the patient."""
SECRET = "SECRET-"
"""Begins every hidden value."""
ROWS = (
    *(f"INSERT INTO patients VALUES('{patient}', '{CANARY}{patient}', '{SECRET}{patient}')" for patient in "abc"),
    "INSERT INTO visits(id, patient_id, status) VALUES('v1', 'a', 'open'), ('v2', 'b', 'open'), ('v3', 'c', 'open')",
    "INSERT INTO lines VALUES('l1', 'v1', 'x'), ('l2', 'v2', 'y')",
    "INSERT INTO assignments VALUES('u1', 'a'), ('u1', 'b'), ('u2', 'b'), ('u2', 'c')",
)
KEYS = {"visits": [f"v{number}" for number in range(1, 7)], "lines": [f"l{number}" for number in range(1, 5)]}
FIRST_KEYS = ("v1", "v2", "v3", "l1", "l2")
"""Of the visits and lines that are there from the beginning."""
DISPUTED = {"visits": "v2", "lines": "l2"}
"""What both users see in the beginning."""
TABLES = ("patients", "visits", "lines")
PATIENTS = ("a", "b", "c")
LOCKED = "'locked'"


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


TORTURE: tuple[Any, ...] = (
    *(2**63 - 1, -(2**63), 2**53 + 1, 0, 0.1 + 0.2, 5e-324, -1.5e308, 1.0),
    *("", "0", "007", "1e3", "nul", "\U0001f691 é e\u0301", "line\nbreak", "'\"\\", "\u2028"),
    *(b"", b"\x00", b"\x00\xff\x00", b"text"),
)
"""Values that easily become others on their way."""
LONG = "\u2026" * 2_000
"""Larger than a page of a file, and than what many an answer holds."""


@dataclass(frozen=True)
class Temper:
    """What kind of company it is, all its life."""

    sets_counts: bool = True
    """Does the office, too, set what devices count?"""
    is_dispute: bool = False
    """All write to the same few cells."""
    alike: float = 0.4
    """How often a text is one that others write too."""
    long: float = 0.0
    """How often a note is long."""

    @classmethod
    def draw(cls, dice: random.Random) -> Temper:
        is_dispute = dice.random() < 0.3
        alike = dice.choice((0.5, 0.9) if is_dispute else (0.1, 0.4))
        return cls(dice.random() < 0.5, is_dispute, alike, dice.choice((0.0, 0.0, 0.2)))


class Values:
    """Draws what apps write. `has_loose_types`: a note may be anything, else it is text."""

    def __init__(self, rng: random.Random, temper: Temper, *, has_loose_types: bool = True) -> None:
        self._rng = rng
        self.temper = temper
        self._count = 0
        self._has_loose_types = has_loose_types
        self.deletes = rng.choice((0.0, 0.0, 0.2))
        """How often rows are deleted. Where they never are, devices have the first ones before anything happens, and
        write to them rather than insert rows of the same keys."""

    def key(self, table: str) -> str:
        """Of the row that is written to."""
        return DISPUTED[table] if self.temper.is_dispute else self._rng.choice(KEYS[table])

    def columns(self, drawn: Iterable[str], count: int) -> list[str]:
        """Which of them are written to in a row that exists."""
        names = [name for name in drawn if name in ("status", "n", "label") or not self.temper.is_dispute]
        return self._rng.sample(names, k=min(count, len(names)))

    def text(self, prefix: str) -> str:
        """One that was never seen before, or one that others write too."""
        self._count += 1
        return self._rng.choice("AB") if self._rng.random() < self.temper.alike else f"{prefix}{self._count}"

    def draw(self, table: str, others: Iterable[str] = ()) -> dict[str, Any]:
        """A row without its key. `others`: columns that migrations have brought."""
        rng = self._rng
        extra = {column: self.text("x") for column in others if rng.random() < 0.4}
        if table == "lines":
            label = "bad" if rng.random() < 0.06 else self.text("l")
            return {"visit_id": rng.choice(KEYS["visits"]), "label": label, **extra}
        status = "bad" if rng.random() < 0.06 else "locked" if rng.random() < 0.08 else self.text("s")
        note = rng.choice((self.text("t"), rng.random(), rng.randbytes(3), None, rng.choice(TORTURE)))
        if self.temper.long and rng.random() < self.temper.long:
            note = self.text("t") + LONG
        if not self._has_loose_types and note is not None:
            note = note.hex() if isinstance(note, bytes) else str(note)
        return {"patient_id": rng.choice("abbc"), "status": status, "note": note, "n": rng.randint(0, 3), **extra}


class Company:
    """Plain SQL on its own database, by a connection that knows nothing of ours."""

    def __init__(self, database: CompanyDatabase, dialect: Dialect, rng: random.Random, values: Values) -> None:
        self.database = database
        self.dialect = dialect
        self.defined = defined(dialect)
        self.derived = derived(dialect)
        self.wrote: Callable[[str, str, str, Any], None] = lambda table, key, column, value: None
        """Told of each cell that the office changes; of a row that it makes or takes away with the column ""."""
        self._rng = rng
        self._values = values
        self._commit: Callable[[], None] | None = None
        self._overlaps = 0
        self.run(
            "CREATE TABLE patients(id TEXT PRIMARY KEY, name TEXT, ssn TEXT)",
            *(f"CREATE TABLE {table}({columns})" for table, columns in self.defined.items()),
            "CREATE TABLE assignments(nurse TEXT, patient_id TEXT)",
            *(statement for statements in self.derived.values() for statement in statements),
            *ROWS,
        )

    def execute(self, sql: str, parameters: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        return self.database.execute(sql, parameters)

    def run(self, *statements: str) -> None:
        """In one transaction."""
        self.execute("BEGIN")
        for statement in statements:
            self.execute(statement)
        self.execute("COMMIT")

    # ------------------------------------------------------------ looking
    def columns(self, table: str) -> list[str]:
        """None at all while a migration has the table away."""
        return [name for (name,) in self.execute(self.dialect.columns_of(table))]

    def others(self, table: str) -> list[str]:
        """The columns that migrations have brought."""
        return [column for column in self.columns(table) if column.startswith("x")]

    def ours(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        """Of a table of Syncline's."""
        return self.execute(f"SELECT {', '.join(columns)} FROM {self.dialect.own_table(table)}")

    def rows(self, columns: dict[str, tuple[str, ...]]) -> Rows:
        """All rows of the synced tables, with these columns."""
        found: Rows = {}
        for table, names in columns.items():
            for row in self.execute(f"SELECT {', '.join(names)} FROM {table}"):
                found[table, row[names.index("id")]] = dict(zip(names, row, strict=True))
        return found

    def granted(self, nurse: str) -> set[str]:
        return {row[0] for row in self.execute("SELECT patient_id FROM assignments WHERE nurse = ?", (nurse,))}

    # ------------------------------------------------------------ changing
    def overlap(self) -> None:
        """A transaction that stays open while others begin and end; or its end. Its row is nobody else's: nobody waits
        for it."""
        if self._commit is not None:
            self.end_overlap()
        elif self.columns("lines"):
            self._overlaps += 1
            row = {**self._values.draw("lines", self.others("lines")), "id": f"late-{self._overlaps}", "label": "late"}
            self._commit = self.database.begin_beside(insertion("lines", row), row.values())

    def end_overlap(self) -> None:
        commit, self._commit = self._commit, None
        if commit is not None:
            commit()

    def work(self) -> None:
        """A few changes in one transaction."""
        self.execute("BEGIN")
        for _ in range(self._rng.randint(1, 3)):
            table = self._rng.choice(("visits", "visits", "lines"))
            if self.columns(table):
                self._change(table)
        self.execute("COMMIT")

    def _change(self, table: str) -> None:
        rng, key = self._rng, self._values.key(table)
        drawn = self._values.draw(table, self.others(table))
        values = {column: "fine" if value == "bad" else value for column, value in drawn.items()}
        exists = self.execute(f"SELECT 1 FROM {table} WHERE id = ?", (key,))
        column = ""
        if not exists or rng.random() < self._values.deletes / 2:
            self._put(table, {"id": key, **values}, is_there=bool(exists))
        elif rng.random() < self._values.deletes:
            unlocked = f" AND {self.dialect.differ('status', LOCKED)}" if table == "visits" else ""
            self.execute(f"DELETE FROM {table} WHERE id = ?{unlocked}", (key,))
        else:
            (column,) = self._values.columns(
                (name for name in values if name != "n" or self._values.temper.sets_counts), 1
            )
            ((before,),) = self.execute(f"SELECT {column} FROM {table} WHERE id = ?", (key,))
            self.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (values[column], key))
            if type(before) is type(values[column]) and before == values[column]:
                return  # what changes nothing is no change: it wins against nobody
        self.wrote(table, key, column, values.get(column))

    def _put(self, table: str, row: dict[str, Any], *, is_there: bool) -> None:
        verb = "INSERT OR REPLACE" if is_there and self.dialect.has_replace else "INSERT"
        statement = insertion(table, row, verb)
        if is_there and not self.dialect.has_replace:
            changes = ", ".join(f"{column} = excluded.{column}" for column in row if column != "id")
            statement += f" ON CONFLICT(id) DO UPDATE SET {changes}"
        self.execute(statement, row.values())

    def hand_over(self) -> None:
        """All visits of one patient become those of another, and their lines with them."""
        if self.columns("visits"):
            one, other = self._rng.sample(PATIENTS, 2)
            self.execute("UPDATE visits SET patient_id = ? WHERE patient_id = ?", (other, one))

    def reassign(self) -> None:
        """A nurse gets a patient, or loses one."""
        nurse, patient = self._rng.choice(("u1", "u2")), self._rng.choice(PATIENTS)
        if patient in self.granted(nurse):
            self.execute("DELETE FROM assignments WHERE nurse = ? AND patient_id = ?", (nurse, patient))
        else:
            self.execute("INSERT INTO assignments(nurse, patient_id) VALUES(?, ?)", (nurse, patient))


def insertion(table: str, row: Iterable[str], verb: str = "INSERT") -> str:
    """A statement with a place for each column's value."""
    columns = list(row)
    return f"{verb} INTO {table}({', '.join(columns)}) VALUES({', '.join('?' * len(columns))})"
