"""Frames: what a download is made of, and how they are packed.

A frame is a JSON object with its type in "t". On the wire it is one byte that names the packing (0 plain, 1 gzip,
2 zstd) and the bytes; in an HTTP body each is preceded by its length (four bytes, big-endian); a binary message of a
WebSocket is one packed frame, or a bundle: the byte 3 and then several, each preceded by its length. A packed frame may
be sent to any number of subscribers.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from syncline import limits
from syncline.errors import LimitError, ProtocolError

try:  # an accelerator: where it is missing, gzip does
    import zstandard
except ImportError:  # pragma: no cover - depends on the installation
    zstandard = None  # type: ignore[assignment]

PLAIN, GZIP, ZSTD = 0, 1, 2
BUNDLE = 3
PACKINGS = {"plain": PLAIN, "gzip": GZIP, **({"zstd": ZSTD} if zstandard else {})}
"""Names, as `hello` negotiates them, of the packings that this installation can read and write."""

_LENGTH = struct.Struct(">I")
BUNDLE_MARK = bytes([BUNDLE])
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


def dump(frame: dict[str, Any]) -> bytes:
    return json.dumps(frame, ensure_ascii=False, separators=(",", ":")).encode()


def dump_rows(
    table: str, layout: int, buckets: Sequence[str], of: Sequence[int | Sequence[int]] | None, rows: Sequence[str]
) -> bytes:
    """A `rows` frame from rows that are JSON text already: images are spliced, not decoded and encoded again."""
    return dump_row_array(table, layout, buckets, of, f"[{','.join(rows)}]".encode())


def dump_row_array(
    table: str, layout: int, buckets: Sequence[str], of: Sequence[int | Sequence[int]] | None, rows: bytes
) -> bytes:
    """The same from all rows as one JSON array."""
    head: dict[str, Any] = {"t": "rows", "table": table, "layout": layout, "buckets": buckets}
    if of is not None:
        head["of"] = of
    return b'%b,"rows":%b}' % (dump(head)[:-1], rows)


def choose_packing(offered: Collection[str]) -> int:
    """The best packing that the peer offers and this side has."""
    for name in ("zstd", "gzip"):
        if name in offered and name in PACKINGS:
            return PACKINGS[name]
    return PLAIN


def pack(frame: bytes, packing: int) -> bytes:
    """LimitError for a frame that the peer would have to refuse."""
    if len(frame) > limits.FRAME_BYTES_MAX:
        raise LimitError(f"A frame of {len(frame)} bytes is above the limit of {limits.FRAME_BYTES_MAX}.")
    if packing == PLAIN or len(frame) < limits.FRAME_COMPRESS_BYTES_MIN:
        return b"\0" + frame
    body = _compress_zstd(frame) if packing == ZSTD else zlib.compress(frame, 5)
    # What does not compress grows, and a frame at the limit would be refused by its reader.
    return bytes([packing]) + body if len(body) < len(frame) else b"\0" + frame


ZSTD_LEVEL = 1
"""On rows it is as small as level 3, and takes half the time."""

_idle_compressors: list[Any] = []


def _compress_zstd(frame: bytes) -> bytes:
    """Making a compressor costs as much as compressing a small frame. One that is in use is in nobody else's hands."""
    try:
        compressor = _idle_compressors.pop()
    except IndexError:
        compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
    packed: bytes = compressor.compress(frame)
    _idle_compressors.append(compressor)
    return packed


def unpack(packed: bytes, bytes_max: int = limits.FRAME_BYTES_MAX) -> bytes:
    """The inverse; refuses a frame before it inflates past the limit."""
    if not packed:
        raise ProtocolError("An empty frame.", code="bad_frame")
    packing, body = packed[0], packed[1:]
    if packing == PLAIN:
        if len(body) > bytes_max:
            raise LimitError(f"A frame of {len(body)} bytes is above the limit of {bytes_max}.")
        return body
    if packing == GZIP:
        return _inflate_gzip(body, bytes_max)
    if packing == ZSTD and zstandard:
        return _inflate_zstd(body, bytes_max)
    raise ProtocolError(f"A frame in the unknown packing {packing}.", code="bad_frame")


def _inflate_gzip(body: bytes, bytes_max: int) -> bytes:
    try:
        inflater = zlib.decompressobj()
        plain = inflater.decompress(body, bytes_max + 1)
    except zlib.error as error:
        raise ProtocolError("A compressed frame is damaged.", code="bad_frame") from error
    if len(plain) > bytes_max:
        raise LimitError(f"A compressed frame inflates above the limit of {bytes_max} bytes.")
    if not inflater.eof or inflater.unused_data:
        raise ProtocolError("A compressed frame is cut short, or something follows it.", code="bad_frame")
    return plain


