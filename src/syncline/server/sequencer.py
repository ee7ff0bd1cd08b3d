"""The sequencer's loop: one active per source, a standby takes over, and a fault of the source never ends it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from syncline.errors import SynclineError
from syncline.log import logger
from syncline.server.hub import Hub
from syncline.source.port import Checkpoint, Source

IDLE_SECONDS = 1.0
STANDBY_SECONDS = 1.0
FAULT_SECONDS = 1.0

_log = logger("sequencer")


class Sequencer:
    """`fault` is the error that keeps checkpoints from being taken, or None."""

    def __init__(self, source: Source, hub: Hub, draw: Callable[[], str] = lambda: secrets.token_hex(8)) -> None:
        self._source = source
        self._hub = hub
        self._draw = draw
        self._task: asyncio.Task[None] | None = None
        self._seen = 0
        self.term = ""
        self.fault: SynclineError | None = None

    def start(self, head: int = 0) -> None:
        """`head`: the newest checkpoint now, before any device is served."""
        self._seen = head
        self._task = asyncio.create_task(self._run(), name="syncline-sequencer")

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self.term:
            await self._source.end_term(self.term)
            self.term = ""

    async def _run(self) -> None:
        while True:
            try:
                if not self.term and not await self._begin():
                    await self._follow()
                    continue
                checkpoint = await self._source.take_checkpoint(self.term)
                self._recovered()
                if checkpoint:
                    self._publish(checkpoint)
                else:
                    await self._source.wait_for_change(IDLE_SECONDS)
            except SynclineError as error:
                await self._report(error)
            except Exception as error:  # an unforeseen fault must not end the loop
                _log.exception("the sequencer met an unforeseen fault")
                await self._report(SynclineError(f"Unforeseen: {type(error).__name__}."))

    async def _begin(self) -> bool:
        term = self._draw()
        head = await self._source.begin_term(term)
        if head is None:
            return False
        self.term = term
        _log.debug("term %s begins at checkpoint %d", term, head.checkpoint)
        if head.checkpoint > self._seen:  # what the one before took last, and this process has not told its devices
            self._publish(await self._source.changed_since(self._seen))
        return True

    async def _follow(self) -> None:
        """Another process takes the checkpoints: tell this one's devices of them."""
        await self._source.wait_for_change(STANDBY_SECONDS)
        news = await self._source.changed_since(self._seen)
        if news.head.checkpoint > self._seen:
            self._publish(news)

    def _publish(self, checkpoint: Checkpoint) -> None:
        self._seen = checkpoint.head.checkpoint
        self._hub.publish(checkpoint)

    def _recovered(self) -> None:
        if self.fault:
            _log.info("checkpoints are taken again")
        self.fault = None

    async def _report(self, error: SynclineError) -> None:
        if self.fault is None or self.fault.error_code != error.error_code:
            _log.error("no checkpoint can be taken: %s", error)
        self.fault = error
        if error.error_code == "term_lost":
            await self._source.end_term(self.term)
            self.term = ""
        await asyncio.sleep(FAULT_SECONDS)
