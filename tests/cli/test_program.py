"""`syncline program`: what an app ships so that its very first start needs no network."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Syncline

from syncline import Replica
from syncline.model.program import Program


def test_the_program_is_printed_as_one_document(configured: Path, syncline: Syncline) -> None:
    told = syncline("program")
    assert (told.status, told.err) == (0, "")
    program = Program.load(told.json)
    assert {"patients", "visits"} <= set(program.tables)


def test_an_app_can_ship_it(configured: Path, syncline: Syncline) -> None:
    told = syncline("program", "--out", "program.json")
    assert (told.status, told.out) == (0, "") and "program.json" in told.err
    with Replica("nurse.db", "http://127.0.0.1:9", "t", program="program.json") as replica:
        with replica.transaction() as db:
            db.execute("INSERT INTO patients (id, name) VALUES (?, 'Mr Four')", (replica.new_key("patients"),))
        assert replica.status.pending == 1
    assert json.loads((configured / "program.json").read_text(encoding="utf-8")) == syncline("program").json


def test_without_a_configuration_it_is_wrong_use(clinic: Path, syncline: Syncline) -> None:
    assert syncline("program", "--config", "none.toml").status == 2
