"""Who is connected, and who has to be told of a checkpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from syncline.model.scopes import Plan, bucket_scope
from syncline.source.port import Checkpoint


@dataclass(eq=False)
class Subscriber:
    """One open download of a device. `wake` is called when something may concern it, `replace` when a newer one
    opens."""

    device: str
    wake: Callable[[], None]
    replace: Callable[[], None]
    held: frozenset[str] = field(default_factory=frozenset)
    meanwhile: set[str] | None = None
    """Buckets that checkpoints named while a cut is read and sent; that cut may give the device one of them."""

    def begin_cut(self) -> None:
        self.meanwhile = set()

    def end_cut(self, held: frozenset[str]) -> None:
        """The device holds these from now on. What came meanwhile in a bucket that is new to it is news."""
        meanwhile, self.meanwhile = self.meanwhile or set(), None
        has_news = bool(held & meanwhile - self.held)
        self.held = held
        if has_news:
            self.wake()


class Hub:
    """One per process."""

    def __init__(self, plan: Plan) -> None:
        self._subscribers: dict[str, Subscriber] = {}
        self._grant_tables = frozenset(table for tables in plan.grant_reads.values() for table in tables)
        self._by_clock = frozenset(scope.name for scope in plan.scopes.values() if scope.refresh_seconds)
        self._waiters: set[asyncio.Event] = set()
        self.published = 0
        """How many checkpoints were published."""

    def __len__(self) -> int:
        return len(self._subscribers)

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
        """Wake whoever the checkpoint may concern: holders of its buckets, devices whose mutations it includes, and,
        when it touched a table that grants read, everybody, for any grant may now say something else."""
        self.published += 1
        everybody = bool(checkpoint.tables & self._grant_tables)
        for subscriber in list(self._subscribers.values()):
            if everybody or subscriber.device in checkpoint.devices or subscriber.held & checkpoint.buckets:
                subscriber.wake()
            elif subscriber.meanwhile is not None:
                subscriber.meanwhile |= checkpoint.buckets
        for waiter in self._waiters:
            waiter.set()

    def refresh_grants(self) -> None:
        """Scopes with `refresh` are asked again by the clock."""
        for subscriber in list(self._subscribers.values()):
            if (self._by_clock and any(bucket_scope(bucket) in self._by_clock for bucket in subscriber.held)) or (
                self._by_clock and not subscriber.held
            ):
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
