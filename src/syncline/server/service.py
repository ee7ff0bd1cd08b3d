"""What the server does, without HTTP: hello, upload, download. The HTTP application and the simulator both drive it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from syncline import limits
from syncline.clock import Clock
from syncline.errors import AuthError, ProtocolError
from syncline.log import logger
from syncline.model.program import Program, build_program
from syncline.model.scopes import Plan
from syncline.protocol import frames
from syncline.protocol.cursor import cursor_text
from syncline.protocol.messages import Download, Hello, HelloAnswer, Upload, UploadAnswer
from syncline.protocol.version import PROTOCOL_VERSION
from syncline.server.auth import Identity
from syncline.server.downloads import CutFrames, Downloads, Position
from syncline.server.hub import Hub
from syncline.server.sequencer import Sequencer
from syncline.server.uploads import Uploads
from syncline.source.port import Source

_log = logger("service")
MARKER_SECONDS = 0.25


class Service:
    """One per process and source. `open` attaches the plan and starts the sequencer's loop; `close` stops it."""

    def __init__(
        self,
        source: Source,
        plan: Plan,
        clock: Clock,
        *,
        retention_days: int = limits.RETENTION_DAYS_DEFAULT,
        wait_for_marker: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.source = source
        self.plan = plan
        self.clock = clock
        self.hub = Hub(plan)
        self.sequencer = Sequencer(source, self.hub)
        self.uploads = Uploads(source, plan, clock, retention_days)
        self.downloads = Downloads(source, plan, wait_for_marker or self._marker)
        self.program: Program = build_program(plan)
        self._refreshing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self.source.attach(self.plan)
        self.sequencer.start((await self.source.read_head()).checkpoint)
        periods = [scope.refresh_seconds for scope in self.plan.scopes.values() if scope.refresh_seconds]
        if periods:
            self._refreshing = asyncio.create_task(self._refresh(min(periods)))

    async def close(self) -> None:
        if self._refreshing:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
        await self.sequencer.stop()
        await self.source.close()

    async def _refresh(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            self.hub.refresh_grants()

    async def _marker(self) -> None:
        marker = await self.source.put_marker()
        while not await self.source.marker_passed(marker):
            await self.hub.next_checkpoint(MARKER_SECONDS)

    # ------------------------------------------------------------ hello
    async def hello(self, identity: Identity, message: dict[str, Any], received_us: int) -> HelloAnswer:
        version = message.get("protocol")
        if type(version) is not int or version != PROTOCOL_VERSION:
            said = f"protocol version {version}" if type(version) is int else "no known protocol version"
            raise ProtocolError(
                f"The device speaks {said}, this server {PROTOCOL_VERSION}.",
                hint="Update the older of the two.",
                code="protocol_version",
            )
        hello = Hello.load(message)
        details = {"engine": hello.engine, "sqlite": hello.sqlite}
        registration = await self.source.register(hello.device, hello.nonce, identity.user, hello.included, details)
        head = await self.source.read_head()
        return HelloAnswer(
            protocol=PROTOCOL_VERSION,
            device=registration.device,
            nonce=registration.nonce,
            identity=registration.identity,
            user=identity.user,
            term=head.term,
            head=head.checkpoint,
            last=registration.last,
            received_us=received_us,
            answered_us=self.clock.now_us(),
            packing=next(
                (name for name in ("zstd", "gzip") if name in hello.packings and name in frames.PACKINGS), "plain"
            ),
            reoffer_sent=registration.reoffer_sent,
            program=None if hello.program == self.program.hash else self.program.dump(),
            limits={"upload_mutations": limits.UPLOAD_MUTATIONS_MAX, "request_bytes": limits.REQUEST_BYTES_MAX},
        )

    # ------------------------------------------------------------ upload
    async def upload(self, identity: Identity, message: dict[str, Any]) -> UploadAnswer:
        return await self.uploads.upload(identity.claims, identity.user, Upload.load(message))

    # ------------------------------------------------------------ download
    async def open_download(self, identity: Identity, request: Download) -> Position:
        """Check that the device is the user's, and where it stands; BucketsNeededError if it must send its list."""
        device = await self.source.find_device(request.device)
        if device is None:
            raise AuthError(
                "This device is not known here.", hint="Say hello first.", code="device_unknown", status=409
            )
        if device.user != identity.user:
            raise AuthError("This device belongs to another user.", code="other_user", status=403)
        return await self.downloads.position(identity.claims, request)

    async def next_cut(self, identity: Identity, device: str, position: Position) -> CutFrames:
        return await self.downloads.next_cut(device, identity.claims, position)

    async def download(self, identity: Identity, message: dict[str, Any]) -> AsyncIterator[bytes]:
        """The frames of one cut up to the head; with `wait`, held until there is something. The first look is taken
        before
        anything is sent, so that errors can still be told as errors."""
        request = Download.load(message)
        position = await self.open_download(identity, request)
        published = self.hub.published
        cut = await self.next_cut(identity, request.device, position)
        return self._answer(identity, request, position, cut, published)

    async def _answer(
        self, identity: Identity, request: Download, position: Position, cut: CutFrames, published: int
    ) -> AsyncIterator[bytes]:
        deadline = self.clock.monotonic_seconds() + request.wait_seconds
        while cut.is_empty and self.clock.monotonic_seconds() < deadline:
            await self.hub.next_checkpoint(min(deadline - self.clock.monotonic_seconds(), 5.0), published)
            published = self.hub.published
            cut = await self.next_cut(identity, request.device, position)
        moved = position.cursor != cut.position.cursor
        if cut.is_empty and not moved:
            yield self.heartbeat(cut, position)
            return
        for frame in cut.frames:
            yield frame

    def heartbeat(self, cut: CutFrames, position: Position) -> bytes:
        """What a device that has applied as many cuts as at `position` holds is the state at this checkpoint."""
        cursor = cut.position.cursor or ("", 0)
        return frames.dump(
            {
                "t": "heartbeat",
                "head": cut.checkpoint,
                "time": cut.time_us,
                "cursor": cursor_text(*cursor),
                "apply_count": position.apply_count,
            }
        )

    async def readiness(self) -> dict[str, Any]:
        """For /readyz: ready, and what stands in the way."""
        fault = self.sequencer.fault
        head = None
        with contextlib.suppress(Exception):
            head = (await self.source.read_head()).checkpoint
        return {"ready": fault is None and head is not None, "head": head, "fault": str(fault) if fault else None}


def error_body(error: Exception) -> bytes:
    """An error as the wire carries it; nothing of an unforeseen one but that it happened."""
    from syncline.errors import ServerError, SynclineError

    if isinstance(error, SynclineError):
        known = error
    else:
        _log.error("unforeseen fault", exc_info=error)
        known = ServerError("The server met an unforeseen fault.", hint="Its log has the details.", code="internal")
    retry_after = known.retry_after_seconds if isinstance(known, ServerError) else None
    return json.dumps(
        {
            "t": "error",
            "code": known.error_code,
            "message": known.message,
            "hint": known.hint,
            "retry": type(known).retry,
            "retry_after": retry_after,
        }
    ).encode()
