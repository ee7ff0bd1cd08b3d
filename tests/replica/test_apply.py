"""Applying cuts under pending work: rules 18 to 20, row by row of the table in PROTOCOL_MODEL.md."""

from __future__ import annotations

import sqlite3

from tests.replica.messages import Bench, drop, outcome, put, remove

SERVER = (1, "p-1", "planned", 5, "n")


def test_rows_of_a_cut_arrive_and_the_cursor_with_them(bench: Bench) -> None:
    """P6."""
    applied = bench.cut(put("visits", SERVER, (2, "p-1", "planned", 0, None)), put("lines", ("a", 1, "x")))
    assert applied is not None and (applied.rows_put, applied.checkpoint) == (3, 1)
    assert applied.is_first and applied.tables == {"visits", "lines"}
    assert bench.rows("visits") == [SERVER, (2, "p-1", "planned", 0, None)]
    assert bench.file.state().cursor == "term.1" and bench.mutations() == []


def test_a_cut_made_for_another_state_is_thrown_away(bench: Bench) -> None:
    """Rule 18: a repeated old frame would bring revoked rows back (P9)."""
    bench.cut(put("visits", SERVER))
    assert bench.cut(drop("all[]"), apply_count=7) is None
    assert bench.rows("visits") == [SERVER] and bench.file.state().cursor == "term.1"


def test_pending_columns_stay_on_top_of_a_newer_row(bench: Bench, app: sqlite3.Connection) -> None:
    """P10: others' columns change, one's own does not blink; `add` moves by its difference."""
    bench.cut(put("visits", SERVER))
    app.execute("UPDATE visits SET status = 'done', count = 7 WHERE id = 1")
    bench.cut(put("visits", (1, "p-2", "moved", 100, "n")))
    assert bench.rows("visits") == [(1, "p-2", "done", 102, "n")]
    bench.cut(put("visits", (1, "p-2", "done", 102, "n")), included=1)
    assert bench.rows("visits") == [(1, "p-2", "done", 102, "n")] and bench.mutations() == []


def test_pending_delete_and_insert_are_replayed(bench: Bench, app: sqlite3.Connection) -> None:
    bench.cut(put("visits", SERVER))
    app.execute("DELETE FROM visits WHERE id = 1")
    bench.cut(put("visits", (1, "p-9", "moved", 1, None)))
    assert bench.rows("visits") == []
    app.execute("INSERT INTO visits (id, patient) VALUES (1, 'mine')")
    bench.cut(put("visits", (1, "p-9", "moved", 2, "theirs")))
    assert bench.rows("visits") == [(1, "mine", "new", None, None)]


def test_a_pending_insert_over_a_server_row_keeps_what_it_did_not_say(make_bench: object) -> None:
    """An insert says nothing of columns that the source fills in by itself."""
    bench: Bench = make_bench(visits={"note": "server"})  # type: ignore[operator]
    with bench.file.transaction() as db:
        db.execute("INSERT INTO visits (id, patient) VALUES (1, 'mine')")
    assert "note" not in bench.mutations()[0]["columns"]
    bench.cut(put("visits", (1, "p", "s", 3, "by the source")))
    assert bench.rows("visits") == [(1, "mine", "new", None, "by the source")]


def test_removed_rows_go_and_shared_rows_stay(bench: Bench) -> None:
    """P9: a row stays while any bucket holds it."""
    bench.cut(put("visits", SERVER, bucket="a[1]"), put("visits", SERVER, bucket="b[1]"))
    applied = bench.cut(remove("visits", (1,), bucket="a[1]"))
    assert applied is not None and applied.rows_removed == 0 and bench.rows("visits") == [SERVER]
    applied = bench.cut(drop("b[1]"))
    assert applied is not None and (applied.rows_removed, applied.buckets_dropped) == (1, 1)
    assert bench.rows("visits") == []


def test_own_updates_of_a_row_that_left_stay_until_their_outcome(bench: Bench, app: sqlite3.Connection) -> None:
    """Rule 19, no membership and only updates: left as it is; gone with its outcome."""
    bench.cut(put("visits", SERVER))
    app.execute("UPDATE visits SET status = 'done' WHERE id = 1")
    bench.cut(drop("all[]"))
    assert bench.rows("visits")[0][2] == "done"
    bench.cut(outcome(1, "merged", "visits", (1,), code="gone", state="absent"), included=1)
    assert bench.rows("visits") == [] and bench.mutations() == []


def test_an_own_insert_without_membership_keeps_only_own_values(bench: Bench, app: sqlite3.Connection) -> None:
    bench.cut(put("visits", SERVER))
    app.execute("DELETE FROM visits WHERE id = 1")
    app.execute("INSERT INTO visits (id, patient) VALUES (1, 'mine')")
    bench.cut(put("visits", (1, "theirs", "theirs", 9, "theirs")))
    bench.cut(drop("all[]"))
    assert bench.rows("visits") == [(1, "mine", "new", None, None)]


