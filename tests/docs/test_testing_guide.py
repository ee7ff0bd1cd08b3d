"""docs/testing.md: the relay's example runs, and what is named is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.integration.company import Company, token

from syncline.testing import relay

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
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
