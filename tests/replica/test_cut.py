"""Collecting a cut: what is staged, what is thrown away, and that nothing shows before it is whole (P6)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.replica.messages import BUCKET, Bench, encoded, plan_of, put, remove

from syncline.errors import ProtocolError, ServerError
from syncline.model.program import build_program
from syncline.model.schema import Column, Index, Table
from syncline.protocol import frames
from syncline.replica import cut as cut_module
from syncline.replica.cut import Frame
from syncline.replica.file import ReplicaFile, WipedError
from syncline.values import RawText, Value


def many(first: int, count: int) -> dict[str, Any]:
    return put("visits", *((number, f"p-{number % 7}", "planned", 0, None) for number in range(first, first + count)))


def packed(frame: dict[str, Any]) -> Frame:
    return Frame(frame, frames.pack(frames.dump(frame), frames.GZIP))


@pytest.mark.parametrize("wrap", [dict, packed])
def test_a_large_cut_waits_in_the_file_and_holds_no_lock(
    bench: Bench,
    app: sqlite3.Connection,
    monkeypatch: pytest.MonkeyPatch,
    wrap: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    monkeypatch.setattr(cut_module, "MEMORY_ROWS_MAX", 100)
    file = bench.file
    file.receive({"t": "begin", "apply_count": file.state().apply_count, "reset": True, "rows": 3000})
    for start in range(0, 3000, 60):
        file.receive(wrap(many(start, 60)))
        assert len(file._collector.cut.tail.frames) <= 2  # type: ignore[union-attr]
        if start == 1200:
            app.execute("INSERT INTO lines VALUES ('a', 1, 'while it comes in')")
    assert app.execute("SELECT count(*) FROM syncline_stage").fetchone()[0] > 10
    assert app.execute("SELECT count(*) FROM visits").fetchone() == (0,)
    assert file.progress is not None and file.progress[:2] == (3000, 3000)
    applied = file.receive(
        {
            "t": "commit",
            "cursor": "term.1",
            "checkpoint": 1,
            "buckets": {"add": [BUCKET]},
            "included": 0,
            "time": 1,
            "apply_count": file.state().apply_count,
            "more": False,
        }
    )
    assert applied is not None and applied.rows_put == 3000
    assert app.execute("SELECT count(*) FROM visits").fetchone() == (3000,)
    assert app.execute("SELECT count(*) FROM syncline_stage").fetchone() == (0,)
    assert bench.rows("lines") == [("a", 1, "while it comes in")]
    names = app.execute("SELECT name FROM sqlite_schema WHERE tbl_name = 'visits' AND type <> 'table'").fetchall()
    assert ("syncline_index_visits_0",) in names and ("syncline_capture_insert_visits",) in names
    app.execute("UPDATE visits SET status = 'done' WHERE id = 2999")
    assert [each["op"] for each in bench.mutations()] == ["I", "U"]


def test_a_broken_download_leaves_nothing(
    bench: Bench, app: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cut_module, "MEMORY_ROWS_MAX", 10)
    begin = {"t": "begin", "apply_count": bench.file.state().apply_count, "reset": False, "rows": 0}
    bench.file.receive(begin)
    bench.file.receive(many(0, 50))
    bench.file.abandon()
    assert app.execute("SELECT count(*) FROM syncline_stage").fetchone() == (0,)
    bench.file.receive(begin)
    bench.file.receive(many(0, 50))
    bench.cut(put("visits", (1, "p", "s", 0, None)))  # a new `begin` takes the place of what was half there
    assert len(bench.rows("visits")) == 1 and bench.file.progress is None


def test_what_a_process_left_behind_when_it_died_is_cleared(
    bench: Bench, open_files: list[ReplicaFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cut_module, "MEMORY_ROWS_MAX", 10)
    bench.file.receive({"t": "begin", "apply_count": 1, "reset": False, "rows": 0})
    bench.file.receive(many(0, 50))
    bench.file.close()
    open_files.clear()
    again = ReplicaFile(bench.file.path)
    open_files.append(again)
    assert again.store.connection.execute("SELECT count(*) FROM syncline_stage").fetchone() == (0,)


@pytest.mark.parametrize(
    "frame",
    [
        {"t": "rows", "table": "nowhere", "layout": 1, "buckets": [BUCKET], "rows": []},
        {"t": "rows", "table": "visits", "layout": 1, "buckets": [BUCKET], "rows": [[1, 2]]},
        {"t": "rows", "table": "visits", "layout": 1, "buckets": ["a", "b"], "rows": [[1, 2, 3, 4, 5]]},
        {"t": "rows", "table": "visits", "layout": 1, "buckets": ["a"], "of": [1], "rows": [[1, 2, 3, 4, 5]]},
        {"t": "rows", "table": "visits", "layout": 1, "buckets": ["a"], "rows": [[1, 2, 3, 2**70, 5]]},
        {"t": "rows", "table": "visits", "layout": 1, "buckets": ["a"], "rows": [[1, 2, 3, {"x": 1}, 5]]},
        {"t": "remove", "table": "visits", "bucket": "a", "keys": [[1, 2]]},
        {"t": "drop_bucket", "buckets": "all"},
        {"t": "surprise"},
    ],
)
def test_a_frame_that_is_not_understood_changes_nothing(bench: Bench, frame: dict[str, Any]) -> None:
    """P19, P6."""
    bench.cut(put("visits", (1, "p", "s", 0, None)))
    with pytest.raises(ProtocolError):
        bench.cut(put("visits", (2, "p", "s", 0, None)), frame)
    assert [row[0] for row in bench.rows("visits")] == [1] and bench.file.state().cursor == "term.1"
    bench.cut(put("visits", (3, "p", "s", 0, None)))
    assert [row[0] for row in bench.rows("visits")] == [1, 3]


def test_frames_outside_a_cut_and_errors(bench: Bench) -> None:
    with pytest.raises(ProtocolError, match="outside"):
        bench.file.receive(many(0, 1))
    with pytest.raises(ServerError, match="no more") as caught:
        bench.file.receive({"t": "error", "code": "busy", "message": "no more", "retry_after": 3})
    assert caught.value.retry_after_seconds == 3


def test_a_heartbeat_moves_the_cursor_only_for_this_very_state(bench: Bench) -> None:
    bench.cut(put("visits", (1, "p", "s", 0, None)))
    count = bench.file.state().apply_count
    beat = {"t": "heartbeat", "head": 9, "time": 5, "cursor": "term.9"}
    bench.file.receive(beat)
    bench.file.receive({**beat, "apply_count": count - 1})
    bench.file.receive({**beat, "apply_count": count, "cursor": "other.9"})
    assert bench.file.state().cursor == "term.1" and bench.file.head == 9
    bench.file.receive({**beat, "apply_count": count})
    state = bench.file.state()
    assert (state.cursor, state.base, state.apply_count) == ("term.9", 9, count)


# ---------------------------------------------------------------- what has to go, goes
def test_revoked_rows_leave_no_trace_in_any_byte(bench: Bench, app: sqlite3.Connection) -> None:
    """P8, P9: file, log and free pages."""
    canary = "canary-of-patient-12"
    bench.cut(put("visits", *((number, canary, "s", 0, canary * 40) for number in range(300))))
    bench.cut(put("visits", (1, canary, "moved", 0, None)))
    assert canary.encode() in bytes_of(bench)
    bench.cut({"t": "drop_bucket", "buckets": [BUCKET]})
    assert canary.encode() not in bytes_of(bench) and not bench.file.state().purge_pending


def test_a_row_that_the_app_deleted_leaves_no_trace_once_the_office_knows(
    bench: Bench, app: sqlite3.Connection
) -> None:
    """P9: what has left the table already is in the log still."""
    canary = "canary-of-patient-12"
    bench.cut(put("visits", (1, canary, "s", 0, None), (2, "p", "s", 0, None)))
    app.execute("PRAGMA secure_delete = ON")
    app.execute("DELETE FROM visits WHERE id = 1")
    bench.cut(remove("visits", (1,)), included=1)
    assert canary.encode() not in bytes_of(bench) and not bench.file.state().purge_pending


def test_samples_of_revoked_rows_leave_with_them(bench: Bench) -> None:
    """P9: ANALYZE of the app's, where its SQLite keeps samples of indexed values (STAT4)."""
    canary = "canary-of-patient-12"
    bench.cut(put("visits", *((number, f"{canary} {number}", "s", 0, None) for number in range(30))))
    app = apsw.Connection(str(bench.file.path))
    assert "ENABLE_STAT4" in apsw.compile_options
    app.execute("ANALYZE")
    app.close()
    assert canary in repr(bench.file.store.connection.execute("SELECT * FROM sqlite_stat4").fetchall())
    bench.cut({"t": "drop_bucket", "buckets": [BUCKET]})
    assert canary.encode() not in bytes_of(bench)


