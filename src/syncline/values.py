"""SQLite values on the wire, exactly.

Text is a JSON string, NULL is null, a JSON number without a fraction is an integer, any other number a float.
What JSON cannot carry exactly is a pair of a tag and a string:

    ["i", "9223372036854775807"]  an integer beyond 2^53
    ["f", "1.0"]                  a float that looks like an integer, or is infinite
    ["b", "AP8="]                 a BLOB, base64
    ["t", "/w=="]                 text that is not UTF-8, base64
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Iterable, Sequence
from json.encoder import encode_basestring
from typing import Any, TypeAlias

from syncline.errors import ProtocolError

INTEGER_EXACT_MAX = 2**53

_FLOAT_TEXT = re.compile(r"-?(?:inf|[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)")


class RawText(bytes):
    """Text in a database that is not valid UTF-8: its bytes."""


Value: TypeAlias = "int | float | str | bytes | None"
Row: TypeAlias = "tuple[Value, ...]"
Key: TypeAlias = "tuple[Value, ...]"


def encode_value(value: Value) -> Any:
    """A value as something `json.dumps` writes exactly."""
    if value is None or type(value) is str:
        return value
    if type(value) is int:
        if -INTEGER_EXACT_MAX <= value <= INTEGER_EXACT_MAX:
            return value
        if -(2**63) <= value < 2**63:
            return ["i", str(value)]
        raise TypeError("not a database value: an integer beyond 64 bits")
    if type(value) is float:
        if math.isnan(value):
            raise TypeError("not a database value: NaN")
        return ["f", repr(value)] if value.is_integer() or math.isinf(value) else value
    if isinstance(value, RawText):
        return ["t", base64.b64encode(value).decode()]
    if isinstance(value, bytes | bytearray | memoryview):
        return ["b", base64.b64encode(value).decode()]
    raise TypeError(f"not a database value: {type(value).__name__}")


def decode_value(encoded: Any) -> Value:
    """The inverse of `encode_value`, forgiving only of a needless tag; ProtocolError for anything else."""
    if encoded is None or type(encoded) in (str, int, float):
        if type(encoded) is int and not -INTEGER_EXACT_MAX <= encoded <= INTEGER_EXACT_MAX:
            raise ProtocolError("An integer beyond 2^53 came as a plain number.", code="bad_value")
        if type(encoded) is float and not math.isfinite(encoded):
            raise ProtocolError("A number that is not finite came as a plain number.", code="bad_value")
        return encoded  # type: ignore[no-any-return]
    if type(encoded) is list and len(encoded) == 2 and type(encoded[1]) is str:
        return _decode_tagged(encoded[0], encoded[1])
    raise ProtocolError("A value is neither null, string, number nor a tagged pair.", code="bad_value")


def _decode_tagged(tag: Any, text: str) -> Value:
    """One spelling per value: what int(), float() and b64decode() also take ("1_0", " 5", stray bits) is refused."""
    try:
        if tag == "i":
            number = int(text) if len(text) <= 20 else 2**64
            if -(2**63) <= number < 2**63 and str(number) == text:
                return number
        elif tag == "f" and _FLOAT_TEXT.fullmatch(text):
            real = float(text)
            if not math.isinf(real) or text in ("inf", "-inf"):
                return real
        elif tag in ("b", "t"):
            data = base64.b64decode(text, validate=True)
            if base64.b64encode(data).decode() == text:
                return data if tag == "b" else _text_or_raw(data)
    except (ValueError, binascii.Error):
        pass
    raise ProtocolError("A tagged value does not decode.", code="bad_value")


def _text_or_raw(data: bytes) -> str | RawText:
    """Text that is UTF-8 after all has one form only; else two keys that the database calls equal would differ here."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return RawText(data)


def encode_row(row: Iterable[Value]) -> str:
    """A row as canonical JSON text: what `row_state` stores and frames carry.

    Written out by hand, for every image and key passes here: three times as fast as `json.dumps` of `encode_value`.
    """
    return f"[{','.join([_encode_text(value) for value in row])}]"


def _encode_text(value: Value) -> str:
    if type(value) is str:
        return encode_basestring(value)
    if value is None:
        return "null"
    if type(value) is int and -INTEGER_EXACT_MAX <= value <= INTEGER_EXACT_MAX:
        return str(value)
    return json.dumps(encode_value(value), separators=(",", ":"))


def decode_row(encoded: Sequence[Any]) -> Row:
    if type(encoded) is not list:
        raise ProtocolError("A row is not a list.", code="bad_value")
    return tuple([decode_value(value) for value in encoded])


def same(a: Value, b: Value) -> bool:
    """Equal by canonical encoding: 1 and 1.0 differ, 'Anna' and 'anna' differ, 0.0 and -0.0 differ."""
    if type(a) is str and type(b) is str:
        return a == b
    return bool(encode_value(a) == encode_value(b))


key_text = encode_row
"""A key as canonical text, as `entry` and `row_state` hold it."""


def key_of_text(text: str) -> Key:
    """The inverse of `key_text`; ProtocolError for anything else."""
    try:
        return decode_row(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise ProtocolError("A key is not JSON.", code="bad_value") from error
