"""`Replica`, from its making to its end, over a network that tests hold in their hands."""

from __future__ import annotations

import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.replica.messages import outcome
from tests.replica.office import Office, until

from syncline import (
    AuthError,
    OtherUserError,
    Replica,
    ReplicaError,
    Status,
    SyncTimeoutError,
    UnreachableError,
)
from syncline.replica.status import read_rejections, read_status


def query(replica: Replica, sql: str) -> list[tuple[Any, ...]]:
    with closing(replica.connect()) as db:
        return db.execute(sql).fetchall()


def write(replica: Replica, sql: str) -> None:
    with closing(sqlite3.connect(replica.path, isolation_level=None)) as db:
        db.execute(sql)


def test_by_hand(replica: Replica, office: Office) -> None:
    assert replica.status == Status("stopped", 0, 0, 0, None, None)
    report = replica.sync(timeout=10)
    assert (report.downloaded_rows, report.first_sync, report.pending) == (1, True, 0)
    with replica.transaction() as db:
        db.execute("UPDATE visits SET status = 'done' WHERE id = 1")
    write(replica, "INSERT INTO visits (id, patient) VALUES (2, 'p-2')")
    assert replica.status.pending == 2
    assert query(replica, "SELECT table_name, key, operation FROM syncline_pending") == [
        ("visits", '{"id":1}', "update"),
        ("visits", '{"id":2}', "insert"),
    ]
    report = replica.sync(timeout=10)
    assert (report.uploaded_mutations, report.pending, report.first_sync) == (2, 0, False)
    assert report.checkpoint == office.head == replica.status.checkpoint
    assert office.rows[1][2] == "done" and office.rows[2][1] == "p-2"
    assert replica.status.last_synced_at


def test_in_step_while_it_runs(replica: Replica, office: Office) -> None:
    told: list[Any] = []
    replica.on("changed", told.append)
    states: list[str] = []
    replica.on("status", lambda status: states.append(status.state))
    replica.start()
    until(lambda: replica.status.state == "live")
    until(lambda: read_status(replica.path)["state"] == "live")  # written a moment after it is so
    office.change(1, "p-1", "moved", 5, None)
    until(lambda: query(replica, "SELECT status FROM visits") == [("moved",)])
    write(replica, "UPDATE visits SET status = 'done'")  # any program: it is noticed by itself
    until(lambda: office.rows[1][2] == "done")
    until(lambda: replica.status.pending == 0)
    with replica.transaction() as db:
        db.execute("UPDATE visits SET note = 'n'")
    until(lambda: office.rows[1][4] == "n" and replica.status.pending == 0)
    assert replica.sync(timeout=10).pending == 0
    until(lambda: replica.status.state == "live")
    replica.stop()
    assert ["visits"] in told and {"first_sync", "live"} <= set(states)
    assert read_status(replica.path)["state"] == "stopped"
    replica.start()
    until(lambda: replica.status.state == "live")


def test_long_polls_where_websockets_are_blocked(replica: Replica, office: Office) -> None:
    office.is_blocked = True
    replica.start()
    until(lambda: replica.status.state == "live")
    for status in ("one", "two"):
        office.change(1, "p-1", status, 5, None)
        until(lambda status=status: query(replica, "SELECT status FROM visits") == [(status,)])  # type: ignore[misc]
    write(replica, "UPDATE visits SET status = 'done'")
    until(lambda: office.rows[1][2] == "done" and replica.status.pending == 0)


def test_from_the_second_start_on_no_network_is_needed(replica: Replica, office: Office) -> None:
    replica.sync(timeout=10)
    replica.stop()
    office.fault = UnreachableError("no signal")
    replica.start()
    until(lambda: replica.status.state == "offline")
    write(replica, "UPDATE visits SET status = 'in a tunnel'")
    assert replica.status.pending == 1
    with pytest.raises(SyncTimeoutError) as caught:
        replica.sync(timeout=0.3)
    assert caught.value.report.pending == 1
    office.fault = None
    replica.connectivity_changed(online=True)
    until(lambda: office.rows[1][2] == "in a tunnel" and replica.status.state == "live")
    replica.connectivity_changed(online=False)
    until(lambda: replica.status.state == "offline")
    hellos = office.hellos
    replica.connectivity_changed(online=True)
    until(lambda: replica.status.state == "live")
    assert office.hellos == hellos + 1


