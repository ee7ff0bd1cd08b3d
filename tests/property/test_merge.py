"""Merging against brute-force oracles: every arrival order of a few writes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from syncline.model.merge import Change, Stamp, merge_add, merge_latest, merge_server
from syncline.values import Value, same

QUICK = settings(deadline=None, max_examples=200)


@dataclass(frozen=True)
class Write:
    was: Value
    new: Value
    stamp: Stamp


few = st.sampled_from(["A", "B", "C", None, 1, 1.0])
stamps = st.builds(Stamp, st.integers(0, 6), st.integers(1, 3))
writes = st.lists(st.builds(Write, few, few, stamps), min_size=1, max_size=5, unique_by=lambda write: write.stamp)


def apply_latest(value: Value, stamp: Stamp, write: Write) -> tuple[Value, Stamp, str | None]:
    """What an upload does with the decision: a raised stamp never goes down."""
    merged = merge_latest(Change(write.was, value, write.new, write.stamp, stamp))
    return merged.value, max(stamp, write.stamp) if merged.raise_stamp else stamp, merged.loser


@QUICK
@given(few, writes)
def test_latest_has_the_same_winner_for_every_order_of_arrival(base: Value, given_writes: list[Write]) -> None:
    """P12: the value with the latest stamp, and that stamp."""
    last = max(given_writes, key=lambda write: write.stamp)
    for arrival in itertools.permutations(given_writes):
        value, stamp = base, Stamp(-1)
        for write in arrival:
            value, stamp, _ = apply_latest(value, stamp, write)
        assert same(value, last.new)
        assert stamp == last.stamp


@QUICK
@given(few, writes)
def test_latest_records_whatever_nobody_saw_before_it_went(base: Value, given_writes: list[Write]) -> None:
    """P12: of two writers' different values one stays; the other is recorded, unless its overwriter had seen it."""
    for arrival in itertools.permutations(given_writes):
        value, stamp = base, Stamp(-1)
        for write in arrival:
            before, before_stamp = value, stamp
            value, stamp, loser = apply_latest(value, stamp, write)
            foreign = before_stamp.writer != write.stamp.writer
            overwritten = not same(value, before) and not same(before, write.was)
            left_out = not same(value, write.new)
            expected = "device" if foreign and left_out else "server" if foreign and overwritten else None
            assert loser == expected


@QUICK
@given(st.lists(few, min_size=2, max_size=5), st.integers(1, 9))
def test_what_one_device_writes_alone_is_never_a_conflict(history: list[Value], device: int) -> None:
    """P12: offline it wrote one after another, while the server still holds an earlier one."""
    value, stamp = history[0], Stamp(0, device)
    for at, (was, new) in enumerate(itertools.pairwise(history), 1):
        value, stamp, loser = apply_latest(value, stamp, Write(was, new, Stamp(at, device)))
        assert loser is None
    assert same(value, history[-1])


def apply_add(server: Value, write: tuple[int, int], at: int) -> Value:
    was, new = write
    return merge_add(Change(was, server, new, Stamp(at, 1), Stamp(99, 2))).value


pairs = st.tuples(st.integers(-(2**40), 2**40), st.integers(-(2**40), 2**40))


@QUICK
@given(st.none() | st.integers(-(2**40), 2**40), st.lists(pairs, max_size=5))
def test_add_commutes(base: int | None, differences: list[tuple[int, int]]) -> None:
    """P12."""
    expected = (base or 0) + sum(new - was for was, new in differences)
    for arrival in itertools.permutations(differences):
        total: Value = base
        for at, difference in enumerate(arrival):
            total = apply_add(total, difference, at)
        assert (total or 0) == expected


@QUICK
@given(few, few, few, stamps, stamps)
def test_server_never_changes_what_the_source_holds(was: Value, server: Value, new: Value, a: Stamp, b: Stamp) -> None:
    """P12: and says so whenever the device's value is not what stays."""
    merged = merge_server(Change(was, server, new, a, b))
    assert same(merged.value, server)
    assert (merged.loser == "device") == (not same(server, new))
