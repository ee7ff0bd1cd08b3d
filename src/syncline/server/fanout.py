"""One change told to many: what a checkpoint brings is read, encoded and compressed once, and the same bytes go to all
devices that stand at its predecessor.

Everybody else reads a cut of its own, which is exact from wherever it stands: devices that were being sent something,
or do not keep up with reading; those that an outcome has to be told to; those whose grants now name a new bucket. Where
a checkpoint touched what grants read, nothing of it is sent before they were evaluated in the very snapshot that the
changes were read in: a row and the revocation that came with it never part.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from syncline import limits
from syncline.errors import LimitError, SynclineError
from syncline.log import logger
from syncline.model.scopes import bucket_scope
from syncline.server.downloads import Position
from syncline.server.hub import Hub, Subscriber
from syncline.server.shared import SharedCut
from syncline.source.port import Checkpoint, Delta, Source

PIECE = 200
"""After so many devices others have their turn."""
RECENT = 64
"""How many steps are remembered, for those who come back from a cut of their own."""
FAULT_SECONDS = 0.25

_log = logger("fanout")


@dataclass(frozen=True)
class _Step:
    """Whom a step from one checkpoint to another may have concerned."""

    after: int
    upto: int
    buckets: frozenset[str]
    devices: frozenset[str]
    grants: bool

    def concerns(self, subscriber: Subscriber) -> bool:
        return self.grants or subscriber.device in self.devices or not self.buckets.isdisjoint(subscriber.position.held)


class FanOut:
    """One per process."""

    def __init__(self, source: Source, hub: Hub) -> None:
        self._source = source
        self._at = ("", 0)
        self._newest = self._at
        self._standing: dict[Subscriber, None] = {}
        self._holders: dict[str, dict[Subscriber, None]] = {}
        self._ahead: dict[Subscriber, None] = {}
        self._recent: deque[_Step] = deque(maxlen=RECENT)
        self._news = asyncio.Event()
        self._is_stepping = False
        self._fault = ""
        self._task: asyncio.Task[None] | None = None
        self.turn = asyncio.Semaphore(limits.LIVE_EXACT_READS_MAX)
        """Held while a subscriber reads a cut of its own."""
        hub.observers.append(self.publish)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="syncline-fan-out")

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    @property
    def at(self) -> tuple[str, int]:
        """The cursor up to which all standing subscribers have been told everything that concerns them."""
        return self._at

    # ------------------------------------------------------------ who stands where
    def stand(self, subscriber: Subscriber) -> None:
        """It has been told everything up to its position, and is ready for what comes next."""
        cursor = subscriber.position.cursor or ("", 0)
        if not self._standing and not self._is_stepping:  # nobody is left behind by a jump
            self._at = cursor
            self._recent.clear()
            if self._newest != cursor:  # told while it read its cut, when nobody stood here to hear of it
                self._news.set()
        if self._is_stepping:
            self._ahead[subscriber] = None
        elif cursor[1] > self._at[1]:
            self._ahead[subscriber] = None
            self._news.set()
        elif cursor[1] == self._at[1] or self._missed_nothing(subscriber, cursor[1]):
            self._standing[subscriber] = None
            for bucket in subscriber.position.held:
                self._holders.setdefault(bucket, {})[subscriber] = None
        else:
            subscriber.wake()

    def _missed_nothing(self, subscriber: Subscriber, number: int) -> bool:
        missed = [step for step in self._recent if step.upto > number]
        return bool(missed) and missed[0].after <= number and not any(step.concerns(subscriber) for step in missed)

    def leave(self, subscriber: Subscriber) -> None:
        """It goes its own way, for now or for good."""
        self._ahead.pop(subscriber, None)
        if subscriber not in self._standing:
            return
        del self._standing[subscriber]
        self._forget(subscriber, subscriber.position.held)

    def is_standing(self, subscriber: Subscriber) -> bool:
        return subscriber in self._standing

    def _forget(self, subscriber: Subscriber, buckets: frozenset[str]) -> None:
        for bucket in buckets:
            holders = self._holders.get(bucket)
            if holders is not None:
                holders.pop(subscriber, None)
                if not holders:
                    del self._holders[bucket]

    def _send_away(self, subscriber: Subscriber) -> None:
        self.leave(subscriber)
        subscriber.wake()

    # ------------------------------------------------------------ steps
    def publish(self, checkpoint: Checkpoint) -> None:
        self._newest = (checkpoint.head.term, checkpoint.head.checkpoint)
        if self._newest != self._at:
            self._news.set()

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self.step()
            except SynclineError as error:  # of the source: nobody was told anything yet, and it is tried again
                if self._fault != error.error_code:
                    _log.warning("a checkpoint could not be read for those who are connected: %s", error)
                self._fault = error.error_code
                await asyncio.sleep(FAULT_SECONDS)
                self._news.set()
            except Exception:
                _log.exception("a checkpoint could not be told to all: each reads a cut of its own")
                for subscriber in list(self._standing):
                    self._send_away(subscriber)
            else:
                self._fault = ""

    async def step(self) -> None:
        """Tell everybody who stands at the last checkpoint that was told what has changed since."""
        self._is_stepping = True
        try:
            users = list(self._standing)
            if not users:
                return
            delta = await self._source.read_delta(
                self._at,
                self._holders.keys(),
                {subscriber.device: subscriber.position.included for subscriber in users},
                [subscriber.claims for subscriber in users],
                limits.LIVE_ROWS_MAX,
            )
            await self._tell(delta, users)
        finally:
            self._is_stepping = False
            waiting = list(self._ahead)
            self._ahead.clear()
            for subscriber in waiting:
                self.stand(subscriber)

    async def _tell(self, delta: Delta, users: list[Subscriber]) -> None:
        after, self._at = self._at[1], (delta.head.term, delta.head.checkpoint)
        if not delta.valid:
            self._recent.clear()
            for subscriber in users:
                self._send_away(subscriber)
            return
        if self._at[1] > after:
            buckets, devices = frozenset(delta.rows), frozenset(delta.included)
            self._recent.append(_Step(after, self._at[1], buckets, devices, bool(delta.granted)))
        news, lost, alone = self._concerned(delta, users)
        for subscriber in alone:
            if subscriber in self._standing:
                self._send_away(subscriber)
        shared = SharedCut(delta)
        for count, (subscriber, buckets_of) in enumerate(news.items(), 1):
            if subscriber in self._standing:
                self._give(shared, subscriber, buckets_of, lost.get(subscriber, frozenset()))
            if not count % PIECE:
                await asyncio.sleep(0)

    def _concerned(
        self, delta: Delta, users: list[Subscriber]
    ) -> tuple[dict[Subscriber, list[str]], dict[Subscriber, frozenset[str]], dict[Subscriber, None]]:
        """(whom to tell: of which buckets; who lost which buckets; who has to read a cut of their own)."""
        news: dict[Subscriber, list[str]] = {}
        lost: dict[Subscriber, frozenset[str]] = {}
        alone: dict[Subscriber, None] = {}
        for bucket in delta.rows:
            for subscriber in self._holders.get(bucket, ()):
                if bucket in delta.large:
                    alone[subscriber] = None
                news.setdefault(subscriber, []).append(bucket)
        for subscriber in users if delta.included else ():
            if subscriber.device in delta.spoken:
                alone[subscriber] = None
            elif subscriber.device in delta.included:
                news.setdefault(subscriber, [])
        for scope, granted_to in delta.granted.items():
            for subscriber, granted in zip(users, granted_to, strict=True):
                held = frozenset(bucket for bucket in subscriber.position.held if bucket_scope(bucket) == scope)
                if granted is None or granted - held:
                    alone[subscriber] = None
                elif held - granted:
                    lost[subscriber] = lost.get(subscriber, frozenset()) | (held - granted)
                    news.setdefault(subscriber, [])
        return {who: buckets for who, buckets in news.items() if who not in alone}, lost, alone

    def _give(self, shared: SharedCut, subscriber: Subscriber, buckets: list[str], lost: frozenset[str]) -> None:
        position = subscriber.position
        kept = [bucket for bucket in buckets if bucket not in lost] if lost else buckets
        try:
            messages, included = shared.messages(subscriber.device, position, kept, lost, subscriber.packing)
        except LimitError:  # a row that no frame can carry: its own cut tells the device so
            self._send_away(subscriber)
            return
        held = position.held - lost if lost else position.held
        if subscriber.take(messages, Position(self._at, held, included, position.apply_count + 1)):
            self._forget(subscriber, lost)
        else:
            self._send_away(subscriber)
