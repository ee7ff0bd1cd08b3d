"""A small database of a home-care company, in a folder of its own, and a way to run the command in it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from syncline.cli import main

SCHEMA = """
CREATE TABLE caregivers(id TEXT PRIMARY KEY, name TEXT);
CREATE TABLE patients(id TEXT PRIMARY KEY, name TEXT, ssn TEXT);
CREATE TABLE assignments(
  id INTEGER PRIMARY KEY, caregiver_id TEXT REFERENCES caregivers, patient_id TEXT REFERENCES patients, ended_at TEXT);
CREATE TABLE visits(
  id TEXT PRIMARY KEY, patient_id TEXT REFERENCES patients, caregiver_id TEXT REFERENCES caregivers, note TEXT);
CREATE TABLE medications(id TEXT PRIMARY KEY, name TEXT);
CREATE TABLE log(line TEXT);
CREATE INDEX visits_by_patient ON visits(patient_id);
INSERT INTO caregivers VALUES('nurse-1', 'Anna'), ('nurse-2', 'Berta');
INSERT INTO patients VALUES('p1', 'Mr One', '111'), ('p2', 'Ms Two', '222'), ('p3', 'Mr Three', '333');
INSERT INTO assignments VALUES(1, 'nurse-1', 'p1', NULL), (2, 'nurse-1', 'p2', NULL), (3, 'nurse-2', 'p3', NULL);
INSERT INTO visits VALUES('v1', 'p1', 'nurse-1', 'a'), ('v2', 'p1', 'nurse-1', 'b'), ('v3', 'p3', 'nurse-2', 'c');
INSERT INTO medications VALUES('m1', 'Aspirin');
"""


@dataclass
class Told:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on standard output: `json.loads` refuses anything beside it."""
        return json.loads(self.out)


SOURCES = Path(main.__file__).parents[2]


def environment() -> dict[str, str]:
    """For another process: it finds this Syncline, and warnings are errors there too."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SYNCLINE_")}
    paths = os.pathsep.join([str(SOURCES), *filter(None, [kept.get("PYTHONPATH")])])
    return {**kept, "PYTHONPATH": paths, "PYTHONWARNINGS": "error"}


def python(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run another Python to its end."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(),
        timeout=60,
        check=False,
    )


Syncline = Callable[..., Told]


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with clinic.db; the command runs in it."""
    connection = sqlite3.connect(tmp_path / "clinic.db")
    connection.executescript(SCHEMA)
    connection.close()
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("SYNCLINE_")]:
        monkeypatch.delenv(variable)
    return tmp_path


@pytest.fixture
def syncline(capsys: pytest.CaptureFixture[str]) -> Syncline:
    """Runs a command line in this process."""

    def call(*arguments: str) -> Told:
        status = main.run(list(arguments))
        told = capsys.readouterr()
        return Told(status, told.out, told.err)

    return call


@pytest.fixture
def configured(clinic: Path, syncline: Syncline) -> Path:
    """The folder after `syncline init`."""
    assert syncline("init", "sqlite:///clinic.db").status == 0
    return clinic
