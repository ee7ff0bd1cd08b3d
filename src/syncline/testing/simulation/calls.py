"""Requests of one device over the virtual network: the same bytes as over HTTP, the same errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from syncline import limits
from syncline.errors import ProtocolError, SynclineError, UnreachableError
from syncline.protocol import frames
from syncline.replica.transport import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
    MEDIA_TYPE,
    error_of,
    pack_request,
    unpack,
)
from syncline.testing.simulation.gateway import Gateway
from syncline.testing.simulation.network import Channel, Link, Way


@dataclass(frozen=True)
class Head:
    status: int
    headers: Mapping[str, str]


@dataclass(frozen=True)
class End:
    """Of the answer, or of the connection. `is_whole`: as far as the device can tell by what HTTP says."""

    is_whole: bool


Piece = Head | bytes | End
PORTAL = (Head(200, {"content-type": "text/html"}), b"<html>Sign in to this network</html>", End(True))
PROXY = (Head(502, {"content-type": "text/html"}), b"<html>Bad gateway</html>", End(True))


class Exchange:
    """One request, and what arrives of its answer."""

    def __init__(self, gateway: Gateway, link: Link, path: str, user: str, body: bytes, epoch: int) -> None:
        self._gateway = gateway
        self._link = link
        self._scope = gateway.scope("http", path, user, {"content-type": MEDIA_TYPE})
        self._body = body
        self._is_cut = False
        self._is_answering = False
        self._gone = asyncio.Event()
        self.pieces: asyncio.Queue[Piece] = asyncio.Queue()
        self._back = Channel(link, Way.BACK, self.pieces.put_nowait, epoch)
        self._out = Channel(link, Way.OUT, self._arrive, epoch)

    def send(self) -> None:
        link = self._link
        if link.strikes("drop"):
            if link.rng.random() < 0.5:
                self._out.is_dead = True
            else:
                self._back.is_dead = True
        if link.strikes("reset"):
            asyncio.get_running_loop().call_later(link.seconds(), self.pieces.put_nowait, End(False))
            self._out.is_dead = link.rng.random() < 0.5
        self._out.send(self._body)
        if not self._out.is_dead and link.strikes("duplicate"):
            asyncio.get_running_loop().call_later(link.seconds() * 3, self._arrive, self._body)

    def give_up(self) -> None:
        """The device closes the connection; the server learns of it if that gets through."""
        asyncio.get_running_loop().call_later(self._link.seconds(), self._gone.set)
        self._back.is_dead = True

    def answer_with(self, pieces: Iterable[Piece]) -> None:
        """In the server's place."""
        for piece in pieces:
            self.pieces.put_nowait(piece)

    # ------------------------------------------------------------ at the server
    def _arrive(self, body: bytes) -> None:
        """Twice, where it was doubled on the way: the first answer is the one that counts."""
        answer = _Answer(self) if not self._is_answering else _Answer(None)
        self._is_answering = True
        if not self._gateway.serve(self._scope, _Body(body, self._gone), answer, lambda: self.put(End(False))):
            for piece in PROXY if self._gateway.has_proxy else (End(False),):
                self.put(piece)

    def put(self, piece: Piece) -> None:
        """On its way to the device."""
        if self._is_cut:
            return
        if isinstance(piece, bytes) and piece and self._link.strikes("truncate"):
            self._is_cut = True
            self._back.send(piece[: self._link.rng.randrange(len(piece))])
            self._back.send(End(is_whole=self._link.rng.random() < 0.5))
            return
        self._back.send(piece)


class _Body:
    """What the application receives: the request, and later that the device is gone."""

    def __init__(self, body: bytes, gone: asyncio.Event) -> None:
        self._body: bytes | None = body
        self._gone = gone

    async def __call__(self) -> dict[str, Any]:
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}


class _Answer:
    """What the application sends."""

    def __init__(self, exchange: Exchange | None) -> None:
        """None: it goes to nobody."""
        self._exchange = exchange

    async def __call__(self, message: Mapping[str, Any]) -> None:
        if self._exchange is None:
            return
        if message["type"] == "http.response.start":
            headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
            self._exchange.put(Head(message["status"], headers))
            return
        if message.get("body"):
            self._exchange.put(message["body"])
        if not message.get("more_body"):
            self._exchange.put(End(True))


