"""The workloads by name: how a history of each is drawn from a seed, and how it is played.

`draw(name, seed)` answers a script. `play(script, folder)` gets an empty folder, leaves nothing open, and answers a
report; it raises `BrokenPromiseError` where a checker found something, with `report` set to what had been told until
then. The same script has the same trace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from syncline.testing.simulation.report import Report
from syncline.testing.simulation.script import Script

DEFAULT = "anything"
PLACES = {
    "anything": ("acts:draw", "history:play", "any act at any time, also such as no session would do"),
    "nurse": ("day_scripts:draw", "days:play", "a nurse's day on the road, with all that a network does"),
    "office": ("day_scripts:draw", "days:play", "an office that changes much at once, and reassigns"),
    "dismissed": ("day_scripts:draw", "days:play", "users who lose everything, and come back"),
    "migrations": ("day_scripts:draw", "days:play", "a company that changes its schema"),
    "general": ("day_scripts:draw", "days:play", "of each of these days some"),
}
"""Name -> where the functions are, and what the workload is. A module is imported when it is needed."""


@dataclass(frozen=True)
class Workload:
    """One of PLACES."""

    draw: Callable[[int], Script]
    play: Callable[[Script, Path], Report]


def names() -> tuple[str, ...]:
    return tuple(PLACES)


def workload(name: str) -> Workload:
    """KeyError where there is none of that name."""
    drawn, played, _ = PLACES[name]
    return Workload(partial(_function(drawn), name), _function(played))


def _function(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(f"syncline.testing.simulation.{module}"), name)
