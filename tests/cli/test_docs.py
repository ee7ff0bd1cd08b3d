"""docs/cli.md is complete: every command, option and variable stands there, and nothing that is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from syncline.cli.main import app, run
from syncline.server.config_options import OPTIONS, environment_table

DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
LATER = ("admin", "explain")


def commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group below `syncline`, with its words."""
    command = command or typer.main.get_command(app)
    if path:
        yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


ALL = {" ".join(path): command for path, command in commands()}
LEAVES = {name: command for name, command in ALL.items() if name != "device"}


def section(name: str) -> str:
    """The part of the page about a command: up to the next heading, or the one line of a command within another."""
    heading = re.search(rf"^### `syncline {name}[ `]", TEXT, re.MULTILINE)
    if heading:
        return TEXT[heading.start() :].split("\n### ")[0].split("\n## ")[0]
    line = next((line for line in TEXT.splitlines() if line.startswith(f"* `syncline {name}")), None)
    assert line, f"syncline {name} is not documented"
    return line


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_and_option_is_documented(name: str) -> None:
    text = section(name)
    for parameter in LEAVES[name].params:
        for option in parameter.opts:
            if option not in ("-h", "--help"):
                wanted = option if option.startswith("-") else (parameter.metavar or option)
                assert wanted in text, f"syncline {name}: {wanted}"


@pytest.mark.parametrize("name", LEAVES)
def test_no_option_is_documented_that_is_not_there(name: str) -> None:
    known = {option for parameter in LEAVES[name].params for option in parameter.opts}
    if hasattr(LEAVES[name], "commands"):
        known |= {
            option
            for child in LEAVES[name].commands.values()
            for parameter in child.params
            for option in parameter.opts
        }
    assert set(re.findall(r"`(--[a-z-]+)", section(name))) <= known


def test_no_command_is_documented_that_is_not_there() -> None:
    assert set(re.findall(r"^### `syncline ([a-z]+(?: [a-z]+)?)", TEXT, re.MULTILINE)) <= set(ALL)


def test_commands_of_later_versions_are_no_stubs(capsys: pytest.CaptureFixture[str]) -> None:
    for name in LATER:
        assert run([name]) == 2
        assert "No such command" in capsys.readouterr().err


@pytest.mark.parametrize("name", ALL)
def test_help_of_every_command_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*name.split(), "--help"]) == 0
    told = capsys.readouterr()
    assert f"Example: syncline {name.split()[0]}" in told.out
    assert told.err == ""


def test_the_table_of_variables_is_the_table_of_options() -> None:
    assert environment_table() in TEXT


def test_options_default_as_their_table_says() -> None:
    from syncline.server.config_models import Configuration

    configuration = Configuration.model_validate({"source": {"url": "sqlite:///a.db"}})
    for option in OPTIONS:
        if option.key != "url":
            assert getattr(getattr(configuration, option.section), option.key) == option.default, option.environment
