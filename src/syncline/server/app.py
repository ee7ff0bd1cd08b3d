"""The ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from syncline import limits
from syncline.clock import Clock
from syncline.errors import AuthError, LimitError, ProtocolError, ServerError, SynclineError
from syncline.protocol import frames
from syncline.server.answers import error_answer, message_answer, packed_frames, refused_request, stream_answer
from syncline.server.auth import Authenticator, Identity, Verifier
from syncline.server.config import load_settings
from syncline.server.config_settings import Settings
from syncline.server.downloads import BucketsNeededError
from syncline.server.host_auth import Authenticate, HostAuthenticator
from syncline.server.live import LiveConnection
from syncline.server.metrics import METRICS_TYPE, metrics_text
from syncline.server.overload import CLOSE_CODE, Overload, OverloadedError
from syncline.server.prefix import ForwardedPrefix
from syncline.server.runtime import Runtime
from syncline.server.service import error_body
from syncline.system.clock import SYSTEM_CLOCK

PACKING_HEADER = "x-syncline-packing"
Handler = Callable[[Identity, dict[str, Any], int], Awaitable[Response]]


class SynclineApp:
    """Serves one source. `runtime.service` exists while it runs."""

    def __init__(
        self, settings: Settings, clock: Clock = SYSTEM_CLOCK, authenticate: Authenticate | None = None
    ) -> None:
        self._clock = clock
        self._authenticator: Authenticator = (
            HostAuthenticator(authenticate, settings) if authenticate else Verifier.of(settings)
        )
        self._overload = Overload(settings.serve, clock)
        self.runtime = Runtime(settings, self._authenticator, clock)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        async with self.runtime.lifespan():
            yield

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/v1/hello", self._overload.guard(self._call(self._hello)), methods=["POST"]),
            Route(
                "/v1/upload", self._overload.guard(self._call(self._upload, limits.JSON_ITEMS_MAX)), methods=["POST"]
            ),
            Route("/v1/download", self._overload.guard(self._call(self._download)), methods=["POST"]),
            Route("/v1/verify", self._overload.guard(self._call(self._verify)), methods=["POST"]),
            Route("/v1/verified", self._overload.guard(self._call(self._verified)), methods=["POST"]),
            WebSocketRoute("/v1/live", self._live),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/metrics", self._metrics),
        ]

    # ------------------------------------------------------------ calls
    def _call(
        self, handler: Handler, items_max: int = limits.SHORT_MESSAGE_ITEMS_MAX
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            received = self._clock.now_us()
            try:
                identity = await self._authenticator.identify(request)
                self._overload.work_for(request.scope, identity.user)
                message = self._read(frames.unpack(await _body(request), limits.REQUEST_BYTES_MAX), identity, items_max)
                waits = bool(message.get("wait"))
                self._overload.admit(request.scope, identity.user, waits=waits)
                answer = await handler(identity, message, received)
                if waits:
                    self._overload.rest(request.scope)
                return answer
            except OverloadedError as error:
                return error_answer(error, error.status)
            except BucketsNeededError:
                return error_answer(ProtocolError("The server needs the list of buckets.", code="buckets_needed"), 409)
            except Exception as error:
                return error_answer(error)

        return endpoint

    def _read(self, body: bytes, identity: Identity, items_max: int) -> dict[str, Any]:
        """Paid for before it is read: that is the dear part of a request that is to be dear."""
        self._overload.charge(identity.user, frames.count_items(body, items_max))
        return frames.load(body, items_max=items_max)

    async def _hello(self, identity: Identity, message: dict[str, Any], received_us: int) -> Response:
        answer = await (await self.runtime.running()).hello(identity, message, received_us)
        return message_answer(answer.dump(), frames.PACKINGS.get(answer.packing, frames.PLAIN))

    async def _upload(self, identity: Identity, message: dict[str, Any], received_us: int) -> Response:
        answer = await (await self.runtime.running()).upload(identity, message)
        return message_answer(answer.dump(), frames.PLAIN)

    async def _download(self, identity: Identity, message: dict[str, Any], received_us: int) -> Response:
        answer = await (await self.runtime.running()).download(identity, _no_longer_than_token(message, identity))
        return _streamed(answer, identity, message)

    async def _verify(self, identity: Identity, message: dict[str, Any], received_us: int) -> Response:
        answer = await (await self.runtime.running()).verify(identity, message)
        return _streamed(answer, identity, message)

    async def _verified(self, identity: Identity, message: dict[str, Any], received_us: int) -> Response:
        await (await self.runtime.running()).verified(identity, message)
        return message_answer({}, frames.PLAIN)

    async def _live(self, socket: WebSocket) -> None:
        with contextlib.ExitStack() as place:
            try:
                identity = await self._authenticator.identify(socket)
                place.enter_context(self._overload.connection(identity.user))
                service = await self.runtime.running()
            except Exception as error:
                await socket.accept()
                await socket.send_bytes(frames.pack(error_body(error), frames.PLAIN))
                await socket.close(_close_code(error))
                return
            await socket.accept()
            packing = frames.PACKINGS.get(socket.headers.get(PACKING_HEADER, "plain"), frames.PLAIN)
            connection = LiveConnection(service, socket, identity, packing)
            connection.charge = partial(self._overload.charge, identity.user)
            await connection.run()

    # ------------------------------------------------------------ for whoever watches the process
    async def _healthz(self, request: Request) -> Response:
        """The process answers; says nothing of the database."""
        return JSONResponse({"ok": True})

    async def _readyz(self, request: Request) -> Response:
        """Whether devices can be served now; after a plain mount this also starts the service."""
        try:
            service = await self.runtime.running()
        except SynclineError as error:
            return JSONResponse({"ready": False, "head": None, "fault": str(error)}, status_code=503)
        answer = await service.readiness()
        return JSONResponse(answer, status_code=200 if answer["ready"] else 503)

    async def _metrics(self, request: Request) -> Response:
        """For Prometheus. Numbers only: of no table, user or device."""
        try:
            service = await self.runtime.running()
            return PlainTextResponse(metrics_text(await service.metrics()), media_type=METRICS_TYPE)
        except SynclineError as error:
            return error_answer(error, 503)


def _streamed(answer: AsyncIterator[bytes], identity: Identity, message: dict[str, Any]) -> Response:
    """In the packing that was asked for, to a device that is known to be this user's."""
    packing = frames.PACKINGS.get(str(message.get("packing", "plain")), frames.PLAIN)
    return stream_answer(packed_frames(answer, packing, f"device {message['device']} of {identity.user}"))


