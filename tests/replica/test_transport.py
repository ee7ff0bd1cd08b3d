"""HTTP: what each answer means, whoever gave it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from syncline import limits
from syncline.errors import (
    AuthError,
    ConfigError,
    LimitError,
    OtherUserError,
    ProtocolError,
    ServerError,
    SynclineError,
    UnreachableError,
)
from syncline.protocol import frames
from syncline.replica.cut import Frame
from syncline.replica.transport import MEDIA_TYPE, BucketsNeededError, HttpTransport, pack_request

Answer = Callable[[httpx.Request], httpx.Response]


def transport(answer: Answer, token: Any = "token") -> HttpTransport:
    return HttpTransport(
        "https://sync.example.org/base/", token, client=httpx.Client(transport=httpx.MockTransport(answer))
    )


def ours(content: Any) -> httpx.Response:
    body = iter([content]) if isinstance(content, bytes) else content  # not read before it is asked for
    return httpx.Response(200, headers={"content-type": MEDIA_TYPE}, content=body)


def refusal(status: int, code: str, retry: bool = False, **more: Any) -> Answer:
    return refusal_of(
        status, {"t": "error", "code": code, "message": "because", "hint": "do this", "retry": retry, **more}
    )


def refusal_of(status: int, body: dict[str, Any]) -> Answer:
    content = json.dumps(body).encode()
    return lambda request: httpx.Response(status, headers={"content-type": "application/json"}, content=iter([content]))


def test_requests_are_packed_frames_with_the_token() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return ours(frames.pack(frames.dump({"last": 3, "gap": False, "packing": "gzip"}), frames.GZIP))

    tokens = iter(["first", "second"])
    link = transport(answer, lambda: next(tokens))
    link.hello({"protocol": 2})
    assert link.upload({"groups": ["x" * 5000]}) == {"last": 3, "gap": False, "packing": "gzip"}
    assert [str(request.url) for request in seen] == [
        "https://sync.example.org/base/v1/hello",
        "https://sync.example.org/base/v1/upload",
    ]
    assert [request.headers["authorization"] for request in seen] == ["Bearer first", "Bearer second"]
    assert seen[1].content[0] == frames.GZIP and frames.load(frames.unpack(seen[1].content))["groups"]
    link.close()


def test_a_download_is_cut_into_frames_that_know_their_bytes() -> None:
    sent = [{"t": "begin"}, {"t": "rows", "rows": [[1, "é"]]}]
    body = b"".join(frames.with_length(frames.pack(frames.dump(frame), frames.PLAIN)) for frame in sent)
    link = transport(lambda request: ours(iter([body[:7], body[7:]])))
    got = list(link.download({"cursor": None, "wait": 0}))
    assert got == sent and all(isinstance(frame, Frame) and frame.packed for frame in got)
    link = transport(lambda request: ours(iter([body[:-3]])))
    with pytest.raises(UnreachableError) as caught:
        list(link.download({}))
    assert caught.value.code == "cut_short"


@pytest.mark.parametrize(
    ("answer", "error", "code"),
    [
        (refusal(401, "token_expired"), AuthError, "token_expired"),
        (refusal(403, "other_user"), OtherUserError, "other_user"),
        (refusal(403, "forbidden"), AuthError, "forbidden"),
        (refusal(409, "buckets_needed"), BucketsNeededError, "buckets_needed"),
        (refusal(409, "device_unknown"), ProtocolError, "device_unknown"),
        (refusal(400, "bad_field"), ProtocolError, "bad_field"),
        (refusal(503, "source_busy", retry=True), ServerError, "source_busy"),
        (refusal(500, "internal"), ServerError, "internal"),
        (lambda request: httpx.Response(200, html="<html>Sign in to Hotel</html>"), UnreachableError, "captive_portal"),
        (lambda request: httpx.Response(302, headers={"location": "http://hotel"}), UnreachableError, "captive_portal"),
        (lambda request: httpx.Response(404, text="not here"), UnreachableError, "not_syncline"),
        (lambda request: httpx.Response(502, text="bad gateway"), ServerError, "overloaded"),
        (refusal_of(403, {"detail": "WAF"}), UnreachableError, "not_syncline"),
    ],
)
def test_what_an_answer_means(answer: Answer, error: type[SynclineError], code: str) -> None:
    for call in (lambda link: link.hello({}), lambda link: list(link.download({}))):
        with pytest.raises(error) as caught:
            call(transport(answer))
        assert caught.value.code == code and type(caught.value) is error


def test_retry_after() -> None:
    with pytest.raises(ServerError) as caught:
        transport(refusal(503, "busy", retry=True, retry_after=7.5)).hello({})
    assert caught.value.retry_after_seconds == 7.5
    with pytest.raises(ServerError) as caught:
        transport(lambda request: httpx.Response(503, headers={"retry-after": "12"})).hello({})
    assert caught.value.retry_after_seconds == 12


def test_nobody_answers() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(UnreachableError, match="does not answer"):
        transport(answer).hello({})
    with pytest.raises(UnreachableError):
        list(transport(answer).download({}))


def test_an_address_that_is_none() -> None:
    with pytest.raises(ConfigError):
        HttpTransport("sync.example.org", "token")


def test_a_request_has_a_bound_and_goes_up_to_it() -> None:
    large = {"x": "y" * (limits.REQUEST_BYTES_MAX - 100)}
    packed = pack_request(large, "plain")
    assert json.loads(frames.unpack(packed, limits.REQUEST_BYTES_MAX)) == large
    with pytest.raises(LimitError):
        pack_request({"x": "y" * limits.REQUEST_BYTES_MAX}, "plain")


@contextmanager
def closing_server(answers: int) -> Iterator[tuple[str, list[str]]]:
    """Answers one request per connection, as one that may be kept, and then closes it; in all so many. The addresses of
    the requests that it heard are listed."""
    heard: list[str] = []
    packed = frames.pack(frames.dump({"last": 3, "gap": False}), frames.PLAIN)
    framed = {"/v1/download": frames.with_length(frames.pack(frames.dump({"t": "heartbeat"}), frames.PLAIN))}

    def serve(listening: socket.socket) -> None:
        for number in range(answers + 1):
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(65536)
                head, _, body = request.partition(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split()[0])
                while len(body) < length:
                    body += connection.recv(65536)
                path = head.split()[1].decode()
                heard.append(path)
                if number < answers:
                    content = framed.get(path, packed)
                    headers = f"HTTP/1.1 200 OK\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {len(content)}"
                    connection.sendall(headers.encode() + b"\r\n\r\n" + content)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", heard
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_a_connection_that_the_server_closed_while_it_lay_idle_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("httpcore.HTTP11Connection.has_expired", lambda self: False)  # it looks a moment too early
    with closing_server(3) as (url, heard):
        link = HttpTransport(url, "token")
        assert link.upload({"groups": []})["last"] == 3
        assert link.upload({"groups": []})["last"] == 3
        assert list(link.download({"wait": 0})) == [{"t": "heartbeat"}]
        link.close()
    assert heard == ["/v1/upload", "/v1/upload", "/v1/download"]


def test_a_new_connection_that_breaks_is_told_once() -> None:
    with closing_server(0) as (url, heard):
        link = HttpTransport(url, "token")
        with pytest.raises(UnreachableError) as caught:
            link.upload({"groups": []})
        link.close()
    assert heard == ["/v1/upload"] and ".." not in str(caught.value)
