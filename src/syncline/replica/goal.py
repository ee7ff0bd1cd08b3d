"""Somebody waits until both sides are quiet, and wants to know what it brought."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from syncline.replica.apply import AppliedCut


@dataclass
class Counters:
    """What happened since somebody began to count."""

    downloaded_rows: int = 0
    removed_rows: int = 0
    uploaded_mutations: int = 0
    rejected: int = 0
    conflicts: int = 0
    first_sync: bool = False

    def add(self, applied: AppliedCut) -> None:
        self.uploaded_mutations += applied.newly_included
        self.downloaded_rows += applied.rows_put
        self.removed_rows += applied.rows_removed
        self.rejected += applied.rejected
        self.conflicts += applied.conflicts
        self.first_sync |= applied.is_first


@dataclass
class Goal:
    """Somebody waits until both sides are quiet. `error`: what cannot be healed by waiting."""

    reached: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None
    last_error: BaseException | None = None
    counters: Counters = field(default_factory=Counters)

    @property
    def is_fulfilled(self) -> bool:
        """Whether quiet is all that it takes."""
        return True
