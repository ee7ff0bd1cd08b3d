"""The API in wrong hands: every mistake is told at once, by an error that says what to do, and costs nothing."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.replica.office import Office, execute, until

from syncline import Replica, ReplicaError, SynclineError, SyncTimeoutError, UnreachableError


def code_of(caught: pytest.ExceptionInfo[SynclineError]) -> str:
    return caught.value.error_code


@pytest.mark.parametrize("path", ["", ":memory:", "file:nurse.db", None, 5, b"nurse.db"])
def test_what_names_no_file(path: Any, office: Office) -> None:
    with pytest.raises(SynclineError) as caught:
        Replica(path, "https://x.org", "t", transport=office)
    assert code_of(caught) == "path"


@pytest.mark.parametrize("token", [None, 5, b"t"])
def test_what_is_no_token(token: Any, tmp_path: Path, office: Office) -> None:
    with pytest.raises(SynclineError) as caught:
        Replica(tmp_path / "nurse.db", "https://x.org", token, transport=office)
    assert code_of(caught) == "token_missing" and not (tmp_path / "nurse.db").exists()


def test_what_cannot_be_a_file(tmp_path: Path, office: Office) -> None:
    (tmp_path / "text.db").write_text("no database, but a letter to Ada " * 100, encoding="utf-8")
    (tmp_path / "folder.db").mkdir()
    for name, code in (("no/such.db", "open_failed"), ("folder.db", "open_failed"), ("text.db", "not_a_database")):
        with pytest.raises(ReplicaError) as caught:
            Replica(tmp_path / name, "https://x.org", "t", transport=office)
        assert code_of(caught) == code
    assert (tmp_path / "text.db").read_text(encoding="utf-8").startswith("no database")
    with closing(sqlite3.connect(tmp_path / "clinic.db")) as db:
        db.execute("CREATE TABLE syncline_checkpoint (a)")
    with pytest.raises(ReplicaError) as caught:
        Replica(tmp_path / "clinic.db", "https://x.org", "t", transport=office)
    assert code_of(caught) == "not_a_replica"
    assert {each.name for each in tmp_path.iterdir()} == {"clinic.db", "folder.db", "text.db"}, "nothing is left behind"


@pytest.mark.parametrize("timeout", ["5", -1, float("nan"), b"5"])
def test_what_is_no_time_out(replica: Replica, timeout: Any) -> None:
    with pytest.raises(SynclineError) as caught:
        replica.sync(timeout=timeout)
    assert code_of(caught) == "timeout"


@pytest.mark.parametrize("timeout", [None, float("inf"), 1e300, 10**30])
def test_as_long_as_it_takes(replica: Replica, timeout: Any) -> None:
    assert replica.sync(timeout=timeout).downloaded_rows == 1


def test_no_time_at_all(replica: Replica, office: Office) -> None:
    replica.sync(timeout=20)
    office.holds_checkpoints = True
    execute(replica.path, "UPDATE visits SET status = 'done'")
    with pytest.raises(SyncTimeoutError):
        replica.sync(timeout=0)
    assert replica.status.pending == 1


def test_a_transaction_inside_a_transaction(replica: Replica) -> None:
    replica.sync(timeout=20)
    with replica.transaction() as db:
        db.execute("UPDATE visits SET status = 'one'")
        with pytest.raises(ReplicaError) as caught, replica.transaction():
            pass
        assert code_of(caught) == "transaction_nested"
        db.execute("UPDATE visits SET note = 'two'")
    assert execute(replica.path, "SELECT status, note FROM visits") == [("one", "two")]
    with pytest.raises(ReplicaError) as caught, replica.transaction() as db:
        db.execute("COMMIT")
    assert code_of(caught) == "transaction_ended"
    with replica.transaction() as db:
        db.execute("UPDATE visits SET note = 'three'")


def test_a_large_transaction_is_measured_without_an_agent(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    replica.sync(timeout=20)
    replica.stop()
    monkeypatch.setattr("syncline.replica.app_connection.MARKED_GROUP_BYTES_MAX", 1000)
    with pytest.raises(SynclineError) as caught, replica.transaction() as db:
        db.execute("UPDATE visits SET note = ?", ("x" * 2000,))
    assert code_of(caught) == "limit" and replica.status.pending == 0


def test_everything_but_the_agent_works_when_it_is_stopped(replica: Replica) -> None:
    replica.sync(timeout=20)
    for _ in range(2):
        replica.stop()
    with replica.transaction() as db:
        db.execute("UPDATE visits SET status = 'done'")
    assert replica.status.pending == 1 and replica.rejections() == [] and replica.new_key("visits")
    with replica.watch("SELECT status FROM visits") as watch:
        assert next(watch) == [("done",)]
    replica.connectivity_changed(online=True)
    assert replica.sync(timeout=20).uploaded_mutations == 1


def test_a_callback_that_calls_back(replica: Replica, office: Office) -> None:
    codes: list[str] = []

    def on_changed(tables: list[str]) -> None:
        for work in (replica.sync, replica.start):
            try:
                work()
            except ReplicaError as error:
                codes.append(error.error_code)
        with replica.transaction() as db:
            db.execute("UPDATE visits SET note = 'from the callback'")
        assert replica.status.pending == 1 and replica.rejections() == []

    take_off = replica.on("changed", on_changed)
    assert replica.sync(timeout=20).pending == 0
    take_off()
    take_off()
    assert codes[:2] == ["in_callback", "in_callback"]
    assert office.rows[1][4] == "from the callback"


def test_a_callback_that_stops_the_replica(replica: Replica, office: Office) -> None:
    stopped = threading.Event()
    replica.sync(timeout=20)

    def on_changed(tables: list[str]) -> None:
        replica.stop()
        stopped.set()

    replica.on("changed", on_changed)
    replica.start()
    until(lambda: replica.status.state == "live")
    office.change(1, "p-1", "moved", 5, None)
    assert stopped.wait(20)
    until(lambda: replica.status.state == "stopped")
    with Replica(replica.path, "https://x.org", "t", transport=office) as other:
        until(lambda: free(other))


def free(replica: Replica) -> bool:
    try:
        replica.start()
    except ReplicaError:
        return False
    return True


def test_a_callback_may_take_itself_off(replica: Replica) -> None:
    told: list[str] = []

    def once(tables: list[str]) -> None:
        told.append("once")
        take_off()

    take_off = replica.on("changed", once)
    replica.on("changed", lambda tables: told.append("always"))
    replica.sync(timeout=20)
    execute(replica.path, "UPDATE visits SET status = 'x'")
    replica.sync(timeout=20)
    assert told == ["once", "always", "always"]
    with pytest.raises(TypeError):
        replica.on("changed", "print")  # type: ignore[arg-type]


def test_several_threads_sync_at_once(replica: Replica, office: Office) -> None:
    execute_all = [f"INSERT INTO visits (id, patient) VALUES ({number}, 'p')" for number in range(2, 10)]
    replica.sync(timeout=20)
    failures: list[BaseException] = []

    def work(sql: str) -> None:
        try:
            execute(replica.path, sql)
            replica.sync(timeout=50)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(sql,)) for sql in execute_all]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == [] and replica.status.pending == 0 and len(office.rows) == 9
    assert replica.status.state == "stopped"


def test_start_while_somebody_waits_for_a_sync(replica: Replica, office: Office) -> None:
    replica.sync(timeout=20)
    office.holds_checkpoints = True
    execute(replica.path, "UPDATE visits SET status = 'done'")
    reports: list[Any] = []
    waiting = threading.Thread(target=lambda: reports.append(replica.sync(timeout=50)))
    waiting.start()
    until(lambda: office.last == 1)
    replica.start()
    office.holds_checkpoints = False
    with office.wakes:
        office.included, office.head = 1, office.head + 1
        office.wakes.notify_all()
    waiting.join(60)
    assert [report.pending for report in reports] == [0]
    until(lambda: replica.status.state == "live")


def test_stop_while_somebody_waits_for_a_sync(replica: Replica, office: Office) -> None:
    replica.sync(timeout=20)
    office.holds_checkpoints = True
    execute(replica.path, "UPDATE visits SET status = 'done'")
    errors: list[Any] = []

    def wait() -> None:
        try:
            replica.sync(timeout=50)
        except SynclineError as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    until(lambda: office.last == 1)
    begun = time.monotonic()
    replica.stop()
    waiting.join(60)
    assert isinstance(errors[0], UnreachableError) and errors[0].error_code == "stopped"
    assert time.monotonic() - begun < 20 and replica.status.pending == 1


def test_on_a_wiped_file(replica: Replica, office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    replica.sync(timeout=20)
    watch = replica.watch("SELECT * FROM visits")
    next(watch)
    download = office.download
    monkeypatch.setattr(office, "download", lambda message: iter([{"t": "wipe", "reason": "lost"}]))
    with pytest.raises(ReplicaError, match="deleted"):
        replica.sync(timeout=20)
    monkeypatch.setattr(office, "download", download)
    with pytest.raises(ReplicaError, match="bad_query"):
        next(watch)
    assert replica.rejections() == [] == replica.conflicts() and replica.receipt is None
    assert replica.dismiss(1) is False
    for work in (lambda: replica.new_key("visits"), lambda: replica.retry(1), lambda: replica.sync(timeout=20)):
        with pytest.raises(ReplicaError):
            work()
    replica.start()
    until(lambda: replica.status.state == "wiped")
    with replica.transaction() as db:
        db.execute("CREATE TABLE own (a)")
    assert execute(replica.path, "SELECT * FROM syncline_pending") == []


def test_a_file_that_goes_away(replica: Replica) -> None:
    replica.sync(timeout=20)
    replica.stop()
    for name in (replica.path, Path(f"{replica.path}-wal"), Path(f"{replica.path}-shm")):
        name.unlink(missing_ok=True)
    with pytest.raises(ReplicaError) as caught:
        _ = replica.status
    assert code_of(caught) == "no_file" and not replica.path.exists()
    assert replica.sync(timeout=20).first_sync, "it begins anew"


def test_an_app_that_holds_the_file_holds_up_no_one_for_ever(replica: Replica, office: Office) -> None:
    replica.sync(timeout=20)
    with closing(sqlite3.connect(replica.path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE visits SET status = 'long coffee break'")
        assert replica.status.pending == 0
        with replica.watch("SELECT status FROM visits") as watch:
            assert next(watch) == [("planned",)]
        db.execute("COMMIT")
    assert replica.sync(timeout=20).uploaded_mutations == 1
