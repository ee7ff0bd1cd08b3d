"""Long downloads: pages that are staged, resumed after whatever break, while the app works on (P2, P6)."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.replica.messages import BUCKET, Bench, put
from tests.replica.paging import Paging
from tests.replica.staging import (
    count,
    lines,
    long_download,
    nothing_is_staged,
    reopened,
    three_pages,
    visits,
)

from syncline.replica import cut as cut_module
from syncline.replica.file import ReplicaFile

pytestmark = pytest.mark.usefixtures("placing")


# ---------------------------------------------------------------- breaks
def test_a_first_sync_goes_on_where_the_line_broke(bench: Bench, app: sqlite3.Connection) -> None:
    server = three_pages(bench)
    server.receive(server.answer()[:6])  # begin, stage, page, progress, two frames of the second page
    bench.file.abandon()
    assert count(app, "visits") == 0 and bench.file.progress is None
    assert bench.file.download_request()["stage"]["token"] == "1"
    resumed = server.answer()
    assert resumed[0]["stage"] == "resume" and len(resumed) == 1 + 3 + 2 + 2
    applied = server.receive(resumed)
    assert applied is not None and applied.is_first and applied.rows_put == 43
    assert [row[0] for row in bench.rows("visits")] == list(range(35)) and len(bench.rows("lines")) == 3
    assert bench.file.state().cursor == "term.2" and nothing_is_staged(bench)
    assert bench.file.download_request()["stage"] is None


def test_a_first_sync_goes_on_in_another_process_hours_later(bench: Bench, open_files: list[ReplicaFile]) -> None:
    server = three_pages(bench)
    server.run(pages_max=1)
    server.bench = again = reopened(bench, open_files)
    server.receive(server.answer()[:3])
    server.bench = again = reopened(again, open_files)
    assert server.run() is not None
    assert len(again.rows("visits")) == 35 and nothing_is_staged(again)
    with closing(again.file.connect()) as db:
        db.execute("UPDATE visits SET status = 'done' WHERE id = 30")
        db.commit()
    assert again.brief() == [(1, "U", 30, {"status": ("done", "planned")})]


CHILD = """
import sys
from tests.replica.messages import Bench, plan_of
from tests.replica.conftest import VISITS, LINES
from tests.replica.staging import long_download
from syncline.model.program import build_program
from syncline.replica.file import ReplicaFile
bench = Bench(ReplicaFile(sys.argv[1]), build_program(plan_of(VISITS, LINES)))
bench.hello()
for frame in long_download(bench).answer():
    bench.file.receive(frame)
    if frame["t"] == "progress":
        print(frame["token"], flush=True)
