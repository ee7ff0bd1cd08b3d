"""An app that brings its program along: the very first start is in a cellar without a signal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.replica.conftest import LINES, VISITS
from tests.replica.messages import plan_of
from tests.replica.office import PROGRAM, Office, execute

from syncline import Replica, ReplicaError, SyncTimeoutError, UnreachableError
from syncline.model.program import build_program, program_hash
from syncline.model.schema import Column, Table

Make = Callable[..., Replica]


@pytest.fixture
def make(tmp_path: Path, office: Office) -> Any:
    made: list[Replica] = []

    def open_replica(**options: Any) -> Replica:
        made.append(Replica(tmp_path / "nurse.db", "https://x.org", "token", transport=office, **options))
        return made[-1]

    yield open_replica
    for replica in made:
        replica.stop()


def test_she_works_before_the_office_ever_heard_of_the_phone(make: Make, office: Office, tmp_path: Path) -> None:
    bundled = tmp_path / "program.json"
    bundled.write_text(json.dumps(PROGRAM.dump()), encoding="utf-8")
    office.fault = UnreachableError("no signal")
    replica = make(program=bundled, schema_version=3)
    replica.start()
    key = replica.new_key("visits")
    execute(replica.path, "INSERT INTO visits (id, patient, status) VALUES (?, 'p-9', 'done')", key)
    with replica.transaction() as db:
        db.execute("INSERT INTO lines VALUES ('a', 1, 'gauze')")
        db.execute("UPDATE visits SET count = 3 WHERE id = ?", (key,))
    assert execute(replica.path, "SELECT table_name, operation FROM syncline_pending ORDER BY since, 1, 2") == [
        ("visits", "insert"),
        ("lines", "insert"),
        ("visits", "update"),
    ]
    with pytest.raises(SyncTimeoutError):
        replica.sync(timeout=0.2)
    assert replica.status.pending == 3
    replica.stop()
    office.fault = None
    report = replica.sync(timeout=20)
    assert (report.uploaded_mutations, report.pending, report.first_sync) == (3, 0, True)
    assert office.rows[key] == (key, "p-9", "done", 3, None) and office.hello_message["schema_version"] == 3
    assert execute(replica.path, "SELECT id FROM visits ORDER BY id") == [(1,), (key,)]


def test_the_office_has_another_program_by_then(make: Make, office: Office) -> None:
    """Last month's app: `kind` is not known to it yet, and `wards` syncs no longer. The outbox is carried over."""
    then = Table("visits", (*VISITS.columns[:4], Column("mood", "TEXT")), ("id",), generated_key=True)
    wards = Table("wards", (Column("id", "TEXT"), Column("name", "TEXT")), ("id",))
    replica = make(program=build_program(plan_of(then, LINES, wards)).dump())
    execute(replica.path, "INSERT INTO visits (id, patient, mood) VALUES (5, 'p-5', 'fine')")
    execute(replica.path, "INSERT INTO wards VALUES ('w', 'North')")
    execute(replica.path, "INSERT INTO lines VALUES ('a', 1, 'gauze')")
    report = replica.sync(timeout=20)
    assert (report.uploaded_mutations, report.pending) == (3, 0)
    assert [(each["table"], each["op"]) for each in office.received] == [
        ("visits", "I"),
        ("wards", "I"),
        ("lines", "I"),
    ]
    assert office.rows[5][:2] == (5, "p-5")
    assert [name for _, name, *_ in execute(replica.path, "PRAGMA table_info(visits)")] == list(
        PROGRAM.tables["visits"].columns
    )
    assert execute(replica.path, "SELECT name FROM sqlite_schema WHERE name = 'wards'") == []


def test_a_file_that_has_a_program_keeps_it(make: Make, office: Office) -> None:
    make().sync(timeout=20)
    older = build_program(plan_of(VISITS)).dump()
    replica = make(program=older)
    assert execute(replica.path, "SELECT hash FROM syncline_program") == [(PROGRAM.hash,)]


def test_a_wiped_file_stays_wiped(make: Make, office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    replica = make()
    replica.sync(timeout=20)
    monkeypatch.setattr(office, "download", lambda message: iter([{"t": "wipe", "reason": "lost"}]))
    with pytest.raises(ReplicaError):
        replica.sync(timeout=20)
    assert make(program=PROGRAM.dump()).status.state == "wiped"
    assert execute(replica.path, "SELECT * FROM syncline_program") == []


def later() -> dict[str, Any]:
    document = {**PROGRAM.dump(), "version": 99}
    return {**document, "hash": program_hash(document)}


def demanding() -> dict[str, Any]:
    document = {**PROGRAM.dump(), "sqlite_min": "9.1.0"}
    return {**document, "hash": program_hash(document)}


def hostile() -> dict[str, Any]:
    document = json.loads(json.dumps(PROGRAM.dump()))
    document["views"] = ["CREATE VIEW syncline_pending AS SELECT random() AS table_name"]
    return {**document, "hash": program_hash(document)}


def broken() -> dict[str, Any]:
    document = json.loads(json.dumps(PROGRAM.dump()))
    document["views"] = ["CREATE VIEW syncline_pending AS SELEC"]
    return {**document, "hash": program_hash(document)}


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ({}, "bundled_program"),
        ({**PROGRAM.dump(), "hash": "0"}, "bundled_program"),
        (later(), "bundled_program"),
        ("nowhere.json", "bundled_program"),
        (5, "bundled_program"),
        (demanding(), "sqlite_too_old"),
        (hostile(), "program_refused"),
        (broken(), "bundled_program"),
    ],
)
def test_a_program_that_is_none_is_told_at_once(make: Make, program: Any, code: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=code):
        make(program=program)
    assert make().status.state == "stopped", "the file is as it was, and free"


def test_a_file_that_is_not_json(make: Make, tmp_path: Path) -> None:
    (tmp_path / "program.json").write_bytes(b"\xff\xfe<html>")
    with pytest.raises(ReplicaError, match="bundled_program"):
        make(program=tmp_path / "program.json")


@pytest.mark.parametrize("wrong", ["3", -1, 1.5, True, 2**60])
def test_a_schema_version_is_a_number(make: Make, wrong: Any) -> None:
    with pytest.raises(Exception, match="schema_version"):
        make(schema_version=wrong)
