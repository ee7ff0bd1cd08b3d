"""Rows that a REPLACE removes without a word: each must leave the devices that hold it."""

from __future__ import annotations

import pytest

from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig
from syncline.testing.contract_lab import Company, ContractFixtures
from syncline.testing.contract_shapes import CASELOAD, PATIENTS, MakeCompany, everybody, needs
from syncline.testing.dialect import Dialect

ROWS = "INSERT INTO visits(id, patient_id, room, bed) VALUES('v1', 'ada', 'r1', 1), ('v2', 'bo', 'r2', 2), ('v3', 'bo', 'R3', 3)"
COLUMNS = "id VARCHAR(20) PRIMARY KEY, patient_id VARCHAR(20), room VARCHAR(20), bed INTEGER NOT NULL DEFAULT 2, note VARCHAR(20)"

CASES = {
    "a second key": ((f"CREATE TABLE visits({COLUMNS}, UNIQUE(room))",), "room = 'r2'"),
    "a key of two columns": ((f"CREATE TABLE visits({COLUMNS}, UNIQUE(bed, room))",), "room = 'r2', bed = 2"),
    "an index": ((f"CREATE TABLE visits({COLUMNS})", "CREATE UNIQUE INDEX u ON visits(room DESC)"), "room = 'r2'"),
    "a partial index": (
        (f"CREATE TABLE visits({COLUMNS})", "CREATE UNIQUE INDEX u ON visits(room) WHERE bed > 1 AND id <> 'x'"),
        "room = 'r2', bed = 7",
    ),
    "an index on expressions": (
        (
            f"CREATE TABLE visits({COLUMNS})",
            "CREATE UNIQUE INDEX \"an (odd) name\" ON visits(lower(room || ',('), bed /* , ) */ % 10 ASC)",
        ),
        "room = 'R2', bed = 12",
    ),
    "a partial index on an expression": (
        (f"CREATE TABLE visits({COLUMNS})", "CREATE UNIQUE INDEX u ON visits(substr(room, 2)) WHERE room IS NOT NULL"),
        "room = 'x2'",
    ),
    "a column that ignores case": (
        (f"CREATE TABLE visits({COLUMNS.replace('room VARCHAR(20)', 'room VARCHAR(20) COLLATE NOCASE')}, UNIQUE(room))",),
        "room = 'R2'",
    ),
    "an index that ignores case": (
        (f"CREATE TABLE visits({COLUMNS})", "CREATE UNIQUE INDEX u ON visits(room COLLATE NOCASE)"),
        "room = 'R2'",
    ),
    "a generated column": (
        (f"CREATE TABLE visits({COLUMNS}, g VARCHAR(20) AS (room || bed) UNIQUE)",),
        "room = 'r2', bed = 2",
    ),
    "a default in place of NULL": ((f"CREATE TABLE visits({COLUMNS}, UNIQUE(bed))",), "bed = NULL"),
    "a constraint that replaces by itself": (
        (f"CREATE TABLE visits({COLUMNS}, UNIQUE(room) ON CONFLICT REPLACE)",),
        "room = 'r2'",
    ),
    "a table without rowid": ((f"CREATE TABLE visits({COLUMNS}, UNIQUE(room)) WITHOUT ROWID",), "room = 'r2'"),
    "the number of the row": ((f"CREATE TABLE visits({COLUMNS})",), "rowid = 2"),
    "the number of the row by another name": (
        (f"CREATE TABLE visits({COLUMNS}, rowid VARCHAR(20), oid VARCHAR(20))",),
        "_rowid_ = 2",
    ),
    "an integer key that sorts downwards": (
        ("CREATE TABLE visits(id INTEGER PRIMARY KEY DESC, patient_id VARCHAR(20), room VARCHAR(20), bed INTEGER, note VARCHAR(20))",),
        "rowid = 2",
    ),
}  # fmt: skip
"""What makes two rows impossible beside one another · columns that bring a row in the way of v2."""


