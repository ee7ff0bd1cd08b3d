"""The session world: real sessions on virtual time, over a network with every fault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from syncline.testing.simulation import acts
from syncline.testing.simulation.day_scripts import NAMES, draw
from syncline.testing.simulation.days import play
from syncline.testing.simulation.report import Report, nothing_yet
from syncline.testing.simulation.script import Script
from syncline.testing.simulation.workloads import workload

HAPPENS = (
    *("drop", "delay", "duplicate", "truncate", "reset", "slow", "partition", "one-way partition", "half-open"),
    *("flapping", "captive portal", "dead zone", "offline", "move", "no WebSockets", "clock jump", "postponed"),
    *("slow sequencer", "restart"),
)
"""Faults by the names of a report."""
OFTEN: dict[str, float] = dict.fromkeys(
    ("partition", "half_open", "flap", "portal", "offline", "dead_zone", "move", "plain", "skew", "postpone"), 3.0
) | dict.fromkeys(("crash", "kill_gateway", "restart_gateway", "slow_sequencer"), 3.0)
SEEDS_MAX = 12
"""Every fault was seen within so many days."""


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", NAMES)
def test_a_day_ends_with_everything_where_it_belongs(tmp_path: Path, name: str, seed: int) -> None:
    """P1, P2, P3, P4, P5, P6, P7, P8, P9, P10, P17, P20, P22: nobody does anything but wait once the faults have ended,
    and what was written arrives, once."""
    report = play(draw(name, seed), tmp_path)
    assert report.looks["P10"] > 0 and report.looks["P8"] > 0


def test_all_faults_happen_and_are_survived(tmp_path: Path) -> None:
    """P2, P5."""
    seen = nothing_yet()
    for seed in range(100, 100 + SEEDS_MAX):
        seen.add(_played(draw("nurse", seed, steps=40, often=OFTEN), tmp_path / str(seed)))
        if all(seen.faults[fault] for fault in HAPPENS) and seen.crashes["device"] and seen.crashes["gateway"]:
            return
    pytest.fail(f"never happened: {[fault for fault in HAPPENS if not seen.faults[fault]]}, {seen.crashes}")


def _played(script: Script, folder: Path) -> Report:
    folder.mkdir()
    return play(script, folder)


# ---------------------------------------------------------------- determinism
@pytest.mark.parametrize("script", [draw("general", 3, steps=12), acts.draw("anything", 3)], ids=["days", "acts"])
def test_the_same_script_is_the_same_history_in_any_process(tmp_path: Path, script: Script) -> None:
    """Whatever the order in which Python keeps its sets."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom syncline.testing.simulation.workloads import workload\n"
        "from syncline.testing.simulation.script import Script\n"
        "script = Script.load(Path(sys.argv[1]))\n"
        "print(workload(script.workload).play(script, Path(sys.argv[2])).trace)"
    )
    script.save(tmp_path / "script.json")
    (here := tmp_path / "here").mkdir()
    traces = {workload(script.workload).play(script, here).trace}
    (folder := tmp_path / "there").mkdir()
    arguments = [sys.executable, "-c", program, str(tmp_path / "script.json"), str(folder)]
    environment = {**os.environ, "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"}
    ended = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True, timeout=120)
    traces.add(ended.stdout.strip())
    assert len(traces) == 1


def test_a_script_is_the_same_after_a_journey_through_json(tmp_path: Path) -> None:
    script = draw("office", 5)
    script.save(tmp_path / "story.json")
    assert Script.load(tmp_path / "story.json") == script
    assert json.loads(script.as_json())["workload"] == "office"
    with pytest.raises(ValueError, match="no script"):
        Script.from_json('{"seed": 1}')


def test_a_step_that_is_left_out_moves_none_of_the_others(tmp_path: Path) -> None:
    """Each comes at its own time: or no history could be made shorter."""
    whole = draw("nurse", 8, steps=12, often=dict.fromkeys(OFTEN, 0.0))
    first = next(step for step in whole.steps if step.act == "write")
    shorter = whole.only(lambda step: step is not first)
    told, left = (_who_acts(_played(script, tmp_path / str(len(script.steps)))) for script in (whole, shorter))
    assert len(told) - len(left) == 1
    assert Counter(left[:-2]) <= Counter(told)


def _who_acts(report: Report) -> list[str]:
    """When, and who."""
    return [" ".join(line.split()[:2]) for line in report.story]
