"""A few thousand cases of the fuzzing on every run; `python -m tests.hostile.fuzz --cases 1000000` is the long one."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from tests.hostile import fuzz as fuzzing
from tests.hostile import mutations
from tests.hostile.replica_target import ReplicaTarget
from tests.hostile.server_target import ServerTarget
from tests.hostile.wire_target import WireTarget

from syncline.protocol import checks
from syncline.server.judge import Judge

CASES = 1_500


def test_nothing_that_a_stranger_sends_breaks_either_side(tmp_path: Path) -> None:
    """P8, P19, P4: no error without a code, no 5xx, no row outside the scope changed or answered, no value in an error
    or a log, no waiting change lost; the app's own table untouched."""
    report = fuzzing.fuzz(CASES, 1, tmp_path)
    assert not report.findings, str(report)
    assert {name: len(counts) > 8 for name, counts in report.outcomes.items()} == {
        "wire": True,
        "server": True,
        "replica": True,
    }
    assert report.kept > 50, "cases that led further are kept"


def test_the_same_seed_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "SHARES", {WireTarget: 9, ReplicaTarget: 1})
    found = []
    for name in "ab":
        (tmp_path / name).mkdir()
        found.append(fuzzing.fuzz(150, 5, tmp_path / name).outcomes)
    assert found[0] == found[1]


def test_what_cases_are_made_from_stays_as_it_is() -> None:
    """A list that were changed in a case would be longer in the next one, until all time goes into it."""
    before = json.dumps(mutations.ODD)
    mutator = mutations.Mutator(random.Random(1), ())
    for _ in range(3_000):
        mutator.mutate(b"{}", b"[1]")
    assert json.dumps(mutations.ODD) == before


def test_a_hole_in_the_scope_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fuzzing would tell: a judge that lets everybody write everything."""

    async def always(*arguments: object) -> bool:
        return True

    monkeypatch.setattr(fuzzing, "SHARES", {ServerTarget: 1})
    monkeypatch.setattr(Judge, "_may_see", always)
    monkeypatch.setattr(Judge, "_check_scope_after", always)
    report = fuzzing.fuzz(0, 1, tmp_path)
    assert any("a row outside the scope has changed" in finding for finding in report.findings), str(report)


def test_a_field_that_is_not_checked_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "SHARES", {WireTarget: 1})
    monkeypatch.setattr(checks, "items", lambda message, field, count_max: message.get(field))
    report = fuzzing.fuzz(400, 1, tmp_path)
    assert any("TypeError" in finding for finding in report.findings), str(report)