def test_an_old_reader_holds_the_purge_back(bench: Bench, app: sqlite3.Connection) -> None:
    canary = "canary-of-patient-12"
    bench.cut(put("visits", (1, canary, "s", 0, None)))
    app.execute("BEGIN")
    app.execute("SELECT * FROM visits").fetchall()
    bench.cut({"t": "drop_bucket", "buckets": [BUCKET]})
    assert bench.file.state().purge_pending and not bench.file.purge()
    app.execute("COMMIT")
    assert bench.file.purge() and canary.encode() not in bytes_of(bench)


def test_wiping_keeps_only_what_is_the_apps_own(bench: Bench, app: sqlite3.Connection) -> None:
    app.execute("CREATE TABLE own (x)")
    app.execute("INSERT INTO own VALUES ('mine')")
    bench.cut(put("visits", (1, "canary", "s", 0, None)))
    app.execute("UPDATE visits SET note = 'canary too'")
    app.close()
    with pytest.raises(WipedError):
        bench.file.receive({"t": "wipe", "reason": "lost phone"})
    assert b"canary" not in bytes_of(bench)
    with closing(bench.file.connect()) as db:
        assert db.execute("SELECT * FROM own").fetchall() == [("mine",)]
    with pytest.raises(WipedError):
        bench.file.hello_request()


