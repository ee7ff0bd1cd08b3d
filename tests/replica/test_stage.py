"""Long downloads: pages that are staged, resumed after whatever break, and applied in one transaction (P2, P6, P9)."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.replica.messages import BUCKET, Bench, drop, put, remove
from tests.replica.paging import Paging

from syncline.errors import ProtocolError
from syncline.model.program import Program, program_hash
from syncline.replica import cut as cut_module
from syncline.replica.file import ReplicaFile

OURS = ("syncline_stage", "syncline_job", "syncline_job_bucket")


def visits(first: int, count: int = 10, bucket: str = BUCKET, note: str | None = None) -> dict[str, Any]:
    return put("visits", *((n, f"p-{n % 3}", "planned", 0, note) for n in range(first, first + count)), bucket=bucket)


def lines(count: int, bucket: str = BUCKET) -> dict[str, Any]:
    return put("lines", *(("a", number, "x") for number in range(count)), bucket=bucket)


def three_pages(bench: Bench) -> Paging:
    return Paging(bench, [BUCKET], [[visits(0)], [visits(10), lines(3)], [visits(20)]], last=[visits(25, 10)])


def count(db: sqlite3.Connection, table: str) -> int:
    return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def reopened(bench: Bench, open_files: list[ReplicaFile]) -> Bench:
    bench.file.close()
    open_files.remove(bench.file)
    open_files.append(ReplicaFile(bench.file.path))
    again = Bench(open_files[-1], bench.program)
    again.checkpoint = bench.checkpoint
    return again


def nothing_is_staged(bench: Bench) -> bool:
    db = bench.file.store.connection
    loads = db.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'syncline\\_load%' ESCAPE '\\'").fetchall()
    return not loads and not any(count(db, name) for name in OURS)


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
from tests.replica.test_stage import long_download
from syncline.model.program import build_program
from syncline.replica.file import ReplicaFile
bench = Bench(ReplicaFile(sys.argv[1]), build_program(plan_of(VISITS, LINES)))
bench.hello()
for frame in long_download(bench).answer():
    bench.file.receive(frame)
    if frame["t"] == "progress":
        print(frame["token"], flush=True)
"""


def long_download(bench: Bench) -> Paging:
    return Paging(bench, [BUCKET], [[visits(number * 50, 50), visits(number * 50, 5)] for number in range(2_000)])


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


# ---------------------------------------------------------------- buckets that come and go
def test_a_bucket_that_is_revoked_in_the_middle_leaves_no_trace(bench: Bench, app: sqlite3.Connection) -> None:
    """P9: what was staged of it goes from every byte, though nothing is applied yet."""
    canary = "canary-of-patient-12"
    bench.cut(lines(2, "b[2]"))
    both = put("visits", (1, "p", "s", 0, "kept"), (2, "p", "s", 0, canary), bucket="b[1]")
    both |= {"buckets": ["b[1]", "b[2]"], "of": [[0, 1], 0]}
    mixed = put("lines", ("a", 7, "kept"), ("a", 8, canary), bucket="b[1]")
    mixed |= {"buckets": ["b[2]", "b[1]"], "of": [0, [1]]}
    server = Paging(bench, ["b[1]"], [[both, visits(10, 5, "b[1]", canary), mixed], [visits(20, 1, "b[2]")]])
    server.reset, server.lost = False, {2: ["b[1]"]}
    server.run(pages_max=1)
    assert canary.encode() in bytes_of(bench)
    server.receive(server.answer()[:3])
    assert canary.encode() not in bytes_of(bench)
    server.run()
    assert [row[0] for row in bench.rows("visits")] == [1, 20]
    assert [row[:2] for row in bench.rows("lines")] == [("a", 0), ("a", 1), ("a", 7)]
    assert app.execute("SELECT name FROM syncline_bucket").fetchall() == [("b[2]",)]


def bytes_of(bench: Bench) -> bytes:
    return b"".join(path.read_bytes() for path in bench.file.path.parent.iterdir() if path.name.startswith("replica"))


def test_a_revocation_meanwhile_drops_at_once_and_the_rest_goes_on(bench: Bench, app: sqlite3.Connection) -> None:
    bench.cut(visits(0, 3, "a[1]"), visits(3, 3, "a[2]"))
    server = Paging(bench, ["b[1]"], [[visits(50, 5, "b[1]"), visits(3, 2, "a[2]", "new")], [visits(60, 5, "b[1]")]])
    server.reset = False
    server.run(pages_max=1)
    state = bench.file.state()
    bench.file.receive({"t": "begin", "apply_count": state.apply_count, "reset": False, "stage": "keep"})
    bench.file.receive(drop("a[2]"))
    kept = {"cursor": state.cursor, "checkpoint": 1, "buckets": {"add": []}, "included": 0, "time": 5, "more": True}
    applied = bench.file.receive({"t": "commit", "apply_count": state.apply_count, **kept})
    assert applied is not None and applied.rows_removed == 3 and applied.buckets_dropped == 1
    assert [row[0] for row in bench.rows("visits")] == [0, 1, 2]
    assert bench.file.state().cursor == "term.1" and bench.file.download_request()["stage"]["token"] == "1"
    server.run()
    assert [row[0] for row in bench.rows("visits")] == [0, 1, 2, *range(50, 55), *range(60, 65)]
    assert app.execute("SELECT name FROM syncline_bucket ORDER BY 1").fetchall() == [("a[1]",), ("b[1]",)]