class ReplaceContract(ContractFixtures):
    """A part of `SourceContract`."""

    def _company(self, make_company: MakeCompany, case: str) -> Company:
        tables = CASES[case][0]
        has_numbers = "id INTEGER" in tables[0]
        rows = ROWS.replace("'v1'", "11").replace("'v2'", "12").replace("'v3'", "13") if has_numbers else ROWS
        index = "CREATE INDEX by_patient ON visits(patient_id)"
        return make_company([*PATIENTS, *tables, index, rows], PlanConfig((CASELOAD,)))

    @pytest.mark.parametrize("recursive", [False, True], ids=["", "recursive_triggers"])
    @pytest.mark.parametrize("case", CASES)
    def test_insert_or_replace_takes_the_row_in_the_way_from_its_devices(
        self, make_company: MakeCompany, dialect: Dialect, case: str, recursive: bool
    ) -> None:
        """P1: the row that it removed belonged to somebody else."""
        needs(dialect, "has_replace")
        company = self._company(make_company, case)
        company.lab.reconnect(f"recursive_triggers = {recursive}")
        ann, ben = company.phone("ann"), company.phone("ben")
        names, values = zip(*(part.split(" = ") for part in CASES[case][1].split(", ")), strict=True)
        key = "21" if "downwards" in case else "'v9'"
        company.execute(
            f"INSERT OR REPLACE INTO visits(id, patient_id, {', '.join(names)}) VALUES({key}, 'ada', {', '.join(values)})"
        )
        assert company.lab.execute("SELECT count(*) FROM visits") == [(3,)], "one came, one went"
        company.agrees(ann, visits="patient_id = 'ada'")
        company.agrees(ben, visits="patient_id = 'bo'")

    @pytest.mark.parametrize("recursive", [False, True], ids=["", "recursive_triggers"])
    @pytest.mark.parametrize("case", CASES)
    def test_update_or_replace_takes_the_row_in_the_way_from_its_devices(
        self, make_company: MakeCompany, dialect: Dialect, case: str, recursive: bool
    ) -> None:
        """P1."""
        needs(dialect, "has_replace")
        company = self._company(make_company, case)
        company.lab.reconnect(f"recursive_triggers = {recursive}")
        ann, ben = company.phone("ann"), company.phone("ben")
        company.execute(f"UPDATE OR REPLACE visits SET {CASES[case][1]} WHERE patient_id = 'ada'")
        assert company.lab.execute("SELECT count(*) FROM visits") == [(2,)], "one went"
        company.agrees(ann, visits="patient_id = 'ada'")
        company.agrees(ben, visits="patient_id = 'bo'")

    def test_one_statement_removes_several(self, make_company: MakeCompany, dialect: Dialect) -> None:
        """By the key, by a second one and by an index, each another's row."""
        needs(dialect, "has_replace")
        tables = (f"CREATE TABLE visits({COLUMNS}, UNIQUE(bed))", "CREATE UNIQUE INDEX u ON visits(lower(room))")
        company = make_company(
            [*PATIENTS, *tables, "CREATE INDEX by_patient ON visits(patient_id)", ROWS], PlanConfig((CASELOAD,))
        )
        ann, ben = company.phone("ann"), company.phone("ben")
        company.execute("REPLACE INTO visits(id, patient_id, room, bed) VALUES('v1', 'bo', 'r3', 2)")
        assert company.lab.execute("SELECT id FROM visits") == [("v1",)]
        company.agrees(ann, visits="patient_id = 'ada'")
        company.agrees(ben, visits="patient_id = 'bo'")

    def test_an_index_that_was_made_while_it_runs(self, make_company: MakeCompany, dialect: Dialect) -> None:
        """P1: the next checkpoint sees it, and REPLACE by it is noted from then on."""
        needs(dialect, "has_replace")
        company = make_company(
            [
                *PATIENTS,
                f"CREATE TABLE visits({COLUMNS})",
                "CREATE INDEX by_patient ON visits(patient_id)",
                ROWS,
            ],
            PlanConfig((CASELOAD,)),
        )
        ann, ben = company.phone("ann"), company.phone("ben")
        company.execute("CREATE UNIQUE INDEX later ON visits(room)", "UPDATE visits SET note = 'seen'")
        company.agrees(ann, visits="patient_id = 'ada'")
        company.execute("INSERT OR REPLACE INTO visits(id, patient_id, room) VALUES('v9', 'ada', 'r2')")
        company.agrees(ann, visits="patient_id = 'ada'")
        company.agrees(ben, visits="patient_id = 'bo'")

    def test_keys_that_collapse_into_one_another(self, make_company: MakeCompany, dialect: Dialect) -> None:
        needs(dialect, "has_replace")
        company = make_company(["CREATE TABLE things(id INTEGER PRIMARY KEY, v VARCHAR(9))"], everybody("things"))
        ann = company.phone("ann")
        company.execute("INSERT INTO things VALUES(1, 'a'), (2, 'b'), (3, 'c'), (10, 'd')")
        company.agrees(ann, things="1 = 1")
        company.execute("UPDATE OR REPLACE things SET id = id + 1")
        company.agrees(ann, things="1 = 1")
        company.execute("UPDATE OR REPLACE things SET id = 1")
        assert len(company.rows("things")) == 1
        company.agrees(ann, things="1 = 1")

    def test_what_hangs_on_a_replaced_row_goes_with_it(self, make_company: MakeCompany, dialect: Dialect) -> None:
        """Also by the foreign key's own action."""
        needs(dialect, "has_replace")
        company = make_company(
            [
                *PATIENTS,
                f"CREATE TABLE visits({COLUMNS}, UNIQUE(room))",
                "CREATE TABLE notes(id INTEGER PRIMARY KEY, visit_id VARCHAR(20) REFERENCES visits(id) ON DELETE CASCADE)",
                "CREATE INDEX i ON notes(visit_id)",
                "CREATE INDEX j ON visits(patient_id)",
                ROWS,
                "INSERT INTO notes VALUES(1, 'v1'), (2, 'v2')",
            ],
            PlanConfig(
                (
                    ScopeConfig(
                        "caseload",
                        {**CASELOAD.tables, "notes": TableConfig((LinkConfig(parent="visits"),))},
                        root="patients",
                        grant=CASELOAD.grant,
                    ),
                )
            ),
        )
        ann, ben = company.phone("ann"), company.phone("ben")
        notes = "visit_id IN (SELECT id FROM visits WHERE patient_id = '{}')"
        company.lab.reconnect("foreign_keys = ON")
        company.execute("INSERT OR REPLACE INTO visits(id, patient_id, room) VALUES('v9', 'ada', 'r2')")
        assert company.rows("notes") == ["(1, 'v1')"]
        company.agrees(ben, visits="patient_id = 'bo'", notes=notes.format("bo"))
        company.lab.reconnect("foreign_keys = OFF")
        company.execute("INSERT OR REPLACE INTO visits(id, patient_id, room) VALUES('v8', 'bo', 'r1')")
        company.agrees(ann, visits="patient_id = 'ada'", notes=notes.format("ada"))

    def test_a_row_that_stood_in_the_way_and_still_stands_is_no_news(
        self, make_company: MakeCompany, dialect: Dialect
    ) -> None:
        """INSERT OR IGNORE, and an upsert that changes nothing."""
        needs(dialect, "has_replace")
        company = self._company(make_company, "a second key")
        ann = company.phone("ann")
        company.execute(
            "INSERT OR IGNORE INTO visits(id, patient_id, room) VALUES('v9', 'ada', 'r1')",
            "INSERT INTO visits(id, patient_id, room) VALUES('v1', 'ada', 'r1') ON CONFLICT(id) DO UPDATE SET room = 'r1'",
        )
        taken = company.checkpoint()
        assert taken is None or not taken.buckets
        company.agrees(ann, visits="patient_id = 'ada'")
