"""The seeded simulation of the real code: the acts world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from syncline.testing.simulation import acts, run
from syncline.testing.simulation.history import play_script
from syncline.testing.simulation.report import nothing_yet

SEEDS_MAX = 24
HAPPENS = (
    *("stage new", "stage resume", "progress", "pause", "stale cuts", "live messages", "replanned", "raised"),
    *("replace", "restarts", "prunes", "drop_bucket", "break", "drop", "double", "reorder", "torn log"),
    *("restored device", "cloned device", "restored server", "clock jump", "clock jump of the server"),
    *("full disk of a device", "short write", "full disk of the server", "device", "gateway", "sequencer"),
)
"""Operations, faults, and who died."""
PROMISES = {f"P{number}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 22)}
COPIES: dict[str, Any] = {
    "often": {"back_up": 8, "restore": 6, "clone": 2, "back_up_server": 6, "restore_server": 5, "app": 20, "hello": 4}
}
DEATHS: dict[str, Any] = {"often": {"die": 14, "die_server": 7, "die_at_work": 7}}
DISKS: dict[str, Any] = {
    "often": {"fill_disk": 14, "fill_server_disk": 14, "free_disks": 4, "app": 30, "upload": 20, "migrate": 1}
}
SETTLED: dict[str, float] = dict.fromkeys(
    (
        "migrate",
        "lose_capture",
        "prune",
        "wait",
        "skew",
        "skew_server",
        "clone",
        "restore",
        "restore_server",
        "reconfigure",
    ),
    0.0,
)
"""Nothing happens that makes it doubtful who wrote last."""


LIVE: dict[str, Any] = {
    "often": {"reassign": 8, "go_live": 20, "tell": 20, "listen": 20, "migrate": 0, "wait": 0, "prune": 0},
    "page_rows": 40,
}


@pytest.mark.parametrize("seed", range(4))
def test_a_device_is_always_the_cut_of_its_cursor_plus_its_own_pending_changes(tmp_path: Path, seed: int) -> None:
    """P1, P2, P3, P4, P5, P6, P7, P8, P9, P10, P11, P13, P14, P16, P20, P22: messages dropped, doubled and reordered,
    answers and streams that break, downloads in pages hours apart, processes that die, disks that are full, clocks that
    jump, terms that change, an office that writes, reassigns, migrates and reconfigures, and a server that forgets what
    is old."""
    assert run(seed, tmp_path).report.events >= acts.STEPS


@pytest.mark.parametrize("seed", range(3))
def test_processes_die_inside_statements_and_the_power_goes(tmp_path: Path, seed: int) -> None:
    """P3, P4, P5, P6, P10: what was being committed is there whole or not at all, and what anybody was told of is."""
    report = run(seed, tmp_path, **DEATHS).report
    assert report.crashes["device"] and report.crashes["gateway"] + report.crashes["sequencer"]


@pytest.mark.parametrize("seed", range(3))
def test_phones_are_cloned_and_older_files_come_back(tmp_path: Path, seed: int) -> None:
    """P3, P4, P5, P10, P17: each copy goes on as a device of its own, and what it had written is taken once."""
    faults = run(seed, tmp_path, **COPIES).report.faults
    assert faults["cloned device"] or faults["restored device"] or faults["restored server"]


@pytest.mark.parametrize("seed", range(3))
def test_the_last_one_by_true_time_wins_whoever_arrives_first(tmp_path: Path, seed: int) -> None:
    """P12: judged by a reference that knows nothing but who wrote what and when."""
    assert run(seed, tmp_path, often=SETTLED).report.looks["P12"]


@pytest.mark.parametrize("seed", range(4))
def test_streams_are_told_what_is_granted_while_grants_come_and_go(tmp_path: Path, seed: int) -> None:
    """P1, P6, P8: also where a patient is lost and granted again while a cut is being read."""
    assert run(seed, tmp_path, **LIVE).stats["live messages"] > 0


def test_the_same_seed_is_the_same_history_to_the_letter(tmp_path: Path) -> None:
    traces = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        report = run(7, tmp_path / name, steps=80, **COPIES).report
        traces.append((report.as_dict(), report.story))
    assert traces[0] == traces[1]


def test_a_history_without_some_of_its_steps_is_played_all_the_same(tmp_path: Path) -> None:
    """What a step draws does not depend on the others, so that a failure can be shrunk."""
    script = acts.draw(acts.WORKLOAD, 3, steps=60)
    shorter = script.only(lambda step: step.number % 3 > 0)
    assert play_script(shorter, tmp_path).report.events >= len(shorter.steps)


def test_all_that_may_happen_does_happen_and_is_looked_at(tmp_path: Path) -> None:
    """Within a few histories; a checker that never looks keeps no promise."""
    total = nothing_yet()
    often: list[dict[str, float]] = [
        SETTLED,
        {"migrate": 3.0, "reassign": 6.0, **COPIES["often"]},
        {"prune": 3.0, "restart": 3.0, "skew_server": 2.0, **DISKS["often"]},
        {"reassign": 6.0, **DEATHS["often"]},
    ]
    for number in range(SEEDS_MAX):
        (tmp_path / str(number)).mkdir()
        seed, kind = divmod(number, len(often))
        total.add(run(seed, tmp_path / str(number), often=often[kind]).report)
        happened = {*total.operations, *total.faults, *total.crashes}
        if set(HAPPENS) <= happened and total.looks.keys() >= PROMISES:
            return
    pytest.fail(f"never happened: {set(HAPPENS) - happened}, never looked at: {PROMISES - total.looks.keys()}")
