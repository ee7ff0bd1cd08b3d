"""The WebSocket stream against a real one."""

from __future__ import annotations

import http
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from syncline import AuthError, UnreachableError, limits
from syncline.protocol import frames
from syncline.replica.live import CatchUpNeededError, StreamBlockedError, open_live
from syncline.replica.transport import BucketsNeededError

Handler = Callable[[ServerConnection], None]


@contextmanager
def serving(handler: Handler, refuse: http.HTTPStatus | None = None) -> Iterator[str]:
    def answer(connection: ServerConnection, request: Request) -> Response | None:
        return None if refuse is None else connection.respond(refuse, "no")

    server: Server
    with serve(handler, "127.0.0.1", 0, process_request=answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


def send(connection: ServerConnection, frame: dict[str, Any]) -> None:
    connection.send(frames.pack(frames.dump(frame), frames.GZIP))


def heard(connection: ServerConnection) -> dict[str, Any]:
    packed = connection.recv()
    assert isinstance(packed, bytes)
    return frames.load(frames.unpack(packed))


def test_it_opens_with_where_the_device_stands_and_ends_in_good_order() -> None:
    got: list[Any] = []

    def handler(connection: ServerConnection) -> None:
        got.append((connection.request.headers["Authorization"], heard(connection)))  # type: ignore[union-attr]
        send(connection, {"t": "begin", "rows": ["x" * 3000]})
        connection.close(4401)

    with serving(handler) as url:
        stream = open_live(url, {"Authorization": "Bearer me"}, {"cursor": "term.1"})
        assert list(stream.frames()) == [{"t": "begin", "rows": ["x" * 3000]}]
        stream.close()
    assert got == [("Bearer me", {"t": "open", "cursor": "term.1"})]


def test_heartbeats_and_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(limits, "SILENCE_SECONDS_MAX", 0.3)
    got: list[str] = []

    def handler(connection: ServerConnection) -> None:
        for message in connection:
            assert isinstance(message, bytes)
            got.append(frames.load(frames.unpack(message))["t"])

    with serving(handler) as url:
        stream = open_live(url, {}, {})
        with pytest.raises(UnreachableError, match="silent"):
            list(stream.frames())
    assert got[:3] == ["open", "heartbeat", "heartbeat"]


@pytest.mark.parametrize(
    ("code", "error"),
    [(4409, BucketsNeededError), (4412, CatchUpNeededError), (4500, UnreachableError), (1011, UnreachableError)],
)
def test_how_a_stream_may_end(code: int, error: type[Exception]) -> None:
    with serving(lambda connection: connection.close(code)) as url:
        stream = open_live(url, {}, {})
        with pytest.raises(error):
            list(stream.frames())
        stream.close()


def test_what_does_not_get_through() -> None:
    with serving(lambda connection: None, http.HTTPStatus.UNAUTHORIZED) as url, pytest.raises(AuthError):
        open_live(url, {}, {})
    with serving(lambda connection: None, http.HTTPStatus.BAD_GATEWAY) as url, pytest.raises(StreamBlockedError):
        open_live(url, {}, {})
    with pytest.raises(StreamBlockedError):
        open_live(url, {}, {})
