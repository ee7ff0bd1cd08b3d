"""All verbs together: a server, a nurse's replica, and the office's lists, as a script would use them."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Syncline, Told, environment
from tests.cli.test_serve import serving


class Nurse:
    """A replica of nurse-1 and the command line for it."""

    def __init__(self, folder: Path, url: str, syncline: Syncline) -> None:
        self.db = folder / "nurse.db"
        self.options = ("--db", str(self.db), "--server", url, "--token", f"@{folder / 'token'}")
        self._syncline = syncline
        (folder / "token").write_text(syncline("token", "--sub", "nurse-1").out, encoding="utf-8")

    def sync(self, *more: str) -> Told:
        return self._syncline("device", "sync", *self.options, "--json", *more)

    def look(self, verb: str) -> Told:
        return self._syncline("device", verb, "--db", str(self.db), "--json")

    def write(self, sql: str) -> None:
        execute(self.db, sql)


def execute(path: Path, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        with connection:
            return connection.execute(sql).fetchall()
    finally:
        connection.close()


@pytest.fixture
def nurse(configured: Path, syncline: Syncline) -> Iterator[Nurse]:
    """A nurse beside a running server; nothing is synced yet."""
    assert syncline("provision").status == 0
    with serving(configured) as (_, url):
        yield Nurse(configured, url, syncline)


def test_a_first_sync_and_a_day(nurse: Nurse, configured: Path, syncline: Syncline) -> None:
    told = nurse.sync()
    assert (told.status, told.err) == (0, "")
    assert list(told.json) == [
        "checkpoint", "downloaded_rows", "removed_rows", "uploaded_mutations", "rejected", "conflicts", "pending",
        "first_sync", "seconds",
    ]  # fmt: skip
    assert (told.json["first_sync"], told.json["downloaded_rows"]) == (True, 6)
    assert execute(nurse.db, "SELECT id FROM patients ORDER BY id") == [("p1",), ("p2",)]

    nurse.write("UPDATE visits SET note = 'done' WHERE id = 'v1'")
    status = nurse.look("status").json
    assert (status["pending"], status["rejected"]) == (1, 0)
    assert status["last_synced_at"] is not None
    report = nurse.sync().json
    assert (report["uploaded_mutations"], report["pending"], report["first_sync"]) == (1, 0, False)
    assert execute(configured / "clinic.db", "SELECT note FROM visits WHERE id = 'v1'") == [("done",)]

    execute(configured / "clinic.db", "UPDATE assignments SET ended_at = 'now', caregiver_id = 'nurse-2' WHERE id = 2")
    assert nurse.sync().json["removed_rows"] >= 1
    assert execute(nurse.db, "SELECT id FROM patients") == [("p1",)]

    (device,) = syncline("devices", "--json").json
    assert (device["user"], device["last"], device["included"], device["rejected"]) == ("nurse-1", 1, 1, 0)
    assert "nurse-1" in syncline("devices").out


def test_a_refused_change_is_listed_on_both_sides(nurse: Nurse, syncline: Syncline) -> None:
    nurse.sync()
    nurse.write("UPDATE assignments SET caregiver_id = 'nobody' WHERE id = 1")
    told = nurse.sync()
    assert (told.status, told.json["rejected"], told.json["pending"]) == (0, 1, 0)
    (rejection,) = nurse.look("rejections").json
    assert (rejection["table"], rejection["key"], rejection["operation"]) == ("assignments", {"id": 1}, "update")
    assert list(rejection) == ["id", "table", "key", "operation", "code", "reason", "values", "group", "at"]
    (record,) = syncline("rejections", "--json").json
    assert (record["user"], record["key"], record["code"]) == ("nurse-1", {"id": 1}, rejection["code"])
    assert syncline("rejections", "show", record["id"], "--json").json == record
    assert nurse.look("status").json["rejected"] == 1


def test_a_conflict_is_listed_with_its_values(nurse: Nurse, configured: Path, syncline: Syncline) -> None:
    nurse.sync()
    nurse.write("UPDATE visits SET note = 'hers' WHERE id = 'v1'")
    time.sleep(0.05)
    execute(configured / "clinic.db", "UPDATE visits SET note = 'the office' WHERE id = 'v1'")
    assert nurse.sync().json["conflicts"] == 1
    (conflict,) = syncline("conflicts", "--json").json
    assert (conflict["table"], conflict["key"], conflict["column"]) == ("visits", {"id": "v1"}, "note")
    assert {conflict["server"], conflict["device_value"]} == {"hers", "the office"}
    assert conflict["base"] == "a"
    assert syncline("conflicts", "show", str(conflict["id"]), "--json").json == conflict
    assert "the office" in syncline("conflicts").out
    assert syncline("conflicts", "export").json == [conflict]


def test_without_a_server_the_report_is_still_printed(configured: Path, syncline: Syncline) -> None:
    nurse = Nurse(configured, "http://127.0.0.1:9", syncline)
    told = nurse.sync("--timeout", "1")
    assert told.status == 1
    assert told.json["first_sync"] in (True, False)
    assert "[sync_timeout]" in told.err
    assert "Traceback" not in told.err


def test_a_token_that_the_server_refuses(nurse: Nurse, configured: Path) -> None:
    (configured / "token").write_text("nonsense", encoding="utf-8")
    told = nurse.sync("--timeout", "10")
    assert (told.status, told.out) == (1, "")
    assert "[token_invalid]" in told.err


def test_a_file_that_is_no_replica(configured: Path, syncline: Syncline) -> None:
    (configured / "text.db").write_text("not a database, and long enough to be told apart from one" * 10)
    for verb in ("status", "rejections"):
        told = syncline("device", verb, "--db", "text.db")
        assert (told.status, told.out) == (1, "")
        assert told.err.startswith("Error: ")


def test_run_stays_in_step_until_it_is_told_to_end(nurse: Nurse, configured: Path) -> None:
    command = [sys.executable, "-m", "syncline", "device", "run", *nurse.options]
    process = subprocess.Popen(
        command, cwd=configured, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        wait_until(lambda: nurse.db.exists() and has_table(nurse.db), "the first sync")
        nurse.write("UPDATE visits SET note = 'from run' WHERE id = 'v1'")
        there = "SELECT note FROM visits WHERE id = 'v1'"
        wait_until(lambda: execute(configured / "clinic.db", there) == [("from run",)], "the upload")
        execute(configured / "clinic.db", "UPDATE patients SET name = 'Mrs One' WHERE id = 'p1'")
        name = "SELECT name FROM patients WHERE id = 'p1'"
        wait_until(lambda: execute(nurse.db, name) == [("Mrs One",)], "the download")
        process.terminate()
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, err) == (0, "")
    assert "live · checkpoint" in out
    assert json.loads(nurse.look("status").out)["state"] == "stopped"


def has_table(path: Path) -> bool:
    return execute(path, "SELECT 1 FROM sqlite_schema WHERE name = 'visits'") != [] and (
        execute(path, "SELECT 1 FROM visits") != []
    )


def wait_until(done: object, what: str, seconds: float = 20.0) -> None:
    assert callable(done)
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"{what} did not come within {seconds:g} s"
        time.sleep(0.05)
