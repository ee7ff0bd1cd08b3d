"""How far this device's clock is from the server's: the best of the last samples that `hello` measured."""

from __future__ import annotations

from collections import deque

from syncline.clock import SECOND, Clock, ClockSample

SAMPLES_MAX = 8
JUMP_US = SECOND
"""A clock that moved by more than this against the steady one was set: samples from before say nothing any more."""


class OffsetSamples:
    def __init__(self) -> None:
        self._samples: deque[tuple[ClockSample, int]] = deque(maxlen=SAMPLES_MAX)

    def add(self, sample: ClockSample, clock: Clock) -> None:
        self._samples.append((sample, _drift(clock)))

    def best(self, clock: Clock) -> int | None:
        """The offset (µs) of the sample with the shortest round trip, or None if there is none for this clock."""
        drift = _drift(clock)
        valid = [sample for sample, then in self._samples if abs(then - drift) <= JUMP_US]
        if not valid:
            return None
        return min(valid, key=lambda sample: sample.round_trip_us).offset_us


def _drift(clock: Clock) -> int:
    """Wall clock less steady clock: constant until somebody sets the wall clock."""
    return clock.now_us() - round(clock.monotonic_seconds() * SECOND)
