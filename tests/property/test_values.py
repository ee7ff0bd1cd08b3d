"""Values: whatever a database holds comes back, and whatever a peer sends does no harm."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from syncline.errors import ProtocolError
from syncline.protocol import frames
from syncline.values import (
    RawText,
    Value,
    decode_row,
    decode_value,
    encode_row,
    encode_value,
    key_of_text,
    key_text,
    same,
)

QUICK = settings(deadline=None, max_examples=300)


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def exact(value: Value) -> tuple[type, str]:
    return type(value), repr(value)


raw_texts = st.binary(min_size=1).filter(lambda data: not is_utf8(data)).map(RawText)
numbers = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.sampled_from([2**53, 2**53 + 1, 2**63 - 1, -(2**63), 0, 0.0, -0.0, 1.0, math.inf, -math.inf, 2.0**53, 5e-324]),
)
values: st.SearchStrategy[Value] = st.one_of(st.none(), numbers, st.text(), st.just("a\0b"), st.binary(), raw_texts)
rows = st.lists(values, max_size=8).map(tuple)

plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text())
tagged = st.tuples(
    st.sampled_from("ifbtx"),
    st.one_of(st.text(max_size=12), st.text("0123456789.-+e_ infa/=A", max_size=24), numbers.map(str)),
).map(list)
junk = st.recursive(
    st.one_of(plain, tagged),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=4)),
    max_leaves=10,
)


@QUICK
@given(rows)
def test_every_row_survives_the_wire_exactly(row: tuple[Value, ...]) -> None:
    """P16."""
    frame = frames.load(frames.dump({"row": [encode_value(value) for value in row]}))
    assert [exact(value) for value in decode_row(frame["row"])] == [exact(value) for value in row]
    assert [exact(value) for value in key_of_text(key_text(row))] == [exact(value) for value in row]


@QUICK
@given(junk)
def test_hostile_input_is_refused_or_is_a_database_value(encoded: Any) -> None:
    """P19."""
    try:
        value = decode_value(encoded)
    except ProtocolError:
        return
    assert type(value) in (type(None), int, float, str, bytes, RawText)
    assert type(value) is not RawText or not is_utf8(value)
    assert exact(decode_value(json.loads(json.dumps(encode_value(value))))) == exact(value)


@QUICK
@given(st.text() | st.text('[]"if,0123456789.e', max_size=30))
def test_a_key_text_never_raises_anything_else(text: str) -> None:
    """P19."""
    try:
        key_of_text(text)
    except ProtocolError:
        pass


@QUICK
@given(values, values)
def test_two_values_are_the_same_only_if_nothing_tells_them_apart(a: Value, b: Value) -> None:
    assert same(a, b) == (exact(a) == exact(b))
    assert same(a, a)


@QUICK
@given(rows, rows)
def test_two_rows_have_one_text_only_if_they_are_one_row(a: tuple[Value, ...], b: tuple[Value, ...]) -> None:
    assert (encode_row(a) == encode_row(b)) == ([exact(value) for value in a] == [exact(value) for value in b])
