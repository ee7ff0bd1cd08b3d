"""Between devices and server: messages that are dropped, doubled, reordered and broken off, and streams."""

from __future__ import annotations

import json
import random
from collections import Counter
from hashlib import sha256
from typing import Any

from syncline.errors import ProtocolError, ServerError, SynclineError
from syncline.protocol import frames
from syncline.server.downloads import BucketsNeededError
from syncline.testing.simulation.checkers import Checkers, over_the_wire
from syncline.testing.simulation.devices import SimulatedDevice
from syncline.testing.simulation.oracle import BrokenPromiseError
from syncline.testing.simulation.server import SimulatedServer, identity_of
from syncline.testing.simulation.streams import SimulatedStream
from syncline.testing.world import VirtualClock

RETRIED = frozenset({"source_busy", "schema_moving", "schema_changed", "buckets_needed"})
"""Errors that a device meets where it is to come again."""


class Traffic:
    """`trace` is a digest of all events and messages. Until it `is_faulty` no more, messages and lines break."""

    def __init__(
        self,
        server: SimulatedServer,
        checkers: Checkers,
        clock: VirtualClock,
        rng: random.Random,
        stats: Counter[str],
    ) -> None:
        self._server = server
        self._checkers = checkers
        self._clock = clock
        self._rng = rng
        self._stats = stats
        self._waiting: list[tuple[str, SimulatedDevice, bytes]] = []
        self._p_drop, self._p_double = rng.choice((0, 0.1, 0.4)), rng.choice((0, 0.1, 0.3))
        self._p_break = rng.choice((0, 0.1, 0.4))
        self._is_in_order = rng.random() < 0.3
        self.is_faulty = True
        self.trace = sha256()

    def __len__(self) -> int:
        return len(self._waiting)

    # ------------------------------------------------------------ hello
    def hello(self, device: SimulatedDevice) -> None:
        self.greet(device, is_lossy=True)

    def greet(self, device: SimulatedDevice, *, is_lossy: bool) -> None:
        sent = device.clock.now_us()
        request = over_the_wire(device.file.hello_request())
        self._clock.advance(self._rng.randint(0, 3_000))
        service, identity = self._server.service, identity_of(device.user)
        try:
            answer = self._server.call(service.hello(identity, request, self._clock.now_us()))
        except SynclineError as error:
            self._note(error)
            return
        self._clock.advance(self._rng.randint(0, 3_000))
        if is_lossy and self._rng.random() < self._p_drop:
            self._stats["lost hello"] += 1
            return
        if answer.identity == "new" and device.identity:
            raise BrokenPromiseError("a known device got a new identity", device.name)
        self._stats["programs"] += answer.program is not None
        device.file.accept_hello(over_the_wire(answer.dump()), sent, device.clock.now_us())
        device.identity = answer.device

    def _note(self, error: SynclineError) -> None:
        self._stats[f"error {error.error_code}"] += 1
        if error.error_code not in RETRIED:
            raise BrokenPromiseError("an error that nobody foresaw", repr(error)) from error

    # ------------------------------------------------------------ the network
    def _send(self, kind: str, device: SimulatedDevice, content: bytes) -> None:
        if self.is_faulty and self._rng.random() < self._p_drop:
            self._stats["dropped"] += 1
            return
        self._waiting.append((kind, device, content))
        if self.is_faulty and self._rng.random() < self._p_double:
            self._stats["doubled"] += 1
            self._waiting.append((kind, device, content))

    def deliver(self, _: SimulatedDevice | None = None) -> None:
        if not self._waiting:
            return
        place = 0 if self._is_in_order or not self.is_faulty else self._rng.randrange(len(self._waiting))
        self._stats["reordered"] += place > 0
        kind, device, content = self._waiting.pop(place)
        self.trace.update(kind.encode() + device.name.encode() + content)
        getattr(self, f"_on_{kind}")(device, content)

    def upload(self, device: SimulatedDevice) -> None:
        request = device.file.upload_request()
        if request:
            self._send("upload", device, frames.dump(request))

    def _on_upload(self, device: SimulatedDevice, content: bytes) -> None:
        work = self._server.service.upload(identity_of(device.user), frames.load(content))
        try:
            answer = self._server.call(work)
        except SynclineError as error:
            self._note(error)
            return
        self._send("answer", device, frames.dump(answer.dump()))

    def _on_answer(self, device: SimulatedDevice, content: bytes) -> None:
        device.file.accept_upload(frames.load(content))

    def download(self, device: SimulatedDevice) -> None:
        if device.stream is None:
            self._ask(device)

    def _ask(self, device: SimulatedDevice, *, named: bool = False) -> None:
        self._send("download", device, frames.dump(device.file.download_request(with_buckets=named)))

    def _on_download(self, device: SimulatedDevice, content: bytes) -> None:
        answer: list[dict[str, Any]] = []

        async def collect() -> None:
            service = self._server.service
            async for packed in await service.download(identity_of(device.user), frames.load(content)):
                frame = frames.load(packed)
                self._checkers.check_frame(device.user, frame)
                answer.append(frame)

        try:
            self._server.call(collect())
        except BucketsNeededError:
            self._stats["buckets needed"] += 1
            self._ask(device, named=True)
            return
        except SynclineError as error:  # what came before it arrives all the same
            self._note(error)
        self._send("cut", device, json.dumps(answer).encode())

    def _on_cut(self, device: SimulatedDevice, content: bytes) -> None:
        answer = json.loads(content)
        if self.is_faulty and answer and self._rng.random() < self._p_break:
            answer = answer[: self._rng.randrange(len(answer))]  # the line breaks inside
            self._stats["broken answers"] += 1
        self._receive(device, answer)
        device.file.abandon()

    def _receive(self, device: SimulatedDevice, answer: list[dict[str, Any]]) -> bool:
        """False where a cut was for another state of the file, or for another program: the device begins anew."""
        for frame in answer:
            try:
                applied = device.file.receive(frame)
            except ServerError as error:  # at the end of a stream
                self._note(error)
                return False
            except ProtocolError as error:
                if error.error_code != "layout":
                    raise BrokenPromiseError("a frame was refused", device.name, repr(error), frame) from error
                self._stats["other layouts"] += 1
                self.greet(device, is_lossy=self.is_faulty)
                return False
            self._stats[frame["t"]] += 1
            self._stats["applied"] += applied is not None
            if frame["t"] == "commit" and applied is None:
                self._stats["stale cuts"] += 1
                return False
            if frame["t"] == "begin" and frame["stage"]:
                self._stats[f"stage {frame['stage']}"] += 1
        return True

    # ------------------------------------------------------------ streams
    def go_live(self, device: SimulatedDevice) -> None:
        if device.stream is None:
            request = device.file.download_request(with_buckets=True)
            device.stream = SimulatedStream(
                self._server, identity_of(device.user), request, has_wire=self._rng.random() < 0.7
            )
            self._stats["streams"] += 1

    def tell(self, _: SimulatedDevice) -> None:
        """The fan-out tells all who stand together what is new."""
        try:
            self._server.call(self._server.service.fan_out.step())
        except SynclineError as error:
            self._note(error)

    def listen(self, device: SimulatedDevice) -> None:
        if device.stream is None:
            return
        device.stream.line.is_slow = self._rng.random() < 0.2
        for _ in range(self._rng.randint(1, 3)):
            answer = device.stream.take()
            self.trace.update(json.dumps(answer).encode())
            self._stats["live messages"] += bool(answer)
            if not self._receive(device, answer):
                self.hang_up(device)
                return
        if device.stream.is_over:
            self.hang_up(device)

    def hang_up(self, device: SimulatedDevice) -> None:
        if device.stream is not None:
            device.stream.end()
            device.stream = None
            device.file.abandon()