def test_a_revocation_does_not_end_a_first_sync(bench: Bench) -> None:
    server = three_pages(bench)
    server.run(pages_max=1)
    count_before = bench.file.state().apply_count
    bench.file.receive({"t": "begin", "apply_count": count_before, "stage": "keep"})
    bench.file.receive(drop("a[2]"))
    kept = {"cursor": None, "checkpoint": 9, "buckets": {}, "included": 0, "time": 5, "more": True}
    bench.file.receive({"t": "commit", "apply_count": count_before, **kept})
    assert not bench.file.state().synced and bench.file.state().cursor is None
    applied = server.run()
    assert applied is not None and applied.is_first and bench.file.state().synced


def test_a_bucket_that_is_missing_from_the_commit_is_not_held(bench: Bench, app: sqlite3.Connection) -> None:
    pages = [[visits(0, 5, "b[1]"), visits(10, 5, "b[2]")]]
    server = Paging(bench, ["b[1]", "b[2]"], pages, last=[lines(3, "b[2]")])
    *frames, commit = server.answer()
    commit["buckets"]["add"] = ["b[1]"]
    server.receive([*frames, commit])
    assert [row[0] for row in bench.rows("visits")] == list(range(5)) and bench.rows("lines") == []
    assert app.execute("SELECT name FROM syncline_bucket").fetchall() == [("b[1]",)]


def test_rows_of_two_buckets_stay_while_one_of_them_holds_them(bench: Bench) -> None:
    pages = [[visits(0, 5, "b[1]")], [visits(3, 5, "b[2]", "second")], [remove("visits", (3,), (7,), bucket="b[2]")]]
    server = Paging(bench, ["b[1]", "b[2]"], [*pages, [remove("visits", (0,), bucket="b[1]")]])
    server.run()
    assert [(row[0], row[4]) for row in bench.rows("visits")] == [
        *((1, None), (2, None), (3, "second")),
        *((4, "second"), (5, "second"), (6, "second")),
    ]
    bench.cut(drop("b[2]"))
    assert [row[0] for row in bench.rows("visits")] == [1, 2, 3, 4]


@pytest.mark.parametrize("pages", [[], [[]]])
def test_what_was_staged_gives_way_to_another_download(
    bench: Bench, app: sqlite3.Connection, pages: list[list[dict[str, Any]]]
) -> None:
    three_pages(bench).run(pages_max=2)
    bench.cut(visits(70, 2))  # without `stage`: the server no longer knows of pages
    assert [row[0] for row in bench.rows("visits")] == [70, 71] and nothing_is_staged(bench)
    server = Paging(bench, ["b[1]"], [[visits(80, 2, "b[1]")], [visits(82, 2, "b[1]")]], reset=False)
    server.run(pages_max=1)
    fresh = Paging(bench, ["b[2]"], pages, [visits(90, 2, "b[2]")], reset=False)
    fresh.receive(fresh.answer(anew=True))
    assert [row[0] for row in bench.rows("visits")] == [70, 71, 90, 91] and nothing_is_staged(bench)
    assert app.execute("SELECT name FROM syncline_bucket ORDER BY 1").fetchall() == [(BUCKET,), ("b[2]",)]


def test_a_server_that_resolves_no_digest_is_given_the_names(bench: Bench) -> None:
    server = Paging(bench, ["b[2]", "b[1]"], [[visits(0, 5, "b[1]")], []])
    server.run(pages_max=1)
    assert bench.file.download_request()["stage"]["buckets"] is None
    asked = bench.file.download_request(with_buckets=True)
    assert asked["stage"]["buckets"] == ["b[1]", "b[2]"] and asked["buckets"] == []


# ---------------------------------------------------------------- replace
@pytest.mark.parametrize("is_paged", [True, False])
def test_replace_takes_away_what_does_not_come_again(bench: Bench, app: sqlite3.Connection, is_paged: bool) -> None:
    """Rule 19 for the keys that come and for those that do not."""
    bench.cut(visits(0, 6, "a[1]"), visits(5, 1, "a[2]"), lines(2, "a[1]"))
    app.execute("UPDATE visits SET status = 'done' WHERE id IN (1, 4)")
    app.execute("DELETE FROM visits WHERE id = 2")
    frames = [
        {"t": "replace", "table": "visits", "buckets": ["a[1]"]},
        put("visits", (0, "p", "moved", 0, None), (1, "p", "moved", 0, None), (2, "p", "s", 0, None), bucket="a[1]"),
        put("visits", (8, "p", "s", 0, None), bucket="a[1]"),
    ]
    if is_paged:
        Paging(bench, [], [frames[:2]], frames[2:], reset=False).run()
    else:
        bench.cut(*frames)
    assert [(row[0], row[2]) for row in bench.rows("visits")] == [
        *((0, "moved"), (1, "done"), (4, "done")),
        *((5, "planned"), (8, "s")),
    ]
    assert len(bench.rows("lines")) == 2 and [each["key"] for each in bench.mutations()] == [[1], [4], [2]]
    assert app.execute("SELECT count(*) FROM syncline_held_visits WHERE k0 IN (3, 4)").fetchone() == (0,)


