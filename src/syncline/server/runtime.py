"""When the service runs: with the lifespan of the application, or, mounted without one, from the first request on.

A host does not run the lifespan of what is mounted into it. `install` joins the host's; after a plain mount a task of
our own holds the service open. It ends with the event loop, which cancels it, and so the source is closed in order.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from syncline.clock import Clock
from syncline.errors import SourceBusyError
from syncline.log import logger
from syncline.model.scopes import Plan
from syncline.server.auth import Authenticator
from syncline.server.config_kept import KeptReads
from syncline.server.config_plan import load_plan
from syncline.server.config_settings import Settings
from syncline.server.service import Service
from syncline.server.sources import open_source
from syncline.source.port import Source

STARTING_SECONDS_MAX = 120.0
"""A database that is only starting (after a crash: recovering) is waited for as long at our own start."""
STARTING_PAUSE_SECONDS = 0.5
_log = logger("service")


class Runtime:
    """`service` is there while it runs."""

    def __init__(self, settings: Settings, authenticator: Authenticator, clock: Clock) -> None:
        self._settings = settings
        self._authenticator = authenticator
        self._clock = clock
        self._keeper: asyncio.Task[None] | None = None
        self._started: asyncio.Future[None] | None = None
        self._has_lifespan = False
        self.service: Service | None = None

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Runs the service; what it raises at its start is the reason why it cannot."""
        self._has_lifespan = True
        async with self._serve():
            yield

    async def running(self) -> Service:
        """The service, started if nobody else will; SourceBusyError `not_ready` while that is not possible."""
        if self.service is None and not self._has_lifespan:
            await self._start()
        if self.service is None:
            raise SourceBusyError("The service is starting or stopping.", hint="Try again.", code="not_ready")
        return self.service

    async def close(self) -> None:
        """Ends what the first request began."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        if self._started is None or self._keeper is None or self._keeper.done() or self._keeper.get_loop() is not loop:
            self._started = loop.create_future()
            self._keeper = loop.create_task(self._keep(self._started), name="syncline-service")
        await asyncio.shield(self._started)

    async def _keep(self, started: asyncio.Future[None]) -> None:
        try:
            async with self._serve():
                started.set_result(None)
                await loop_end()
        except asyncio.CancelledError:
            if not started.done():
                started.cancel()
            raise
        except Exception as error:
            if started.done():
                raise
            started.set_exception(error)

    async def _first_plan(self, source: Source, kept: KeptReads | None) -> Plan:
        """A database that is not there ends the start, as a missing file does; one that is on its way is waited for."""
        ends = self._clock.monotonic_seconds() + STARTING_SECONDS_MAX
        said = False
        while True:
            try:
                return await load_plan(self._settings, source, kept)
            except SourceBusyError as error:
                if error.error_code != "source_starting" or self._clock.monotonic_seconds() > ends:
                    raise
                if not said:
                    _log.warning("waiting for the database: %s", error.message)
                said = True
            await asyncio.sleep(STARTING_PAUSE_SECONDS)

    @contextlib.asynccontextmanager
    async def _serve(self) -> AsyncIterator[None]:
        source = open_source(self._settings)
        try:
            kept = KeptReads() if source.stops_single_tables else None
            plan = await self._first_plan(source, kept)
            service = Service(
                source,
                plan,
                self._clock,
                retention_days=self._settings.retention_days,
                load_plan=lambda: load_plan(self._settings, source, kept),
            )
            await service.open()
        except BaseException:
            await source.close()
            raise
        self._authenticator.open()
        self.service = service
        try:
            yield
        finally:
            self.service = None
            await self._authenticator.close()
            await service.close()


async def loop_end() -> None:
    """Waits until it is cancelled."""
    await asyncio.Event().wait()
