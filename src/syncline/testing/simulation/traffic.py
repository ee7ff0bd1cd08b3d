"""Between devices and server: messages that are dropped, doubled, reordered and broken off, and streams."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

from syncline.errors import ProtocolError, ServerError, SynclineError
from syncline.protocol import frames
from syncline.replica.file import ReplicaFile
from syncline.server.downloads import BucketsNeededError
from syncline.testing.simulation.checkers import Checkers, over_the_wire
from syncline.testing.simulation.devices import SimulatedDevice
from syncline.testing.simulation.oracle import BrokenPromiseError
from syncline.testing.simulation.processes import fault_of_disk
from syncline.testing.simulation.report import Report
from syncline.testing.simulation.server import SimulatedServer, identity_of
from syncline.testing.simulation.streams import SimulatedStream
from syncline.testing.world import VirtualClock

RETRIED = frozenset({"source_busy", "source_disk_full", "schema_moving", "schema_changed", "buckets_needed"})
"""Errors that a device meets where it is to come again."""
GREETED = frozenset({"layout", "device_unknown", "device_cloned", "gap"})
"""Errors after which a device begins anew with a hello."""


class Traffic:
    """`trace` is a digest of all events and messages. While it `is_faulty`, messages and lines break, each with the
    chances of `faults`."""

    def __init__(
        self,
        server: SimulatedServer,
        checkers: Checkers,
        clock: VirtualClock,
        rng: random.Random,
        report: Report,
        faults: Mapping[str, float],
    ) -> None:
        self._server = server
        self._checkers = checkers
        self._clock = clock
        self._rng = rng
        self._report = report
        self._faults = faults
        self._waiting: list[tuple[str, SimulatedDevice, bytes]] = []
        self.is_faulty = False
        self.trace = sha256()

    def __len__(self) -> int:
        return len(self._waiting)

    def _strikes(self, fault: str) -> bool:
        """Whether it happens now. A number is drawn for each fault that there may be, whether or not this history has
        it: leaving one out changes nothing about the others."""
        struck = self._rng.random() < self._faults.get(fault, 0.0)
        return struck and self.is_faulty

    # ------------------------------------------------------------ hello
    def hello(self, device: SimulatedDevice) -> None:
        self.greet(device)

    def greet(self, device: SimulatedDevice) -> None:
        sent = device.clock.now_us()
        request = over_the_wire(device.call(lambda file: file.hello_request()))
        self._clock.advance(self._rng.randint(0, 3_000))
        service, identity = self._server.service, identity_of(device.user)
        try:
            answer = self._server.call(service.hello(identity, request, self._server.clock.now_us()))
        except SynclineError as error:
            self._note(device, error)
            return
        self._clock.advance(self._rng.randint(0, 3_000))
        if self._strikes("drop"):
            self._report.strike("drop")
            self._report.tell(f"the answer to {device.name}'s hello is lost")
            return
        self._checkers.check_identity(device, answer)
        self._report.note("programs", answer.program is not None)
        told, included = over_the_wire(answer.dump()), device.included
        if self._on_disk(device, lambda file: file.accept_hello(told, sent, device.clock.now_us())):
            device.note_identity(answer, included)

    def _on_disk(self, device: SimulatedDevice, act: Callable[[ReplicaFile], object]) -> bool:
        """False where the device's disk was full: as its engine does it, what was under way is dropped."""
        try:
            device.call(act)
        except sqlite3.OperationalError as error:
            self._note_disk(device, error)
            return False
        except ServerError as error:  # another copy of the file has spoken for the device
            self._note(device, error)
            return False
        return True

    def _note_disk(self, device: SimulatedDevice, error: sqlite3.OperationalError) -> None:
        fault = fault_of_disk(error)
        if fault is None:
            raise error
        self._report.strike(fault)
        self._report.tell(f"{device.name}'s disk is full, or fails")
        device.call(lambda file: file.abandon())
        device.call(lambda file: file.offer_again())

    def _note(self, device: SimulatedDevice, error: SynclineError) -> None:
        """What the device does about an error of the server's."""
        code = error.error_code
        self._report.note(f"error {code}")
        if code == "source_disk_full":
            self._report.strike("full disk of the server")
        if code in GREETED and code != "layout":
            device.needs_hello = True
        elif code not in RETRIED:
            raise BrokenPromiseError("an error that nobody foresaw", device.name, repr(error)) from error

    # ------------------------------------------------------------ the network
    def _send(self, kind: str, device: SimulatedDevice, content: bytes) -> None:
        is_lost, is_double = self._strikes("drop"), self._strikes("double")
        if is_lost:
            self._report.strike("drop")
            self._report.tell(f"{device.name}'s {kind} is lost")
            return
        self._waiting.append((kind, device, content))
        if is_double:
            self._report.strike("double")
            self._report.tell(f"{device.name}'s {kind} is doubled")
            self._waiting.append((kind, device, content))

    def deliver(self, _: SimulatedDevice | None = None) -> None:
        if not self._waiting:
            return
        place = self._rng.randrange(len(self._waiting))
        if not self._strikes("reorder"):
            place = 0
        if place:
            self._report.strike("reorder")
        kind, device, content = self._waiting.pop(place)
        self._report.events += 1
        self.trace.update(kind.encode() + device.name.encode() + content)
        getattr(self, f"_on_{kind}")(device, content)

    def upload(self, device: SimulatedDevice) -> None:
        request = device.call(lambda file: file.upload_request())
        if request:
            self._report.note("uploads")
            self._send("upload", device, frames.dump(request))

    def _on_upload(self, device: SimulatedDevice, content: bytes) -> None:
        work = self._server.service.upload(identity_of(device.user), frames.load(content))
        try:
            answer = self._server.call(work)
        except SynclineError as error:
            self._note(device, error)
            device.call(lambda file: file.offer_again())
            return
        self._send("answer", device, frames.dump(answer.dump()))

    def _on_answer(self, device: SimulatedDevice, content: bytes) -> None:
        told = device.call(lambda file: file.accept_upload(frames.load(content)))
        if told.gap and told.last < device.included:  # what the engine takes for a lost time
            device.needs_hello = True
            device.call(lambda file: file.offer_again())

    def download(self, device: SimulatedDevice) -> None:
        if device.stream is None:
            self._ask(device)

    def _ask(self, device: SimulatedDevice, *, named: bool = False) -> None:
        request = device.call(lambda file: file.download_request(with_buckets=named))
        self._send("download", device, frames.dump(request))

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
            self._report.note("buckets needed")
            self._ask(device, named=True)
            return
        except SynclineError as error:  # what came before it arrives all the same
            self._note(device, error)
        self._send("cut", device, json.dumps(answer).encode())

    def _on_cut(self, device: SimulatedDevice, content: bytes) -> None:
        answer = json.loads(content)
        kept = self._rng.randrange(len(answer)) if answer else 0
        if self._strikes("break") and answer:
            answer = answer[:kept]  # the line breaks inside
            self._report.strike("break")
            self._report.tell(f"{device.name}'s download breaks off")
        self._receive(device, answer, may_be_overtaken=True)
        device.call(lambda file: file.abandon())

    def _receive(
        self, device: SimulatedDevice, answer: list[dict[str, Any]], *, may_be_overtaken: bool = False
    ) -> bool:
        """False where a cut was for another state of the file, or for another program: the device begins anew. What was
        asked for before a stream moved the cursor `may_be_overtaken` by that: then it must be refused."""
        for frame in answer:
            try:
                applied = device.call(lambda file, frame=frame: file.receive(frame))  # type: ignore[misc]
            except ServerError as error:  # at the end of a stream
                self._note(device, error)
                return False
            except sqlite3.OperationalError as error:
                self._note_disk(device, error)
                return False
            except ProtocolError as error:
                if may_be_overtaken and error.error_code == "bad_order" and frame["t"] == "commit":
                    self._report.note("overtaken cuts")
                    return False
                if error.error_code != "layout":
                    raise BrokenPromiseError("a frame was refused", device.name, repr(error), frame) from error
                self._report.note("other layouts")
                self.greet(device)
                return False
            self._report.note(frame["t"])
            self._report.note("applied", applied is not None)
            if applied is not None:
                self._report.tell(f"{device.name} applies checkpoint {applied.checkpoint}")
            if frame["t"] == "commit" and applied is None:
                self._report.note("stale cuts")
                return False
            if frame["t"] == "begin" and frame["stage"]:
                self._report.note(f"stage {frame['stage']}")
        return True

    # ------------------------------------------------------------ streams
    def go_live(self, device: SimulatedDevice) -> None:
        if device.stream is None:
            request = device.call(lambda file: file.download_request(with_buckets=True))
            device.stream = SimulatedStream(
                self._server, identity_of(device.user), request, has_wire=self._rng.random() < 0.7
            )
            self._report.note("streams")

    def tell(self, device: SimulatedDevice) -> None:
        """The fan-out tells all who stand together what is new."""
        try:
            self._server.call(self._server.service.fan_out.step())
        except SynclineError as error:
            self._note(device, error)

    def listen(self, device: SimulatedDevice) -> None:
        if device.stream is None:
            return
        device.stream.line.is_slow = self._rng.random() < 0.2
        for _ in range(self._rng.randint(1, 3)):
            answer = device.stream.take()
            self.trace.update(json.dumps(answer).encode())
            self._report.note("live messages", bool(answer))
            if not self._receive(device, answer):
                self.hang_up(device)
                return
        if device.stream.is_over:
            self.hang_up(device)

    def hang_up(self, device: SimulatedDevice) -> None:
        if device.stream is not None:
            stream, device.stream = device.stream, None
            device.call(lambda file: file.abandon())
            stream.end()
