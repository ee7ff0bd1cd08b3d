"""The acts world's scripts: which acts there are, which faults, and how a seed draws a history of them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

from syncline.testing.simulation.script import Script, Step, draw_length

WORKLOAD = "anything"
USERS = {"d1": "u1", "d2": "u1", "d3": "u2"}
LENGTHS = (20, 40, 60, 120)
"""How many steps a history has: most trouble needs few, and some needs many."""
STEPS = LENGTHS[-1]
WEIGHTS = {
    "app": 20.0,
    "upload": 12.0,
    "download": 14.0,
    "deliver": 36.0,
    "checkpoint": 10.0,
    "office": 6.0,
    "reassign": 3.0,
    "hello": 1.0,
    "crash": 2.0,
    "restart": 0.4,
    "skew": 0.3,
    "migrate": 0.8,
    "migrate_on": 4.0,
    "lose_capture": 0.3,
    "reconfigure": 0.2,
    "prune": 0.8,
    "wait": 0.5,
    "go_live": 6.0,
    "tell": 8.0,
    "listen": 14.0,
    "hang_up": 0.5,
    "beat": 0.5,
    "die": 2.0,
    "die_server": 1.5,
    "die_at_work": 1.0,
    "fill_disk": 0.6,
    "fill_server_disk": 0.3,
    "free_disks": 1.0,
    "skew_server": 0.2,
    "back_up": 0.8,
    "restore": 0.8,
    "clone": 0.3,
    "back_up_server": 0.8,
    "restore_server": 0.5,
}
"""How often each act comes, beside the others."""
SELDOM = (
    *("crash", "restart", "skew", "migrate", "reconfigure", "prune", "wait", "hang_up", "die", "die_server"),
    *("die_at_work", "lose_capture", "fill_disk", "fill_server_disk", "skew_server", "restore", "clone"),
    "restore_server",
)
"""Acts of which each seed draws whether there are any, and how often."""
SHARES = (0.1, 0.4, 0.8)
"""How many of those a history has: where there are few, nothing makes it doubtful what must come out."""
CHANCES = {"drop": (0.1, 0.4), "double": (0.1, 0.3), "break": (0.1, 0.4), "reorder": (0.3, 1.0)}
"""Faults of the network: of each the seed draws whether it exists, and how often it strikes."""


def draw(workload: str, seed: int, steps: int | None = None, often: Mapping[str, float] | None = None) -> Script:
    """The history of that seed. `steps`: how many, else drawn; `often`: acts that come more or less often than in
    WEIGHTS, whatever the seed says."""
    dice = random.Random(f"{seed}/draw")
    share = dice.choice(SHARES)
    weights = {name: weight * dice.choice((0.25, 1.0, 1.0, 4.0)) for name, weight in WEIGHTS.items()}
    weights |= {name: 0.0 for name in SELDOM if dice.random() > share}
    weights |= often or {}
    faults = {name: dice.choice((0.0, *chances)) for name, chances in CHANCES.items()}
    acts = dice.choices(list(weights), list(weights.values()), k=steps or draw_length(seed, LENGTHS))
    drawn = tuple(_steps(acts, dice))
    return Script(workload, seed, drawn, {name: chance for name, chance in faults.items() if chance})


def _steps(acts: Sequence[str], dice: random.Random) -> Iterator[Step]:
    """Clones act from when they may exist on: their names are known beforehand."""
    devices = list(USERS)
    for number, act in enumerate(acts):
        device = dice.choice(devices)
        if act == "clone":
            device = dice.choice(list(USERS))
            devices.append(clone_name(device))
        yield Step(number, act, device)


def clone_name(device: str) -> str:
    return f"{device}-clone"
