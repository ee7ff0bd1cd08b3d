"""A stream's heartbeats on a wire that does not always take them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

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


def standing_at(cursor: tuple[str, int], wire: SlowWire) -> LiveConnection:
    """While the head is checkpoint 9 of "term"."""
    fan_out = SimpleNamespace(is_standing=lambda _: True, at=("term", 9))
    clock = SimpleNamespace(monotonic_seconds=lambda: 0.0, now_us=lambda: 0)
    service = cast(Any, SimpleNamespace(clock=clock, fan_out=fan_out))
    socket = cast(Any, SimpleNamespace(scope={"extensions": {WIRE: wire}}))
    connection = LiveConnection(service, socket, Identity("ann", {"sub": "ann"}), frames.PLAIN)
    connection.position = Position(cursor, frozenset(), 0, 3)
    connection._session.state = State.TOLD
    return connection


def test_a_device_whose_phone_was_busy_learns_with_the_next_heartbeat_that_it_stands_at_the_head() -> None:
    """P2: the heartbeat that would have said so was not taken; nothing else will ever come if nobody writes."""
    wire = SlowWire()
    connection = standing_at(("term", 8), wire)
    for _ in range(3):
        connection._beat()
    assert wire.refused
    assert [beat.get("cursor") for beat in wire.sent] == ["term.9", None]
    assert connection.position.cursor == ("term", 9)


@pytest.fixture
def of_an_earlier_term(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], tuple[dict[str, Any], bool]]:
    """What a device that stands at that checkpoint of the term before is told by a heartbeat, and whether it is woken."""

    def beat(checkpoint: int) -> tuple[dict[str, Any], bool]:
        wire, woken = SlowWire(), list[bool]()
        wire.refused = 1
        connection = standing_at(("before", checkpoint), wire)
        monkeypatch.setattr(connection, "wake", lambda: woken.append(True))
        connection._beat()
        assert connection.position.cursor == ("before", checkpoint)
        return wire.sent[0], bool(woken)

    return beat


def test_a_device_of_an_earlier_term_reads_a_cut_instead_of_a_heartbeat_that_it_would_not_take(
    of_an_earlier_term: Callable[[int], tuple[dict[str, Any], bool]],
) -> None:
    """P2: a heartbeat moves no cursor into another term; a server that believed so would never tell it again."""
    told, is_woken = of_an_earlier_term(8)
    assert is_woken and "cursor" not in told


def test_nobody_reads_a_cut_at_every_heartbeat_only_because_a_term_began_in_which_nothing_has_happened(
    of_an_earlier_term: Callable[[int], tuple[dict[str, Any], bool]],
) -> None:
    """P19: after a fail-over at night, thousands of devices would."""
    _, is_woken = of_an_earlier_term(9)
    assert not is_woken
