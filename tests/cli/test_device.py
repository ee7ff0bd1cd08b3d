"""The device's verbs, with a replica that does as the test says: what they print and how they end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Syncline

from syncline.cli import device_rejections, device_run, device_status
from syncline.cli.token_source import token_source
from syncline.errors import ConfigError, SyncTimeoutError, UnreachableError
from syncline.replica.api import SyncReport
from syncline.replica.status import Status

REPORT: dict[str, Any] = {
    "checkpoint": 12,
    "downloaded_rows": 1200,
    "removed_rows": 1,
    "uploaded_mutations": 2,
    "rejected": 0,
    "conflicts": 0,
    "pending": 0,
    "first_sync": True,
    "seconds": 1.25,
}


@dataclass
class FakeReplica:
    """`answer` is what sync returns, or raises."""

    db: Any
    server: str
    token: Callable[[], str]
    answer: Any = None
    timeout: float = 0.0
    stopped: bool = False

    def on(self, event: str, callback: Callable[[Any], None]) -> None:
        """Four tries that nobody answers."""
        assert event == "status"
        if isinstance(self.answer, SyncTimeoutError):
            for _ in range(4):
                callback(Status("waiting", 0, 0, 0, None, None))

    def sync(self, timeout: float) -> Any:
        self.timeout = timeout
        assert self.token() == "T"
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def replica(monkeypatch: pytest.MonkeyPatch) -> FakeReplica:
    """The replica that the next command gets."""
    fake = FakeReplica(None, "", lambda: "")

    def make(db: Any, server: str, *, token: Callable[[], str]) -> FakeReplica:
        fake.db, fake.server, fake.token = db, server, token
        return fake

    monkeypatch.setattr("syncline.replica.api.Replica", make)
    return fake


SYNC = ("device", "sync", "--db", "nurse.db", "--server", "http://h", "--token", "T")


def test_sync_json_is_the_report_and_nothing_else(replica: FakeReplica, syncline: Syncline) -> None:
    replica.answer = SyncReport(**REPORT)
    told = syncline(*SYNC, "--json", "--timeout", "7")
    assert (told.status, told.err) == (0, "")
    assert told.json == REPORT
    assert list(told.json) == list(REPORT)
    assert (replica.db, replica.server, replica.timeout, replica.stopped) == (Path("nurse.db"), "http://h", 7.0, True)


def test_sync_for_people(replica: FakeReplica, syncline: Syncline) -> None:
    replica.answer = SyncReport(**{**REPORT, "rejected": 1, "conflicts": 2})
    told = syncline(*SYNC)
    assert told.status == 0
    assert "1,200 rows downloaded, 1 removed, 2 changes uploaded, 0 pending" in told.out
    assert "1 change refused: see syncline device rejections." in told.out


def test_sync_that_runs_out_of_time_exits_1_and_still_prints_its_report(
    replica: FakeReplica, syncline: Syncline
) -> None:
    report = {**REPORT, "pending": 3}
    replica.answer = SyncTimeoutError(
        "After 60 s 3 changes were still pending.", report=SyncReport(**report), hint="Try again."
    )
    told = syncline(*SYNC, "--json")
    assert (told.status, told.json) == (1, report)
    waited, error = told.err.splitlines()
    assert "does not answer yet; trying for 60 s in all." in waited, "said once"
    assert error == "Error: After 60 s 3 changes were still pending. Try again. [sync_timeout]"
    assert replica.stopped


def test_sync_with_something_pending_is_not_a_success(replica: FakeReplica, syncline: Syncline) -> None:
    replica.answer = SyncReport(**{**REPORT, "pending": 1})
    assert syncline(*SYNC).status == 1


def test_sync_that_fails_prints_nothing_on_standard_output(replica: FakeReplica, syncline: Syncline) -> None:
    replica.answer = UnreachableError("Nothing answers at http://h.", hint="Is the server running?")
    told = syncline(*SYNC, "--json")
    assert (told.status, told.out) == (1, "")
    assert told.err == "Error: Nothing answers at http://h. Is the server running? [unreachable]\n"
    assert replica.stopped


def test_status_and_rejections_are_read_from_the_file(
    tmp_path: Path, syncline: Syncline, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = {"state": "offline", "pending": 1, "rejected": 1, "checkpoint": 7, "last_synced_at": None}
    rejection = {
        "id": 1,
        "table": "visits",
        "key": {"id": "v1"},
        "operation": "U",
        "code": "x",
        "reason": "y",
        "at": "z",
    }
    monkeypatch.setattr(device_status, "read_status", lambda path: status)
    monkeypatch.setattr(device_rejections, "read_rejections", lambda path: [rejection])
    db = tmp_path / "nurse.db"
    db.touch()
    assert syncline("device", "status", "--db", str(db), "--json").json == status
    assert "last synced at: -" in syncline("device", "status", "--db", str(db)).out
    assert syncline("device", "rejections", "--db", str(db), "--json").json == [rejection]
    rejection["reason"] = "The visit was closed by the office, and whoever wants to change it has to ask for it. " * 2
    shown = syncline("device", "rejections", "--db", str(db)).out
    assert "id=v1" in shown and "…" not in shown
    assert " ".join(rejection["reason"].split()) in " ".join(shown.split()), "whole, over several lines"
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("verb", ["status", "rejections"])
def test_looking_at_a_file_that_is_not_there_does_not_make_one(verb: str, tmp_path: Path, syncline: Syncline) -> None:
    told = syncline("device", verb, "--db", str(tmp_path / "none.db"), "--json")
    assert (told.status, told.out) == (1, "")
    assert "[no_file]" in told.err
    assert not (tmp_path / "none.db").exists()


def test_the_status_line() -> None:
    status = Status("first_sync", 1200, 0, 0, None)
    assert device_run.status_line(status) == "first sync · checkpoint 0 · 1,200 pending · 0 refused · last sync never"


def test_a_token_from_the_command_line() -> None:
    assert token_source(" abc ")() == "abc"


def test_a_token_from_a_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one\n", encoding="utf-8")
    read = token_source(f"@{path}")
    path.write_text("two\n", encoding="utf-8")
    assert read() == "two"


def test_a_token_from_a_variable_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NURSE_TOKEN", "one")
    read = token_source("$NURSE_TOKEN")
    monkeypatch.setenv("NURSE_TOKEN", "two")
    assert read() == "two"
    assert token_source("${NURSE_TOKEN}")() == "two"


@pytest.mark.parametrize("text", ["", " ", "@nowhere/token", "$SYNCLINE_NO_SUCH_VARIABLE"])
def test_no_token_is_told_at_once(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        token_source(text)
    assert caught.value.error_code == "token_missing"
