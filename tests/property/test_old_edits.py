"""Edits that are older than the retention, of a value that has no stamp any more: who wins does not depend on arrival."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from syncline.model.merge import Stamp
from syncline.server.judge import Judge
from syncline.source.port import RowRead
from syncline.values import Value, same

HORIZON_US = 100
SEEN = "what all had seen"
TABLE: Any = SimpleNamespace(name="notes", key=("id",), generated=(), policy=lambda column: "latest")
words = st.sampled_from([SEEN, "red", "green", "written long ago"])
Edit = tuple[Value, Value, Stamp]


@st.composite
def a_devices_edits(draw: st.DrawFn, device: int) -> list[Edit]:
    """One after the other, each of what the device itself had written before; some are younger than the horizon."""
    edits: list[Edit] = []
    value, at = SEEN, draw(st.integers(1, 60))
    for new in draw(st.lists(words, min_size=1, max_size=2)):
        if new != value:
            edits.append((value, new, Stamp(at, device)))
            value, at = new, at + draw(st.integers(1, 60))
    return edits


def arrive(value: str, edits: Iterable[Edit]) -> tuple[Value, set[Value]]:
    """What the column holds in the end, and what the office's records hold."""
    judge: Any = object.__new__(Judge)
    judge._horizon = Stamp(HORIZON_US)
    judge._tx = SimpleNamespace(same=lambda table, column, one, other: same(one, other))
    held: Value = value
    stamps: dict[str, Stamp] = {}
    kept: set[Value] = set()
    for was, new, stamp in edits:
        row = RowRead({"id": "n1", "body": held}, stamps, None, None, frozenset({"caseload"}))
        sets, raised, conflicts = judge._merge(TABLE, {"body": (new, was)}, stamp, row, seen=True)
        for at in [*raised, *([stamp] if sets else [])]:
            stamps = {"body": max(at, stamps.get("body", at))}
        kept |= {each.server if each.kind == "won" else each.device for each in conflicts}
        held = sets.get("body", held)
    return held, kept


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([SEEN, "written long ago"]), st.tuples(*(a_devices_edits(number) for number in (1, 2, 3))))
def test_old_edits_have_the_same_winner_in_every_order_of_arrival(value: str, devices: tuple[list[Edit], ...]) -> None:
    """P12: where nobody has changed the row the last edit wins, whatever its age."""
    turns = [number for number, edits in enumerate(devices) for _ in edits]
    was_seen = value == SEEN or any(was == value for edits in devices for was, _, _ in edits)
    ends = set()
    for order in set(itertools.permutations(turns)):
        left = [iter(edits) for edits in devices]
        held, kept = arrive(value, [next(left[number]) for number in order])
        ends.add(held)
        assert was_seen or value in kept | {held}, "what nobody had seen is in the row or in the office's records"
    assert len(ends) == 1
    if value == SEEN and turns:
        newest = max((edit for edits in devices for edit in edits), key=lambda edit: edit[2])
        assert ends == {newest[1]}
