"""`syncline simulate`: figures, progress, and the story of a failure."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.cli.conftest import Syncline

from syncline.cli import simulate
from syncline.replica import apply
from syncline.testing.simulation import runner
from syncline.testing.simulation.acts import draw
from syncline.testing.simulation.script import Script


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Histories of a few steps."""

    def draw_short(name: str, seed: int) -> Script:
        often = {"app": 60.0, "download": 60.0, "deliver": 90.0}
        return draw(name, seed, steps=40, often=often)

    monkeypatch.setattr("syncline.testing.simulation.acts.draw", draw_short)


def test_figures_in_words(short: None, syncline: Syncline) -> None:
    told = syncline("simulate", "--seeds", "2", "--processes", "1")
    assert told.status == 0
    assert "2 histories of anything: whatever was looked at was kept." in told.out
    assert "Looks: P1 " in told.out


def test_the_same_seeds_tell_the_same(short: None, syncline: Syncline) -> None:
    one, two = (syncline("simulate", "--seeds", "2", "--first-seed", "5", "--processes", "1", "--json") for _ in "12")
    assert one.json["seeds"] == one.json["histories"] == 2
    assert one.json["failures"] == []
    for name in ("events", "operations", "faults", "crashes", "looks", "trace"):
        assert one.json[name] == two.json[name], name
    assert one.json["looks"]["P10"] > 0


def test_a_failure_is_told_as_a_short_story_and_can_be_played_again(
    short: None, syncline: Syncline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(apply._Apply, "_rebase", lambda *_: None)
    monkeypatch.setattr(simulate, "SHRUNK_MAX", 1)
    monkeypatch.setattr(runner, "ATTEMPTS_MAX", 40)
    told = syncline("simulate", "--seeds", "4", "--processes", "1", "--json", "--save", str(tmp_path))
    assert told.status == 1
    failure = told.json["failures"][0]
    assert failure["promise"].startswith("P10")
    assert 0 < failure["steps"] < 20
    assert any("updates" in line or "inserts" in line or "deletes" in line for line in failure["story"])
    saved = tmp_path / f"anything-{failure['seed']}.json"
    assert failure["again"] == f"syncline simulate --play {saved}"
    again = syncline("simulate", "--play", str(saved))
    assert again.status == 1
    assert f"Seed {failure['seed']} broke: P10" in again.out
    monkeypatch.undo()
    assert runner.play(Script.load(saved)).failure is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--workload", "nurses"), 'There is no workload "nurses"'),
        (("--play", "missing.json"), '"missing.json" cannot be read: No such file or directory.'),
        (("--play", __file__), f'"{__file__}" is no script of a simulation.'),
        (("--save", __file__), f'Nothing can be saved in "{__file__}": File exists.'),
        (("--seeds", "0"), "--seeds"),
    ],
)
def test_wrong_use(syncline: Syncline, arguments: tuple[str, ...], said: str) -> None:
    told = syncline("simulate", *arguments)
    assert told.status == 2
    assert said in told.err


def test_whoever_ends_it_ends_the_processes_that_play() -> None:
    """They would hold a build's output open for as long as they have seeds."""
    command = [sys.executable, "-m", "syncline", "simulate", "--seeds", "2000", "--processes", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        until = time.monotonic() + 60
        while children.exists() and len(children.read_text().split()) < 3 and time.monotonic() < until:
            time.sleep(0.05)  # nobody tells when a child of a child has begun
        process.terminate()
        _, told = process.communicate(timeout=60)  # both pipes are at their ends when nobody holds them
    assert "of 2000; failed: none." in told
    assert process.returncode != 0
