"""Stories: short histories in which a bug was once found. They end well now, and tell of their bug if it comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.simulation import planted

from syncline.testing.simulation.oracle import BrokenPromiseError
from syncline.testing.simulation.script import Script
from syncline.testing.simulation.workloads import workload

FOLDER = Path(__file__).parent / "stories"
BUGS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a_heartbeat_that_a_busy_phone_did_not_take": planted.a_heartbeat_that_was_not_taken_counts_as_told,
    "a_hello_that_arrives_twice": planted.every_hello_gets_another_nonce,
    "a_table_that_went_with_its_outbox": planted.a_table_goes_with_its_outbox,
    "a_trigger_that_was_gone_before_a_migration": planted.what_was_missed_before_a_migration_is_forgotten,
}
"""What was wrong when it was found."""


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_a_story_ends_well(tmp_path: Path, path: Path) -> None:
    """P1, P2, P3, P5, P10."""
    script = Script.load(path)
    workload(script.workload).play(script, tmp_path)


@pytest.mark.parametrize("name", BUGS)
def test_a_story_still_tells_of_its_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    BUGS[name](monkeypatch)
    script = Script.load(FOLDER / f"{name}.json")
    with pytest.raises(BrokenPromiseError):
        workload(script.workload).play(script, tmp_path)
