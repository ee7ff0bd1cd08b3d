"""What the app itself puts beside the synced tables, and on them, lives through syncs, new programs and wipes."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from tests.replica.conftest import LINES, VISITS
from tests.replica.messages import Bench, plan_of, put, remove
from tests.replica.staging import three_pages

from syncline.model.program import build_program
from syncline.model.schema import Column, Table
from syncline.replica.wipe import wipe_file
from syncline.values import decode_value

pytestmark = pytest.mark.usefixtures("placing")

ROW = (1, "p-1", "planned", 5, "n")
WIDER = Table("visits", (*VISITS.columns, Column("room", "TEXT")), ("id",), generated_key=True)


def widen(bench: Bench) -> None:
    """The office has a column more: the table is made anew."""
    bench.program = build_program(plan_of(WIDER, LINES, merge={"visits": {"count": "add"}}))
    bench.hello()


@pytest.fixture
def drafts(bench: Bench, app: sqlite3.Connection) -> sqlite3.Connection:
    """A table of the app's own that points at a synced one, with an index, a view and a trigger."""
    bench.cut(put("visits", ROW))
    app.executescript("""
        PRAGMA foreign_keys = ON;
        CREATE TABLE drafts (id INTEGER PRIMARY KEY, visit_id INTEGER REFERENCES visits(id), body TEXT);
        CREATE TABLE opened (visit_id INTEGER, status TEXT);
        CREATE INDEX own_drafts ON drafts(visit_id);
        CREATE INDEX own_patient ON visits(patient, status);
        CREATE VIEW own_today AS SELECT visits.id, body FROM visits JOIN drafts ON visit_id = visits.id;
        CREATE TRIGGER own_opened AFTER UPDATE ON visits BEGIN INSERT INTO opened VALUES (NEW.id, NEW.status); END;
        INSERT INTO drafts VALUES (1, 1, 'half a sentence');
    """)
    return app