def test_a_sync_that_never_ends_is_told_with_its_report(replica: Replica, office: Office) -> None:
    replica.sync(timeout=10)
    office.holds_checkpoints = True
    write(replica, "UPDATE visits SET status = 'done'")
    with pytest.raises(SyncTimeoutError) as caught:
        replica.sync(timeout=0.5)
    assert caught.value.report.pending == 1 and caught.value.report.seconds >= 0.5


def test_signed_out(replica: Replica, office: Office) -> None:
    office.fault = AuthError("The token is over.", code="token_expired")
    with pytest.raises(AuthError):
        replica.sync(timeout=10)
    replica.start()
    until(lambda: replica.status.state == "signed_out")
    office.fault = None
    assert replica.sync(timeout=10).first_sync


def test_another_users_token_loses_nothing(replica: Replica, office: Office, tmp_path: Path) -> None:
    replica.sync(timeout=10)
    write(replica, "UPDATE visits SET status = 'mine'")
    office.user = "nurse-18"
    with pytest.raises(OtherUserError):
        replica.sync(timeout=10)
    assert replica.status.pending == 1 and office.rows[1][2] == "planned"
    replica.stop()
    with pytest.raises(ReplicaError, match="1 changes"):
        Replica(replica.path, "https://sync.example.org", "token", transport=office, replace_user=True)
    office.user = "nurse-17"
    replica.sync(timeout=10)
    replica.stop()
    office.user, office.last, office.included = "nurse-18", 0, 0
    with Replica(replica.path, "https://x.org", "token", transport=office, replace_user=True) as other:
        assert other.status.checkpoint == 0 and other.sync(timeout=10).first_sync


def test_wiped(replica: Replica, office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    replica.sync(timeout=10)
    told: list[Any] = []
    replica.on("wiped", told.append)
    monkeypatch.setattr(office, "download", lambda message: iter([{"t": "wipe", "reason": "lost"}]))
    with pytest.raises(ReplicaError, match="deleted"):
        replica.sync(timeout=10)
    assert replica.status.state == "wiped" and len(told) == 1


def test_rejections_and_conflicts(replica: Replica, office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    replica.sync(timeout=10)
    write(replica, "UPDATE visits SET status = 'bad'")
    conflict = {"column": "note", "kind": "lost", "rule": "latest", "base": None, "server": "x", "device": "y"}
    frame = outcome(1, "rejected", "visits", (1,), "check", (1, "p-1", "planned", 5, None), [conflict])
    cut = office._cut

    def with_outcome(count: int, reset: bool) -> Iterator[dict[str, Any]]:
        *body, commit = cut(count, reset)
        yield from [*body, *([frame] if office.included else []), commit]

    monkeypatch.setattr(office, "_cut", with_outcome)
    counted: list[Any] = []
    replica.on("rejected", counted.append)
    replica.on("conflict", counted.append)
    report = replica.sync(timeout=10)
    assert (report.rejected, report.conflicts, counted) == (1, 1, [1, 1])
    (rejection,) = replica.rejections()
    assert rejection | {"at": ""} == {
        "id": 1,
        "table": "visits",
        "key": {"id": 1},
        "operation": "update",
        "code": "check",
        "reason": "because of check",
        "values": {"status": "bad"},
        "group": None,
        "at": "",
    }
    assert read_rejections(replica.path) == [rejection] and replica.status.rejected == 1
    assert replica.conflicts()[0]["server"] == "x"
    replica.dismiss(rejection)
    assert replica.rejections() == [] and replica.status.rejected == 0


def test_a_callback_that_fails_stops_nothing(replica: Replica, caplog: pytest.LogCaptureFixture) -> None:
    replica.on("changed", lambda tables: 1 / 0)
    assert replica.sync(timeout=10).downloaded_rows == 1
    assert "callback" in caplog.text
    with pytest.raises(ValueError, match="no event"):
        replica.on("change", print)


def test_a_server_that_says_nothing_holds_nobody_up(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        begun = time.monotonic()
        with Replica(tmp_path / "nurse.db", url, "token") as replica:
            for _ in range(2):
                with pytest.raises(SyncTimeoutError):
                    replica.sync(timeout=0.3)
        assert time.monotonic() - begun < 5
        Replica(tmp_path / "nurse.db", url, "token").stop()


def test_status_of_what_is_no_replica(tmp_path: Path) -> None:
    with pytest.raises(ReplicaError, match="no file"):
        read_status(tmp_path / "none.db")
    sqlite3.connect(tmp_path / "other.db").close()
    with pytest.raises(ReplicaError, match="is no device's file"):
        read_status(tmp_path / "other.db")