class Calls:
    """What `HttpTransport` does, on virtual time."""

    def __init__(self, gateway: Gateway, link: Link, user: str) -> None:
        self.gateway = gateway
        self.link = link
        self.user = user
        self.packing = "plain"
        self._kept: int | None = None
        self._under_way: Exchange | None = None

    async def hello(self, message: dict[str, Any]) -> dict[str, Any]:
        answer = await self._ask("/v1/hello", message)
        packing = answer.get("packing")
        self.packing = packing if isinstance(packing, str) and packing in frames.PACKINGS else "plain"
        return answer

    async def upload(self, message: dict[str, Any]) -> dict[str, Any]:
        return await self._ask("/v1/upload", message)

    async def download(self, message: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        body = pack_request({**message, "packing": self.packing}, self.packing)
        reader = frames.FrameReader()
        async for chunk in self._send("/v1/download", body, float(message.get("wait") or 0)):
            for packed in reader.feed(chunk):
                yield unpack(packed)
        try:
            reader.close()
        except ProtocolError as error:
            raise UnreachableError("The download broke off.", code="cut_short") from error

    def abort(self) -> None:
        """The request that is under way ends at once."""
        if self._under_way is not None:
            self._under_way.pieces.put_nowait(End(False))

    # ------------------------------------------------------------ one request
    async def _ask(self, path: str, message: dict[str, Any]) -> dict[str, Any]:
        chunks = [chunk async for chunk in self._send(path, pack_request(message, self.packing))]
        return frames.load(frames.unpack(b"".join(chunks), limits.REQUEST_BYTES_MAX))

    async def _send(self, path: str, body: bytes, wait: float = 0.0) -> AsyncIterator[bytes]:
        """The answer's body as it comes in; raises what `HttpTransport` raises."""
        link, kept = self.link, self._kept
        if not link.sky.is_up:
            await asyncio.sleep(0.01)
            raise UnreachableError("There is no network.", code="name_unknown")
        exchange = self._under_way = Exchange(
            self.gateway, link, path, self.user, body, link.epoch if kept is None else kept
        )
        self._kept = None
        if link.sky.has_portal:
            asyncio.get_running_loop().call_later(link.seconds(), exchange.answer_with, PORTAL)
        else:
            exchange.send()
        is_lost = kept is None and not (link.lets_through(Way.OUT) and link.lets_through(Way.BACK))
        seconds = CONNECT_SECONDS if is_lost and not link.sky.has_portal else ANSWER_SECONDS + wait
        epoch = link.epoch if kept is None else kept
        try:
            head = await _next(exchange, seconds)
            if isinstance(head, End):
                raise UnreachableError("The connection was closed.", code="unreachable")
            assert isinstance(head, Head)
            if head.status != 200 or head.headers.get("content-type") != MEDIA_TYPE:
                raise await _error(exchange, head)
            while not isinstance(piece := await _next(exchange, ANSWER_SECONDS + wait), End):
                assert isinstance(piece, bytes)
                yield piece
            if not piece.is_whole:
                raise UnreachableError("The connection was closed.", code="unreachable")
            self._kept = epoch
        finally:
            exchange.give_up()
            self._under_way = None


async def _next(exchange: Exchange, seconds: float) -> Piece:
    try:
        return await asyncio.wait_for(exchange.pieces.get(), seconds)
    except TimeoutError:
        raise UnreachableError("The server does not answer.", code="timed_out") from None


async def _error(exchange: Exchange, head: Head) -> SynclineError:
    content = b""
    while isinstance(piece := await _next(exchange, ANSWER_SECONDS), bytes):
        content += piece
    is_json = head.headers.get("content-type", "").startswith("application/json")
    try:
        body = json.loads(content) if is_json else None
    except ValueError:
        body = None
    return error_of(head.status, body, head.headers.get("retry-after"))