def _close_code(error: Exception) -> int:
    """With what a stream is refused."""
    if isinstance(error, OverloadedError):
        return CLOSE_CODE
    return 4401 if isinstance(error, AuthError) else 4503


def _no_longer_than_token(message: dict[str, Any], identity: Identity) -> dict[str, Any]:
    """A long poll ends with its token, as a stream does: nothing new is told to whoever has lost it meanwhile."""
    wait = message.get("wait")
    if identity.expires_at is None or type(wait) not in (int, float) or not wait:
        return message
    left = max(identity.expires_at - time.time(), 0.0)
    return {**message, "wait": min(wait, left)} if wait > 0 else message


async def _body(request: Request) -> bytes:
    """The request's body, given up as soon as it passes the limit, nothing more of it comes, or the device is gone."""
    body = bytearray()
    chunks = request.stream()
    while True:
        try:
            async with asyncio.timeout(limits.SILENCE_SECONDS_MAX):
                chunk = await anext(chunks, None)
        except (TimeoutError, ClientDisconnect) as error:
            hint = "Nothing is lost: the device tries again."
            raise ServerError("The request broke off on its way.", hint=hint, code="timed_out") from error
        if chunk is None:
            return bytes(body)
        body += chunk
        if len(body) > limits.REQUEST_BYTES_MAX:
            raise LimitError(f"A request is above the limit of {limits.REQUEST_BYTES_MAX} bytes.")


def create_app(
    config: str | Path | Settings = "syncline.toml", *, authenticate: Authenticate | None = None
) -> Starlette:
    """The application for a configuration, to run by itself or to mount into another one.

    Where its lifespan is run the service runs with it. Mounted into an application that runs none it starts at the
    first request; `install` is the better way then. `authenticate` takes the place of JWTs: a function from the request
    (or WebSocket) to the user's claims.
    """
    settings = config if isinstance(config, Settings) else load_settings(config)
    application = SynclineApp(settings, authenticate=authenticate)
    app = Starlette(
        routes=application.routes(),
        lifespan=application.lifespan,
        exception_handlers={HTTPException: refused_request},
    )
    app.add_middleware(ForwardedPrefix)
    app.state.syncline = application
    return app