def names(app: sqlite3.Connection) -> set[str]:
    return {name for (name,) in app.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'own%'")}


EVERYTHING = {"own_drafts", "own_patient", "own_today", "own_opened"}


def test_local_tables_live_through_syncs_and_new_programs(bench: Bench, drafts: sqlite3.Connection) -> None:
    """P4, P20."""
    bench.cut(put("visits", (1, "p-1", "done", 5, "n")))
    widen(bench)
    bench.cut(put("visits", (*ROW, "r-1")), reset=True)
    assert names(drafts) == EVERYTHING
    assert drafts.execute("SELECT * FROM own_today").fetchall() == [(1, "half a sentence")]
    assert drafts.execute("SELECT * FROM opened").fetchall() == [(1, "done"), (1, "planned")]
    drafts.execute("INSERT INTO drafts VALUES (2, 1, 'another')")
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        drafts.execute("INSERT INTO drafts VALUES (3, 99, 'of nobody')")
    assert bench.mutations() == [], "nothing of it leaves the device"


def test_a_row_that_leaves_takes_no_local_row_along(bench: Bench, drafts: sqlite3.Connection) -> None:
    """The agent enforces no foreign keys: what the nurse wrote for herself stays, with nothing to point at."""
    bench.cut(remove("visits", (1,)))
    assert drafts.execute("SELECT visit_id, body FROM drafts").fetchall() == [(1, "half a sentence")]
    assert drafts.execute("PRAGMA foreign_key_check").fetchall() == [("drafts", 1, "visits", 0)]


def test_a_wipe_leaves_the_apps_own_tables(bench: Bench, drafts: sqlite3.Connection) -> None:
    """P9: what the office gave goes, with all that hangs on it; what it never had stays."""
    bench.file.wipe("dismissed")
    assert drafts.execute("SELECT body FROM drafts").fetchall() == [("half a sentence",)]
    assert names(drafts) == {"own_drafts", "own_today"}
    with pytest.raises(sqlite3.OperationalError, match=r"no such table: main\.visits"):
        drafts.execute("SELECT * FROM own_today")
    assert drafts.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_for_the_next_user_of_the_file_they_are_whole_again(bench: Bench, drafts: sqlite3.Connection) -> None:
    """`replace_user`: the file is emptied of what was the office's, and filled for somebody else."""
    wipe_file(bench.file.store, None)
    bench.hello(user="nurse-18")
    bench.cut(put("visits", (1, "p-9", "new", 0, None)))
    assert drafts.execute("SELECT * FROM own_today").fetchall() == [(1, "half a sentence")]
    drafts.execute("INSERT INTO drafts VALUES (2, 1, 'another')")
    assert drafts.execute("PRAGMA foreign_key_check").fetchall() == []


# ---------------------------------------------------------------- UNIQUE
def test_two_rows_that_swap_a_value_do_not_stop_the_device(bench: Bench, app: sqlite3.Connection) -> None:
    """P2: the app declared what the office's database never promised in between."""
    bench.cut(put("visits", ROW, (2, "p-2", "planned", 0, None)))
    app.execute("CREATE UNIQUE INDEX own_unique ON visits (patient) WHERE patient IS NOT NULL")
    bench.cut(put("visits", (1, "p-2", "planned", 5, "n"), (2, "p-1", "planned", 0, None)))
    assert [row[1] for row in bench.rows("visits")] == ["p-2", "p-1"]
    (sql,) = app.execute("SELECT sql FROM sqlite_schema WHERE name = 'own_unique'").fetchone()
    assert sql == "CREATE INDEX own_unique ON visits (patient) WHERE patient IS NOT NULL"


def test_a_row_that_an_own_unique_index_removed_comes_back(bench: Bench, app: sqlite3.Connection) -> None:
    """P1, P4: SQLite tells nobody which row INSERT OR REPLACE took away; the office still has it."""
    bench.cut(put("visits", ROW, (2, "p-2", "planned", 0, None)))
    app.execute("CREATE UNIQUE INDEX own_unique ON visits (patient)")
    app.execute("INSERT OR REPLACE INTO visits (id, patient) VALUES (3, 'p-1')")
    assert [row[0] for row in bench.rows("visits")] == [2, 3]
    assert bench.cut(put("visits", (2, "p-2", "done", 0, None))) is None, "made for a file that had all its rows"
    assert bench.file.state().cursor is None
    bench.cut(put("visits", ROW, (2, "p-2", "done", 0, None)), reset=True)
    assert [row[:3] for row in bench.rows("visits")] == [(1, "p-1", "planned"), (2, "p-2", "done"), (3, "p-1", "new")]
    assert [each[:3] for each in bench.brief()] == [(1, "I", 3)]


def test_rows_that_the_app_deleted_are_not_missing(bench: Bench, app: sqlite3.Connection) -> None:
    bench.cut(put("visits", ROW, (2, "p-2", "planned", 0, None)))
    app.execute("CREATE UNIQUE INDEX own_unique ON visits (patient)")
    app.execute("DELETE FROM visits WHERE id = 1")
    assert bench.cut(put("visits", (2, "p-2", "done", 0, None))) is not None
    assert [row[0] for row in bench.rows("visits")] == [2]


# ---------------------------------------------------------------- columns
def test_a_column_of_the_apps_own_stays_on_the_device(bench: Bench, app: sqlite3.Connection) -> None:
    """P4, P20: it is never uploaded, and neither a row from the office nor a new program empties it."""
    bench.cut(put("visits", ROW))
    app.execute("ALTER TABLE visits ADD COLUMN is_open INTEGER NOT NULL DEFAULT 0")
    app.execute('ALTER TABLE visits ADD COLUMN "it\'s mine" TEXT')
    app.execute("UPDATE visits SET is_open = 1, \"it's mine\" = 'x'")
    assert bench.mutations() == []
    bench.cut(put("visits", (1, "p-1", "done", 6, "n")))
    app.execute("UPDATE visits SET status = 'late', is_open = 2")
    assert bench.brief() == [(1, "U", 1, {"status": ("late", "done")})]
    widen(bench)
    bench.cut(put("visits", (1, "p-1", "done", 6, "n", "r-1"), (2, "p-2", "new", 0, None, None)), reset=True)
    kept = 'SELECT id, status, room, is_open, "it\'s mine" FROM visits ORDER BY id'
    assert app.execute(kept).fetchall() == [(1, "late", "r-1", 2, "x"), (2, "new", None, 0, None)]


def test_a_column_of_the_apps_own_is_there_before_the_first_row(bench: Bench, app: sqlite3.Connection) -> None:
    """A long first sync makes its tables aside, without it, and puts them in the place of the empty ones otherwise."""
    app.execute("ALTER TABLE visits ADD COLUMN is_open INTEGER NOT NULL DEFAULT 7")
    app.execute("CREATE UNIQUE INDEX own_unique ON visits (status)")
    three_pages(bench).run()
    assert app.execute("SELECT count(*), sum(is_open) FROM visits").fetchone() == (35, 35 * 7)
    (sql,) = app.execute("SELECT sql FROM sqlite_schema WHERE name = 'own_unique'").fetchone()
    assert sql == "CREATE INDEX own_unique ON visits (status)"


def test_a_column_that_the_office_now_has_too_is_the_offices(bench: Bench, app: sqlite3.Connection) -> None:
    bench.cut(put("visits", ROW))
    app.execute("ALTER TABLE visits ADD COLUMN Room TEXT DEFAULT 'mine'")
    widen(bench)
    bench.cut(put("visits", (*ROW, "r-1")), reset=True)
    assert bench.rows("visits") == [(*ROW, "r-1")]


# ---------------------------------------------------------------- reading, then writing
def test_a_read_that_turns_into_a_write_fails_at_once_and_loses_nothing(bench: Bench, app: sqlite3.Connection) -> None:
    """However long the busy timeout is: what was read is old by now. With BEGIN IMMEDIATE it is not."""
    bench.cut(put("visits", ROW))
    app.execute("PRAGMA busy_timeout = 600000")
    app.execute("BEGIN")
    app.execute("SELECT count FROM visits").fetchone()
    bench.cut(put("visits", (1, "p-1", "planned", 7, "n")))
    with pytest.raises(sqlite3.OperationalError, match="database is locked"):
        app.execute("UPDATE visits SET count = 6")
    app.execute("ROLLBACK")
    app.execute("BEGIN IMMEDIATE")
    (count,) = app.execute("SELECT count FROM visits").fetchone()
    app.execute("UPDATE visits SET count = ?", (count + 1,))
    app.execute("COMMIT")
    assert bench.brief() == [(1, "U", 1, {"count": (8, 7)})]


# ---------------------------------------------------------------- values
@pytest.mark.parametrize(
    "value", [0.1 + 0.2, 5e-324, 1.7976931348623157e308, 2.0**60 + 1, b"\0\xff\xfe", b"", "a\0b", 2**63 - 1]
)
def test_a_value_leaves_the_device_as_it_is(value: Any, bench: Bench, app: sqlite3.Connection) -> None:
    """P16: 17 digits, bytes that are no text, the largest integer: by the triggers, the upload and the way back."""
    app.execute("INSERT INTO visits (id, note) VALUES (1, ?)", (value,))
    sent = decode_value(bench.brief()[0][-1]["note"][0])
    assert (type(sent), sent) == (type(value), value)
    bench.cut(put("visits", (1, None, "new", None, sent)), included=1)
    assert repr(bench.rows("visits")[0][-1]) == repr(value)


@pytest.mark.parametrize("how", ["AS (status || '!') VIRTUAL", "TEXT DEFAULT 'mine'"])
def test_columns_of_the_apps_own_live_through_the_first_long_download(
    bench: Bench, app: sqlite3.Connection, how: str
) -> None:
    """P4: also those that are computed."""
    app.execute(f"ALTER TABLE visits ADD COLUMN own {how}")
    three_pages(bench).run()
    assert app.execute("SELECT count(own), count(*) FROM visits").fetchone() == (35, 35)


@pytest.mark.parametrize("when", ["hello", "cut"])
def test_triggers_of_ours_that_somebody_dropped_are_put_back(
    bench: Bench, app: sqlite3.Connection, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P3, P4: by a tool that made the table anew, say."""
    bench.cut(put("visits", ROW))
    app.executescript("""
        CREATE TABLE anew AS SELECT * FROM visits;
        DROP TABLE visits;
        CREATE TABLE visits (id INTEGER PRIMARY KEY, patient TEXT, status TEXT, count INTEGER, note);
        INSERT INTO visits SELECT * FROM anew;
    """)
    app.execute("UPDATE visits SET status = 'lost' WHERE id = 1")
    assert bench.brief() == []
    bench.hello() if when == "hello" else bench.cut(put("visits", (2, "p-1", "planned", 5, "n")))
    assert "changes of visits were not recorded" in caplog.text
    app.execute("UPDATE visits SET status = 'done' WHERE id = 1")
    app.execute("INSERT INTO visits (id, patient) VALUES (9, 'p-2')")
    app.execute("DELETE FROM visits WHERE id = 9")
    assert len(bench.brief()) == 3
    caplog.clear()
    bench.hello()
    assert not caplog.text
