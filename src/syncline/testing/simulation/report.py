"""What a history did, in numbers and in words, and whether it did the same as another one."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

COUNTERS = ("operations", "faults", "crashes", "looks")


@dataclass
class Report:
    """Of one history, or, added up, of many. The same script gives the same report to the letter."""

    histories: int = 1
    events: int = 0
    """Steps and deliveries: whatever the world did between two looks of the checkers."""
    operations: Counter[str] = field(default_factory=Counter)
    """By kind: mutations, uploads, checkpoints, cuts applied …"""
    faults: Counter[str] = field(default_factory=Counter)
    """By kind, what really struck: a drop, a full disk, a clock that jumped …"""
    crashes: Counter[str] = field(default_factory=Counter)
    """By who died: device, gateway, sequencer."""
    looks: Counter[str] = field(default_factory=Counter)
    """By promise ("P10"), how often a checker compared something for it. A checker that never looked shows as one."""
    trace: str = ""
    """Digest of everything that happened, in order; of several histories the digest of their digests."""
    story: list[str] = field(default_factory=list)
    """One line in plain words for each thing that a reader should know; empty where several are added up."""

    def note(self, operation: str, count: int = 1) -> None:
        if count:
            self.operations[operation] += count

    def strike(self, fault: str) -> None:
        """A fault took place."""
        self.faults[fault] += 1

    def crash(self, who: str) -> None:
        """Of `device`, `gateway` or `sequencer`."""
        self.crashes[who] += 1

    def look(self, *promises: str) -> None:
        """A checker has compared something for each of these and found it kept."""
        self.looks.update(promises)

    def tell(self, line: str) -> None:
        """The next line of the story."""
        self.story.append(line)

    def add(self, other: Report) -> None:
        """The histories of `other`, too."""
        self.histories += other.histories
        self.events += other.events
        for name in COUNTERS:
            getattr(self, name).update(getattr(other, name))
        self.trace = sha256(f"{self.trace} {other.trace}".encode()).hexdigest()
        self.story = []

    def as_dict(self) -> dict[str, Any]:
        """For JSON; without the story."""
        counted = {name: dict(sorted(getattr(self, name).items(), key=_in_order)) for name in COUNTERS}
        return {"histories": self.histories, "events": self.events, **counted, "trace": self.trace}


def _in_order(counted: tuple[str, int]) -> tuple[str, int]:
    """P2 before P10."""
    name, _ = counted
    return (name[0], int(name[1:])) if re.fullmatch(r"P\d+", name) else (name, 0)


def nothing_yet() -> Report:
    """To which histories are added."""
    return Report(histories=0)
