"""How a request's groups become the pieces of transactions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from syncline.protocol.messages import Group
from syncline.server.uploads import _split, _take, _with_keys_whole


def group(marked: bool, *numbers: int, moved: int = 0) -> Group:
    """`moved`: the number of a delete, for which the next mutation stands."""
    operations = {moved: "D", moved + 1: "I"} if moved else {}
    mutations: Any = tuple(
        SimpleNamespace(
            number=number,
            operation=operations.get(number, "U"),
            table="visits",
            insert=moved if number == moved + 1 else 0,
        )
        for number in numbers
    )
    return Group(marked, mutations)


def numbers(groups: list[Group]) -> list[list[int]]:
    return [[mutation.number for mutation in each.mutations] for each in groups]


def test_runs_are_cut_and_marked_groups_never() -> None:
    waiting = [group(False, 1, 2, 3, 4, 5), group(True, 6, 7, 8), group(False, 9)]
    assert numbers(_split(waiting, 2, 50)) == [[1, 2], [3, 4], [5], [6, 7, 8], [9]]


@pytest.mark.parametrize(
    ("moved", "pieces"),
    [
        (1, [(True, [1, 2]), (False, [3, 4, 5])]),
        (3, [(False, [1, 2]), (True, [3, 4]), (False, [5])]),
        (4, [(False, [1, 2, 3]), (True, [4, 5])]),
        (5, [(False, [1, 2, 3, 4, 5])]),
    ],
)
def test_the_halves_of_a_changed_key_stay_together(moved: int, pieces: list[tuple[bool, list[int]]]) -> None:
    """P3."""
    found = _with_keys_whole(group(False, 1, 2, 3, 4, 5, moved=moved))
    assert [(each.marked, *numbers([each])) for each in found] == pieces
    marked = group(True, 1, 2, 3, 4, 5, moved=moved)
    assert _with_keys_whole(marked) == [marked]


def test_no_more_pieces_are_made_than_are_wanted() -> None:
    assert numbers(_split([group(False, *range(2_000))], 10, 3)) == [[*range(10)], [*range(10, 20)], [*range(20, 30)]]


@pytest.mark.parametrize("done", range(6))
def test_what_was_done_is_taken_away_and_nothing_else(done: int) -> None:
    waiting = [group(False, 1, 2, 3, 4, 5), group(True, 6, 7, 8), group(False, 9)]
    pieces = _split(waiting, 2, 50)
    taken = _take(waiting, pieces[:done])
    left = [number for each in numbers(waiting) for number in each]
    assert [mutation.number for mutation in taken] + left == [*range(1, 10)]
    assert numbers(waiting) == [each for each in numbers(waiting) if each]
