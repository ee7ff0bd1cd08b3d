"""The real server, on a port of this machine, in a thread."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from syncline import limits
from syncline.errors import SynclineError
from syncline.server.app import create_app
from syncline.server.config_settings import Settings
from syncline.server.service import Service
from syncline.server.uvicorn_wire import WiredProtocol
from syncline.testing.pair.loop import LoopThread

GRACEFUL_SECONDS = 2
CATCH_UP_SECONDS = 20.0
MARKER_SECONDS = 0.25


class Server:
    """Runs from its making on. It keeps its address when it is stopped and started again."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._thread = LoopThread("syncline-server")
        self._ended: asyncio.Task[None] | None = None
        self._ending: asyncio.Event | None = None
        self._service: Service | None = None
        self.port = 0
        try:
            self.start()
        except BaseException:
            self._thread.close()
            raise

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        return self._service is not None

    def start(self) -> None:
        """As after a deployment. What keeps it from starting is raised."""
        if self._service is None:
            self._service = self._thread.ask(self._start())

    def stop(self) -> None:
        """In good order. Nobody answers at its address then."""
        if self._service is not None:
            self._service = None
            self._thread.ask(self._stop())

    def catch_up(self) -> int:
        """Waits until all that the company has committed is in a checkpoint, and answers the newest one's number."""
        service = self._serving()
        try:
            return self._thread.ask(_pass_marker(service), CATCH_UP_SECONDS)
        except TimeoutError:
            fault = service.sequencer.fault
            raise fault or AssertionError(f"no checkpoint within {CATCH_UP_SECONDS:g} seconds") from None

    @property
    def checkpoint(self) -> int:
        """The newest checkpoint's number."""
        return self._thread.ask(_head(self._serving()))

    def close(self) -> None:
        try:
            self.stop()
        finally:
            self._thread.close()

    def _serving(self) -> Service:
        if self._service is None:
            raise SynclineError("The server was stopped.", hint="start() it first.", code="not_ready")
        return self._service

    # ------------------------------------------------------------ on the server's thread
    async def _start(self) -> Service:
        listener = _listen(self.port)
        loop = asyncio.get_running_loop()
        started: asyncio.Future[Service] = loop.create_future()
        self._ending = asyncio.Event()
        self._ended = loop.create_task(_serve(self._settings, listener, self._ending, started))
        either: list[asyncio.Future[Any]] = [self._ended, started]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            started.cancel()
            await self._ended
            raise SynclineError("The server ended before it began to serve.", code="not_ready")
        self.port = listener.getsockname()[1]
        return started.result()

    async def _stop(self) -> None:
        assert self._ending is not None and self._ended is not None
        self._ending.set()
        await self._ended


def _listen(port: int) -> socket.socket:
    # Named as TCP: for any other protocol asyncio does not set TCP_NODELAY, and each answer waits 40 ms for an ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


async def _serve(
    settings: Settings, listener: socket.socket, ending: asyncio.Event, started: asyncio.Future[Service]
) -> None:
    try:
        app = create_app(settings)
        runtime = app.state.syncline.runtime
        async with runtime.lifespan():
            config = uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=GRACEFUL_SECONDS,
                server_header=False,
                ws=WiredProtocol,
                ws_max_size=limits.REQUEST_BYTES_MAX + 1,
                ws_per_message_deflate=False,
                ws_ping_interval=None,
            )
            await _Uvicorn(config, ending, started, runtime.service).serve(sockets=[listener])
    finally:
        listener.close()


class _Uvicorn(uvicorn.Server):
    """Ends as soon as it is told, and leaves signals to the process that runs the tests."""

    def __init__(
        self, config: uvicorn.Config, ending: asyncio.Event, started: asyncio.Future[Service], service: Service
    ) -> None:
        super().__init__(config)
        self._ending = ending
        self._started = started
        self._serving = service

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._started.set_result(self._serving)

    async def main_loop(self) -> None:
        await self._ending.wait()


async def _pass_marker(service: Service) -> int:
    published = service.hub.published
    marker = await service.source.put_marker()
    while not await service.source.marker_passed(marker):
        await service.hub.next_checkpoint(MARKER_SECONDS, published)
        published = service.hub.published
    return await _head(service)


async def _head(service: Service) -> int:
    return (await service.source.read_head()).checkpoint
