"""Terms and checkpoints: what the sequencer makes."""

from __future__ import annotations

from dataclasses import dataclass

from syncline.errors import SourceError


@dataclass(frozen=True, slots=True)
class Head:
    """The newest checkpoint: its number, the term of the sequencer that took it, and the source's time then (µs)."""

    term: str
    checkpoint: int
    time_us: int


@dataclass(frozen=True)
class Checkpoint:
    """What taking one changed: which buckets got entries, which devices were included, which tables grants must be
    asked again for; and of which tables it raised the generation, so that every device gets them whole."""

    head: Head
    buckets: frozenset[str]
    devices: frozenset[str]
    tables: frozenset[str]
    changes: int = 0
    raised: frozenset[str] = frozenset()


class TermLostError(SourceError):
    """Another sequencer took over; this one must stop."""

    code = "term_lost"