def test_a_table_that_is_replaced_twice_in_one_download(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    replace = {"t": "replace", "table": "visits", "buckets": [BUCKET]}
    server = Paging(bench, [BUCKET], [[visits(0, 5)], [replace, visits(3, 3)], [visits(7, 1)]])
    server.run()
    assert [row[0] for row in bench.rows("visits")] == [3, 4, 5, 7]


# ---------------------------------------------------------------- what makes no sense
@pytest.mark.parametrize(
    "frames",
    [
        [{"t": "progress", "token": "1", "rows": 1, "bytes": 1}],
        [{"t": "begin", "apply_count": 1, "stage": "backwards"}],
        [{"t": "begin", "apply_count": "?", "stage": "new"}],
    ],
)
def test_frames_that_make_no_sense_change_nothing(bench: Bench, frames: list[dict[str, Any]]) -> None:
    bench.file.receive({"t": "begin", "apply_count": 0, "reset": False})
    with pytest.raises(ProtocolError):
        for frame in frames:
            bench.file.receive(frame)
    bench.cut(visits(0, 1))
    assert len(bench.rows("visits")) == 1


def test_going_on_with_what_is_not_staged_is_refused(bench: Bench) -> None:
    begin = {"t": "begin", "apply_count": bench.file.state().apply_count, "reset": True, "stage": "resume"}
    with pytest.raises(ProtocolError, match="not staged"):
        bench.file.receive(begin)


@pytest.mark.parametrize("bad", [[1, "p", "s", 2**70, None], [1, "p"], [1, "p", {"x": 1}, 0, None]])
def test_a_page_that_cannot_be_applied_is_not_asked_for_again(bench: Bench, bad: list[Any]) -> None:
    """P2, P19: else a device would stumble over it for ever."""
    server = Paging(bench, [BUCKET], [[visits(0)], [{**visits(5, 1), "rows": [bad]}]])
    server.run(pages_max=1)
    with pytest.raises(ProtocolError):
        server.run()
    assert bench.file.download_request()["stage"] is None and nothing_is_staged(bench)
    assert three_pages(bench).run() is not None


def test_a_new_program_keeps_the_cursor_and_throws_away_what_is_staged(
    bench: Bench, make_bench: Callable[..., Bench]
) -> None:
    bench.cut(visits(0, 3))
    server = Paging(bench, ["b[1]"], [[visits(5, 3, "b[1]"), lines(3, "b[1]")], []], reset=False)
    server.run(pages_max=1)
    late = server.answer()
    bench.program = make_bench(name="other.db").program
    bench.hello()
    assert bench.file.state().cursor == "term.1" and bench.file.download_request()["stage"] is None
    server.receive(late)
    assert len(bench.rows("visits")) == 3 and nothing_is_staged(bench)


def test_a_file_of_before_there_were_tables_to_load_into_stages_frames(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(name="old.db")
    document = json.loads(json.dumps(bench.program.dump()))
    for table in document["tables"].values():
        del table["ddl"]["load"]
        table["statements"] = {n: sql for n, sql in table["statements"].items() if not n.startswith("load")}
    document["hash"] = program_hash(document)
    bench.program = Program.load(document)
    bench.hello()
    server = three_pages(bench)
    server.run(pages_max=2)
    assert count(bench.file.store.connection, "syncline_stage") == 3
    assert server.run() is not None
    assert len(bench.rows("visits")) == 35 and len(bench.rows("lines")) == 3 and nothing_is_staged(bench)


@pytest.mark.parametrize("statement", ["CREATE TABLE own (secret)", "DROP TABLE own", "DELETE FROM own"])
def test_a_program_loads_into_no_table_of_the_apps(make_bench: Callable[..., Bench], statement: str) -> None:
    """P19."""
    bench = make_bench()
    bench.file.store.connection.execute("CREATE TABLE IF NOT EXISTS own (secret)")
    document = json.loads(json.dumps(bench.program.dump()))
    document["tables"]["visits"]["ddl"]["load"]["load"] = statement.replace("TABLE own (", "TABLE other (")
    document["hash"] = program_hash(document)
    bench.program = Program.load(document)
    with pytest.raises(ProtocolError, match="no program may"):
        bench.hello()
