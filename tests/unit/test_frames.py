"""Frames: packing, unpacking what a hostile peer packed, and cutting a body into frames."""

from __future__ import annotations

import json
import os
import tracemalloc
import zlib

import pytest
import zstandard

from syncline import limits
from syncline.errors import LimitError, ProtocolError
from syncline.protocol import frames

PACKINGS = [frames.PLAIN, frames.GZIP, frames.ZSTD]
LARGE = b'{"t":"rows","rows":[' + b'["visit",1],' * 500 + b"[]]}"


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_frame_comes_back_in_every_packing(packing: int) -> None:
    packed = frames.pack(LARGE, packing)
    assert packed[0] == packing
    assert frames.unpack(packed) == LARGE


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_small_frame_travels_as_it_is(packing: int) -> None:
    small = b"x" * (limits.FRAME_COMPRESS_BYTES_MIN - 1)
    assert frames.pack(small, packing) == b"\0" + small


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_frame_that_does_not_compress_does_not_grow(packing: int) -> None:
    """A frame at the limit would otherwise be refused by its reader, for ever (P2)."""
    noise = os.urandom(limits.FRAME_BYTES_MAX)
    packed = frames.pack(noise, packing)
    assert list(frames.FrameReader().feed(frames.with_length(packed))) == [packed]
    assert frames.unpack(packed) == noise


def test_a_frame_that_the_peer_would_refuse_is_not_packed() -> None:
    with pytest.raises(LimitError):
        frames.pack(b"x" * (limits.FRAME_BYTES_MAX + 1), frames.PLAIN)


@pytest.mark.parametrize("packing", PACKINGS)
def test_the_limit_itself_is_allowed_and_one_byte_more_is_not(packing: int) -> None:
    """P19."""
    packed = frames.pack(LARGE, packing)
    assert frames.unpack(packed, bytes_max=len(LARGE)) == LARGE
    with pytest.raises(LimitError):
        frames.unpack(packed, bytes_max=len(LARGE) - 1)


BOMB = b"a" * (64 << 20)


def zstd_without_size(plain: bytes) -> bytes:
    compressor = zstandard.ZstdCompressor().compressobj()
    return compressor.compress(plain) + compressor.flush()


@pytest.mark.parametrize(
    "packed",
    [
        b"\1" + zlib.compress(BOMB),
        b"\2" + zstandard.ZstdCompressor().compress(BOMB),
        b"\2" + zstd_without_size(BOMB),
    ],
    ids=["gzip", "zstd", "zstd without size"],
)
def test_a_bomb_is_refused_before_it_inflates(packed: bytes) -> None:
    """P19."""
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            frames.unpack(packed)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * limits.FRAME_BYTES_MAX


def test_a_zstd_frame_that_wants_a_huge_window_is_refused() -> None:
    """P19. The header: a content of 300 bytes, and a window of 2 GiB."""
    header = b"\x28\xb5\x2f\xfd" + b"\x40" + b"\xa8" + (300 - 256).to_bytes(2, "little")
    assert zstandard.get_frame_parameters(header).window_size == 1 << 31
    with pytest.raises(LimitError, match="memory"):
        frames.unpack(b"\2" + header + b"\x00" * 20)


@pytest.mark.parametrize("size", [0, 1, len(LARGE) - 256 - 1, len(LARGE) - 256 + 1, 0xFFFF])
def test_a_zstd_frame_that_lies_about_its_size_is_refused(size: int) -> None:
    """P19."""
    packed = bytearray(frames.pack(LARGE, frames.ZSTD))
    assert packed[5] >> 6 == 1, "the header has a size of two bytes"
    packed[6:8] = size.to_bytes(2, "little")
    with pytest.raises(ProtocolError):
        frames.unpack(bytes(packed))


@pytest.mark.parametrize("packing", [frames.GZIP, frames.ZSTD])
def test_a_compressed_frame_cut_short_anywhere_is_refused(packing: int) -> None:
    """P6: half a cut must not pass for a whole one."""
    packed = frames.pack(LARGE, packing)
    for length in range(1, len(packed)):
        with pytest.raises(ProtocolError):
            frames.unpack(packed[:length])


@pytest.mark.parametrize("packing", [frames.GZIP, frames.ZSTD])
def test_nothing_may_follow_a_compressed_frame(packing: int) -> None:
    packed = frames.pack(LARGE, packing)
    for more in (b"\0", packed[1:]):
        with pytest.raises(ProtocolError):
            frames.unpack(packed + more)


@pytest.mark.parametrize("packed", [b"", b"\1", b"\2", b"\3{}", b"\xff", b"\1nonsense", b"\2nonsense"])
def test_what_is_no_packed_frame_is_a_protocol_error(packed: bytes) -> None:
    """P19."""
    with pytest.raises(ProtocolError) as caught:
        frames.unpack(packed)
    assert caught.value.code == "bad_frame"


def test_without_zstandard_a_zstd_frame_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = frames.pack(LARGE, frames.ZSTD)
    monkeypatch.setattr(frames, "zstandard", None)
    with pytest.raises(ProtocolError):
        frames.unpack(packed)


