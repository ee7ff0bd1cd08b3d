"""The session world's scripts: what happens on a nurse's day, in an office, to users who lose everything; and how a
seed draws it."""

from __future__ import annotations

import random
from collections.abc import Mapping

from syncline.testing.simulation.network import MESSAGE_FAULTS
from syncline.testing.simulation.script import Script, Step, draw_length

USERS = {"d1": "u1", "d2": "u1", "d3": "u2"}
LENGTHS = (8, 12, 18, 30)
"""How many steps a day has."""

WEATHER = ("partition", "half_open", "move", "offline", "dead_zone", "flap", "portal", "plain")
"""Faults of one device's network that last for a while."""
MISHAPS = ("crash", "sleep", "skew", "postpone", "kill_gateway", "restart_gateway", "slow_sequencer")
"""What else goes wrong, or at least happens."""

WEIGHTS: dict[str, dict[str, float]] = {
    "nurse": {"write": 40, "office": 10, "reassign": 2},
    "office": {"write": 15, "office": 30, "bulk": 10, "hand_over": 6, "reassign": 12},
    "dismissed": {"write": 30, "office": 10, "dismiss": 8, "take_on": 14, "reassign": 4},
    "migrations": {"write": 25, "office": 15, "migrate": 8, "migrate_on": 14, "reassign": 2},
}
"""What is done on such a day, and how often each beside the others."""
SELDOM = dict.fromkeys(WEATHER, 2.5) | dict.fromkeys(MISHAPS, 1.5)
"""The same for what a seed may leave out altogether."""
CHANCES = {
    "drop": (0.03, 0.15, 0.4),
    "delay": (0.03, 0.15, 0.4),
    "duplicate": (0.1, 0.4),
    "truncate": (0.05, 0.2, 0.5),
    "reset": (0.03, 0.15),
    "slow": (0.1, 0.5),
}
GAPS = ((0.01, 0.3), (0.01, 0.3), (0.3, 5.0), (1.0, 20.0), (20.0, 120.0))
"""Seconds between two steps."""
NAMES = (*WEIGHTS, "general")


def draw(workload: str, seed: int, steps: int | None = None, often: Mapping[str, float] | None = None) -> Script:
    """`steps`: how many, else drawn; `often`: acts that come more or less often than usual, whatever the seed says."""
    dice = random.Random(f"{seed}/draw")
    weights = {**_busy(workload, dice), **_drawn(dice), **(often or {})}
    faults = {name: dice.choice((0.0, *CHANCES[name])) for name in MESSAGE_FAULTS}
    acts = dice.choices(list(weights), list(weights.values()), k=steps or draw_length(seed, LENGTHS))
    drawn = tuple(Step(number, act, dice.choice(list(USERS))) for number, act in enumerate(acts))
    return Script(workload, seed, drawn, {name: chance for name, chance in faults.items() if chance})


def _busy(workload: str, dice: random.Random) -> dict[str, float]:
    """Of `general`: some of each day."""
    if workload != "general":
        return WEIGHTS[workload]
    mixed: dict[str, float] = {}
    for weights in WEIGHTS.values():
        share = dice.choice((0.0, 0.5, 1.0))
        for name, weight in weights.items():
            mixed[name] = mixed.get(name, 0.0) + share * weight
    return {**mixed, "write": mixed["write"] + 15}


def _drawn(dice: random.Random) -> dict[str, float]:
    """Most seeds know but a few kinds of trouble, and those often."""
    return {name: weight * dice.choice((0.0, 0.0, 1.0, 3.0)) for name, weight in SELDOM.items()}


def times(script: Script) -> dict[int, float]:
    """When each step comes, in seconds. The gaps of steps that were left out stay."""
    found, now = {}, 0.0
    for number in range(max((step.number for step in script.steps), default=-1) + 1):
        dice = script.dice(f"gap {number}")
        now += dice.uniform(*dice.choice(GAPS))
        found[number] = now
    return found