def test_put_and_removed_in_one_cut_own_write_does_not_blink(bench: Bench, app: sqlite3.Connection) -> None:
    bench.cut(put("visits", SERVER, bucket="a[1]"))
    app.execute("UPDATE visits SET status = 'done' WHERE id = 1")
    bench.cut(put("visits", (1, "p-2", "moved", 5, "n"), bucket="b[1]"), drop("a[1]", "b[1]"))
    assert bench.rows("visits")[0][2] == "done"


def test_a_rejected_insert_goes_and_is_parked(bench: Bench, app: sqlite3.Connection) -> None:
    """P3: nothing vanishes unseen."""
    app.execute("INSERT INTO visits (id, patient, note) VALUES (1, 'mine', x'00ff')")
    applied = bench.cut(outcome(1, "rejected", "visits", (1,), code="key_exists", state="absent"), included=1)
    assert applied is not None and applied.rejected == 1
    assert bench.rows("visits") == [] and bench.mutations() == []
    row = app.execute("SELECT * FROM syncline_rejections").fetchone()
    assert row[1:6] == ("visits", '{"id":1}', "insert", "key_exists", "because of key_exists")
    assert row[6] == '{"patient":"mine","status":"new","count":null,"note":["b","AP8="]}'
    assert app.execute("SELECT count(*) FROM syncline_sent_visits").fetchone() == (0,)


def test_a_rejected_update_shows_the_true_state(bench: Bench, app: sqlite3.Connection) -> None:
    bench.cut(put("visits", SERVER))
    app.execute("UPDATE visits SET status = 'bad' WHERE id = 1")
    app.execute("UPDATE visits SET note = 'kept' WHERE id = 1")
    bench.cut(outcome(1, "rejected", "visits", (1,), code="check", state=SERVER), included=1)
    assert bench.rows("visits") == [(1, "p-1", "planned", 5, "kept")]
    assert [each["n"] for each in bench.mutations()] == [2]


def test_a_rejection_for_scope_keeps_no_values(bench: Bench, app: sqlite3.Connection) -> None:
    """P8."""
    app.execute("INSERT INTO visits (id, patient) VALUES (1, 'not mine')")
    bench.cut(outcome(1, "rejected", "visits", (1,), code="scope", state="absent"), included=1)
    assert app.execute("SELECT code, row_values FROM syncline_rejections").fetchone() == ("scope", None)


def test_conflicts_are_kept_and_leave_with_their_row(bench: Bench, app: sqlite3.Connection) -> None:
    """P12, and P9: copies of a revoked row go too."""
    bench.cut(put("visits", SERVER))
    app.execute("UPDATE visits SET status = 'mine' WHERE id = 1")
    lost = {"column": "status", "kind": "lost", "rule": "latest", "base": "planned", "server": "x", "device": "mine"}
    theirs = (1, "p-1", "x", 5, "n")
    bench.cut(outcome(1, "merged", "visits", (1,), state=theirs, conflicts=[lost]), included=1)
    assert bench.rows("visits") == [theirs]
    found = app.execute(
        "SELECT table_name, key, column_name, kind, base, server, device FROM syncline_conflicts"
    ).fetchall()
    assert found == [("visits", '{"id":1}', "status", "lost", '"planned"', '"x"', '"mine"')]
    bench.cut(drop("all[]"))
    assert app.execute("SELECT count(*) FROM syncline_conflicts").fetchone() == (0,)


def test_included_mutations_are_kept_as_sent_while_their_row_is_held(bench: Bench, app: sqlite3.Connection) -> None:
    bench.cut(put("visits", SERVER, (2, "p-1", "planned", 0, None)))
    app.execute("UPDATE visits SET status = 'done'")
    bench.cut(put("visits", (1, "p-1", "done", 5, "n"), (2, "p-1", "done", 0, None)), included=2)
    assert app.execute("SELECT count(*) FROM syncline_sent_visits").fetchone() == (2,)
    bench.cut(remove("visits", (2,)))
    assert app.execute("SELECT k0, n1 FROM syncline_sent_visits").fetchall() == [(1, "done")]


def test_reset_forgets_what_does_not_come_again(bench: Bench, app: sqlite3.Connection) -> None:
    bench.cut(put("visits", SERVER, (2, "p-1", "planned", 0, None), (3, "p", "s", 0, None)))
    app.execute("UPDATE visits SET status = 'done' WHERE id = 1")
    app.execute("INSERT INTO visits (id, patient) VALUES (9, 'mine')")
    applied = bench.cut(put("visits", (1, "p-1", "planned", 5, "n"), (2, "p-1", "planned", 0, None)), reset=True)
    assert applied is not None and applied.rows_removed == 1
    assert [row[:3] for row in bench.rows("visits")] == [(1, "p-1", "done"), (2, "p-1", "planned"), (9, "mine", "new")]


def test_server_rows_are_not_captured(bench: Bench) -> None:
    bench.cut(put("visits", SERVER))
    bench.cut(put("visits", (1, "x", "y", 1, 2)), remove("visits", (1,), bucket="other[]"))
    bench.cut(drop("all[]"))
    assert bench.mutations() == [] and bench.file.state().seq == 0
