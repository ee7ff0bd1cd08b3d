"""Values on the wire (docs/protocol.md, "Values")."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from syncline.errors import ProtocolError
from syncline.values import RawText, Value, decode_row, decode_value, encode_row, encode_value, key_of_text, same


def exact(value: Value) -> tuple[type, str]:
    """What tells any two database values apart: 1 and 1.0, 0.0 and -0.0, a BLOB and text of the same bytes."""
    return type(value), repr(value)


WIRE: list[tuple[Value, Any]] = [
    (None, None),
    ("", ""),
    ("Zoë 🩺", "Zoë 🩺"),
    ("a\0b", "a\0b"),
    (0, 0),
    (2**53, 2**53),
    (-(2**53), -(2**53)),
    (2**53 + 1, ["i", "9007199254740993"]),
    (2**63 - 1, ["i", "9223372036854775807"]),
    (-(2**63), ["i", "-9223372036854775808"]),
    (0.1, 0.1),
    (5e-324, 5e-324),
    (1.0, ["f", "1.0"]),
    (0.0, ["f", "0.0"]),
    (-0.0, ["f", "-0.0"]),
    (1e300, ["f", "1e+300"]),
    (math.inf, ["f", "inf"]),
    (-math.inf, ["f", "-inf"]),
    (b"", ["b", ""]),
    (b"\x00\xff", ["b", "AP8="]),
    (RawText(b"\xff"), ["t", "/w=="]),
]


@pytest.mark.parametrize(("value", "wire"), WIRE, ids=[repr(value) for value, _ in WIRE])
def test_a_value_has_one_form_on_the_wire_and_comes_back_exactly(value: Value, wire: Any) -> None:
    """P16."""
    assert encode_value(value) == wire
    assert type(encode_value(value)) is type(wire)
    assert exact(decode_value(json.loads(json.dumps(wire)))) == exact(value)


HOSTILE: list[Any] = [
    True,
    {},
    [],
    ["i"],
    ["i", 5],
    ["i", "5", "5"],
    ["x", "5"],
    [None, "5"],
    [["i"], "5"],
    2**53 + 1,
    -(2**53) - 1,
    math.inf,
    math.nan,
    ["i", ""],
    ["i", "9223372036854775808"],
    ["i", "-9223372036854775809"],
    ["i", "9" * 5_000],
    ["i", " 5"],
    ["i", "+5"],
    ["i", "1_0"],
    ["i", "٣"],
    ["i", "-0"],
    ["f", ""],
    ["f", "nan"],
    ["f", "1_0.0"],
    ["f", "Infinity"],
    ["f", "1e999"],
    ["f", "٣.0"],
    ["f", "0x1p3"],
    ["b", "A"],
    ["b", "AP9="],
    ["b", "AP8=\n"],
    ["b", "é"],
    ["t", "-_8="],
]


@pytest.mark.parametrize("encoded", HOSTILE, ids=[repr(encoded)[:30] for encoded in HOSTILE])
def test_what_no_peer_writes_is_refused(encoded: Any) -> None:
    """P19."""
    with pytest.raises(ProtocolError) as caught:
        decode_value(encoded)
    assert caught.value.code == "bad_value"


@pytest.mark.parametrize("value", [math.nan, 2**63, -(2**63) - 1, True, {}, object()])
def test_what_no_database_holds_is_not_encoded(value: Any) -> None:
    with pytest.raises(TypeError):
        encode_value(value)


def test_text_that_is_utf8_after_all_is_text() -> None:
    """P8: a key in a second spelling must not count as another key."""
    assert exact(decode_value(["t", "cC0x"])) == exact("p-1")


def test_bytes_of_any_kind_are_blobs() -> None:
    assert encode_value(bytearray(b"\x00")) == encode_value(memoryview(b"\x00")) == ["b", "AA=="]  # type: ignore[arg-type]


def test_a_row_is_compact_json_in_which_text_stays_readable() -> None:
    assert encode_row((1, "Zoë", None, b"\x00")) == '[1,"Zoë",null,["b","AA=="]]'


@pytest.mark.parametrize("encoded", [None, {}, "text", (1,)])
def test_a_row_that_is_not_a_list_is_refused(encoded: Any) -> None:
    with pytest.raises(ProtocolError):
        decode_row(encoded)


@pytest.mark.parametrize(
    ("a", "b"), [(1, 1.0), (0.0, -0.0), ("Anna", "anna"), ("a", b"a"), (b"\xff", RawText(b"\xff")), (None, "")]
)
def test_values_that_sql_may_call_equal_differ(a: Value, b: Value) -> None:
    assert not same(a, b)
    assert same(a, a)


@pytest.mark.parametrize("text", ["", "{}", "[", "nonsense", "[NaN]", "[" * 100_000, "[" + "1" * 5_000 + "]", "[true]"])
def test_a_key_text_that_is_none_is_a_protocol_error(text: str) -> None:
    """P19."""
    with pytest.raises(ProtocolError):
        key_of_text(text)
