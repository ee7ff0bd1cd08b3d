"""Programs: what one may do, and putting a new one over an old one with work pending."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.replica.conftest import LINES, VISITS
from tests.replica.messages import Bench, outcome, plan_of, put
from tests.replica.staging import bytes_of

from syncline.errors import ConfigError, ProtocolError, ReplicaError
from syncline.model.program import Program, build_program, program_hash
from syncline.model.schema import Column, Index, Table
from syncline.replica.file import ReplicaFile
from syncline.replica.records import read_rejections


def changed(program: Program, change: Callable[[dict[str, Any]], None]) -> Program:
    document = json.loads(json.dumps(program.dump()))
    change(document)
    document["hash"] = program_hash(document)
    return Program.load(document)


# ---------------------------------------------------------------- the document
def test_a_program_is_the_same_for_the_same_plan() -> None:
    one, other = build_program(plan_of(VISITS, LINES)), build_program(plan_of(LINES, VISITS))
    assert one.hash == other.hash and Program.load(json.loads(json.dumps(one.dump()))).tables == one.tables


def test_a_damaged_program_is_refused() -> None:
    document = json.loads(json.dumps(build_program(plan_of(VISITS)).dump()))
    document["tables"]["visits"]["columns"].append("more")
    with pytest.raises(ProtocolError, match="hash"):
        Program.load(document)


def test_a_table_of_our_own_name_cannot_sync() -> None:
    with pytest.raises(ConfigError, match="ours"):
        build_program(plan_of(Table("Syncline_x", (Column("id", "TEXT"),), ("id",))))


def test_types_defaults_keys_and_indexes(make_bench: Callable[..., Bench]) -> None:
    """Columns as the source declares them, and nothing that could stop a device."""
    table = Table(
        "odd",
        (
            Column("id", "INTEGER", not_null=True),
            Column("v", "VARCHAR(20)", not_null=True, default="'it''s'"),
            Column("n", "DECIMAL(10, 2)", default="-1.5"),
            Column("d", "START", default="CURRENT_TIMESTAMP"),
            Column("e", "default", default="(random())"),
            Column("g", "INT GENERATED ALWAYS", generated=True),
        ),
        ("id",),
        indexes=(Index("u", ("v", "n"), unique=True), Index("own", ("id",))),
    )
    bench = make_bench(table)
    db = bench.file.store.connection
    (sql,) = db.execute("SELECT sql FROM sqlite_schema WHERE name = 'odd'").fetchone()
    assert sql == (
        'CREATE TABLE "odd" ("id" INT, "v" VARCHAR(20) DEFAULT \'it\'\'s\', "n" DECIMAL(10, 2) DEFAULT -1.5, '
        '"d" "START" DEFAULT CURRENT_TIMESTAMP, "e" "default", "g" INT, PRIMARY KEY ("id"))'
    )
    assert db.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'odd' AND sql IS NOT NULL"
    ).fetchall() == [("syncline_index_odd_0",)]
    bench.cut(put("odd", ("not a number", "same", 1, 1, 1, 1), (2, "same", 1, 1, 1, 1)))
    assert len(bench.rows("odd")) == 2


# ---------------------------------------------------------------- the guard
@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH 'other.db' AS other",
        "PRAGMA writable_schema = ON",
        "DELETE FROM own",
        "SELECT secret FROM own",
        "SELECT load_extension('x')",
        "DROP TABLE own",
        "CREATE TABLE other (x)",
        "CREATE TRIGGER syncline_x AFTER INSERT ON own BEGIN SELECT 1; END",
        "CREATE VIEW other AS SELECT 1",
        "VACUUM INTO 'copy.db'",
    ],
)
def test_a_program_touches_nothing_of_the_apps(statement: str, tmp_path: Path, open_files: list[ReplicaFile]) -> None:
    file = ReplicaFile(tmp_path / "replica.db")
    open_files.append(file)
    file.store.connection.execute("CREATE TABLE own (secret)")
    program = changed(build_program(plan_of(VISITS)), lambda document: document["views"].append(statement))
    with pytest.raises((ProtocolError, sqlite3.Error)):
        Bench(file, program).hello()
    tables = file.store.connection.execute("SELECT name FROM sqlite_schema WHERE name IN ('visits', 'own')").fetchall()
    assert tables == [("own",)] and file.store.program is None


def test_a_triggers_body_is_looked_at(tmp_path: Path, open_files: list[ReplicaFile]) -> None:
    file = ReplicaFile(tmp_path / "replica.db")
    open_files.append(file)
    file.store.connection.execute("CREATE TABLE own (secret)")
    trigger = "CREATE TRIGGER syncline_spy AFTER INSERT ON visits BEGIN DELETE FROM own; END"
    program = changed(
        build_program(plan_of(VISITS)), lambda document: document["tables"]["visits"]["ddl"]["triggers"].append(trigger)
    )
    with pytest.raises(ProtocolError, match="no program may"):
        Bench(file, program).hello()


def test_statements_are_tried_before_they_are_used(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    bench.file.store.connection.execute("CREATE TABLE own (secret)")
    bench.program = changed(
        bench.program, lambda document: document["tables"]["visits"]["statements"].update(upsert="DELETE FROM own")
    )
    with pytest.raises(ProtocolError, match="no such table: own"):
        bench.hello()


def test_an_apps_trigger_on_a_synced_table_may_do_what_it_likes(bench: Bench, app: sqlite3.Connection) -> None:
    app.execute("CREATE TABLE own (id)")
    app.execute("CREATE TRIGGER own_index AFTER INSERT ON visits BEGIN INSERT INTO own VALUES (NEW.id); END")
    bench.cut(put("visits", (1, "p", "s", 0, None)))
    assert app.execute("SELECT * FROM own").fetchall() == [(1,)]


def test_an_apps_table_is_never_taken_for_a_synced_one(tmp_path: Path, open_files: list[ReplicaFile]) -> None:
    file = ReplicaFile(tmp_path / "replica.db")
    open_files.append(file)
    file.store.connection.execute("CREATE TABLE Visits (mine)")
    with pytest.raises(ReplicaError, match="app's own"):
        Bench(file, build_program(plan_of(VISITS))).hello()
    assert file.store.connection.execute("SELECT count(*) FROM visits").fetchone() == (0,)


def test_a_program_that_needs_a_newer_sqlite_is_refused(tmp_path: Path, open_files: list[ReplicaFile]) -> None:
    file = ReplicaFile(tmp_path / "replica.db")
    open_files.append(file)
    program = changed(build_program(plan_of(VISITS)), lambda document: document.update(sqlite_min="99.0.0"))
    with pytest.raises(ReplicaError, match="needs SQLite 99"):
        Bench(file, program).hello()


# ---------------------------------------------------------------- a new program
WIDER = Table(
    "visits",
    (Column("id", "INTEGER"), Column("added", "TEXT"), *VISITS.columns[1:4]),  # `note` is gone, `added` is new
    ("id",),
    generated_key=True,
)


def test_pending_work_is_carried_over(bench: Bench, app: sqlite3.Connection) -> None:
    """P20, P4: rows stay visible, numbers and ids stay; what was written into a column that is gone waits for a person."""
    bench.cut(put("visits", (1, "p-1", "planned", 5, "n"), (2, "p-2", "planned", 0, None)))
    app.execute("UPDATE visits SET status = 'done', note = 'mine' WHERE id = 1")
    app.execute("UPDATE visits SET note = 'only the note' WHERE id = 1")
    app.execute("INSERT INTO lines VALUES ('a', 1, 'x')")
    before = bench.mutations()
    app.execute("CREATE TABLE own (id)")
    app.execute("CREATE TRIGGER own_visits AFTER UPDATE ON visits BEGIN INSERT INTO own VALUES (NEW.id); END")
    bench.program = build_program(plan_of(WIDER, LINES, merge={"visits": {"count": "add"}}))
    bench.hello()
    assert bench.rows("visits") == [(1, None, "p-1", "done", 5), (2, None, "p-2", "planned", 0)]
    after = bench.mutations()
    assert [(each["n"], each["id"]) for each in after] == [(each["n"], each["id"]) for each in before]
    assert [each["columns"] for each in after] == [["status"], [], ["label"]]
    kept = [(each["operation"], each["code"], each["values"]) for each in read_rejections(bench.file.store.connection)]
    assert kept == [("update", "column", {"note": "mine"}), ("update", "column", {"note": "only the note"})]
    assert bench.file.state().cursor == "term.1"
    app.execute("UPDATE visits SET added = 'now' WHERE id = 1")
    assert app.execute("SELECT * FROM own").fetchall() == [(1,)]
    applied = bench.cut(put("visits", (1, "server", "p-1", "planned", 9)), reset=True)
    assert applied and applied.rejected == 2
    assert bench.rows("visits") == [(1, "now", "p-1", "done", 9)]


def test_a_table_that_syncs_no_longer_keeps_its_numbers(bench: Bench, app: sqlite3.Connection) -> None:
    """Numbers are contiguous: the server has to answer for each."""
    app.execute("INSERT INTO lines VALUES ('a', 1, 'x')")
    app.execute("INSERT INTO visits (id) VALUES (1)")
    bench.program = build_program(plan_of(VISITS))
    bench.hello()
    assert app.execute("SELECT name FROM sqlite_schema WHERE name = 'lines'").fetchall() == []
    assert [(each["n"], each["table"]) for each in bench.mutations()] == [(1, "lines"), (2, "visits")]
    bench.cut(outcome(1, "rejected", "lines", ("a", 1), "unknown_table"), included=1, reset=True)
    assert [each["n"] for each in bench.mutations()] == [2]
    assert app.execute("SELECT table_name, code FROM syncline_rejections").fetchall() == [("lines", "unknown_table")]
    assert app.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'syncline_retired%'").fetchall() == []
    bench.program = build_program(plan_of(VISITS, LINES))
    bench.hello()
    assert bench.rows("lines") == []


def test_a_table_with_another_key_is_another_table(bench: Bench, app: sqlite3.Connection) -> None:
    app.execute("INSERT INTO lines VALUES ('a', 1, 'x')")
    bench.program = build_program(plan_of(VISITS, Table("lines", LINES.columns, ("label",))))
    bench.hello()
    app.execute("INSERT INTO lines VALUES ('b', 2, 'y')")
    assert [(each["n"], each["key"]) for each in bench.mutations()] == [(1, ["a", 1]), (2, ["y"])]
    bench.cut(put("lines", ("b", 2, "y")), included=2, reset=True)
    assert bench.rows("lines") == [("b", 2, "y")]


@pytest.mark.parametrize("tables", [(WIDER, LINES), (LINES,)], ids=["a column", "a table"])
def test_what_a_program_no_longer_has_leaves_every_byte(
    bench: Bench, app: sqlite3.Connection, tables: tuple[Table, ...]
) -> None:
    """P9: a column that was hidden, a table that syncs no longer; at once, whether or not a cut follows."""
    canary = "canary-of-patient-12"
    bench.cut(put("visits", *((number, "p", "s", 0, canary) for number in range(50))))
    assert canary.encode() in bytes_of(bench)
    bench.program = build_program(plan_of(*tables))
    app.execute("BEGIN")
    app.execute("SELECT count(*) FROM lines").fetchall()
    bench.hello()
    assert bench.file.state().purge_pending, "an old reader holds it back"
    app.execute("COMMIT")
    assert bench.file.purge() and not bench.file.state().purge_pending
    assert canary.encode() not in bytes_of(bench)


def test_a_program_that_takes_nothing_away_asks_for_no_purge(bench: Bench, app: sqlite3.Connection) -> None:
    bench.cut(put("visits", (1, "p", "s", 0, "n")))
    app.execute("BEGIN")
    app.execute("SELECT count(*) FROM lines").fetchall()
    added = Table("lines", (*LINES.columns, Column("more", "TEXT")), LINES.key)
    bench.program = build_program(plan_of(VISITS, added))
    bench.hello()
    assert not bench.file.state().purge_pending
    app.execute("COMMIT")


def test_a_failed_install_changes_nothing(bench: Bench, app: sqlite3.Connection) -> None:
    bench.cut(put("visits", (1, "p", "s", 0, None)))
    app.execute("UPDATE visits SET status = 'done'")
    good = bench.program
    bench.program = changed(
        build_program(plan_of(WIDER)), lambda document: document["views"].append("SELECT * FROM nowhere")
    )
    with pytest.raises(ProtocolError, match="program"):
        bench.hello()
    bench.program = good
    bench.hello()
    assert bench.rows("visits") == [(1, "p", "done", 0, None)] and len(bench.mutations()) == 1


def test_a_file_opened_again_knows_its_program(bench: Bench, open_files: list[ReplicaFile]) -> None:
    bench.cut(put("visits", (1, "p", "s", 0, None)))
    bench.file.close()
    open_files.clear()
    again = ReplicaFile(bench.file.path)
    open_files.append(again)
    assert again.store.program is not None and again.store.program.hash == bench.program.hash
    with closing(again.connect()) as db:
        assert db.execute("SELECT status FROM visits").fetchone() == ("s",)


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database, but long enough to look at " * 10)
    with pytest.raises(ReplicaError, match="not an SQLite database"):
        ReplicaFile(tmp_path / "notes.txt")