def _inflate_zstd(body: bytes, bytes_max: int) -> bytes:
    """A zstd frame must say how large it is: that is how a bomb is refused by its header, and a torn one noticed."""
    try:
        parameters = zstandard.get_frame_parameters(body)
        if not 0 < parameters.content_size < zstandard.CONTENTSIZE_UNKNOWN:
            raise ProtocolError("A compressed frame does not say how large it is.", code="bad_frame")
        if parameters.content_size > bytes_max:
            raise LimitError(f"A compressed frame inflates above the limit of {bytes_max} bytes.")
        if parameters.window_size > max(bytes_max * 2, 1 << 20):
            raise LimitError("A compressed frame asks for more memory than the limit allows.")
        plain = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompress(body, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ProtocolError("A compressed frame is damaged.", code="bad_frame") from error
    return plain


_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
"""One that does not end, too: looking for an end from every quotation mark on would take the square of the time."""


def count_items(frame: bytes, items_max: int = limits.JSON_ITEMS_MAX) -> int:
    """Commas, and three for each bracket, which is what reading costs; LimitError where there are too many outside of
    texts. Where there are few, those in texts may be among them."""
    count = _count_items(frame)
    if count > items_max:
        count = _count_items(_TEXT.sub(b"", frame))
    if count > items_max:
        raise LimitError(f"A message has more than {items_max} commas and brackets, of which each counts as three.")
    return count


def _count_items(frame: bytes) -> int:
    return frame.count(b",") + 3 * (frame.count(b"[") + frame.count(b"{"))


def load(
    frame: bytes, depth_max: int = limits.JSON_DEPTH_MAX, items_max: int = limits.JSON_ITEMS_MAX
) -> dict[str, Any]:
    """A JSON object, or ProtocolError."""
    count_items(frame, items_max)
    try:
        value = json.loads(frame.decode(), parse_constant=_refuse_constant)
        if _SURROGATE_ESCAPE.search(frame):  # half a pair is no text: no database and no answer could carry it
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ProtocolError("A message is not JSON.", code="bad_json") from error
    if type(value) is not dict:
        raise ProtocolError("A message is not a JSON object.", code="bad_json")
    if _depth(value, depth_max) > depth_max:
        raise LimitError(f"A message is nested deeper than {depth_max}.")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _depth(value: Any, depth_max: int) -> int:
    """How deep containers nest, looking no deeper than one past the limit. Rows of plain values are skipped fast."""
    level = [value]
    depth = 0
    while level and depth <= depth_max:
        depth += 1
        level = [inner for outer in level for inner in _containers_in(outer)]
    return depth


_CONTAINERS = frozenset({dict, list})


def _containers_in(container: Any) -> list[Any]:
    members: Iterable[Any] = container.values() if type(container) is dict else container
    if _CONTAINERS.isdisjoint(map(type, members)):
        return []
    return [member for member in members if type(member) in _CONTAINERS]


def with_length(packed: bytes) -> bytes:
    """A packed frame as it stands in an HTTP body."""
    return _LENGTH.pack(len(packed)) + packed


def bundle(packed: Iterable[bytes]) -> bytes:
    """Several packed frames as one message of a WebSocket. What is done per message costs more than a small frame."""
    return b"".join((BUNDLE_MARK, *map(with_length, packed)))


def unbundle(message: bytes, bytes_max: int = limits.LIVE_MESSAGE_BYTES_MAX) -> list[bytes]:
    """The packed frames of a message, whether it is a bundle or a single one."""
    if message[:1] != BUNDLE_MARK:
        return [message]
    if len(message) > bytes_max:
        raise LimitError(f"A bundle of {len(message)} bytes is above the limit of {bytes_max}.")
    reader = FrameReader()
    found = list(reader.feed(message[1:]))
    reader.close()
    return found


class FrameReader:
    """Cuts an HTTP body into packed frames as its bytes come in."""

    def __init__(self, bytes_max: int = limits.FRAME_BYTES_MAX) -> None:
        self._buffer = bytearray()
        self._bytes_max = bytes_max

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that are complete now. `data` is kept even if the caller does not look at them yet."""
        self._buffer += data
        return self._complete()

    def _complete(self) -> Iterator[bytes]:
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > self._bytes_max + 1:
                raise LimitError(f"A frame of {length} bytes is above the limit of {self._bytes_max}.")
            if len(self._buffer) < _LENGTH.size + length:
                return
            packed = bytes(self._buffer[_LENGTH.size : _LENGTH.size + length])
            del self._buffer[: _LENGTH.size + length]
            yield packed

    def close(self) -> None:
        """ProtocolError if the body ended inside a frame."""
        if self._buffer:
            raise ProtocolError("The download broke off inside a frame.", code="cut_short")
