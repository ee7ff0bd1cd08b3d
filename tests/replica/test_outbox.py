"""Building uploads (rules 6 to 8), and what a new identity does to the outbox."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from tests.replica.messages import Bench, outcome, put

from syncline import limits
from syncline.errors import LimitError, ReplicaError
from syncline.protocol.messages import Upload
from syncline.replica import outbox as outbox_module


def groups_of(request: dict[str, Any] | None) -> list[tuple[bool, list[int]]]:
    assert request is not None
    Upload.load(request)  # the server reads it
    return [(group["marked"], [each["n"] for each in group["mutations"]]) for group in request["groups"]]


def test_tables_are_merged_in_number_order(bench: Bench, app: sqlite3.Connection) -> None:
    for number in range(3):
        app.execute("INSERT INTO visits (id) VALUES (?)", (number + 1,))
        app.execute("INSERT INTO lines VALUES ('a', ?, 'x')", (number,))
    assert [each["table"] for each in bench.mutations()] == ["visits", "lines"] * 3
    assert groups_of(bench.file.upload_request()) == [(False, [1, 2, 3, 4, 5, 6])]


def test_marked_groups_stand_by_themselves(bench: Bench, app: sqlite3.Connection) -> None:
    """P7."""
    app.execute("INSERT INTO visits (id) VALUES (1)")
    with bench.file.transaction() as db:
        db.execute("INSERT INTO visits (id) VALUES (2)")
        db.execute("INSERT INTO lines VALUES ('a', 1, 'x')")
    with bench.file.transaction() as db:
        db.execute("UPDATE visits SET count = 1 WHERE id = 1")
    app.execute("INSERT INTO visits (id) VALUES (3)")
    assert groups_of(bench.file.upload_request()) == [(False, [1]), (True, [2, 3]), (True, [4]), (False, [5])]


def test_a_marked_group_is_never_split(bench: Bench, app: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module.limits, "UPLOAD_MUTATIONS_MAX", 3)
    monkeypatch.setattr(outbox_module.limits, "GROUP_MUTATIONS_MAX", 2)
    for number in range(5):
        app.execute("INSERT INTO visits (id) VALUES (?)", (number + 1,))
    with bench.file.transaction() as db:
        db.executemany("INSERT INTO lines VALUES ('a', ?, 'x')", [(number,) for number in range(6)])
    assert groups_of(bench.file.upload_request()) == [(False, [1, 2]), (False, [3])]
    bench.file.accept_upload({"last": 3, "gap": False})
    assert groups_of(bench.file.upload_request()) == [(False, [4, 5]), (True, [6, 7, 8, 9, 10, 11])]
    bench.file.accept_upload({"last": 11, "gap": False})
    assert bench.file.upload_request() is None and not bench.file.has_unoffered


def test_the_answer_moves_the_position_and_nothing_else(bench: Bench, app: sqlite3.Connection) -> None:
    """Rule 8: the answer may be lost for ever."""
    app.execute("INSERT INTO visits (id) VALUES (1), (2), (3)")
    bench.file.accept_upload({"last": 2, "gap": True})
    assert groups_of(bench.file.upload_request()) == [(False, [3])]
    bench.file.offer_again()
    assert groups_of(bench.file.upload_request()) == [(False, [1, 2, 3])]
    assert bench.file.pending() == 3


def test_bytes_close_a_request(bench: Bench, app: sqlite3.Connection) -> None:
    for number in range(4):
        app.execute("INSERT INTO visits (id, note) VALUES (?, ?)", (number, "x" * 900_000))
    assert groups_of(bench.file.upload_request()) == [(False, [1, 2])]


def test_the_floor_is_the_least_included_that_a_waiting_change_was_made_at(
    bench: Bench, app: sqlite3.Connection
) -> None:
    """Rule 11: outcomes below it are no longer needed."""
    app.execute("INSERT INTO visits (id) VALUES (1), (2)")
    bench.cut(put("visits", (1, None, "new", None, None)), included=1)
    app.execute("INSERT INTO visits (id) VALUES (3)")
    request = bench.file.upload_request()
    assert request is not None and request["floor"] == 0
    bench.cut(put("visits", (2, None, "new", None, None)), included=2)
    request = bench.file.upload_request()
    assert request is not None and request["floor"] == 1


def test_old_values_above_the_limit_are_left_out(bench: Bench, app: sqlite3.Connection) -> None:
    """P18: they would make the server refuse the request, and all behind it."""
    bench.cut(put("visits", (1, "p", "s", 0, "x" * 3_000_000)))
    app.execute("UPDATE visits SET note = 'short'")
    assert bench.brief() == [(1, "U", 1, {"note": ("short", None)})]


def test_a_transaction_above_the_limit_is_refused_and_undone(
    bench: Bench, app: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MARKED_GROUP_MUTATIONS_MAX", 3)
    with pytest.raises(LimitError), bench.file.transaction() as db:
        db.execute("INSERT INTO visits (id) VALUES (1), (2), (3), (4)")
    assert bench.rows("visits") == [] and bench.file.state().seq == 0
    with pytest.raises(LimitError), bench.file.transaction() as db:
        db.execute("INSERT INTO visits (id, note) VALUES (1, zeroblob(4000000)), (2, zeroblob(4000000))")
        db.execute("INSERT INTO visits (id, note) VALUES (3, zeroblob(4000000))")
    assert bench.rows("visits") == []


def test_a_block_that_raises_leaves_nothing(bench: Bench) -> None:
    with pytest.raises(ZeroDivisionError), bench.file.transaction() as db:
        db.execute("INSERT INTO visits (id) VALUES (1)")
        raise ZeroDivisionError
    assert bench.rows("visits") == [] and bench.file.state().seq == 0


def test_a_commit_inside_the_block_is_told(bench: Bench, app: sqlite3.Connection) -> None:
    with pytest.raises(ReplicaError, match="ended inside"), bench.file.transaction() as db:
        db.execute("INSERT INTO visits (id) VALUES (1)")
        db.execute("COMMIT")
    assert app.execute("SELECT grp FROM syncline_state").fetchone() == (0,)


# ---------------------------------------------------------------- identity
def test_a_copied_file_numbers_its_outbox_afresh(bench: Bench, app: sqlite3.Connection) -> None:
    """Ids stay, so that what the server has already is answered `duplicate` (P5)."""
    app.execute("INSERT INTO visits (id) VALUES (1), (2)")
    bench.cut(put("visits", (1, None, "new", None, None), (2, None, "new", None, None)), included=2)
    with bench.file.transaction() as db:
        db.execute("INSERT INTO visits (id) VALUES (3)")
        db.execute("UPDATE visits SET count = 3 WHERE id = 3")
    app.execute("UPDATE visits SET count = 1 WHERE id = 1")
    ids = [each["id"] for each in bench.mutations()]
    count = bench.file.state().apply_count
    bench.hello("new", device="device-2")
    after = bench.mutations()
    assert [each["n"] for each in after] == [1, 2, 3] and [each["id"] for each in after] == ids
    assert [each["insert"] for each in after] == [0, 1, 0]
    assert groups_of(bench.file.upload_request()) == [(True, [1, 2]), (False, [3])]
    state = bench.file.state()
    assert (state.device, state.included, state.seq, state.cursor) == ("device-2", 0, 3, "term.1")
    assert state.apply_count == count + 1, "a cut for the old numbers must not be applied"
    app.execute("DELETE FROM visits WHERE id = 2")
    assert bench.mutations()[-1]["n"] == 4


def test_a_restored_server_is_offered_what_was_sent(bench: Bench, app: sqlite3.Connection) -> None:
    app.execute("INSERT INTO visits (id) VALUES (1)")
    with bench.file.transaction() as db:
        db.execute("INSERT INTO lines VALUES ('a', 1, 'x')")
        db.execute("UPDATE visits SET count = 5 WHERE id = 1")
    everything = [each["id"] for each in bench.mutations()]
    bench.cut(put("visits", (1, None, "new", 5, None)), put("lines", ("a", 1, "x")), included=3)
    app.execute("UPDATE visits SET count = 6 WHERE id = 1")
    everything += [each["id"] for each in bench.mutations()]
    bench.hello("new", device="device-2", reoffer_sent=True)
    after = bench.mutations()
    assert [each["id"] for each in after] == everything and [each["n"] for each in after] == [1, 2, 3, 4]
    assert groups_of(bench.file.upload_request()) == [(False, [1]), (True, [2, 3]), (False, [4])]
    assert bench.file.state().cursor is None, "everything is downloaded anew"
    assert after[2]["insert"] == 1
    bench.cut(put("visits", (1, None, "new", None, None)), reset=True)
    assert bench.rows("visits") == [(1, None, "new", 6, None)] and bench.rows("lines") == [("a", 1, "x")]


def test_rejected_mutations_are_not_offered_again(bench: Bench, app: sqlite3.Connection) -> None:
    app.execute("INSERT INTO visits (id) VALUES (1)")
    bench.cut(put("visits", (1, None, "new", None, None)), included=1)
    app.execute("UPDATE visits SET status = 'bad'")
    bench.cut(outcome(2, "rejected", "visits", (1,), "check", (1, None, "new", None, None)), included=2)
    bench.hello("new", device="device-2", reoffer_sent=True)
    assert [each["op"] for each in bench.mutations()] == ["I"]


def test_sent_mutations_are_kept_for_days(make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    """P14."""
    bench = make_bench()
    with closing(sqlite3.connect(bench.file.path, isolation_level=None)) as app:
        app.execute("INSERT INTO visits (id) VALUES (1)")
        bench.cut(put("visits", (1, None, "new", None, None)), included=1)
        app.execute("UPDATE syncline_sent_visits SET sent_at = sent_at - 8 * 86400000000")
        monkeypatch.setattr(bench.file, "_purge_at", 0.0)
        bench.cut()
        assert app.execute("SELECT count(*) FROM syncline_sent_visits").fetchone() == (0,)
