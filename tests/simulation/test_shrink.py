"""A long history that fails is made short, by leaving out what the failure does not need."""

from __future__ import annotations

from collections.abc import Callable

from syncline.testing.simulation.day_scripts import draw
from syncline.testing.simulation.script import Script
from syncline.testing.simulation.shrink import shrink

WHOLE = draw("general", 11, steps=60)


def counting(fails: Callable[[Script], bool]) -> tuple[Callable[[Script], bool], list[Script]]:
    tried: list[Script] = []

    def count(script: Script) -> bool:
        tried.append(script)
        return fails(script)

    return count, tried


def test_only_the_steps_that_matter_are_left() -> None:
    wanted = {7, 31, 32}
    found = shrink(WHOLE, lambda script: wanted <= {step.number for step in script.steps})
    assert [step.number for step in found.steps] == sorted(wanted)
    assert found.faults == {}
    assert {step.number: step for step in found.steps} == {n: WHOLE.steps[n] for n in wanted}


def test_a_fault_that_the_failure_needs_stays() -> None:
    script = draw("nurse", 0)
    needed = sorted(script.faults)[0]
    found = shrink(script, lambda shorter: needed in shorter.faults)
    assert list(found.faults) == [needed]
    assert found.steps == ()


def test_a_history_that_nothing_can_be_left_out_of_stays_as_it_is() -> None:
    assert shrink(WHOLE, lambda script: script == WHOLE) == WHOLE


def test_the_search_ends_after_so_many_attempts_with_the_shortest_until_then() -> None:
    fails, tried = counting(lambda script: len(script.steps) % 2 == 0)
    found = shrink(WHOLE, fails, attempts_max=5)
    assert len(tried) == 5
    assert fails(found)
