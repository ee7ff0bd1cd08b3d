"""Who is connected, and who waits for the next checkpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from syncline.model.scopes import Plan
from syncline.server.downloads import Position
from syncline.source.port import Checkpoint, Claims

Observer = Callable[[Checkpoint], None]


class Subscriber(Protocol):
    """One open stream of a device. `position` is where the device stands once it has applied what was sent."""

    device: str
    claims: Claims
    packing: int
    position: Position

    def wake(self) -> None:
        """Something may concern it: it reads a cut of its own."""

    def replace(self) -> None:
        """A newer stream of the device opens: this one ends."""

    def take(self, messages: Sequence[bytes], position: Position) -> bool:
        """A cut that others get, too, and where the device stands then. False if it is not ready for it."""
        ...


class Hub:
    """One per process. `observers` are called with every checkpoint."""

    def __init__(self, plan: Plan) -> None:
        self._subscribers: dict[str, Subscriber] = {}
        self.take_plan(plan)
        self._waiters: set[asyncio.Event] = set()
        self.observers: list[Observer] = []
        self.published = 0
        """How many checkpoints were published."""

    def __len__(self) -> int:
        return len(self._subscribers)

    def take_plan(self, plan: Plan) -> None:
        self._has_clock_grants = any(scope.refresh_seconds for scope in plan.scopes.values())

    def end_all(self) -> None:
        """Every stream ends; its device begins anew, with a hello."""
        for subscriber in list(self._subscribers.values()):
            subscriber.replace()

    def join(self, subscriber: Subscriber) -> None:
        """A device has one stream at a time; the newer ends the older."""
        older = self._subscribers.get(subscriber.device)
        self._subscribers[subscriber.device] = subscriber
        if older is not None:
            older.replace()

    def leave(self, subscriber: Subscriber) -> None:
        if self._subscribers.get(subscriber.device) is subscriber:
            del self._subscribers[subscriber.device]

    def publish(self, checkpoint: Checkpoint) -> None:
        self.published += 1
        for observer in self.observers:
            observer(checkpoint)
        for waiter in self._waiters:
            waiter.set()

    def refresh_grants(self) -> None:
        """Scopes with `refresh` are asked again by the clock, for those too who hold nothing of them: what they are
        granted may begin now."""
        if self._has_clock_grants:
            for subscriber in list(self._subscribers.values()):
                subscriber.wake()

    async def next_checkpoint(self, seconds: float, published: int | None = None) -> None:
        """Return at the next checkpoint, or after `seconds`; at once if more than `published` were published by now."""
        if published is not None and self.published > published:
            return
        waiter = asyncio.Event()
        self._waiters.add(waiter)
        try:
            await asyncio.wait_for(waiter.wait(), seconds)
        except TimeoutError:
            pass
        finally:
            self._waiters.discard(waiter)