"""


def test_a_device_that_is_killed_in_the_middle_goes_on(
    tmp_path: Path, open_files: list[ReplicaFile], bench: Bench
) -> None:
    """P2, P6: kill -9, without a chance to tidy up."""
    path = tmp_path / "killed.db"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    seen = [child.stdout.readline() for _ in range(30)]
    child.kill()
    child.wait()
    child.stdout.close()
    open_files.append(ReplicaFile(path))
    again = Bench(open_files[-1], bench.program)
    server = long_download(again)
    assert int(again.file.download_request()["stage"]["token"]) >= int(seen[-1]) == 30
    assert again.rows("visits") == []
    server.pages = server.pages[: int(again.file.download_request()["stage"]["token"]) + 3]
    server.run(pages_max=2)
    assert server.run() is not None
    assert [row[0] for row in again.rows("visits")] == list(range(50 * len(server.pages)))
    assert again.file.store.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_pause_lets_the_device_ask_again(bench: Bench) -> None:
    server = three_pages(bench)
    for _ in range(2):
        assert server.run(pages_max=1) is None
        assert bench.file.progress is None and bench.file.state().cursor is None
    assert server.run() is not None and len(bench.rows("visits")) == 35


def test_progress_counts_from_the_beginning(bench: Bench) -> None:
    server = three_pages(bench)
    server.run(pages_max=2)
    server.receive(server.answer()[:1])
    assert bench.file.progress == (23, 100, 230)


def test_an_answer_to_an_earlier_page_is_left_aside(bench: Bench) -> None:
    """Rule 18: a page that comes twice would bring back what a later one replaced."""
    server = Paging(bench, [BUCKET], [[visits(0, 3, note="old")], [visits(0, 3, note="new")], []])
    first = server.answer(pages_max=1)
    server.receive(first)
    second, whole = server.answer(pages_max=1), server.answer()
    server.receive(second)
    for late in (first, second, whole):
        assert server.receive(late) is None
        assert bench.file.download_request()["stage"]["token"] == "2"
    server.run()
    assert {row[4] for row in bench.rows("visits")} == {"new"}


def test_a_full_disk_loses_nothing(bench: Bench, app: sqlite3.Connection) -> None:
    server = Paging(bench, [BUCKET], [[visits(n * 100, 100, note="x" * 500)] for n in range(10)])
    db = bench.file.store.connection
    server.run(pages_max=1)
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages + 30}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        server.run()
    token = int(bench.file.download_request()["stage"]["token"])
    assert 1 <= token < 10 and count(app, "visits") == 0
    db.execute("PRAGMA max_page_count = 1000000")
    assert server.run() is not None and len(bench.rows("visits")) == 1_000


def test_a_page_larger_than_memory_allows_is_put_aside(
    bench: Bench, app: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cut_module, "MEMORY_ROWS_MAX", 12)
    bench.cut(lines(2))
    server = Paging(bench, [BUCKET], [[visits(0), lines(9), visits(5), lines(8)]], [visits(10), lines(7), visits(12)])
    server.reset = False
    server.receive(server.answer()[:6])
    assert count(app, "syncline_stage") > 0
    bench.file.abandon()
    assert count(app, "syncline_stage") == 0 and bench.file.download_request()["stage"] is None
    server.run()
    assert len(bench.rows("visits")) == 22 and len(bench.rows("lines")) == 9 and nothing_is_staged(bench)


# ---------------------------------------------------------------- what the app does meanwhile
def test_the_app_works_on_while_a_first_sync_runs(bench: Bench, app: sqlite3.Connection) -> None:
    """P4, P10: what it writes into the empty tables stays, pending, over what comes."""
    server = three_pages(bench)
    server.run(pages_max=1)
    app.execute("INSERT INTO visits (id, patient) VALUES (5, 'mine'), (99, 'mine')")
    app.execute("UPDATE visits SET note = 'later' WHERE id = 99")
    server.run(pages_max=1)
    assert [row[0] for row in bench.rows("visits")] == [5, 99]
    server.run()
    assert [row[0] for row in bench.rows("visits")] == [*range(35), 99]
    assert bench.rows("visits")[5] == (5, "mine", "new", None, None)
    assert [(each["op"], each["key"]) for each in bench.mutations()] == [("I", [5]), ("I", [99]), ("U", [99])]
    assert nothing_is_staged(bench)
    bench.cut(visits(5, 1), included=3)
    assert [row[0] for row in bench.rows("visits")] == list(range(35))


def test_a_row_that_was_written_and_deleted_again_stays_deleted(bench: Bench, app: sqlite3.Connection) -> None:
    server = three_pages(bench)
    server.run(pages_max=1)
    app.execute("INSERT INTO visits (id) VALUES (5)")
    app.execute("DELETE FROM visits WHERE id = 5")
    server.run()
    assert 5 not in [row[0] for row in bench.rows("visits")] and len(bench.mutations()) == 2


def test_indexes_and_triggers_of_the_app_survive_a_first_sync(bench: Bench, app: sqlite3.Connection) -> None:
    app.execute("CREATE INDEX own_index ON visits (note)")
    app.execute("CREATE VIEW own_view AS SELECT v.id, l.label FROM visits v JOIN lines l ON l.b = v.id")
    app.execute("CREATE TABLE own (id INTEGER)")
    app.execute("CREATE TRIGGER own_lines AFTER INSERT ON lines BEGIN INSERT INTO own VALUES (NEW.b); END")
    fresh = app.execute("SELECT type, name, tbl_name FROM sqlite_schema ORDER BY 1, 2").fetchall()
    reader = app.execute("SELECT count(*) FROM visits")
    assert reader.fetchone() == (0,)
    three_pages(bench).run()
    assert app.execute("SELECT type, name, tbl_name FROM sqlite_schema ORDER BY 1, 2").fetchall() == fresh
    assert app.execute("SELECT count(*) FROM visits").fetchone() == (35,)
    assert app.execute("SELECT id FROM own ORDER BY 1").fetchall() == [(0,), (1,), (2,)]
    assert app.execute("SELECT count(*) FROM own_view").fetchone() == (3,)
    plan = app.execute("EXPLAIN QUERY PLAN SELECT id FROM visits WHERE patient = 'p-1'").fetchall()
    assert "syncline_index_visits_0" in plan[0][3]
    app.execute("INSERT INTO lines VALUES ('b', 1, 'mine')")
    app.execute("DELETE FROM visits WHERE id = 3")
    assert [each["op"] for each in bench.mutations()] == ["I", "D"]


def test_a_reader_of_the_apps_sees_all_or_nothing(bench: Bench, app: sqlite3.Connection) -> None:
    """P6: an open transaction keeps its view, the next one has everything."""
    app.execute("BEGIN")
    assert count(app, "visits") == 0
    three_pages(bench).run()
    assert count(app, "visits") == 0 and count(app, "lines") == 0
    app.execute("COMMIT")
    assert count(app, "visits") == 35 and count(app, "lines") == 3


def test_uploads_are_answered_by_the_end_of_a_long_download(bench: Bench, app: sqlite3.Connection) -> None:
    server = three_pages(bench)
    server.run(pages_max=1)
    app.execute("INSERT INTO visits (id, patient) VALUES (99, 'mine')")
    server.included = 1
    server.last.append(put("visits", (99, "mine", "new", None, None)))
    applied = server.run()
    assert applied is not None and applied.newly_included == 1 and bench.mutations() == []
    assert bench.rows("visits")[-1] == (99, "mine", "new", None, None)
