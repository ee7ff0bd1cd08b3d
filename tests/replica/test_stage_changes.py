"""Long downloads whose buckets come and go, tables that are replaced, and pages that make no sense (P1, P9, P18)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from tests.replica.messages import BUCKET, Bench, drop, put, remove
from tests.replica.paging import Paging
from tests.replica.staging import (
    bytes_of,
    count,
    lines,
    nothing_is_staged,
    three_pages,
    visits,
)

from syncline.errors import ProtocolError
from syncline.model.program import Program, program_hash

pytestmark = pytest.mark.usefixtures("placing")


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


def test_what_moved_away_before_the_end_leaves_no_trace(bench: Bench, app: sqlite3.Connection) -> None:
    """P9: of what a page brought and a later one took back, at the download's end."""
    canary = "canary-of-patient-12"
    left = remove("visits", *((number,) for number in range(10, 15)), bucket="b[1]")
    server = Paging(bench, ["b[1]"], [[visits(10, 5, "b[1]", canary)], [left], [visits(20, 1, "b[1]")]])
    server.run(pages_max=1)
    assert canary.encode() in bytes_of(bench)
    server.run()
    assert [row[0] for row in bench.rows("visits")] == [20]
    assert canary.encode() not in bytes_of(bench) and not bench.file.state().purge_pending


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
