"""A server whose program wants more than a program may: it is refused, the app's own tables are as they were, what
waits still waits, and the status says why."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.replica.messages import Bench, put
from tests.replica.office import Office as FakeOffice
from tests.replica.office import execute, until

from syncline import ProtocolError, Replica
from syncline.model.program import Program, program_hash
from syncline.replica.file import ReplicaFile

Change = Callable[[dict[str, Any]], object]
CANARY = "canary-of-the-app"
OWN = (
    "CREATE TABLE own (id INTEGER PRIMARY KEY AUTOINCREMENT, secret TEXT)",
    f"INSERT INTO own (secret) VALUES ('{CANARY}')",
    "CREATE VIEW own_view AS SELECT secret FROM own",
    "CREATE TRIGGER own_visits AFTER UPDATE ON visits BEGIN UPDATE own SET id = id; END",
)
"""The trigger's name is the cover that a part of a query would take."""


def changed(program: Program, change: Change) -> Program:
    """The program with something of the attacker's in it, and the hash that fits it."""
    document = json.loads(json.dumps(program.dump()))
    change(document)
    document["hash"] = program_hash(document)
    return Program.load(document)


def view(sql: str) -> Change:
    return lambda document: document["views"].append(sql)


def trigger(sql: str) -> Change:
    return lambda document: document["tables"]["visits"]["ddl"]["triggers"].append(sql)


def table(sql: str) -> Change:
    return lambda document: document["tables"]["visits"]["ddl"].update(table=sql)


def session(sql: Any) -> Change:
    return lambda document: document["session"].append(sql)


def extra_table(name: str, ddl: str) -> Change:
    def change(document: dict[str, Any]) -> None:
        spec = json.loads(json.dumps(document["tables"]["lines"]))
        spec["ddl"]["table"] = ddl
        document["tables"][name] = spec

    return change


VISITS = 'CREATE TABLE "visits" ("id" INTEGER, "patient" TEXT, "status" TEXT, "count" INTEGER, "note"'

