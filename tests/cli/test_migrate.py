"""`syncline migrate` and `syncline doctor` on a real SQLite database."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.cli.conftest import Syncline


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


def triggers(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as db:
        return {row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")}


@pytest.fixture
def provisioned(configured: Path, syncline: Syncline) -> Path:
    assert syncline("provision").status == 0
    return configured


def test_the_command_runs_without_capture_and_capture_is_back_afterwards(provisioned: Path, syncline: Syncline) -> None:
    """P15, P20."""
    before = triggers(provisioned / "clinic.db")
    look = "import sqlite3; print(sqlite3.connect('clinic.db').execute("
    look += "\"SELECT count(*) FROM sqlite_schema WHERE name LIKE 'syncline_update%'\").fetchone()[0], file=open('seen', 'w'))"
    told = syncline("migrate", "--", sys.executable, "-c", look)
    assert (told.status, told.out) == (0, "")
    assert "Capture is back." in told.err
    assert (provisioned / "seen").read_text().strip() == "0"
    assert triggers(provisioned / "clinic.db") == before
    assert syncline("check", "--json").json["changes"] == []


@pytest.mark.parametrize(
    ("command", "status"), [([sys.executable, "-c", "raise SystemExit(5)"], 5), (["./is-not-there"], 127)]
)
def test_a_command_that_fails(provisioned: Path, syncline: Syncline, command: list[str], status: int) -> None:
    """Its status is ours, and capture is back."""
    before = triggers(provisioned / "clinic.db")
    assert syncline("migrate", "--", *command).status == status
    assert triggers(provisioned / "clinic.db") == before


def test_a_migration_that_the_configuration_does_not_survive_is_told(provisioned: Path, syncline: Syncline) -> None:
    """P20: never status 0, and doctor says the rest."""
    rename = "import sqlite3; sqlite3.connect('clinic.db').execute('ALTER TABLE visits RENAME TO calls')"
    told = syncline("migrate", "--", sys.executable, "-c", rename)
    assert told.status == 2
    assert "[unknown_table]" in told.err
    assert "Capture is NOT back" in told.err
    found = syncline("doctor", "--json")
    assert (found.status, found.json["ok"]) == (1, False)
    assert [each["code"] for each in found.json["findings"]] == ["unknown_table", "migration_died"]
    execute(provisioned / "clinic.db", "ALTER TABLE calls RENAME TO visits")
    assert syncline("provision").status == 0
    assert syncline("doctor").status == 0


def test_the_scripts(provisioned: Path, syncline: Syncline) -> None:
    """For tools that run SQL files."""
    before = syncline("migrate", "--before")
    after = syncline("migrate", "--after")
    assert (before.status, after.status) == (0, 0)
    with closing(sqlite3.connect(provisioned / "clinic.db")) as db:
        db.executescript(before.out)
    assert not any(name.startswith("syncline_update") for name in triggers(provisioned / "clinic.db"))
    assert [each["code"] for each in syncline("doctor", "--json").json["findings"]] == ["migration_running"]
    with closing(sqlite3.connect(provisioned / "clinic.db")) as db:
        db.executescript(after.out)
    assert syncline("provision").status == 0
    assert syncline("doctor").out == "Nothing is wrong.\n"


@pytest.mark.parametrize("arguments", [[], ["--before", "--after"], ["--before", "--", "true"]])
def test_wrong_use(provisioned: Path, syncline: Syncline, arguments: list[str]) -> None:
    told = syncline("migrate", *arguments)
    assert (told.status, told.out) == (2, "")
    assert "[usage]" in told.err


def test_doctor_names_what_is_missing_and_what_to_do(configured: Path, syncline: Syncline) -> None:
    """Not provisioned; then provisioned, written, and never served; then a trigger gone."""
    found = syncline("doctor", "--json").json["findings"]
    assert [(each["code"], each["remedy"]) for each in found] == [("not_provisioned", "Run: syncline provision")]
    syncline("provision")
    assert syncline("doctor", "--json").json == {"ok": True, "findings": [], "notes": []}
    execute(configured / "clinic.db", "UPDATE visits SET id = id || 'x'")
    assert [each["code"] for each in syncline("doctor", "--json").json["findings"]] == ["not_served"]
    execute(configured / "clinic.db", "DROP TRIGGER syncline_update_visits")
    told = syncline("doctor")
    assert told.status == 1
    assert '"syncline_update_visits" is missing' in told.out
    assert "Run: syncline provision" in told.out
