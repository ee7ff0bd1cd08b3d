"""What every command has in common: exit statuses, where errors go, and what the bare install can do."""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import requires
from pathlib import Path

import pytest
from tests.cli.conftest import Syncline, python

from syncline.cli import check as check_verb
from syncline.cli.output import as_json, cell, iso_time

SERVER_PACKAGES = ("pydantic", "jwt", "starlette", "uvicorn", "zstandard", "tomlkit")
TYPER_NEEDS = " ".join(requires("typer") or ())
in_the_bare_install = pytest.mark.skipif("pydantic" in TYPER_NEEDS, reason="this typer needs pydantic itself")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "No such command 'nonsense'. See: syncline --help [usage]"),
        (["check", "--nonsense"], "No such option: --nonsense. See: syncline check --help [usage]"),
        (["init"], "Missing argument 'SOURCE_URL'. See: syncline init --help [usage]"),
        (["device", "sync"], "See: syncline device sync --help [usage]"),
        (["serve", "--port", "x"], "See: syncline serve --help [usage]"),
        (["serve", "--workers", "0"], "See: syncline serve --help [usage]"),
    ],
)
def test_wrong_use_is_2_and_says_where_help_is(
    arguments: list[str], said: str, clinic: Path, syncline: Syncline
) -> None:
    told = syncline(*arguments)
    assert (told.status, told.out) == (2, "")
    assert told.err.startswith("Error: ")
    assert said in told.err


def test_without_a_command_there_is_help(syncline: Syncline) -> None:
    told = syncline()
    assert told.status == 0
    assert "provision" in told.out


def test_an_interrupt_is_130_without_a_traceback(
    clinic: Path, syncline: Syncline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(check_verb, "load", interrupted)
    told = syncline("check")
    assert (told.status, told.out) == (130, "")
    assert "Traceback" not in told.err


def test_a_fault_of_ours_is_not_hidden(clinic: Path, syncline: Syncline, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(check_verb, "load", broken)
    with pytest.raises(ZeroDivisionError):
        syncline("check")


def bare(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The command in a Python where the server's packages cannot be imported."""
    block = f"import sys; sys.modules.update(dict.fromkeys({SERVER_PACKAGES!r}))"
    program = f"{block}\nfrom syncline.cli.main import main\nmain({list(arguments)!r})"
    return python("-c", program, folder=folder)


def test_the_bare_install_pulls_in_no_compiled_package() -> None:
    assert "pydantic" not in TYPER_NEEDS, "typer 0.29 needs pydantic, which does not run on a phone: pin typer<0.29"


@in_the_bare_install
@pytest.mark.parametrize(
    "arguments",
    [
        ("init", "sqlite:///clinic.db"),
        ("check",),
        ("provision",),
        ("deprovision", "--yes"),
        ("serve",),
        ("token", "--sub", "a"),
        ("devices",),
        ("conflicts",),
        ("rejections",),
    ],
)
def test_a_server_verb_in_the_bare_install_says_what_to_install(arguments: tuple[str, ...], clinic: Path) -> None:
    told = bare(*arguments, folder=clinic)
    assert (told.returncode, told.stdout) == (2, "")
    assert 'pip install "syncline[server]"' in told.stderr
    assert "[extra_missing]" in told.stderr
    assert "Traceback" not in told.stderr


@in_the_bare_install
@pytest.mark.parametrize(
    "arguments", [("--help",), ("serve", "--help"), ("device", "--help"), ("device", "sync", "--help")]
)
def test_help_works_in_the_bare_install(arguments: tuple[str, ...], clinic: Path) -> None:
    told = bare(*arguments, folder=clinic)
    assert (told.returncode, told.stderr) == (0, "")


def test_as_a_module(tmp_path: Path) -> None:
    told = python("-m", "syncline", "--version", folder=tmp_path)
    assert told.returncode == 0
    assert told.stdout.startswith("syncline ")


def test_values_that_json_cannot_carry() -> None:
    document = {"a": b"\x00", "b": float("inf"), "c": (1, "é")}
    assert json.loads(as_json(document)) == {"a": ["b", "AA=="], "b": ["f", "inf"], "c": [1, "é"]}


def test_cells_are_one_short_line() -> None:
    assert cell(None) == "-"
    assert cell({"a": 1, "b": 2}) == "a=1, b=2"
    assert cell("a\nb") == "a b"
    assert len(cell("x" * 100)) == 60
    assert iso_time(0) == "1970-01-01 00:00:00.000000"
