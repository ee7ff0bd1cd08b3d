"""Capture on SQLite: what its triggers see, and what it costs."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from syncline.errors import ConfigError
from syncline.model.scopes import LinkConfig, Plan, PlanConfig, ScopeConfig, TableConfig
from syncline.source.port import Checkpoint
from syncline.source.sqlite.replaced import probes_of
from syncline.source.sqlite.source import SqliteSource
from syncline.source.sqlite.threads import drive
from syncline.source.sqlite.uniques import index_parts
from syncline.testing.plans import plan_for

TABLES = """
CREATE TABLE patients(id TEXT PRIMARY KEY, name TEXT);
CREATE TABLE "visit ""x"" 🩺"("select" TEXT PRIMARY KEY, patient_id TEXT, room TEXT COLLATE NOCASE UNIQUE, k_1 TEXT, "START" ANY, note TEXT COLLATE NOCASE)
  WITHOUT ROWID;
CREATE INDEX i ON "visit ""x"" 🩺"(patient_id);
INSERT INTO patients VALUES('p1', 'Ada'), ('p2', 'Bo');
INSERT INTO "visit ""x"" 🩺" VALUES('v1', 'p1', 'r1', 'k', 1, 'a'), ('v2', 'p2', 'r2', 'k', 2, 'b');
"""
VISITS = 'visit "x" 🩺'
QUOTED = '"visit ""x"" 🩺"'
CONFIG = PlanConfig(
    (
        ScopeConfig(
            "caseload",
            {VISITS: TableConfig((LinkConfig(parent="patients", on={"patient_id": "id"}),), where="room <> 'secret'")},
            root="patients",
            grant="SELECT :sub",
        ),
    )
)


@dataclass
class Lab:
    source: SqliteSource
    host: sqlite3.Connection
    plan: Plan
    connections: list[sqlite3.Connection]

    def checkpoint(self) -> Checkpoint | None:
        return drive(self.source.take_checkpoint("t"))

    def news(self, patient: str, after: int = 0) -> tuple[dict[str, str], set[str]]:
        """(rows put, keys removed) of the visits in a patient's bucket."""
        cut = drive(
            self.source.read_cut("d", {"sub": patient}, frozenset({f'caseload["{patient}"]'}), ("t", after), 0, None)
        )
        entries = [each for each in cut.entries if each.table == VISITS]
        puts = {key: row for each in entries for key, row in zip(each.keys, each.rows, strict=True)}
        return puts, {key for each in entries for key in each.removed}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    host = sqlite3.connect(tmp_path / "clinic.db", isolation_level=None)
    host.executescript(TABLES)
    connections: list[sqlite3.Connection] = []
    source = SqliteSource(tmp_path / "clinic.db", inline=True, prepare=connections.append)
    plan = drive(plan_for(source, CONFIG))
    drive(source.provision(plan))
    drive(source.attach(plan))
    assert drive(source.begin_term("t"))
    yield Lab(source, host, plan, connections)
    drive(source.close())
    host.close()


def test_insert_or_replace_tells_of_the_row_that_it_removed_unseen(lab: Lab) -> None:
    lab.host.execute(f"INSERT OR REPLACE INTO {QUOTED} VALUES('v3', 'p1', 'R2', 'k', 3, 'c')")
    lab.checkpoint()
    assert lab.news("p1")[0] == {'["v3"]': '["v3","p1","R2","k",3,"c"]'}
    assert lab.news("p2")[1] == {'["v2"]'}


def test_update_or_replace_tells_of_the_row_that_it_removed_unseen(lab: Lab) -> None:
    lab.host.execute(f"UPDATE OR REPLACE {QUOTED} SET room = 'r2' WHERE \"select\" = 'v1'")
    lab.checkpoint()
    assert set(lab.news("p1")[0]) == {'["v1"]'}
    assert lab.news("p2")[1] == {'["v2"]'}


def test_an_upsert_is_an_update(lab: Lab) -> None:
    lab.host.execute(
        f"INSERT INTO {QUOTED} VALUES('v1', 'p1', 'r1', 'k', 1, 'x') ON CONFLICT DO UPDATE SET patient_id = 'p2'"
    )
    lab.checkpoint()
    assert lab.news("p1")[1] == {'["v1"]'}
    assert set(lab.news("p2")[0]) == {'["v1"]'}


