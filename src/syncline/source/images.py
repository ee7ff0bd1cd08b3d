"""Rows as the JSON images that frames carry, many at a time.

`values.encode_row` is exact and canonical, one row at a time; feeds and keys need it. The rows of a page need to be
exact only, and there are a million of them: msgspec writes the columns whose values JSON carries as they are, five
times as fast, and only the other columns are encoded value by value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from syncline.values import INTEGER_EXACT_MAX, Row, Value, encode_row, encode_value

try:
    import msgspec
except ImportError:  # pragma: no cover - depends on the installation
    msgspec = None  # type: ignore[assignment]

_ALWAYS_PLAIN = {str, type(None)}
_encoder = msgspec.json.Encoder() if msgspec else None


def encode_rows(rows: Sequence[Row]) -> bytes:
    """Images with commas between them."""
    if _encoder is None:
        return ",".join([encode_row(row) for row in rows]).encode()
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
    told = [column if _is_plain(column) else [encode_value(value) for value in column] for column in columns]
    same = all(after is before for after, before in zip(told, columns, strict=True))
    return _encoder.encode(rows if same else list(zip(*told, strict=True)))[1:-1]


def _is_plain(column: Sequence[Value]) -> bool:
    """Whether JSON carries every value of it without a tag."""
    types = set(map(type, column))
    others = types - _ALWAYS_PLAIN
    if not others:
        return True
    if not others <= {int, float}:
        return False
    for kind in others:
        numbers: Any = column if len(types) == 1 else [value for value in column if type(value) is kind]
        if kind is int and (max(numbers) > INTEGER_EXACT_MAX or min(numbers) < -INTEGER_EXACT_MAX):
            return False
        if kind is float and (any(map(float.is_integer, numbers)) or not all(map(math.isfinite, numbers))):
            return False
    return True
