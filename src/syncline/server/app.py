"""The ASGI application."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from syncline import limits
from syncline.clock import Clock
from syncline.errors import AuthError, LimitError, ProtocolError, SourceBusyError, SynclineError
from syncline.protocol import frames
from syncline.server.auth import Identity, Verifier, bearer_token
from syncline.server.config import load_settings
from syncline.server.config_plan import load_plan
from syncline.server.config_settings import Settings
from syncline.server.downloads import BucketsNeededError
from syncline.server.live import LiveConnection
from syncline.server.service import Service, error_body
from syncline.server.sources import open_source
from syncline.system.clock import SYSTEM_CLOCK

MEDIA_TYPE = "application/vnd.syncline"
PACKING_HEADER = "x-syncline-packing"

Handler = Callable[[Identity, dict[str, Any], int], Awaitable[Response]]


class SynclineApp:
    """Serves one source. `service` exists while the lifespan runs."""

    def __init__(self, settings: Settings, clock: Clock = SYSTEM_CLOCK) -> None:
        self._settings = settings
        self._clock = clock
        self._verifier = Verifier.of(settings)
        self.service: Service | None = None

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        source = open_source(self._settings)
        try:
            plan = await load_plan(self._settings, source)
            self.service = Service(source, plan, self._clock, retention_days=self._settings.retention_days)
            await self.service.open()
        except BaseException:
            await source.close()
            raise
        try:
            yield
        finally:
            await self.service.close()
            self.service = None

    def routes(self) -> list[Route | WebSocketRoute]:
        return [
            Route("/v1/hello", self._call(self._hello), methods=["POST"]),
            Route("/v1/upload", self._call(self._upload), methods=["POST"]),
            Route("/v1/download", self._call(self._download), methods=["POST"]),
            WebSocketRoute("/v1/live", self._live),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
        ]

    def _running(self) -> Service:
        if self.service is None:
            raise SourceBusyError("The service is starting or stopping.", hint="Try again.", code="not_ready")
        return self.service

    # ------------------------------------------------------------ calls
    def _call(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            received = self._clock.now_us()
            try:
                identity = self._verifier.verify(bearer_token(request.headers.get("authorization")))
                message = frames.load(frames.unpack(await _body(request), limits.REQUEST_BYTES_MAX))
                return await handler(identity, message, received)
            except BucketsNeededError:
                needed = ProtocolError("The server needs the list of buckets.", code="buckets_needed")
                return _error(needed, 409)
            except Exception as error:
                return _error(error, _status(error))

        return endpoint

    async def _hello(self, identity: Identity, message: dict[str, Any], received_us: int) -> Response:
        answer = await self._running().hello(identity, message, received_us)
        return _packed(answer.dump(), frames.PACKINGS.get(answer.packing, frames.PLAIN))

    async def _upload(self, identity: Identity, message: dict[str, Any], received_us: int) -> Response:
        return _packed((await self._running().upload(identity, message)).dump(), frames.PLAIN)

    async def _download(self, identity: Identity, message: dict[str, Any], received_us: int) -> Response:
        packing = frames.PACKINGS.get(str(message.get("packing", "plain")), frames.PLAIN)
        answer = await self._running().download(identity, message)

        async def body() -> AsyncIterator[bytes]:
            async for frame in answer:
                yield frames.with_length(frames.pack(frame, packing))

        return StreamingResponse(body(), media_type=MEDIA_TYPE)

    async def _live(self, socket: WebSocket) -> None:
        try:
            identity = self._verifier.verify(bearer_token(socket.headers.get("authorization")))
            service = self._running()
        except SynclineError as error:
            await socket.accept()
            await socket.send_bytes(frames.pack(error_body(error), frames.PLAIN))
            await socket.close(4401 if isinstance(error, AuthError) else 4503)
            return
        await socket.accept()
        packing = frames.PACKINGS.get(socket.headers.get(PACKING_HEADER, "plain"), frames.PLAIN)
        await LiveConnection(service, socket, identity, packing).run()

    async def _healthz(self, request: Request) -> Response:
        return JSONResponse({"ok": True})

    async def _readyz(self, request: Request) -> Response:
        if self.service is None:
            return JSONResponse({"ready": False, "fault": "starting"}, status_code=503)
        answer = await self.service.readiness()
        return JSONResponse(answer, status_code=200 if answer["ready"] else 503)


async def _body(request: Request) -> bytes:
    """The request's body, given up as soon as it passes the limit."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limits.REQUEST_BYTES_MAX:
            raise LimitError(f"A request is above the limit of {limits.REQUEST_BYTES_MAX} bytes.")
    return bytes(body)


def _packed(message: dict[str, Any], packing: int) -> Response:
    return Response(frames.pack(frames.dump(message), packing), media_type=MEDIA_TYPE)


def _error(error: Exception, status: int) -> Response:
    return Response(error_body(error), status_code=status, media_type="application/json")


def _status(error: Exception) -> int:
    if isinstance(error, AuthError):
        return error.status
    if isinstance(error, LimitError):
        return 413
    if isinstance(error, ProtocolError):
        return 400
    if isinstance(error, SynclineError):
        return 503
    return 500


def create_app(config: str | Path | Settings = "syncline.toml") -> Starlette:
    """The application for a configuration. Its lifespan opens the source and runs the sequencer."""
    settings = config if isinstance(config, Settings) else load_settings(config)
    application = SynclineApp(settings)
    app = Starlette(routes=application.routes(), lifespan=application.lifespan)
    app.state.syncline = application
    return app
