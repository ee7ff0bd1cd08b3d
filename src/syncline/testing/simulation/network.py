"""The network between one device and the server: how long things take, and everything that befalls them.

A connection is two channels. A channel is like TCP: what arrives does so whole and in order, or, from some point on,
nothing arrives any more, and nobody is told. What is random is drawn from one source per device.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from syncline.testing.simulation.report import Report

MESSAGE_FAULTS = ("drop", "delay", "duplicate", "truncate", "reset", "slow")
"""What befalls single requests and answers; how often is in a script's `faults`."""

LATENCY_SECONDS = (0.005, 0.15)
TAIL_SECONDS_MAX = 120.0


class Way(StrEnum):
    OUT = "out"
    """From the device to the server."""
    BACK = "back"


@dataclass
class Sky:
    """What the device's network is like just now. `is_up`: the radio has a network; `blocked`: ways on which all is
    lost, and nobody is told; `has_portal`: somebody else answers in the server's place; `is_plain`: something on the
    way lets no WebSocket through."""

    is_up: bool = True
    blocked: frozenset[Way] = frozenset()
    has_portal: bool = False
    is_plain: bool = False


class Link:
    """One device's way to the server. `epoch` counts the networks that it was in: connections of earlier ones are
    dead."""

    def __init__(
        self,
        name: str,
        faults: Mapping[str, float],
        rng: random.Random,
        report: Report,
        happened: Callable[[str, object], None],
    ) -> None:
        """`happened` is told who gets what."""
        self.name = name
        self.rng = rng
        self.report = report
        self.happened = happened
        self.sky = Sky()
        self.epoch = 0
        self.is_faulty = True
        self._faults = faults
        self._sky_count = 0

    def strikes(self, fault: str) -> bool:
        """Whether this fault befalls the next thing that it can befall."""
        often = self._faults.get(fault, 0.0)
        if not often or not self.is_faulty or self.rng.random() >= often:
            return False
        self.report.strike(fault)
        return True

    def seconds(self) -> float:
        """How long the next thing is on its way: mostly a moment, now and then minutes."""
        if self.strikes("delay"):
            return min(self.rng.paretovariate(0.7), TAIL_SECONDS_MAX)
        return self.rng.uniform(*LATENCY_SECONDS)

    def lets_through(self, way: Way) -> bool:
        return self.sky.is_up and way not in self.sky.blocked and not self.sky.has_portal

    # ------------------------------------------------------------ what changes
    def under(self, sky: Sky, seconds: float, then: Callable[[], None] = lambda: None) -> None:
        """For so long; a later one takes its place. `then` is called if it is this one that ends."""
        self.sky = sky
        self._sky_count += 1
        count = self._sky_count

        def clear() -> None:
            if count == self._sky_count:
                self.sky = Sky(is_plain=sky.is_plain)
                then()

        asyncio.get_running_loop().call_later(seconds, clear)

    def move(self) -> None:
        """Connections that were made before are dead, and nobody is told."""
        self.epoch += 1

    def heal(self) -> None:
        """No faults any more. Connections that are dead stay dead: it is for each side to find that out."""
        self.is_faulty = False
        self._sky_count += 1
        self.sky = Sky()


class Channel:
    """One way of one connection. `deliver` gets what arrives."""

    def __init__(self, link: Link, way: Way, deliver: Callable[[Any], None], epoch: int | None = None) -> None:
        """`epoch`: the network that the connection was made in, if not in the one of now."""
        self._link = link
        self._way = way
        self._deliver = deliver
        self._epoch = link.epoch if epoch is None else epoch
        self._last = 0.0
        self._items: deque[Any] = deque()
        self.is_dead = False

    def send(self, item: Any) -> None:
        if self._passes():
            loop = asyncio.get_running_loop()
            self._last = max(self._last, loop.time() + self._link.seconds())
            self._items.append(item)
            loop.call_at(self._last, self._arrive)

    def _passes(self) -> bool:
        """Once something was lost, nothing that comes after it can be told from it."""
        if self._epoch != self._link.epoch or not self._link.lets_through(self._way):
            self.is_dead = True
        return not self.is_dead

    def _arrive(self) -> None:
        """The first that is on its way, whichever timer has rung: of two for the same moment any may be first."""
        item = self._items.popleft()
        if self._passes():
            self._link.happened(f"{self._link.name} {self._way}", item)
            self._deliver(item)
