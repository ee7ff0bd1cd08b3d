"""A long history that fails, made short: whatever can be left out so that it still fails in the same way is left out.

First the end, then whole faults, devices and kinds of acts, then steps: halves, quarters, and so on down to single ones
(Zeller's delta debugging). That works because a step draws from its own dice and comes at its own time, whatever is
left out.
"""

from __future__ import annotations

from collections.abc import Callable

from syncline.testing.simulation.script import Script

ATTEMPTS_MAX = 400
"""Histories that are tried, at most; what is shortest by then is good enough to read."""


class _OutOfAttemptsError(Exception):
    """Ends the search."""


def shrink(script: Script, fails: Callable[[Script], bool], attempts_max: int = ATTEMPTS_MAX) -> Script:
    """The shortest script found that `fails`, as `script` itself does."""
    search = _Search(script, fails, attempts_max)
    try:
        while search.shorten():
            pass
    except _OutOfAttemptsError:
        pass
    return search.best


class _Search:
    """`best` always fails."""

    def __init__(self, script: Script, fails: Callable[[Script], bool], attempts_max: int) -> None:
        self.best = script
        self._fails = fails
        self._left = attempts_max

    def shorten(self) -> bool:
        """One round of everything; False where nothing more can be left out."""
        before = self.best
        self._leave_out_the_end()
        self._leave_out_wholes()
        self._leave_out_steps()
        return self.best != before

    def _takes(self, script: Script) -> bool:
        if script == self.best:
            return False
        if self._left <= 0:
            raise _OutOfAttemptsError
        self._left -= 1
        if not self._fails(script):
            return False
        self.best = script
        return True

    def _leave_out_the_end(self) -> None:
        """What came after the failure, as it mostly is."""
        size = len(self.best.steps) // 2
        while size:
            if not self._takes(self.best.only(lambda step, kept=self.best.steps[:-size]: step in kept)):  # type: ignore[misc]
                size //= 2
            size = min(size, len(self.best.steps) - 1)

    def _leave_out_wholes(self) -> None:
        """All faults, each kind of them, each device, each kind of act."""
        self._takes(self.best.without_faults(self.best.faults))
        for fault in sorted(self.best.faults):
            self._takes(self.best.without_faults([fault]))
        for device in self.best.devices:
            self._takes(_without(self.best, "device", device))
        for act in sorted({step.act for step in self.best.steps}):
            self._takes(_without(self.best, "act", act))

    def _leave_out_steps(self) -> None:
        size = len(self.best.steps)
        while size:
            size = min(size, len(self.best.steps))
            for first in reversed(range(0, len(self.best.steps), size)):  # what comes after the failure goes first
                gone = {step.number for step in self.best.steps[first : first + size]}
                self._takes(self.best.only(lambda step, gone=gone: step.number not in gone))  # type: ignore[misc]
            size //= 2


def _without(script: Script, what: str, name: str) -> Script:
    return script.only(lambda step: getattr(step, what) != name)
