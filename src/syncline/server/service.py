"""What the server does, without HTTP: hello, upload, download. The HTTP application and the simulator both drive it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

from syncline import limits
from syncline.clock import SECOND, Clock
from syncline.errors import AuthError, ProtocolError, SchemaChangedError, SourceBusyError, SynclineError
from syncline.log import logger
from syncline.model.program import Program, build_program
from syncline.model.scopes import Plan
from syncline.protocol import frames
from syncline.protocol.cursor import cursor_text
from syncline.protocol.messages import Download, Hello, HelloAnswer, Upload, UploadAnswer
from syncline.protocol.verify import CAPABILITY, Repair, Verified, Verify
from syncline.protocol.version import PROTOCOL_VERSION
from syncline.server.auth import Identity
from syncline.server.downloads import CutFrames, Downloads, Position
from syncline.server.fanout import FanOut
from syncline.server.hub import Hub
from syncline.server.job import Job
from syncline.server.pulse import Pulse
from syncline.server.sequencer import Sequencer
from syncline.server.uploads import Uploads
from syncline.server.verify import answer_verify, count_verified
from syncline.source.port import Source

_log = logger("service")
MARKER_SECONDS = 0.25
ATTACH_SECONDS = 0.1
ATTACH_ATTEMPTS = 50
READY_SECONDS_MAX = 3.0
"""Whoever asks /readyz waits no longer for the source."""


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
        load_plan: Callable[[], Awaitable[Plan]] | None = None,
    ) -> None:
        self.source = source
        self.clock = clock
        self.hub = Hub(plan)
        self.fan_out = FanOut(source, self.hub)
        self.pulse = Pulse()
        self.sequencer = Sequencer(source, self.hub, replan=self.replan if load_plan else None)
        self._retention_days = retention_days
        self._wait_for_marker = wait_for_marker or self._marker
        self._load_plan = load_plan
        self._take_plan(plan)
        self._refreshing: asyncio.Task[None] | None = None
        self._pruning: asyncio.Task[None] | None = None

    def _take_plan(self, plan: Plan) -> None:
        """Everything that is made from the plan, at once: no call sees half of another one."""
        self.plan = plan
        self.uploads = Uploads(self.source, plan, self.clock, self._retention_days)
        self.downloads = Downloads(self.source, plan, self._wait_for_marker, self.clock)
        self.program: Program = build_program(plan, self.source.layouts())

    async def replan(self) -> None:
        """Serve the configuration on the schema as it is now; what does not fit raises, and all stays as it was.
        Devices that are connected are let go where their program is another then: their next call is a hello."""
        assert self._load_plan is not None
        plan, before = await self._load_plan(), self.program.hash
        await self.source.adopt(plan)
        self._take_plan(plan)
        self.hub.take_plan(plan)
        if self.program.hash != before:
            _log.info("devices get a new program")
            self.hub.end_all()

    async def _attach(self) -> None:
        """A migration may have run while nobody served, and several processes start at once: one puts capture back."""
        try:
            await self.source.attach(self.plan)
        except SchemaChangedError:
            if self._load_plan is None:
                raise
            for attempt in range(ATTACH_ATTEMPTS, 0, -1):
                try:
                    await self.replan()
                    return
                except SchemaChangedError as error:
                    if error.error_code != "schema_moving" or attempt == 1:
                        raise
                await asyncio.sleep(ATTACH_SECONDS)
        self._take_plan(self.plan)

    async def open(self) -> None:
        await self._attach()
        self.fan_out.start()
        self.sequencer.start((await self.source.read_head()).checkpoint)
        self._pruning = asyncio.create_task(self._keep_pruning(), name="syncline-retention")
        periods = [scope.refresh_seconds for scope in self.plan.scopes.values() if scope.refresh_seconds]
        if periods:
            self._refreshing = asyncio.create_task(self._refresh(min(periods)))

    async def close(self) -> None:
        tasks = [task for task in (self._refreshing, self._pruning) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.sequencer.stop()
        await self.fan_out.stop()
        await self.pulse.stop()
        await self.source.close()

    async def _refresh(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            self.hub.refresh_grants()

    # ------------------------------------------------------------ retention
    async def prune(self) -> None:
        """Forget what is older than the retention, if this process holds the sequencer; in short steps, between which
        others have their turn."""
        while (term := self.sequencer.term) and not self.sequencer.fault:
            before_us = self.clock.now_us() - self._retention_days * 86_400 * SECOND
            if not await self.source.prune(term, before_us):
                return
            await asyncio.sleep(limits.PRUNE_STEP_SECONDS_MAX)

    async def _keep_pruning(self) -> None:
        await asyncio.sleep(limits.PRUNE_FIRST_SECONDS)
        while True:
            try:
                await self.prune()
            except Exception as error:
                _log.warning("what is older than the retention stays for another hour: %s", error)
            await asyncio.sleep(limits.PRUNE_SECONDS)

    async def _marker(self) -> None:
        published = self.hub.published
        marker = await self.source.put_marker()
        while not await self.source.marker_passed(marker):
            await self.hub.next_checkpoint(MARKER_SECONDS, published)
            published = self.hub.published

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
        if hello.schema_version is not None:
            details["schema_version"] = str(hello.schema_version)
        registration = await self.source.register(hello.device, hello.nonce, identity.user, hello.included, details)
        if hello.device and registration.identity == "new":
            _log.info(
                "device %s of %s takes the place of %r: a file or the source was restored, or the file was copied",
                registration.device,
                identity.user,
                hello.device,
            )
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
            limits={
                "upload_mutations": limits.UPLOAD_MUTATIONS_MAX,
                "request_bytes": limits.REQUEST_BYTES_MAX,
                CAPABILITY: limits.VERIFY_KEYS_MAX,
            },
            last_id=registration.last_id,
        )

    # ------------------------------------------------------------ upload
    async def upload(self, identity: Identity, message: dict[str, Any]) -> UploadAnswer:
        plan = self.plan
        try:
            return await self.uploads.upload(identity.claims, identity.user, Upload.load(message))
        except Exception as error:
            if self.plan is plan or isinstance(error, SynclineError):
                raise
            hint = "It is tried again."
            raise SourceBusyError("The schema was changed meanwhile.", hint=hint, code="schema_moving") from error

    # ------------------------------------------------------------ download
    async def open_download(self, identity: Identity, request: Download) -> Position:
        """Check that the device is the user's, and where it stands; BucketsNeededError if it must send its list."""
        await self.require_own(identity, request.device)
        return await self.downloads.position(identity.claims, request)

    async def require_own(self, identity: Identity, named: str) -> None:
        """AuthError unless the device is known, and the user's."""
        device = await self.source.find_device(named)
        if device is None:
            raise AuthError(
                "This device is not known here.", hint="Say hello first.", code="device_unknown", status=409
            )
        if device.user != identity.user:
            raise AuthError("This device belongs to another user.", code="other_user", status=403)

    async def next_cut(self, identity: Identity, device: str, position: Position) -> CutFrames:
        return await self.downloads.next_cut(device, identity.claims, position)

    async def download(self, identity: Identity, message: dict[str, Any]) -> AsyncIterator[bytes]:
        """The frames of one cut up to the head, or the next piece of a paged one; with `wait`, held until there is
        something. The first look is taken before anything is sent, so that errors can still be told as errors."""
        request = Download.load(message)
        position = await self.open_download(identity, request)
        position = replace(position, repair=Repair.load(message.get("repair")))
        published = self.hub.published
        found = await self.downloads.open(request.device, identity.claims, position)
        return self._answer(identity, request, position, found, published)

    async def _answer(
        self, identity: Identity, request: Download, position: Position, found: CutFrames | Job, published: int
    ) -> AsyncIterator[bytes]:
        deadline = self.clock.monotonic_seconds() + request.wait_seconds
        while isinstance(found, CutFrames) and found.is_empty and self.clock.monotonic_seconds() < deadline:
            await self.hub.next_checkpoint(min(deadline - self.clock.monotonic_seconds(), 5.0), published)
            published = self.hub.published
            found = await self.downloads.open(request.device, identity.claims, position)
        if isinstance(found, Job):
            async for frame in found.frames():
                yield frame
            return
        if found.is_empty and position.cursor == found.position.cursor:
            yield self.heartbeat(found, position)
            return
        for frame in found.frames:
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

    # ------------------------------------------------------------ verify
    async def verify(self, identity: Identity, message: dict[str, Any]) -> AsyncIterator[bytes]:
        """Digests of one table in the device's buckets; the same checks as for a download."""
        request = Verify.load(message)
        asked = Download(request.device, request.cursor, 0, 0, request.digest, request.buckets)
        position = await self.open_download(identity, asked)
        return answer_verify(
            self.source, self.plan, self._wait_for_marker, self.clock, identity.claims, request, position
        )

    async def verified(self, identity: Identity, message: dict[str, Any]) -> None:
        """What a device found, and repaired."""
        told = Verified.load(message)
        await self.require_own(identity, told.device)
        await count_verified(self.source, identity.user, told, self.plan.tables)

    async def metrics(self) -> dict[str, int]:
        """For /metrics: the head, and what the installation counts."""
        return {"head": (await self.source.read_head()).checkpoint, **await self.source.counters()}

    async def readiness(self) -> dict[str, Any]:
        """For /readyz: ready, and what stands in the way."""
        fault: Exception | None = self.sequencer.fault
        head = None
        try:
            async with asyncio.timeout(READY_SECONDS_MAX):
                head = (await self.source.read_head()).checkpoint
        except TimeoutError:
            fault = fault or SourceBusyError("The source does not answer.", hint="It is tried again.")
        except Exception as error:
            fault = fault or (error if isinstance(error, SynclineError) else SourceBusyError("The source failed."))
        ready = fault is None and head is not None
        told = [str(fault)] if fault else []
        told += [f"{each.what} {each.remedy} [{each.code}]" for each in self.source.troubles()] if not told else []
        return {"ready": ready, "head": head, "fault": " ".join(told) or None}


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