def test_the_best_packing_that_both_have_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert frames.choose_packing(["plain", "gzip", "zstd"]) == frames.ZSTD
    assert frames.choose_packing(("brotli", "gzip")) == frames.GZIP
    assert frames.choose_packing([]) == frames.PLAIN
    monkeypatch.delitem(frames.PACKINGS, "zstd")
    assert frames.choose_packing(["zstd", "gzip"]) == frames.GZIP


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


BAD_JSON = {
    "empty": b"",
    "cut short": b'{"t":"begin"',
    "list": b"[]",
    "text": b'"begin"',
    "null": b"null",
    "not a number": b'{"a":NaN}',
    "infinite": b'{"a":-Infinity}',
    "two documents": b"{}{}",
    "not utf-8": b'{"a":"\xff"}',
    "utf-16": '{"a":1}'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "half a pair, escaped": b'{"a":"\\ud83d"}',
    "half a pair as a name": b'{"\\uDE00":1}',
    "half a pair in bytes": b'{"a":"\xed\xa0\xbd"}',
    "digits without end": b'{"a":' + b"9" * 10_000 + b"}",
    "too deep": nested(limits.JSON_DEPTH_MAX + 1),
    "too deep by lists": b'{"a":' + b"[" * limits.JSON_DEPTH_MAX + b"]" * limits.JSON_DEPTH_MAX + b"}",
    "deep enough to exhaust a parser": b'{"a":' + b"[" * 1_000_000,
}


@pytest.mark.parametrize("frame", BAD_JSON.values(), ids=BAD_JSON.keys())
def test_a_frame_that_is_not_a_json_object_is_a_protocol_error(frame: bytes) -> None:
    """P19."""
    with pytest.raises(ProtocolError):
        frames.load(frame)


def test_the_deepest_frame_allowed_is_read() -> None:
    assert frames.load(nested(limits.JSON_DEPTH_MAX)) == json.loads(nested(limits.JSON_DEPTH_MAX))


def test_escaped_text_outside_the_basic_plane_is_read() -> None:
    assert frames.load(b'{"a":"\\ud83e\\uDE7A"}') == {"a": "🩺"}


@pytest.mark.parametrize("of", [None, [0, 1], [0, (0, 1)]])
def test_spliced_rows_are_the_frame_that_dump_would_make(of: list[int | tuple[int, ...]] | None) -> None:
    whole = {"t": "rows", "table": 'visits "é"', "layout": 3, "buckets": ['caseload["p\\1"]', "all[]"], "of": of}
    whole["rows"] = [[1, "é"], [2, None]]
    if of is None:
        del whole["of"]
    spliced = frames.dump_rows(whole["table"], 3, whole["buckets"], of, ['[1,"é"]', "[2,null]"])  # type: ignore[arg-type]
    assert spliced == frames.dump(whole)


BODY = [b"\0{}", b"", b"\1" + b"x" * 300, b"\0"]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 1000])
def test_a_body_is_cut_into_the_same_frames_however_it_arrives(size: int) -> None:
    body = b"".join(frames.with_length(frame) for frame in BODY)
    reader = frames.FrameReader()
    found = [frame for at in range(0, len(body), size) for frame in reader.feed(body[at : at + size])]
    reader.close()
    assert found == BODY


def test_what_is_fed_is_kept_though_nobody_looks_yet() -> None:
    reader = frames.FrameReader()
    packed = frames.with_length(b"\0{}")
    reader.feed(packed[:3])
    assert list(reader.feed(packed[3:])) == [b"\0{}"]


def test_a_frame_too_long_is_refused_by_its_length_alone() -> None:
    """P19."""
    reader = frames.FrameReader(bytes_max=10)
    assert list(reader.feed(frames.with_length(b"\0" + b"x" * 10))) == [b"\0" + b"x" * 10]
    with pytest.raises(LimitError):
        list(reader.feed((12).to_bytes(4, "big")))


@pytest.mark.parametrize("length", [1, 4, 6])
def test_a_body_that_breaks_off_inside_a_frame_is_noticed(length: int) -> None:
    """P6."""
    reader = frames.FrameReader()
    assert not list(reader.feed(frames.with_length(b"\0{}")[:length]))
    with pytest.raises(ProtocolError) as caught:
        reader.close()
    assert caught.value.code == "cut_short"


def test_a_message_of_a_socket_is_one_frame_or_a_bundle_of_them() -> None:
    packed = [frames.pack(frames.dump({"t": "x", "n": number, "pad": "é" * 2000}), frames.GZIP) for number in range(5)]
    assert frames.unbundle(frames.bundle(packed)) == packed
    assert frames.unbundle(packed[0]) == packed[:1]
    assert frames.unbundle(frames.bundle([])) == []


@pytest.mark.parametrize("cut", [1, 4, 30])
def test_a_bundle_that_is_cut_short_is_refused(cut: int) -> None:
    """P19."""
    packed = frames.bundle([frames.pack(b'{"t":"commit"}', frames.PLAIN)] * 3)
    with pytest.raises(ProtocolError):
        frames.unbundle(packed[:-cut])


def test_a_bundle_above_the_limit_is_refused_before_it_is_cut_up() -> None:
    """P19."""
    with pytest.raises(LimitError):
        frames.unbundle(frames.bundle([b"\0" + bytes(2000)]), 1000)
