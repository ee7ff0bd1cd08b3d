"""Fuzzing of all that a stranger may send, to either side: `python -m tests.hostile.fuzz --cases 1000000 --seed 1`.

Cases are made from those that have led to lines of code which no case had reached before. The same seed and number of
cases is the same run, with the same findings. Exit status 1 where a promise was broken: each finding is told once, with
the case that showed it.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.hostile.lines import Lines
from tests.hostile.mutations import Mutator
from tests.hostile.replica_target import ReplicaTarget
from tests.hostile.server_target import ServerTarget
from tests.hostile.watching import BrokenPromiseError
from tests.hostile.wire_target import WireTarget

RENEW_EVERY = 500
"""So many cases meet the same world; what one of them left behind is part of what the next one meets."""
IS_CHEAP = sys.version_info >= (3, 12)
WATCHED_FIRST = 5_000
WATCHED_EVERY = 16
CORPUS_MAX = 3_000
CASE_BYTES_MAX = 3_000
"""Larger ones are not built upon: they are slow."""


class Target(Protocol):
    """What is attacked. `run` says what became of a case; what it raises is a finding."""

    name: str
    words: Sequence[object]
    seeds: list[bytes]

    def run(self, content: bytes, rng: random.Random) -> str: ...

    def renew(self) -> None: ...

    def close(self) -> None: ...


SHARES: dict[type, int] = {WireTarget: 94, ServerTarget: 3, ReplicaTarget: 3}
"""Of a hundred cases: the lowest layer is many times as fast as the others."""


@dataclass
class Report:
    """`outcomes`: per target how many cases ended how; `lines`: how many lines ran; `kept`: cases that led to new ones."""

    cases: int = 0
    seconds: float = 0.0
    lines: int = 0
    kept: int = 0
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    findings: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        told = [
            f"{self.cases} cases in {self.seconds:.0f} s ({self.cases / max(self.seconds, 1e-9):.0f} a second), "
            f"{self.lines} lines reached, {self.kept} cases kept for new ones, {len(self.findings)} findings"
        ]
        for name, counts in self.outcomes.items():
            listed = ", ".join(f"{outcome} {count}" for outcome, count in counts.most_common(12))
            told.append(f"  {name}: {sum(counts.values())} cases, {len(counts)} kinds of outcome: {listed}")
        return "\n".join([*told, *self.findings.values()])


class Campaign:
    """One target, its corpus, and what was found."""

    def __init__(self, target: Target, seed: int, lines: Lines, report: Report) -> None:
        self._target = target
        self._rng = random.Random(f"{seed}/{target.name}")
        self._mutator = Mutator(self._rng, target.words)
        self._lines = lines
        self._report = report
        self._corpus: list[bytes] = []
        self._number = 0
        self.counts = report.outcomes.setdefault(target.name, Counter())

    def begin(self) -> None:
        """The cases that are well formed."""
        for content in self._target.seeds:
            self._play(content)
            if content not in self._corpus:
                self._corpus.append(content)

    def step(self) -> None:
        rng, corpus = self._rng, self._corpus
        newest = rng.random() < 0.3
        content = corpus[rng.randrange(max(len(corpus) - 30, 0) if newest else 0, len(corpus))]
        self._play(self._mutator.mutate(content, rng.choice(corpus)))

    def _play(self, content: bytes) -> None:
        self._number += 1
        if self._number % RENEW_EVERY == 0:
            self._target.renew()
        rng = random.Random(f"{self._number}")
        before = self._lines.count
        try:
            with self._lines.watched() if self._is_watched() else contextlib.nullcontext():
                told = self._target.run(content, rng)
        except Exception as error:
            told = f"FINDING {type(error).__name__}"
            self._find(error, content)
            self._target.renew()
        is_new = told not in self.counts
        self.counts[told] += 1
        if (self._lines.count > before or is_new) and len(content) < CASE_BYTES_MAX and len(self._corpus) < CORPUS_MAX:
            self._corpus.append(content)
            self._report.kept += 1

    def _is_watched(self) -> bool:
        """Before Python 3.12 to watch takes longer than the case: later on, when new lines are rare, not each is."""
        return IS_CHEAP or self._number < WATCHED_FIRST or self._number % WATCHED_EVERY == 0

    def _find(self, error: Exception, content: bytes) -> None:
        last = traceback.extract_tb(error.__traceback__)[-1]
        what = str(error).partition(":")[0][:60] if isinstance(error, BrokenPromiseError) else ""
        where = f"{type(error).__name__} {Path(last.filename).name}:{last.lineno} {what}"
        if where not in self._report.findings:
            text = "".join(traceback.format_exception(error))[-3_000:]
            self._report.findings[where] = f"FINDING {self._target.name} {where}\n{content[:2_000]!r}\n{text}"


def fuzz(cases: int, seed: int, folder: Path, told: Callable[[str], None] = lambda text: None) -> Report:
    """Plays so many cases, in the shares of SHARES."""
    report, lines = Report(), Lines()
    begun = time.monotonic()
    made: list[Target] = [kind(folder) for kind in SHARES]
    campaigns = [Campaign(target, seed, lines, report) for target in made]
    turns = [campaign for campaign, share in zip(campaigns, SHARES.values(), strict=True) for _ in range(share)]
    order = random.Random(seed)
    try:
        for campaign in campaigns:
            campaign.begin()
        for number in range(cases):
            order.choice(turns).step()
            if number % 50_000 == 49_999:
                report.cases, report.seconds, report.lines = number + 1, time.monotonic() - begun, lines.count
                told(str(report))
    finally:
        for target in made:
            target.close()
    report.cases = sum(sum(campaign.counts.values()) for campaign in campaigns)
    report.seconds, report.lines = time.monotonic() - begun, lines.count
    return report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        report = fuzz(arguments.cases, arguments.seed, Path(folder), lambda text: print(text, flush=True))
    print(report)
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
