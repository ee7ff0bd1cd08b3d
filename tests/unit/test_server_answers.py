"""What breaks an answer off that has begun: the device is told, and so is the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from syncline.errors import ServerError, SourceBusyError
from syncline.protocol import frames
from syncline.server.answers import packed_frames, stream_answer

CANARY = "canary-of-ada"
BEGIN = {"t": "begin", "rows": 3}
MOVING = SourceBusyError("The schema is being changed.", hint="It is tried again.", code="schema_moving")


async def answer(error: Exception) -> AsyncIterator[bytes]:
    yield frames.dump(BEGIN)
    yield frames.dump({"t": "rows", "rows": [["x" * 5_000]]})
    raise error


def ask(error: Exception, packing: int) -> list[dict[str, Any]]:
    """The frames that a device gets over HTTP; what leaves the application as an exception is raised."""

    async def endpoint(_: Request) -> Response:
        return stream_answer(packed_frames(answer(error), packing, "device d1 of ann"))

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(Starlette(routes=[Route("/", endpoint)]))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/")

    reader = frames.FrameReader()
    told = asyncio.run(get())
    assert told.status_code == 200
    found = [frames.load(frames.unpack(packed)) for packed in reader.feed(told.content)]
    reader.close()
    return found


@pytest.mark.parametrize("packing", [frames.PLAIN, frames.GZIP])
def test_a_database_that_restarts_during_an_answer_ends_it_in_an_error_frame(
    caplog: pytest.LogCaptureFixture, packing: int
) -> None:
    """P18: what came before it arrives, and the log has one line that says whose answer it was, and why."""
    begin, rows, last = ask(MOVING, packing)
    assert (begin, rows["t"]) == (BEGIN, "rows")
    assert last == {
        "t": "error",
        "code": "schema_moving",
        "message": "The schema is being changed.",
        "hint": "It is tried again.",
        "retry": True,
        "retry_after": None,
    }
    (line,) = caplog.records
    assert (line.levelno, line.exc_info) == (logging.WARNING, None)
    assert "device d1 of ann" in line.getMessage() and "[schema_moving]" in line.getMessage()


def test_when_to_come_again_is_told_there_too() -> None:
    last = ask(ServerError("Too much.", code="overloaded", retry_after_seconds=7.0), frames.PLAIN)[-1]
    assert (last["code"], last["retry_after"]) == ("overloaded", 7.0)


def test_a_fault_that_nobody_foresaw_is_told_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    """P18: the text may have data in it; the log of the server has it, with where it was."""
    last = ask(ValueError(CANARY), frames.PLAIN)[-1]
    assert (last["t"], last["code"], last["retry"]) == ("error", "internal", True)
    assert CANARY not in str(last)
    (line,) = caplog.records
    assert line.levelno == logging.ERROR and line.exc_info and CANARY in str(line.exc_info[1])
