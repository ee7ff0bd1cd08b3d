"""Files that other versions of Syncline wrote: older ones are brought up to date, later ones refused, none damaged."""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.replica.office import Office, execute

from syncline import Replica, ReplicaError
from syncline.model.program_base import FILE_FORMAT
from syncline.replica.file import ReplicaFile
from syncline.replica.status import read_rejections, read_status
from syncline.replica.versions import STEPS, bring_up_to_date
from syncline.system.database import open_database

OLD = Path(__file__).parents[1] / "data" / "replicas"
NAMES = sorted(path.stem for path in OLD.glob("*.db"))


@pytest.fixture
def old(tmp_path: Path) -> Any:
    """A copy of one of the kept files."""

    def copy(name: str) -> Path:
        return Path(shutil.copy(OLD / f"{name}.db", tmp_path / f"{name}.db"))

    return copy


def ours(path: Path) -> dict[str, str]:
    """Name -> definition of what every file has, without the spaces."""
    rows = execute(
        path, "SELECT name, sql FROM sqlite_schema WHERE name LIKE 'syncline#_%' ESCAPE '#' AND sql NOT NULL"
    )
    found = {name: re.sub(r"\s+| IF NOT EXISTS", "", sql) for name, sql in rows}
    of_program = re.compile(r"syncline_(outbox|held|sent|replaced|key|index|capture\w*|probe\w*|pending)_?")
    return {name: sql for name, sql in found.items() if not of_program.match(name)}


def test_every_old_format_is_kept_here() -> None:
    kept = {execute(OLD / f"{name}.db", "SELECT format FROM syncline_state")[0][0] for name in NAMES}
    assert kept == set(range(1, FILE_FORMAT)) == set(STEPS)


@pytest.mark.parametrize("name", NAMES)
def test_an_old_file_becomes_what_a_new_one_is(name: str, old: Any, tmp_path: Path) -> None:
    path = old(name)
    ReplicaFile(path).close()
    ReplicaFile(tmp_path / "new.db").close()
    assert ours(path) == ours(tmp_path / "new.db")
    assert execute(path, "SELECT format FROM syncline_state") == [(FILE_FORMAT,)]
    (sequence,) = execute(path, "SELECT seq FROM sqlite_sequence WHERE name = 'syncline_parked'")
    assert sequence == (1,), "the id of the one rejection is not given again"


def test_the_nurses_old_phone_is_updated_with_a_days_work_in_it(old: Any, office: Office) -> None:
    path = old("format1-pending")
    office.rows = {
        1: (1, "p-1", "planned", 5, None),
        2: (2, "p-2", "planned", 1, "é"),
        3: (3, "p-3", "planned", None, 1.5),
    }
    office.last = office.included = office.head = 2
    waiting = execute(path, "SELECT * FROM syncline_pending")
    rejections = execute(path, "SELECT * FROM syncline_rejections")
    conflicts = execute(path, "SELECT * FROM syncline_conflicts")
    with Replica(path, "https://x.org", "token", transport=office) as replica:
        assert replica.status.pending == 7
        assert execute(path, "SELECT * FROM syncline_pending") == waiting
        assert execute(path, "SELECT * FROM syncline_rejections") == rejections
        assert execute(path, "SELECT * FROM syncline_conflicts") == conflicts
        report = replica.sync(timeout=20)
        assert (report.uploaded_mutations, report.pending, report.rejected) == (7, 0, 0)
        assert replica.receipt is not None and replica.receipt.reached == 7
    assert [(each["table"], each["op"], each["key"]) for each in office.received] == [
        ("visits", "U", [1]),
        ("visits", "I", [10]),
        ("visits", "D", [3]),
        ("lines", "D", ["x", 1]),
        ("lines", "I", ["x", 2]),
        ("visits", "U", [1]),
        ("lines", "U", ["x", 2]),
    ]
    assert office.rows[1][1:4] == ("p-1b", "done", 7)


def test_an_old_file_that_is_only_looked_at_stays_old(old: Any) -> None:
    path = old("format1-pending")
    before = path.read_bytes()
    status = read_status(path)
    assert (status["pending"], status["rejected"], status["receipt"]) == (7, 1, None)
    assert read_rejections(path)[0]["code"] == "check"
    assert execute(path, "SELECT format FROM syncline_state") == [(1,)]
    assert path.read_bytes() == before


def test_an_update_that_breaks_off_leaves_the_old_file(old: Any) -> None:
    path = old("format1-quiet")
    before = execute(path, "SELECT name, sql FROM sqlite_schema")
    with closing(open_database(path)) as connection:
        steps = 0

        def fail_late(action: int, *_: Any) -> int:
            nonlocal steps
            steps += action == sqlite3.SQLITE_CREATE_TABLE
            return sqlite3.SQLITE_DENY if steps == 3 else sqlite3.SQLITE_OK

        connection.set_authorizer(fail_late)
        with pytest.raises(sqlite3.DatabaseError):
            bring_up_to_date(connection, path)
        connection.set_authorizer(None)
    assert execute(path, "SELECT name, sql FROM sqlite_schema") == before


def test_a_file_of_a_later_syncline_is_refused_and_not_touched(tmp_path: Path, office: Office) -> None:
    path = tmp_path / "nurse.db"
    with Replica(path, "https://x.org", "token", transport=office) as replica:
        replica.sync(timeout=20)
    execute(path, "UPDATE syncline_state SET format = 99")
    execute(path, "DROP TABLE syncline_receipt")  # who knows what that one did
    execute(path, "PRAGMA journal_mode = DELETE")
    before = path.read_bytes()
    for attempt in (
        lambda: Replica(path, "https://x.org", "token", transport=office),
        lambda: read_status(path),
        lambda: read_rejections(path),
    ):
        with pytest.raises(ReplicaError) as caught:
            attempt()
        assert caught.value.error_code == "replica_newer" and "99" in str(caught.value)
    assert path.read_bytes() == before and execute(path, "SELECT count(*) FROM visits") == [(1,)]
