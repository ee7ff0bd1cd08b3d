"""Who stands where, while checkpoints are published."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from tests.unit.test_server_session import PLAN

from syncline.server.downloads import Position
from syncline.server.fanout import FanOut
from syncline.server.hub import Hub
from syncline.source.port import Checkpoint, Claims, Cursor, Delta, Head, Source


class Quiet:
    """A device that notes which checkpoint it was brought to."""

    device, packing = "ann-1", 0

    def __init__(self, cursor: Cursor) -> None:
        self.claims: Claims = {"sub": "ann"}
        self.position = Position(cursor, frozenset({"caseload[ada]"}), 0, 0)
        self.is_woken = False

    def wake(self) -> None:
        self.is_woken = True

    def replace(self) -> None:
        raise AssertionError("it has one stream")

    def take(self, messages: Sequence[bytes], position: Position) -> bool:
        self.position = position
        return True


class AtHead:
    """A source with nothing but a head: what is new since a cursor is the device's own number."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.read_from: list[Cursor] = []

    async def read_delta(self, after: Cursor, *arguments: Any) -> Delta:
        self.read_from.append(after)
        return Delta(self.head, included={"ann-1": (1, None)})


def test_what_is_published_before_the_first_one_stands_is_told_to_it() -> None:
    """P2: a nurse alone in the building opens her stream; between her cut and the moment in which she stands a
    checkpoint is published, and after it nothing is written."""
    head = Head("t", 2, 0)
    source, hub = AtHead(head), Hub(PLAN)
    ann = Quiet(("t", 1))

    async def open_late() -> None:
        fan_out = FanOut(cast(Source, source), hub)
        fan_out.start()
        hub.publish(Checkpoint(head, frozenset(), frozenset({"ann-1"}), frozenset()))
        for _ in range(10):  # it has looked, and has found nobody
            await asyncio.sleep(0)
        fan_out.stand(ann)
        for _ in range(10):
            await asyncio.sleep(0)
        await fan_out.stop()

    asyncio.run(open_late())
    assert source.read_from == [("t", 1)]
    assert ann.position.cursor == ("t", 2) and ann.position.included == 1
