"""Reads the stream, a WebSocket or a long poll, in a thread of its own and hands its frames to the engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from syncline import limits
from syncline.replica.transport import Stream, Transport

Item: TypeAlias = tuple[int, "dict[str, Any] | None", "Exception | None"]
"""Number of the stream; a frame, or None at its end; the error that ended it."""


class Listener:
    """One stream at a time. `deliver` is called from the reading thread; `taken` frees the place of one item."""

    def __init__(self, transport: Transport, deliver: Callable[[Item], None]) -> None:
        self._transport = transport
        self._deliver = deliver
        self._stream: Stream | None = None
        self._places = threading.BoundedSemaphore(limits.LIVE_FRAMES_QUEUED_MAX)
        self.number = 0

    def open(self, request: dict[str, Any], *, poll: bool) -> None:
        """Raises what `Transport.live` raises."""
        self.close()
        self.number += 1
        self._places = threading.BoundedSemaphore(limits.LIVE_FRAMES_QUEUED_MAX)
        if poll:
            source = self._transport.download(request)
        else:
            self._stream = self._transport.live(request)
            source = self._stream.frames()
        arguments = (self.number, source, self._places)
        threading.Thread(target=self._read, args=arguments, name="syncline-stream", daemon=True).start()

    def _read(self, number: int, source: Iterator[dict[str, Any]], places: threading.BoundedSemaphore) -> None:
        error: Exception | None = None
        try:
            for frame in source:
                # A reader that is not kept up with stops reading, and the server notices.
                while not places.acquire(timeout=0.5):
                    if number != self.number:
                        return
                if number != self.number:
                    return
                self._deliver((number, frame, None))
        except Exception as caught:
            error = caught
        if number == self.number:
            places.acquire(timeout=0.5)
            self._deliver((number, None, error))

    def taken(self) -> None:
        try:
            self._places.release()
        except ValueError:  # an item of an earlier stream
            pass

    def close(self) -> None:
        self.number += 1
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
