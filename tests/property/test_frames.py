"""Frames: what is packed comes back; what was damaged on the way is refused and does nothing else."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from syncline.errors import ProtocolError
from syncline.protocol import frames

QUICK = settings(deadline=None, max_examples=300)

packings = st.sampled_from([frames.PLAIN, frames.GZIP, frames.ZSTD])
contents = st.one_of(
    st.binary(max_size=3_000),
    st.builds(lambda piece, times: piece * times, st.binary(min_size=1, max_size=20), st.integers(60, 2_000)),
)


@QUICK
@given(contents, packings)
def test_whatever_is_packed_comes_back_and_is_not_longer(frame: bytes, packing: int) -> None:
    packed = frames.pack(frame, packing)
    assert frames.unpack(packed) == frame
    assert len(packed) <= len(frame) + 1


@QUICK
@given(contents, packings, st.data())
def test_a_damaged_frame_raises_nothing_but_a_protocol_error(frame: bytes, packing: int, data: st.DataObject) -> None:
    """P19."""
    packed = bytearray(frames.pack(frame, packing))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(packed)))
        packed[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        plain = frames.unpack(bytes(packed), bytes_max=100_000)
        assert len(plain) <= 100_000
        frames.load(plain)
    except ProtocolError:
        pass


@QUICK
@given(st.sampled_from(range(256)), st.binary(max_size=200))
def test_noise_raises_nothing_but_a_protocol_error(packing: int, body: bytes) -> None:
    """P19."""
    try:
        frames.load(frames.unpack(bytes([packing]) + body))
    except ProtocolError:
        pass


@QUICK
@given(st.lists(st.binary(max_size=40), max_size=8), st.data())
def test_a_body_gives_the_same_frames_at_any_split(packed: list[bytes], data: st.DataObject) -> None:
    body = b"".join(frames.with_length(frame) for frame in packed)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=10)))
    reader = frames.FrameReader()
    found: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
        found += reader.feed(body[start:end])
    reader.close()
    assert found == packed


@QUICK
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=5), st.data())
def test_a_body_cut_anywhere_gives_whole_frames_only(packed: list[bytes], data: st.DataObject) -> None:
    """P6."""
    body = b"".join(frames.with_length(frame) for frame in packed)
    length = data.draw(st.integers(0, len(body) - 1))
    reader = frames.FrameReader()
    found = list(reader.feed(body[:length]))
    assert found == packed[: len(found)]
    kept = sum(4 + len(frame) for frame in found)
    if kept == length:
        reader.close()
    else:
        try:
            reader.close()
        except ProtocolError:
            return
        raise AssertionError("a torn body passed for a whole one")
