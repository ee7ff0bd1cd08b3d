"""A history before it happens: what is drawn from a seed, written down step by step, so that steps can be left out."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Step:
    """One step. All that is random inside it is drawn from `dice`, which no other step draws from: a step does the same
    whether or not the steps before it are left out."""

    number: int
    act: str
    device: str = ""
    """Whose act it is; nobody's device where the office, the server or the network acts."""

    def dice(self, seed: int) -> random.Random:
        return random.Random(f"{seed}/{self.number}")


def draw_length(seed: int, lengths: Sequence[int]) -> int:
    """How many steps the history of that seed has."""
    return random.Random(f"{seed}/length").choice(lengths)


@dataclass(frozen=True)
class Script:
    """Everything that a workload plays: the same script has the same trace."""

    workload: str
    seed: int
    steps: tuple[Step, ...]
    faults: Mapping[str, float] = field(default_factory=dict)
    """Which faults exist, each with how often (the chance per thing that it can happen to); one left out is never."""

    @property
    def devices(self) -> tuple[str, ...]:
        """Those that act, in the order in which they first do."""
        return tuple(dict.fromkeys(step.device for step in self.steps if step.device))

    def dice(self, purpose: str) -> random.Random:
        """What is random outside of steps, one stream of numbers for each purpose: `network d1`, say."""
        return random.Random(f"{self.seed}/{purpose}")

    def only(self, keep: Callable[[Step], bool]) -> Script:
        return replace(self, steps=tuple(step for step in self.steps if keep(step)))

    def without_faults(self, names: Iterable[str]) -> Script:
        left_out = set(names)
        return replace(self, faults={name: often for name, often in self.faults.items() if name not in left_out})

    def as_json(self) -> str:
        """One line for each step."""
        head = {"workload": self.workload, "seed": self.seed, "faults": dict(sorted(self.faults.items()))}
        lines = ",\n".join(f"  {json.dumps([step.number, step.act, step.device])}" for step in self.steps)
        return json.dumps(head)[:-1] + f', "steps": [\n{lines}\n]}}\n'

    @classmethod
    def from_json(cls, text: str) -> Script:
        """Raises ValueError where the text is no script."""
        try:
            told: dict[str, Any] = json.loads(text)
            steps = tuple(Step(int(number), str(act), str(device)) for number, act, device in told["steps"])
            faults = {str(name): float(often) for name, often in told["faults"].items()}
            return cls(str(told["workload"]), int(told["seed"]), steps, faults)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"This is no script of a simulation: {error!r}.") from error

    def save(self, path: Path) -> None:
        path.write_text(self.as_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Script:
        return cls.from_json(path.read_text(encoding="utf-8"))
