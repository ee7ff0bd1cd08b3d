"""The sequencer's loop: one active per source, a standby takes over, and a fault of the source never ends it.

Where the company changes its schema no checkpoint is taken until a plan was made anew that fits it. That may take a
few attempts: a migration may come in several transactions, and what it leaves between them fits nothing.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable

from syncline.errors import SchemaChangedError, SynclineError
from syncline.log import logger
from syncline.server.hub import Hub
from syncline.source.port import Checkpoint, Source

IDLE_SECONDS = 1.0
STANDBY_SECONDS = 1.0
FAULT_SECONDS = 1.0
SETTLE_SECONDS = 0.2
"""After a change of the schema: the next statement of a migration that is not one transaction mostly comes by then."""
REPLAN_SECONDS = 0.5
PATIENCE_SECONDS = 3.0
"""A migration may take so long before what is missing is told as a fault."""

_log = logger("sequencer")

PAUSE_SHARE = 3.0
PAUSE_SECONDS_MIN = 0.004
PAUSE_SECONDS_MAX = 0.020


def evaluate_pause(took_seconds: float) -> float:
    """How long the source is left alone after a checkpoint, whose taking took so long. The host's programs write
    meanwhile, and one checkpoint takes what several of them have committed; the first change after a quiet time waits
    for nothing."""
    return min(max(took_seconds * PAUSE_SHARE, PAUSE_SECONDS_MIN), PAUSE_SECONDS_MAX)


class Sequencer:
    """`fault` is the error that keeps checkpoints from being taken, or None. `replan` has the service made anew for a
    schema that has changed."""

    def __init__(
        self,
        source: Source,
        hub: Hub,
        draw: Callable[[], str] = lambda: secrets.token_hex(8),
        replan: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._source = source
        self._hub = hub
        self._draw = draw
        self._replan = replan
        self._unfit_since: float | None = None
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
        await self._end_term()

    async def _end_term(self) -> None:
        """A source that is not there needs not to be told: the next term ends this one."""
        term, self.term = self.term, ""
        if term:
            try:
                await self._source.end_term(term)
            except Exception as error:
                _log.debug("term %s was not ended: %s", term, error)

    async def _run(self) -> None:
        while True:
            try:
                await self._advance()
            except SchemaChangedError as error:
                await self._make_fit(error)
            except SynclineError as error:
                await self._report(error)
            except Exception as error:
                await self._report(_unforeseen(error))

    async def _advance(self) -> None:
        """One checkpoint, or one wait for something to do."""
        if not self.term and not await self._begin():
            await self._follow()
            return
        begun = self._now()
        checkpoint = await self._source.take_checkpoint(self.term)
        self._recovered()
        if checkpoint:
            self._publish(checkpoint)
            await asyncio.sleep(evaluate_pause(self._now() - begun))
        else:
            await self._source.wait_for_change(IDLE_SECONDS)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def _begin(self) -> bool:
        term = self._draw()
        head = await self._source.begin_term(term)
        if head is None:
            return False
        self.term = term
        _log.debug("term %s begins at checkpoint %d", term, head.checkpoint)
        if head.checkpoint > self._seen:  # what the one before took last, and this process has not told its devices
            self._publish(await self._source.changed_since(self._seen))
        elif head.checkpoint < self._seen:  # a backup was restored: whoever is connected stands in a lost time
            self._publish(await self._source.changed_since(0))
        return True

    async def _follow(self) -> None:
        """Another process takes the checkpoints: tell this one's devices of them."""
        await self._source.wait_for_change(STANDBY_SECONDS)
        await self._source.require_schema()
        self._recovered()
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
        self._unfit_since = None

    async def _make_fit(self, error: SchemaChangedError) -> None:
        """One attempt to serve the schema as it is now. What is in its way is a fault only after a while."""
        if self._replan is None:
            await self._report(error)
            return
        now = asyncio.get_running_loop().time()
        if self._unfit_since is None:
            self._unfit_since = now
            _log.info("the schema has changed: %s", error.message)
            await asyncio.sleep(SETTLE_SECONDS)
        try:
            await self._replan()
        except Exception as obstacle:
            if now - self._unfit_since >= PATIENCE_SECONDS:
                self._tell(obstacle if isinstance(obstacle, SynclineError) else _unforeseen(obstacle))
            await asyncio.sleep(REPLAN_SECONDS)
        else:
            _log.info("the schema fits again, and is served as it is now")

    def _tell(self, error: SynclineError) -> None:
        if self.fault is None or self.fault.error_code != error.error_code:
            _log.error("no checkpoint can be taken: %s", error)
        self.fault = error

    async def _report(self, error: SynclineError) -> None:
        self._tell(error)
        if error.error_code == "term_lost":
            await self._end_term()
        await asyncio.sleep(FAULT_SECONDS)


def _unforeseen(error: Exception) -> SynclineError:
    """What must not end the loop."""
    _log.error("the sequencer met an unforeseen fault", exc_info=error)
    return SynclineError(f"Unforeseen: {type(error).__name__}.", code="internal")
