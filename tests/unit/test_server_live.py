"""A stream's heartbeats on a wire that does not always take them."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

from syncline.protocol import frames
from syncline.server.auth import Identity
from syncline.server.downloads import Position
from syncline.server.live import LiveConnection
from syncline.server.session import State
from syncline.server.websocket import WIRE


class SlowWire:
    """Refuses what comes first."""

    def __init__(self) -> None:
        self.refused = 0
        self.sent: list[dict[str, Any]] = []

    def send_now(self, messages: Sequence[bytes]) -> bool:
        if not self.refused:
            self.refused = 1
            return False
        self.sent += [frames.load(frames.unpack(packed)) for packed in messages]
        return True


def test_a_device_whose_phone_was_busy_learns_with_the_next_heartbeat_that_it_stands_at_the_head() -> None:
    """P2: the heartbeat that would have said so was not taken; nothing else will ever come if nobody writes."""
    wire = SlowWire()
    fan_out = SimpleNamespace(is_standing=lambda _: True, at=("term", 9))
    clock = SimpleNamespace(monotonic_seconds=lambda: 0.0, now_us=lambda: 0)
    service = cast(Any, SimpleNamespace(clock=clock, fan_out=fan_out))
    socket = cast(Any, SimpleNamespace(scope={"extensions": {WIRE: wire}}))
    connection = LiveConnection(service, socket, Identity("ann", {"sub": "ann"}), frames.PLAIN)
    connection.position = Position(("term", 8), frozenset(), 0, 3)
    connection._session.state = State.TOLD
    for _ in range(3):
        connection._beat()
    assert wire.refused
    assert [beat.get("cursor") for beat in wire.sent] == ["term.9", None]
    assert connection.position.cursor == ("term", 9)
