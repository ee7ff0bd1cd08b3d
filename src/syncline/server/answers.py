"""HTTP answers: messages, streams of frames, and errors in one JSON form.

Every answer says `Content-Encoding: identity` and `no-transform`: frames are packed already, and a compressing
middleware or proxy in front would hold a stream back to save nothing.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from syncline.errors import AuthError, LimitError, ProtocolError, ServerError, SynclineError
from syncline.log import logger
from syncline.protocol import frames
from syncline.server.service import error_body

_log = logger("answers")

MEDIA_TYPE = "application/vnd.syncline"

_HEADERS = {
    "Cache-Control": "no-store, no-transform",
    "Content-Encoding": "identity",
    "X-Accel-Buffering": "no",
}
RETRY_AFTER_SECONDS = 2.0


def message_answer(message: dict[str, Any], packing: int) -> Response:
    return Response(frames.pack(frames.dump(message), packing), media_type=MEDIA_TYPE, headers=_HEADERS)


def stream_answer(packed: AsyncIterator[bytes]) -> Response:
    """Frames as they are made. Nothing of it is held back on the way."""
    return StreamingResponse(packed, media_type=MEDIA_TYPE, headers=_HEADERS)


async def packed_frames(answer: AsyncIterator[bytes], packing: int, whose: str) -> AsyncIterator[bytes]:
    """JSON frames as the wire carries them. An answer that has begun can have no other status any more: what breaks it
    off is told by an `error` frame at its end, in the words of an `error_answer`. `whose` is for the log."""
    try:
        async for frame in answer:
            yield frames.with_length(frames.pack(frame, packing))
    except Exception as error:
        if isinstance(error, SynclineError):
            _log.warning("the answer to %s broke off: %s", whose, error)
        yield frames.with_length(frames.pack(error_body(error), packing))


def error_answer(error: Exception, status: int | None = None) -> Response:
    """An error as JSON. Of an unforeseen one nothing is told but that it happened."""
    status = status or status_of(error)
    headers = dict(_HEADERS)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status in (429, 503):
        seconds = error.retry_after_seconds if isinstance(error, ServerError) else None
        headers["Retry-After"] = str(math.ceil(seconds or RETRY_AFTER_SECONDS))
    return Response(error_body(error), status_code=status, media_type="application/json", headers=headers)


def status_of(error: Exception) -> int:
    if isinstance(error, AuthError):
        return error.status
    if isinstance(error, LimitError):
        return 413
    if isinstance(error, ProtocolError):
        return 400
    if isinstance(error, SynclineError):
        return 503
    return 500


async def refused_request(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: a path that leads nowhere, a method that is not taken."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        hint = (
            "The calls are /v1/hello, /v1/upload, /v1/download, /v1/verify and /v1/live: "
            "is the address right, with its path?"
        )
        return error_answer(ProtocolError("There is nothing at this path.", hint=hint, code="not_found"), 404)
    if error.status_code == 405:
        told = ProtocolError(f"{request.method} is not taken here.", hint="Use POST.", code="method_not_allowed")
        answer = error_answer(told, 405)
        answer.headers.update(error.headers or {})
        return answer
    return error_answer(ProtocolError(str(error.detail), code="request_refused"), error.status_code)
