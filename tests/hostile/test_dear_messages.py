"""Messages that are small on the wire and dear to read: what they cost is known before they are read, and nothing is kept
of them. Against a running server: in test_attacks.py."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.unit.test_overload import refused

from syncline import limits
from syncline.errors import LimitError
from syncline.protocol import frames
from syncline.server.auth import Identity
from syncline.server.config_settings import ServeSettings
from syncline.server.live import LiveConnection
from syncline.server.overload import Overload
from syncline.testing.world import SECOND_US, VirtualClock


def test_what_stands_in_texts_costs_nothing() -> None:
    text = '[{",' * limits.JSON_ITEMS_MAX + '\\"'
    message = {"t": "note", "text": text[: limits.VALUE_BYTES_MAX]}
    assert frames.load(json.dumps(message).encode()) == message


@pytest.mark.parametrize("kind", [b"[],", b"{},", b"1,", b'"\\\\",', b"[[]],"])
def test_too_many_items_are_refused_before_they_are_read(kind: bytes) -> None:
    """P19."""
    with pytest.raises(LimitError, match="commas and brackets"):
        frames.load(b'{"a":[' + kind * limits.JSON_ITEMS_MAX + b"0]}")


@pytest.mark.parametrize("text", [b'"', b'\\"', b'"\\', b'"a\\"'])
def test_texts_without_an_end_are_looked_through_once(text: bytes) -> None:
    """P19: in the square of the time this test would not end."""
    with pytest.raises(LimitError):
        frames.count_items(b",[{" * 2_000_000 + text * 2_000_000)


def test_dear_messages_use_the_allowance_up() -> None:
    """P18, P19: who sends them waits; others do not."""
    clock = VirtualClock()
    overload = Overload(ServeSettings(user_requests_per_second_max=10.0), clock)
    overload.charge("ann", 150 * limits.ITEMS_PER_CHARGE)
    assert refused(lambda: overload.charge("ann", limits.ITEMS_PER_CHARGE)).code == "too_many_requests"
    overload.charge("ben", limits.ITEMS_PER_CHARGE)
    clock.advance(10 * SECOND_US)
    overload.charge("ann", limits.ITEMS_PER_CHARGE)


def test_a_small_message_costs_no_more_than_its_request() -> None:
    overload = Overload(ServeSettings(user_requests_per_second_max=1.0), VirtualClock())
    for _ in range(1_000):
        overload.charge("ann", limits.ITEMS_PER_CHARGE - 1)


def test_a_stream_that_waits_keeps_nothing_of_what_was_said() -> None:
    """P14, P19: it may wait for hours."""
    said = [frames.pack(frames.dump({"t": "x", "a": list(range(1_000))}), frames.PLAIN)]

    async def receive_bytes() -> bytes:
        if said:
            return said.pop()
        await asyncio.sleep(3_600)
        return b""

    async def listen() -> list[Any]:
        service = cast(Any, SimpleNamespace(clock=VirtualClock()))
        socket = cast(Any, SimpleNamespace(scope={}, receive_bytes=receive_bytes))
        connection = LiveConnection(service, socket, Identity("ann", {"sub": "ann"}), frames.PLAIN)
        task = asyncio.create_task(connection._listen())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not said
        (frame,) = task.get_stack()
        kept = [value for value in frame.f_locals.values() if isinstance(value, bytes | dict | list)]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return kept

    assert asyncio.run(listen()) == []


def test_an_open_stream_takes_short_messages_only() -> None:
    """P19."""
    service = cast(Any, SimpleNamespace(clock=VirtualClock()))
    connection = LiveConnection(
        service, cast(Any, SimpleNamespace(scope={})), Identity("ann", {"sub": "ann"}), frames.PLAIN
    )
    long = frames.pack(frames.dump({"t": "x", "a": "x" * limits.STREAM_MESSAGE_BYTES_MAX}), frames.PLAIN)
    assert connection._asked(long) is None
    connection._is_open = True
    with pytest.raises(LimitError):
        connection._asked(long)