def test_a_change_of_case_is_a_change_where_the_collation_sees_none(lab: Lab) -> None:
    """P16."""
    lab.host.execute(f"UPDATE {QUOTED} SET note = 'A' WHERE \"select\" = 'v1'")
    lab.checkpoint()
    assert lab.news("p1")[0] == {'["v1"]': '["v1","p1","r1","k",1,"A"]'}


def test_a_statement_that_changes_nothing_is_no_news(lab: Lab) -> None:
    lab.host.execute(f"UPDATE {QUOTED} SET note = note, room = room")
    assert lab.checkpoint() is None


def test_a_rollback_journal_is_kept_if_asked(tmp_path: Path) -> None:
    host = sqlite3.connect(tmp_path / "clinic.db", isolation_level=None)
    host.executescript(TABLES)
    source = SqliteSource(tmp_path / "clinic.db", inline=True, journal="keep")
    drive(source.provision(drive(plan_for(source, CONFIG))))
    assert host.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    drive(source.close())
    host.close()


def test_deprovisioning_gives_the_journal_mode_back(tmp_path: Path) -> None:
    """P15."""
    path = tmp_path / "clinic.db"
    host = sqlite3.connect(path, isolation_level=None)
    host.executescript(TABLES)
    host.close()
    source = SqliteSource(path, inline=True)
    drive(source.provision(drive(plan_for(source, CONFIG))))
    assert drive(source.deprovision())
    drive(source.close())
    host = sqlite3.connect(path)
    assert host.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert not [name for name in tmp_path.iterdir() if name.name != "clinic.db"]
    host.close()


def test_no_statement_of_a_checkpoint_scans_a_table_of_the_companys(lab: Lab) -> None:
    """Every step of a path is a lookup by an index: what a checkpoint costs follows what changed, not what is there."""
    statements: list[tuple[sqlite3.Connection, str]] = []
    for connection in lab.connections:
        connection.set_trace_callback(lambda text, by=connection: statements.append((by, text)))
    lab.host.execute(f"UPDATE {QUOTED} SET patient_id = 'p2' WHERE \"select\" = 'v1'")
    lab.host.execute("UPDATE patients SET id = 'p9' WHERE id = 'p2'")
    assert lab.checkpoint()
    for connection in lab.connections:
        connection.set_trace_callback(None)
    scans = []
    for connection, statement in statements:
        if re.match(r"\s*(SELECT|WITH|INSERT|DELETE)", statement) and "?" not in statement:
            for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}"):
                if re.match(r"SCAN (t$|t |patients|visit)", row[3]):
                    scans.append((row[3], statement[:200]))
    assert len(statements) > 20 and not scans


def test_a_filter_on_a_column_that_ignores_case_takes_rows_away(lab: Lab) -> None:
    """P8: old values are compared as the table compares them."""
    lab.host.execute(f"UPDATE {QUOTED} SET room = 'SECRET' WHERE \"select\" = 'v1'")
    lab.checkpoint()
    assert lab.news("p1")[1] == {'["v1"]'}
    lab.host.execute(f"UPDATE {QUOTED} SET room = 'open' WHERE \"select\" = 'v1'")
    lab.checkpoint()
    assert set(lab.news("p1")[0]) == {'["v1"]'}


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("id TEXT COLLATE NOCASE PRIMARY KEY", "collation NOCASE"),
        ("id TEXT", "no primary key"),
        ("a TEXT, id TEXT AS (a) STORED NOT NULL UNIQUE", "computed"),
    ],
)
def test_a_key_that_devices_could_not_use_is_refused(tmp_path: Path, column: str, reason: str) -> None:
    host = sqlite3.connect(tmp_path / "clinic.db")
    host.execute(f"CREATE TABLE t({column})")
    host.close()
    source = SqliteSource(tmp_path / "clinic.db", inline=True)
    table = drive(source.introspect()).table("t")
    assert reason in table.refusal and table.remedy
    drive(source.close())


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("json_extract(note, '$.x') = 1", "filter_function"),
        ("room = (SELECT max(room) FROM patients)", "filter_query"),
        ("room = nothing_like_it", "query_fails"),
    ],
)
def test_a_filter_that_could_fail_or_looks_elsewhere_is_refused(lab: Lab, where: str, code: str) -> None:
    """P18: one row that a filter cannot judge would stop the checkpoints of all."""
    with pytest.raises(ConfigError) as refused:
        drive(lab.source.reads_of_filter(VISITS, where))
    assert refused.value.error_code == code


