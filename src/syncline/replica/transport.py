"""How messages travel: the port that the engine speaks to, and its HTTP and WebSocket implementation.

Errors are typed here: AuthError (401), OtherUserError, BucketsNeededError, ProtocolError (the request was wrong),
ServerError (trying again may help), UnreachableError (nobody of ours answered).
"""

from __future__ import annotations

import json
import socket
import ssl
import weakref
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx

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
from syncline.protocol import checks, frames
from syncline.replica.cut import Frame

MEDIA_TYPE = "application/vnd.syncline"
PACKING_HEADER = "X-Syncline-Packing"
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 30.0
"""How long an answer may be silent, besides the `wait` that was asked for."""

Token = str | Callable[[], str]


class BucketsNeededError(SynclineError):
    """The server wants the names of the held buckets, not only their digest."""

    code = "buckets_needed"
    retry = True


class Stream(Protocol):
    """An open live connection."""

    def frames(self) -> Iterator[dict[str, Any]]:
        """Frames as they come, until the connection ends; raises what `Transport` raises."""
        ...

    def close(self) -> None:
        """From any thread."""
        ...


class Transport(Protocol):
    """What a device asks of the network. Another one stands in its place in tests and in the simulator."""

    def hello(self, message: dict[str, Any]) -> dict[str, Any]: ...

    def upload(self, message: dict[str, Any]) -> dict[str, Any]: ...

    def download(self, message: dict[str, Any]) -> Iterator[dict[str, Any]]: ...

    def live(self, message: dict[str, Any]) -> Stream: ...

    def abort(self) -> None:
        """From another thread: a request that is under way ends at once, with an error."""
        ...

    def close(self) -> None: ...


