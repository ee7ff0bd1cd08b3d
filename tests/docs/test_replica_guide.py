"""docs/replica.md does what it says: its blocks are run in their order, against a server of its own."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import closing, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from tests.docs.generate import ROOT
from tests.integration.company import SECRET, Company, query, token

from syncline import Replica
from syncline.cli import main
from syncline.model.new_keys import is_new_key
from syncline.replica.live_query import LiveQuery

PAGE = (ROOT / "docs" / "replica.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|sh)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)

TABLES = """
CREATE TABLE patients(id TEXT PRIMARY KEY, nurse TEXT);
CREATE TABLE visits(id TEXT PRIMARY KEY, patient_id TEXT NOT NULL REFERENCES patients(id),
  status TEXT NOT NULL CHECK(status IN ('planned', 'done')));
CREATE TABLE notes(id TEXT PRIMARY KEY, visit_id TEXT NOT NULL REFERENCES visits(id), body TEXT);
CREATE TABLE tickets(id INTEGER PRIMARY KEY, visit_id TEXT NOT NULL REFERENCES visits(id), body TEXT);
CREATE TABLE shifts(id INTEGER PRIMARY KEY, nurse TEXT NOT NULL);
CREATE INDEX i4 ON shifts(nurse);
CREATE INDEX i1 ON visits(patient_id); CREATE INDEX i2 ON notes(visit_id); CREATE INDEX i3 ON tickets(visit_id);
INSERT INTO patients VALUES('ada', 'ann'), ('bo', 'ann');
INSERT INTO visits VALUES('v-ada', 'ada', 'planned'), ('v-bo', 'bo', 'planned');
INSERT INTO tickets VALUES(7, 'v-bo', 'the first');
"""
CONFIGURATION = f"""
[source]
url = "sqlite:///clinic.db"
[auth]
secret = "{SECRET}"
[scope.caseload]
root = "patients"
grant = "SELECT id FROM patients WHERE nurse = :sub"
[scope.caseload.tables]
visits = {{ parent = "patients" }}
notes = {{ parent = "visits" }}
tickets = {{ parent = "visits" }}
[scope.own]
root = "shifts"
key = "nurse"
grant = "SELECT :sub"
"""


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    company = Company(tmp_path, TABLES, CONFIGURATION)
    company.serve()
    yield company
    company.close()


def test_every_block_of_the_guide_runs(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(company.folder)
    names: dict[str, Any] = {"get_token": lambda: token("ann")}
    try:
        for language, block in BLOCKS:
            if language == "sh":
                shell(block)
            else:
                code = block.replace("https://sync.example.org", company.road.url)
                exec(compile(code, "docs/replica.md", "exec"), names)
    finally:
        replica = names.get("replica")
        if isinstance(replica, Replica):
            replica.stop()
    tickets = query(company.path, "SELECT id, body FROM tickets ORDER BY body")
    assert [body for _, body in tickets] == ["bandages are short", "the first"]
    assert is_new_key(tickets[0][:1]) and query(company.path, "SELECT nurse FROM shifts") == [("ann",)]
    assert query(company.path, "SELECT body FROM notes") == [("wound is dry",)]
    assert query(company.path, "SELECT id, status FROM visits ORDER BY id") == [("v-ada", "done"), ("v-bo", "done")]
    out = io.StringIO()
    with redirect_stdout(out):
        assert main.run(["devices"]) == 0
    assert "schema version" in out.getvalue() and re.search(r"ann +3 ", out.getvalue())


def shell(block: str) -> None:
    for line in block.splitlines():
        command, _, target = line.removeprefix("syncline ").partition(" > ")
        out = io.StringIO()
        with redirect_stdout(out):
            assert main.run(command.split()) == 0
        Path(target).write_text(out.getvalue(), encoding="utf-8")


def test_the_guide_names_every_method_and_event() -> None:
    from syncline import AsyncReplica
    from syncline.replica.api import EVENTS

    public = {name for name in {*dir(Replica), *dir(AsyncReplica)} if not name.startswith("_")}
    undocumented = {"path", "close", "connectivity_changed", "power_changed"}
    assert {name for name in public - undocumented if not re.search(rf"\b{name}\b", PAGE)} == set()
    for event in EVENTS:
        assert f"`{event}`" in PAGE


def test_the_guide_names_the_columns_of_the_views(company: Company) -> None:
    with company.device("ann") as replica:
        replica.sync(timeout=60)
        for view in ("syncline_pending", "syncline_rejections", "syncline_conflicts"):
            (columns,) = re.findall(rf"^\| `{view}` \| (.*) \|$", PAGE, re.MULTILINE)
            found = [name for _, name, *_ in query(replica.path, f"PRAGMA table_info({view})")]
            assert re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", columns)) == found


def test_a_query_by_the_guide_reads_what_it_says(company: Company) -> None:
    with company.device("ann") as replica:
        replica.sync(timeout=60)
        with closing(LiveQuery(replica.path, "SELECT * FROM syncline_pending")) as pending:
            assert {"syncline_outbox_visits", "syncline_outbox_tickets"} <= pending.tables