WANTED: dict[str, Change] = {
    "attach": view("ATTACH 'other.db' AS other"),
    "attach a memory": session("ATTACH ':memory:' AS other"),
    "detach": view("DETACH main"),
    "pragma": view("PRAGMA writable_schema = ON"),
    "pragma of keys": session("PRAGMA foreign_keys = OFF"),
    "vacuum into": view("VACUUM INTO 'copy.db'"),
    "reads own": view(f"CREATE TABLE syncline_x AS SELECT secret FROM own /* {CANARY[:0]} */"),
    "reads the catalogue": view("CREATE TABLE syncline_x AS SELECT sql FROM sqlite_master"),
    "a copy in the session": session("CREATE TEMP TABLE syncline_x AS SELECT secret FROM own"),
    "writes the catalogue": view("DELETE FROM sqlite_master"),
    "writes the counters": view("UPDATE sqlite_sequence SET seq = 0"),
    "drops own": view("DROP TABLE own"),
    "alters own": view("ALTER TABLE own ADD COLUMN x"),
    "renames own": view("ALTER TABLE own RENAME TO syncline_own"),
    "deletes from own": view("DELETE FROM own"),
    "a table of no name of ours": view("CREATE TABLE other (x)"),
    "an index on own": view("CREATE INDEX syncline_index_x ON own (secret)"),
    "a unique index on own": view("CREATE UNIQUE INDEX syncline_index_x ON own ((1))"),
    "a trigger on own": view("CREATE TRIGGER syncline_x AFTER INSERT ON own BEGIN SELECT 1; END"),
    "a temporary trigger": session("CREATE TEMP TRIGGER syncline_x AFTER INSERT ON visits BEGIN SELECT 1; END"),
    "a trigger on our state": trigger(
        "CREATE TRIGGER syncline_x AFTER UPDATE ON syncline_state BEGIN DELETE FROM own; END"
    ),
    "a trigger on our bookkeeping": view(
        "CREATE TRIGGER syncline_x AFTER DELETE ON syncline_stage BEGIN DELETE FROM own; END"
    ),
    "a trigger instead of a view": view(
        "CREATE TRIGGER syncline_x INSTEAD OF INSERT ON syncline_pending BEGIN DELETE FROM own; END"
    ),
    "a trigger's body": trigger("CREATE TRIGGER syncline_x AFTER INSERT ON visits BEGIN DELETE FROM own; END"),
    "a trigger's condition": trigger(
        "CREATE TRIGGER syncline_x AFTER INSERT ON visits WHEN (SELECT secret FROM own) > '' BEGIN SELECT 1; END"
    ),
    "a trigger that copies": trigger(
        "CREATE TRIGGER syncline_x AFTER UPDATE ON visits BEGIN UPDATE visits SET note = (SELECT secret FROM own); END"
    ),
    "a trigger that writes a program": trigger(
        "CREATE TRIGGER syncline_x AFTER INSERT ON visits BEGIN "
        "INSERT INTO syncline_program VALUES ('retired_1_own', 'h', '{}'); END"
    ),
    "a view on own": view("CREATE VIEW syncline_x AS SELECT secret FROM own; SELECT * FROM syncline_x"),
    "a synced view on own": extra_table("spy", "CREATE VIEW spy AS SELECT id AS a, secret AS b, secret AS label FROM own"),
    "a foreign key to own": table(VISITS + ', FOREIGN KEY ("id") REFERENCES own (id))'),
    "a check that calls": table(VISITS + " CHECK (load_extension('x')))"),
    "a default that calls": table(VISITS + " DEFAULT (readfile('/etc/passwd')))"),
    "a virtual table": table("CREATE VIRTUAL TABLE visits USING fts5(id, patient, status, count, note)"),
    "load_extension": view("SELECT load_extension('x')"),
    "writefile": trigger("CREATE TRIGGER syncline_x AFTER INSERT ON visits BEGIN SELECT writefile('x', 'y'); END"),
    "fts3_tokenizer": trigger("CREATE TRIGGER syncline_x AFTER INSERT ON visits BEGIN SELECT fts3_tokenizer('x'); END"),
    "an endless query": trigger(
        "CREATE TRIGGER syncline_x AFTER INSERT ON visits BEGIN "
        "INSERT INTO lines WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) SELECT i, i, i FROM c; END"
    ),
    "a part of a query that is called like a trigger of the app's": trigger(
        "CREATE TRIGGER syncline_x AFTER UPDATE ON visits BEGIN "
        "UPDATE visits SET note = (WITH own_visits AS (SELECT secret FROM own) SELECT secret FROM own_visits); END"
    ),
    "a part of a view": view("CREATE VIEW syncline_x AS SELECT * FROM (SELECT secret FROM own) AS own_visits"),
    "a trigger on a column that is not there yet": trigger(
        'CREATE TRIGGER "syncline_x" AFTER UPDATE OF "later" ON "visits" BEGIN DELETE FROM own; END'
    ),
    "a trigger among the views": view('CREATE TRIGGER "syncline_x" AFTER INSERT ON "visits" BEGIN SELECT 1; END'),
    "the catalogue as a table": extra_table("sqlite_master", "CREATE TABLE syncline_x (a, b, label)"),
    "a table of ours": extra_table("syncline_program", "CREATE TABLE syncline_x (a, b, label)"),
    "a function as a table": extra_table("pragma_table_info", "CREATE TABLE syncline_x (a, b, label)"),
    "ends the transaction": view("COMMIT"),
    "begins another": view("SAVEPOINT x"),
    "two statements": view("CREATE VIEW syncline_x AS SELECT 1; DELETE FROM own"),
    "half a text": view("CREATE VIEW syncline_x AS SELECT 1\0; DELETE FROM own"),
    "hides our state": session('CREATE TEMP TABLE "syncline_state" (seq, included, applying, grp)'),
    "hides a synced table": session('CREATE TEMP TABLE "visits" (id)'),
    "hides an outbox": session('CREATE TEMP TABLE "syncline_outbox_visits" (seq)'),
    "takes the name of another table's outbox": view('CREATE TABLE "syncline_outbox_drafts" (x)'),
    "takes the name of another table's index": view('CREATE INDEX "syncline_key_drafts" ON "syncline_outbox_visits" (k0)'),
    "a column of the app's that is not there yet": trigger(
        'CREATE TRIGGER "syncline_x" AFTER UPDATE ON "visits" BEGIN UPDATE visits SET note = '
        '(SELECT "diary" FROM visits AS v WHERE v.id = NEW.id) WHERE id = NEW.id; END'
    ),
    "no text": session(5),
    "no SQL": view("CREATE VIEW syncline_x AS SELEC"),
}  # fmt: skip