class HttpTransport:
    """httpx for the calls, websockets for the live connection. For one thread, but for `Stream.close`.

    `url` may have a path (a mounted application). `token` is asked for before each request if it is a function.
    """

    def __init__(self, url: str, token: Token, *, client: httpx.Client | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigError(
                f'"{url}" is not a server\'s address.',
                hint="Write https://host or http://host:port.",
                code="server_url",
            )
        self._url = url.rstrip("/")
        self._token = token
        self._packing = "plain"
        self._opened = client
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._seen: set[str] = set()
        self._aborts = 0

    # ------------------------------------------------------------ calls
    def hello(self, message: dict[str, Any]) -> dict[str, Any]:
        answer = self._ask("/v1/hello", message)
        packing = answer.get("packing")
        self._packing = packing if isinstance(packing, str) and packing in frames.PACKINGS else "plain"
        return answer

    def upload(self, message: dict[str, Any]) -> dict[str, Any]:
        return self._ask("/v1/upload", message)

    def download(self, message: dict[str, Any]) -> Generator[dict[str, Any], None, None]:
        yield from self._frames("/v1/download", message, float(message.get("wait") or 0))

    def verify(self, message: dict[str, Any]) -> Generator[dict[str, Any], None, None]:
        yield from self._frames("/v1/verify", message)

    def verified(self, message: dict[str, Any]) -> None:
        self._ask("/v1/verified", message)

    def _frames(self, path: str, message: dict[str, Any], wait: float = 0.0) -> Generator[dict[str, Any], None, None]:
        body = pack_request({**message, "packing": self._packing}, self._packing)
        reader = frames.FrameReader()
        try:
            with closing(self._send(path, body, wait)) as response:
                _check(response)
                for chunk in _chunks(response, limits.ANSWER_BYTES_TAKEN_MAX):
                    for packed in reader.feed(chunk):
                        yield unpack(packed)
        except httpx.HTTPError as error:
            raise unreachable(error) from error
        try:
            reader.close()
        except ProtocolError as error:
            raise UnreachableError("The download broke off.", code="cut_short") from error

    def live(self, message: dict[str, Any]) -> Stream:
        from syncline.replica.live import open_live  # a device that only long-polls needs no WebSocket

        stream = open_live(self._url, {**self._headers(), PACKING_HEADER: self._packing}, message)
        self._sockets.add(stream.underlying)
        return stream

    def close(self) -> None:
        """Until the next call, which opens connections anew."""
        client, self._opened = self._opened, None
        if client is not None:
            client.close()

    def abort(self) -> None:
        self._aborts += 1
        for each in list(self._sockets):
            try:
                each.shutdown(socket.SHUT_RDWR)  # closing it would not wake the thread that reads from it
            except OSError:
                pass

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """httpcore tells of each connection that it makes, and of the answer's beginning."""
        self._seen.add(event)
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            made = info["return_value"].get_extra_info("socket")
            if isinstance(made, socket.socket):
                self._sockets.add(made)

    @property
    def _client(self) -> httpx.Client:
        if self._opened is None:
            timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
            needs_tls = self._url.startswith("https:")  # else the machine's certificates are not read, which takes long
            self._opened = httpx.Client(timeout=timeout, headers={"Accept-Encoding": "identity"}, verify=needs_tls)
        return self._opened

    # ------------------------------------------------------------ one request
    def _headers(self) -> dict[str, str]:
        token = self._token if isinstance(self._token, str) else self._token()
        return {"Authorization": f"Bearer {token}", "Content-Type": MEDIA_TYPE}

    def _ask(self, path: str, message: dict[str, Any]) -> dict[str, Any]:
        try:
            with closing(self._send(path, pack_request(message, self._packing))) as response:
                _check(response)
                content = b"".join(_chunks(response, limits.REQUEST_BYTES_MAX + 1))
        except httpx.HTTPError as error:
            raise unreachable(error) from error
        return frames.load(frames.unpack(content, limits.REQUEST_BYTES_MAX))

    def _send(self, path: str, body: bytes, wait: float = 0.0) -> httpx.Response:
        """The answer's head. A connection that the server closed while it lay idle is found out only now: then once
        more, over a new one; what was sent twice is done once, since mutations are numbered."""
        aborts = self._aborts
        request = self._client.build_request(
            "POST",
            self._url + path,
            content=body,
            headers=self._headers(),
            timeout=httpx.Timeout(ANSWER_SECONDS + wait, connect=CONNECT_SECONDS),
            extensions={"trace": self._trace},
        )
        self._seen.clear()
        try:
            return self._client.send(request, stream=True)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            if self._seen & _NOT_STALE or aborts != self._aborts:
                raise
        return self._client.send(request, stream=True)


def pack_request(message: dict[str, Any], packing: str) -> bytes:
    """A request may be larger than a frame: it has a limit of its own."""
    body = frames.dump(message)
    if len(body) > limits.REQUEST_BYTES_MAX:
        raise LimitError(f"A request of {len(body)} bytes is above the limit of {limits.REQUEST_BYTES_MAX}.")
    if len(body) > limits.FRAME_BYTES_MAX:
        return b"\1" + zlib.compress(body, 5)
    return frames.pack(body, frames.PACKINGS.get(packing, frames.PLAIN))


def unpack(packed: bytes) -> Frame:
    return Frame(frames.load(frames.unpack(packed)), packed)


def unreachable(error: Exception) -> UnreachableError:
    """Nobody of ours answered; the code says what was in the way, as far as the system tells."""
    text = str(error).rstrip(".") or type(error).__name__
    code, hint = "unreachable", "Is the device online, and the address right?"
    cause: BaseException | None = error
    while cause is not None:
        for kind, known, advice in _OBSTACLES:
            if isinstance(cause, kind):
                code, hint = known, advice
        cause = cause.__cause__ or cause.__context__
    return UnreachableError(f"The server does not answer: {text}.", hint=hint, code=code)


_NOT_STALE = frozenset({"connection.connect_tcp.started", "http11.receive_response_headers.complete"})
"""A request with one of these went over a new connection, or was answered."""

_OBSTACLES: tuple[tuple[type[BaseException], str, str], ...] = (
    (httpx.TimeoutException, "timed_out", "The network is slow, or something in between swallows what is sent."),
    (ConnectionRefusedError, "connection_refused", "Does the server run, and is the port right?"),
    (socket.gaierror, "name_unknown", "Is the device online, and the server's name right?"),
    (ssl.SSLError, "tls", "Not to be trusted: a wrong certificate, a wrong clock, or a network's sign-in page."),
)


def _check(response: httpx.Response) -> None:
    """Returns for an answer of ours; raises what any other one means."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if response.status_code == 200 and kind == MEDIA_TYPE:
        return
    try:
        body = json.loads(b"".join(_chunks(response, limits.ERROR_BYTES_MAX))) if kind == "application/json" else None
    except (ValueError, RecursionError, LimitError, httpx.HTTPError):
        body = None
    raise error_of(response.status_code, body, response.headers.get("retry-after"))


def _chunks(response: httpx.Response, bytes_max: int) -> Iterator[bytes]:
    """The body as it comes, packed by nobody but us (a body that httpx unpacks has no bound); LimitError for more."""
    size = 0
    for chunk in response.iter_raw():
        size += len(chunk)
        if size > bytes_max:
            raise LimitError(f"The answer is above the limit of {bytes_max} bytes.")
        yield chunk


def error_of(status: int, body: Any, retry_after: str | None = None) -> SynclineError:
    """The error that an answer of this status and JSON body stands for."""
    if type(body) is not dict or body.get("t") != "error":
        return _foreign_answer(status, retry_after)
    message, hint = checks.said(body, "message", "The server refused."), checks.said(body, "hint", "")
    code = checks.said(body, "code", "server", 100)
    if code == "buckets_needed":
        return BucketsNeededError(message, hint=hint)
    if code == "other_user":
        return OtherUserError(message, hint=hint or "Use another file for this user.")
    if status in (401, 403):
        return AuthError(message, hint=hint, code=code, status=status)
    if not body.get("retry") and 400 <= status < 500 and status != 429:
        return ProtocolError(message, hint=hint, code=code)
    after = checks.seconds(body.get("retry_after"))
    seconds = _seconds(retry_after) if after is None else after
    return ServerError(message, hint=hint, code=code, retry_after_seconds=seconds)


def _foreign_answer(status: int, retry_after: str | None) -> SynclineError:
    """Not from Syncline: a proxy in between, a hotel's sign-in page, or a wrong address."""
    if status in (429, 502, 503, 504):
        return ServerError(
            f"Something in front of the server answered {status}.",
            code="overloaded",
            retry_after_seconds=_seconds(retry_after),
        )
    if status < 400:
        return UnreachableError(
            "Something between this device and the server answered in its place.",
            hint="Sign in to the network: open any web page.",
            code="captive_portal",
        )
    return UnreachableError(
        f"What answers at this address is not Syncline (status {status}).",
        hint="Is the address right, with its path?",
        code="not_syncline",
    )


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is left to the backoff."""
    return float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else None
