"""That the simulation does find bugs: each of these is planted, and found within a few histories of a profile that makes
its circumstances frequent. `python -m tests.simulation.find` says with which seed each is found first."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.simulation.bugs import BUGS

BUGS_MIN = 25
SEEDS_MAX = 40
"""A planted bug is found within so many histories, from the seed on that is known to find it."""


def test_there_are_enough_of_them() -> None:
    assert len(BUGS) >= BUGS_MIN


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    bug = BUGS[name]
    bug.plant(monkeypatch)
    for seed in range(bug.first, bug.first + SEEDS_MAX):
        (folder := tmp_path / str(seed)).mkdir()
        found = bug.found_by(seed, folder)
        if found is not None:
            assert found.checker
            return
    pytest.fail(f"not found: {name}")