def look(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as db:
        schema = "SELECT type, name, sql FROM sqlite_schema WHERE name LIKE 'own%' ORDER BY name"
        return [
            db.execute(sql).fetchall()
            for sql in (schema, "SELECT * FROM own", "SELECT * FROM sqlite_sequence WHERE name = 'own'")
        ]


@pytest.mark.parametrize("what", WANTED)
def test_a_program_that_wants_too_much_is_refused_and_everything_is_as_it_was(
    bench: Bench, app: sqlite3.Connection, what: str
) -> None:
    """P4, P19: over a program that works, with work waiting; afterwards the old one goes on."""
    for statement in OWN:
        app.execute(statement)
    bench.cut(put("visits", (1, "p", "s", 0, None)))
    app.execute("UPDATE visits SET status = 'mine' WHERE id = 1")
    before, rows, waiting = look(bench.file.path), bench.rows("visits"), bench.brief()
    good = bench.program
    bench.program = changed(good, WANTED[what])
    with pytest.raises(ProtocolError) as refused:
        bench.hello()
    assert refused.value.error_code in ("program_refused", "bad_program")
    assert CANARY not in str(refused.value)
    bench.program = good
    bench.hello()
    assert look(bench.file.path) == before
    assert (bench.rows("visits"), bench.brief()) == (rows, waiting)
    bench.cut(put("visits", (2, "p", "s", 0, None)))
    assert [row[0] for row in bench.rows("visits")] == [1, 2]


USED: dict[str, str] = {
    "deletes own": "DELETE FROM own",
    "reads own": "SELECT secret, 1, 1, 1, 1 FROM own",
    "reads a view of the app's": "SELECT secret FROM own_view",
    "reads the catalogue": "SELECT sql FROM sqlite_master",
    "writes the catalogue": "UPDATE sqlite_master SET sql = ''",
    "writes the counters": "UPDATE sqlite_sequence SET seq = 99",
    "a pragma as a table": "SELECT * FROM pragma_table_info('own')",
    "attaches": "ATTACH 'x.db' AS x",
    "a pragma": "PRAGMA writable_schema = 1",
    "drops": "DROP TABLE own",
    "defines": "CREATE TABLE syncline_x (a)",
    "commits": "COMMIT",
    "writes a program": "INSERT INTO syncline_program VALUES ('retired_0_own', 'h', '{}')",
    "loads": "SELECT load_extension('x')",
    "reads own by another name": "WITH own_visits AS (SELECT secret FROM own) SELECT secret, 1, 1, 1 FROM own_visits",
    "reads own inside": "SELECT * FROM (SELECT secret FROM own) AS own_visits",
    "never ends": "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) SELECT i FROM c",
    "a column of the app's that is not there yet": 'SELECT "diary", 1, 1, 1, 1 FROM visits',
    "no SQL": "SELEC",
    "another number of parameters": "SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9",
}


@pytest.mark.parametrize("name", ["upsert", "pending", "look_key", "read_outbox"])
@pytest.mark.parametrize("what", USED)
def test_a_statement_that_does_something_else_is_refused_when_it_is_used(
    bench: Bench, app: sqlite3.Connection, what: str, name: str
) -> None:
    """P4, P19: nothing of the cut is applied, nothing that waits is lost; the next program heals it."""
    for statement in OWN:
        app.execute(statement)
    bench.cut(put("visits", (1, "p", "s", 0, None)))
    app.execute("UPDATE visits SET status = 'mine' WHERE id = 1")
    before, rows = look(bench.file.path), bench.rows("visits")
    good = bench.program
    bench.program = changed(
        good, lambda document: document["tables"]["visits"]["statements"].update({name: USED[what]})
    )
    with pytest.raises(ProtocolError) as refused:
        bench.hello()
        bench.cut(
            put("visits", (2, "p", "s", 0, None)), {"t": "remove", "table": "visits", "bucket": "b", "keys": [[9]]}
        )
        bench.file.offer_again()
        bench.file.upload_request()
    assert refused.value.error_code in ("program_refused", "bad_program", "bad_value")
    assert CANARY not in str(refused.value)
    bench.program = good
    bench.hello()
    assert look(bench.file.path) == before
    assert bench.rows("visits")[0] == rows[0] and len(bench.brief()) == 1


def test_the_status_says_that_the_program_is_not_to_be_trusted(tmp_path: Path) -> None:
    """P2: and when the server has a good one again, the device goes on by itself."""
    office = FakeOffice()
    good = office.program
    office.program = changed(good, WANTED["a trigger's body"])
    path = tmp_path / "nurse.db"
    with Replica(path, "https://sync.example.org", "token", transport=office) as replica:
        for statement in OWN[:2]:
            execute(path, statement)
        replica.start()
        until(lambda: replica.status.reason == "program_refused")
        with pytest.raises(ProtocolError, match="no program may"):
            replica.sync(timeout=20)
        office.program = good
        replica.sync(timeout=20)
        assert execute(path, "SELECT id FROM visits") == [(1,)]
        assert execute(path, "SELECT secret FROM own") == [(CANARY,)]


def test_a_file_is_not_made_unusable_by_a_program_that_cannot_begin(
    bench: Bench, open_files: list[ReplicaFile]
) -> None:
    """P4: what each opening of the file would run is tried before it is kept."""
    bench.program = changed(bench.program, session("CREATE TEMP TABLE syncline_x (a) nonsense"))
    with pytest.raises(ProtocolError):
        bench.hello()
    bench.file.close()
    open_files.remove(bench.file)
    open_files.append(ReplicaFile(bench.file.path))
    assert open_files[-1].store.program is not None
