"""Images of many rows at once say exactly what the image of each row alone says."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncline.source import images
from syncline.values import RawText, Row, Value, decode_row, encode_row

INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([2**53, 2**53 + 1, -(2**53), -(2**53) - 1])
VALUES = st.one_of(
    st.none(),
    st.text(),
    st.sampled_from(['"', "\\", "\n", "\x00", "\x7f", "\u2028", "é", "😀"]),
    INTEGERS,
    st.floats(allow_nan=False),
    st.sampled_from([1.0, -0.0, 1e300, 5e-324, math.inf]),
    st.binary(max_size=20),
    st.just(RawText(b"\xff")),
)


@given(st.integers(1, 4).flatmap(lambda width: st.lists(st.tuples(*[VALUES] * width), min_size=1, max_size=6)))
def test_many_rows_say_what_each_alone_says(rows: list[Row]) -> None:
    told = [decode_row(row) for row in json.loads(b"[%b]" % images.encode_rows(rows))]
    alone = [decode_row(json.loads(encode_row(row))) for row in rows]
    assert [[_exactly(value) for value in row] for row in told] == [[_exactly(value) for value in row] for row in alone]


def _exactly(value: Value) -> tuple[str, str]:
    return type(value).__name__, repr(value)


def test_without_msgspec_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Row] = [("a", 1, 2.5, None), ("b", 2**60, 3.0, b"\x00")]
    fast = json.loads(b"[%b]" % images.encode_rows(rows))
    monkeypatch.setattr(images, "_encoder", None)
    assert json.loads(b"[%b]" % images.encode_rows(rows)) == fast