def bytes_of(bench: Bench) -> bytes:
    return b"".join(path.read_bytes() for path in bench.file.path.parent.iterdir() if path.is_file())


# ---------------------------------------------------------------- values
TYPES = ("", "INTEGER", "TEXT", "REAL", "NUMERIC", "BLOB", "VARCHAR(10)", "BOOLEAN", "DATETIME")
WITH_TYPES = Table(
    "typed",
    (Column("id", "TEXT"), *(Column(f"c{place}", kind) for place, kind in enumerate(TYPES))),
    ("id",),
    indexes=(Index("i", ("c0", "c1")),),
)
ANY_VALUE: st.SearchStrategy[Value] = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False).map(lambda number: number + 0.0),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=8),
    st.binary(max_size=8),
    st.sampled_from([RawText(b"\xff\xfe"), "1", "1.0", " 5", "abc", "\0", b"\0"]),
)


def as_stored(row: list[Value]) -> list[Value]:
    """What a SQLite source with these columns holds: the values that are sent."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute(f"CREATE TABLE t ({', '.join(f'c{place} {kind}' for place, kind in enumerate(TYPES))})")
        marks = [f"CAST(?{n} AS TEXT)" if type(v) is RawText else f"?{n}" for n, v in enumerate(row, 1)]
        db.execute(f"INSERT INTO t VALUES ({', '.join(marks)})", row)
        db.text_factory = text_or_raw
        return list(db.execute("SELECT * FROM t").fetchone())


def text_or_raw(data: bytes) -> Value:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return RawText(data)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(ANY_VALUE, min_size=len(TYPES), max_size=len(TYPES)), min_size=1, max_size=4))
def test_values_survive_down_and_up(tmp_path_factory: pytest.TempPathFactory, drawn: list[list[Value]]) -> None:
    """P16: what the source holds is what the replica holds, and what the replica uploads."""
    file = ReplicaFile(tmp_path_factory.mktemp("values") / "replica.db")
    try:
        bench = Bench(file, build_program(plan_of(WITH_TYPES)))
        bench.hello()
        stored = [as_stored(row) for row in drawn]
        bench.cut(put("typed", *((f"k{place}", *row) for place, row in enumerate(stored))))
        columns = ", ".join(f"c{place}" for place in range(len(TYPES)))
        with closing(file.connect()) as db:
            db.execute(f"INSERT INTO typed SELECT 'new' || id, {columns} FROM typed ORDER BY id")
            db.execute("DELETE FROM typed WHERE id LIKE 'k%'")
            db.commit()
        uploaded = bench.mutations()
        wire = [encoded(row) for row in stored]
        assert [each["new"] for each in uploaded[: len(wire)]] == wire
        assert [each["was"] for each in uploaded[len(wire) :]] == wire
    finally:
        file.close()
