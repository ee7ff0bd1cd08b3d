"""The company's file damaged, replaced by something else, or gone: what the commands say, and that they change nothing.

Of configurations: tests/unit/test_config_errors.py and tests/unit/test_config_sqlite.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import Syncline, clinic, configured, python, syncline
from tests.mishaps.test_device_files import overwrite

__all__ = ["clinic", "configured", "syncline"]  # fixtures

COMMANDS = (
    "check",
    "check --json",
    "provision",
    "devices --json",
    "rejections --json",
    "migrate -- true",
    "deprovision --yes",
)
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "random bytes in the header": (overwrite(0, 100), "source_unreadable"),
    "random bytes in all pages but the first": (overwrite(100, None), "source_corrupt"),
    "a truncated file": (lambda path: os.truncate(path, 5000), "source_corrupt"),
    "a text": (lambda path: path.write_text("Dear Ada, " * 50, encoding="utf-8"), "source_unreadable"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "source_missing"),
    "gone": (lambda path: path.unlink(), "source_missing"),
}


def bytes_of(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


@pytest.mark.parametrize("name", DAMAGES)
def test_no_command_shows_a_traceback_or_writes(name: str, configured: Path, syncline: Syncline) -> None:
    assert syncline("provision").status == 0
    path = configured / "clinic.db"
    for beside in (Path(f"{path}-wal"), Path(f"{path}-shm")):
        beside.unlink(missing_ok=True)
    damage, code = DAMAGES[name]
    damage(path)
    found = bytes_of(path)
    for command in COMMANDS:
        told = syncline(*command.split())
        assert told.status == 1 and f"[{code}]" in told.err, (command, told)
        assert told.out == "" or ("--json" in command and told.json), (command, told)
    doctor = syncline("doctor", "--json")
    assert (doctor.status, doctor.json["findings"][0]["code"]) == (1, code)
    assert doctor.json["findings"][0]["remedy"]
    assert bytes_of(path) == found


@pytest.mark.parametrize("name", ["a text", "a truncated file", "gone"])
def test_a_server_does_not_start_on_it(name: str, configured: Path, syncline: Syncline) -> None:
    assert syncline("provision").status == 0
    damage, code = DAMAGES[name]
    damage(configured / "clinic.db")
    told = python("-m", "syncline", "serve", "--port", "0", folder=configured)
    assert (told.returncode, told.stdout) == (1, "")
    assert f"[{code}]" in told.stderr and "Traceback" not in told.stderr


def test_an_empty_file_has_none_of_the_tables(configured: Path, syncline: Syncline) -> None:
    (configured / "clinic.db").write_bytes(b"")
    told = syncline("check")
    assert (told.status, told.out) == (2, "") and "Traceback" not in told.err
    assert "syncline.toml:" in told.err
