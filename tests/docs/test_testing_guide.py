"""docs/testing.md: its examples run, and what is named is there."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.integration.company import Company, token

from syncline.testing import pair, relay

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
INSPECTIONS = Path(__file__).parents[2] / "examples" / "inspections"
SECTION = PAGE.split("## A network that breaks\n")[1].split("\n## ")[0]


@pytest.fixture
def company(tmp_path: Path) -> Any:
    company = Company(tmp_path)
    company.serve(road=False)
    yield company
    company.close()


def test_the_example_of_the_relay_runs(company: Company) -> None:
    """P2, P5: the upload whose answer was lost is done, and done once."""
    (block,) = re.findall(r"^```python\n(.*?)^```$", SECTION, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(block, "docs/testing.md", "exec"), names)
    (test,) = [value for name, value in names.items() if name.startswith("test_")]
    test(company.servers[0].url, token("ann"), company.folder)
    assert company.execute("SELECT body FROM notes WHERE id = 'n1'") == [("wound is dry",)]


def test_every_fault_and_every_call_of_the_relay_is_named() -> None:
    told = set(re.findall(r"^\| `(\w+)\(", SECTION, re.MULTILINE))
    faults = {name for name in relay.__all__ if name not in ("Direction", "Fault", "Relay")}
    assert faults <= told
    calls = {name for name in dir(relay.Relay) if not name.startswith("_")}
    named = set(re.findall(r"\b\w+\b", SECTION))
    assert calls - named <= {"close", "is_frozen", "wait_until_broken"}  # others say it


# ---------------------------------------------------------------- two devices
PAIR = PAGE.split("## Two devices in a test\n")[1].split("\n## ")[0]


def test_the_example_of_the_pair_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its conftest.py and its test, in the example's folder; as a project of its own it runs in tests/integration."""
    monkeypatch.chdir(tmp_path)  # its files are found from any folder
    app = importlib.util.spec_from_file_location("inspections_of_the_page", INSPECTIONS / "inspections.py")
    assert app is not None and app.loader is not None
    inspections = importlib.util.module_from_spec(app)
    app.loader.exec_module(inspections)
    monkeypatch.setitem(sys.modules, "inspections", inspections)
    names: dict[str, Any] = {"__file__": str(INSPECTIONS / "conftest.py")}
    conftest, test = re.findall(r"^```python\n(.*?)^```$", PAIR, re.DOTALL | re.MULTILINE)
    assert '@pytest.fixture(scope="session")\n' in conftest
    for block in (conftest.replace('@pytest.fixture(scope="session")\n', ""), test):
        exec(compile(block, "docs/testing.md", "exec"), names)
    (test_of_the_page,) = [value for name, value in names.items() if name.startswith("test_")]
    with pair.Pair(names["syncline_settings"](), tmp_path) as made:
        test_of_the_page(made)


def test_all_that_a_pair_can_is_named() -> None:
    named = set(re.findall(r"\b\w+\b", PAIR))
    fields = set(pair.PairSettings.__dataclass_fields__)
    told_otherwise = {"close", "name", "user", "is_running", "catch_up", "checkpoint", "online", "settings"}
    calls = {name for each in (pair.Device, pair.Pair, pair.Server, pair.Source) for name in dir(each)}
    assert fields | {name for name in calls if not name.startswith("_")} - told_otherwise <= named