def test_a_trigger_that_somebody_dropped_makes_every_device_download_the_table_anew(lab: Lab) -> None:
    """P1: it is put back; what was written meanwhile is not missed."""
    lab.host.execute(f'DROP TRIGGER "syncline_update_{VISITS.replace(chr(34), chr(34) * 2)}"')
    lab.host.execute(f"UPDATE {QUOTED} SET note = 'unseen'")
    drive(lab.source.end_term("t"))
    drive(lab.source.provision(lab.plan))
    drive(lab.source.attach(lab.plan))
    assert drive(lab.source.begin_term("t2"))
    taken = drive(lab.source.take_checkpoint("t2"))
    assert taken and VISITS in taken.raised


def test_a_note_of_what_stands_in_the_way_scans_no_table(tmp_path: Path) -> None:
    """P15: a host's INSERT costs a lookup per unique index, also by an index on an expression or a part of the rows."""
    host = sqlite3.connect(tmp_path / "clinic.db", isolation_level=None)
    host.executescript(
        "CREATE TABLE t(id TEXT PRIMARY KEY, a TEXT COLLATE NOCASE UNIQUE, b TEXT, c TEXT);"
        "CREATE UNIQUE INDEX u ON t(lower(b), c COLLATE NOCASE) WHERE c IS NOT NULL;"
    )
    source = SqliteSource(tmp_path / "clinic.db", inline=True)
    table = drive(source.introspect()).table("t")
    drive(source.close())
    for probe in probes_of(table, table.key):
        where = re.sub(r'(?i)new\.("\w+"|rowid)', "?1", probe.where)
        rows = re.sub(r'(?i)new\.("\w+")', "?1", probe.rows)
        plan = [row[3] for row in host.execute(f"EXPLAIN QUERY PLAN SELECT t.id FROM {rows} WHERE {where}", ("x",))]
        assert any(step.startswith("SEARCH t ") for step in plan) and "SCAN t" not in plan, plan
    host.close()


@pytest.mark.parametrize(
    ("sql", "terms", "where"),
    [
        ("CREATE UNIQUE INDEX i ON t(a)", ("a",), ""),
        (
            'CREATE UNIQUE INDEX "o(n" ON "t,(" ( "a,b" DESC , lower(x || \'),(\') asc)',
            ('"a,b"', "lower(x || '),(')"),
            "",
        ),
        ("CREATE UNIQUE INDEX i ON t(a COLLATE NOCASE DESC) WHERE b IN (1, 2)", ("a COLLATE NOCASE",), "b IN (1, 2)"),
        ("CREATE UNIQUE INDEX i ON t(a -- one, two\n, [b)]) where(c)", ("a", "[b)]"), "(c)"),
    ],
)
def test_what_an_index_is_on_is_read_from_its_statement(sql: str, terms: tuple[str, ...], where: str) -> None:
    assert index_parts(sql) == (terms, where)


def test_a_foreign_key_to_what_is_not_there_is_none(tmp_path: Path) -> None:
    """SQLite takes it, and one such table must not hide all others."""
    host = sqlite3.connect(tmp_path / "clinic.db")
    host.execute("CREATE TABLE p(id TEXT PRIMARY KEY)")
    host.execute("CREATE TABLE t(id TEXT PRIMARY KEY, a REFERENCES gone(id), b REFERENCES p(gone), c REFERENCES P)")
    host.close()
    source = SqliteSource(tmp_path / "clinic.db", inline=True)
    table = drive(source.introspect()).table("t")
    drive(source.close())
    assert [(key.columns, key.table, key.references) for key in table.foreign_keys] == [(("c",), "p", ("id",))]


def test_deprovisioning_leaves_the_companys_table_of_nearly_our_name(lab: Lab) -> None:
    """P15: SQLite's LIKE takes no notice of case."""
    lab.host.execute("CREATE TABLE Syncline_Notes(id TEXT PRIMARY KEY)")
    lab.host.execute("INSERT INTO Syncline_Notes VALUES('kept')")
    drive(lab.source.end_term("t"))
    assert drive(lab.source.deprovision())
    assert lab.host.execute("SELECT id FROM Syncline_Notes").fetchall() == [("kept",)]
    assert not lab.host.execute("SELECT name FROM sqlite_schema WHERE name GLOB 'syncline_*'").fetchall()
