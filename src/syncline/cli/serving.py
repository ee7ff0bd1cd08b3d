"""Running an ASGI application under uvicorn so that it can be scripted: it says when it is ready and ends cleanly."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from syncline import limits
from syncline.errors import ConfigError, SynclineError
from syncline.server.uvicorn_punctual import PunctualProtocol
from syncline.server.uvicorn_wire import WiredProtocol

GRACEFUL_SECONDS = 5
"""How long requests that are being answered may go on after the server was told to end."""

LOG_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def run_server(app: Any, host: str, port: int, log_level: str, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `announce` gets the URL when requests are answered.

    SynclineError: `bad_address` or `address_in_use`, or the application's own if it does not start.
    """
    configure_logging(log_level)
    listener = listen(host, port)
    try:
        serve_on(listener, app, lambda: announce(url_of(host, listener)))
    finally:
        listener.close()


def serve_on(
    listener: socket.socket, app: Any, ready: Callable[[], None], until: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, or until `until` returns; SynclineError if the application does not start."""
    guarded = _StartupGuard(app)
    config = uvicorn.Config(
        guarded,
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        server_header=False,
        http=PunctualProtocol,
        ws=WiredProtocol,
        ws_max_size=limits.REQUEST_BYTES_MAX + 1,
        ws_per_message_deflate=False,  # frames are compressed once for all, and not for each device
        ws_ping_interval=None,  # the heartbeats of the protocol do it
    )
    server = _Server(config, ready)
    try:
        _run(server.run_until_told(listener, until))
    except SystemExit:
        if guarded.error is None:
            raise
        raise guarded.error from None


class _Server(uvicorn.Server):
    """uvicorn raises the signal again after a clean end, which would turn it into a failure: this one does not."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def run_until_told(self, listener: socket.socket, until: Callable[[], Awaitable[None]] | None) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                loop.add_signal_handler(number, self.handle_exit, number, None)
            except NotImplementedError:  # Windows
                signal.signal(number, self.handle_exit)
        watching = asyncio.create_task(self._end_after(until)) if until is not None else None
        await self.serve(sockets=[listener])
        if watching is not None:
            watching.cancel()

    async def _end_after(self, until: Callable[[], Awaitable[None]]) -> None:
        await until()
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


class _StartupGuard:
    """Keeps the error with which an application refused to start, to be told as one line instead of a traceback."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.error: SynclineError | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_quietly(message: dict[str, Any]) -> None:
            failed = message["type"] == "lifespan.startup.failed"
            await send({"type": message["type"]} if failed and sys.exc_info()[1] is not None else message)

        try:
            await self._app(scope, receive, send_quietly)
        except SynclineError as error:
            self.error = error


def _run(work: Coroutine[Any, Any, None]) -> None:
    """On uvloop where there is one: a change told to a thousand devices costs a third less."""
    try:
        import uvloop
    except ImportError:  # pragma: no cover - depends on the installation
        asyncio.run(work)
    else:
        uvloop.run(work)


def listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SynclineError(f'"{host}" is no address of this machine: {error.strerror}.', code="bad_address") from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise SynclineError(
            f"Nothing can listen on {host}:{port}: {error.strerror}.",
            hint="Take another port with --port; --port 0 takes a free one.",
            code="address_in_use",
        ) from error
    listener.setblocking(False)
    return listener


def url_of(host: str, listener: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def configure_logging(level: str) -> None:
    """Log lines go to standard error. uvicorn is only heard when something is wrong."""
    if level not in LOG_LEVELS:
        raise ConfigError(f'There is no log level "{level}".', hint=f"Use {', '.join(LOG_LEVELS)}.", code="usage")
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("syncline").setLevel(LOG_LEVELS[level])
    uvicorn_log = logging.getLogger("uvicorn")
    uvicorn_log.setLevel(max(LOG_LEVELS[level], logging.WARNING) if level != "debug" else logging.DEBUG)
    failed = "Application startup failed. Exiting."
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.getMessage() != failed)
