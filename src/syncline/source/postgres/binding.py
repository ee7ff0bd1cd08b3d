"""What devices write, made ready for PostgreSQL, without asking it.

Parameters are bound as text, which PostgreSQL reads with the type's own input function, and bytea as bytes. A value
that cannot be of the type is refused here: a statement of a hundred rows does not fail for it.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Final, TypeAlias

from syncline.model import forms
from syncline.source.postgres.arrays import array_literal
from syncline.values import RawText, Value


class Unknown(enum.Enum):
    """Only the database can tell."""

    UNKNOWN = "unknown"


UNKNOWN: Final = Unknown.UNKNOWN

INTEGER_BITS = {"smallint": 16, "integer": 32, "bigint": 64}
_TRUE = {"1", "t", "true", "y", "yes", "on"}
_FALSE = {"0", "f", "false", "n", "no", "off"}
_INTEGER = re.compile(r"[+-]?\d+(?:\.0*)?", re.ASCII)
_FLOATS = {"nan": "NaN", "inf": "Infinity", "infinity": "Infinity", "-inf": "-Infinity", "-infinity": "-Infinity"}
_FLOAT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_UTC_SUFFIX = re.compile(r"(?:[zZ]|[+-]00(?::?00)?)$", re.ASCII)
_ZONE_SUFFIX = re.compile(r"\d:\d\d(?::[\d.,]+)?\s*[+-]\d\d(?::?\d\d)*$", re.ASCII)
_SCALED = re.compile(r"\((\d+),(-?\d+)\)$", re.ASCII)
_LENGTH = re.compile(r"\((\d+)\)$", re.ASCII)
_FINER = re.compile(r"[.,]\d{7}", re.ASCII)
_DIGITS = Context(prec=300_000)
_REAL_DIGITS = 6
_REAL_LEAST, _REAL_MOST = 1.2e-38, 3.4e38
_Back: TypeAlias = "Callable[[str, Value], Value | Unknown]"


def bind(kind: str, value: Value) -> str | bytes | None:
    """ValueError where the value cannot be of the kind."""
    if value is None:
        return None
    if kind == "bytes":
        if isinstance(value, bytes) and not isinstance(value, RawText):
            return value
        raise ValueError("bytes are due, and text or a number came")
    if kind.endswith("[]"):
        return array_literal(_text(value), _BINDERS.get(kind[:-2], _text))
    return _BINDERS.get(kind, _text)(value)


def canonical(kind: str, base: str, value: Value) -> Value | Unknown:
    """What the source would give back, if it takes the value at all. `base`: the type with its length or scale."""
    if value is None:
        return None
    decide = _CANONICAL.get(kind)
    if decide is None:
        return UNKNOWN
    try:
        bind(kind, value)
        return decide(base, value)
    except ValueError:
        return UNKNOWN


# ---------------------------------------------------------------- as parameters
def _text(value: Value) -> str:
    if isinstance(value, bytes):
        raise ValueError("text is due, and bytes came")
    if isinstance(value, float):
        return _float_text(value)
    text = str(value)
    if "\0" in text:
        raise ValueError("PostgreSQL's text holds no character 0")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("half of a surrogate pair is no text") from error
    return text


def _integer_text(kind: str) -> Callable[[Value], str]:
    bits = INTEGER_BITS.get(kind)
    least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if bits else (0, 2**32 - 1)

    def bound(value: Value) -> str:
        if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
            number = int(value)
        elif isinstance(value, str) and len(value) <= 40 and _INTEGER.fullmatch(value.strip()):
            number = int(value.strip().partition(".")[0])
        else:
            raise ValueError("a whole number is due")
        if not least <= number <= most:
            raise ValueError(f"a whole number from {least} to {most} is due")
        return str(number)

    return bound


def _boolean_text(value: Value) -> str:
    text = str(int(value)) if isinstance(value, int | float) and value in (0, 1) else str(value).strip().lower()
    if text in _TRUE | _FALSE:
        return "true" if text in _TRUE else "false"
    raise ValueError("a boolean is 0 or 1")


def _float_text(value: Value) -> str:
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in _FLOATS:
            return _FLOATS[text.lower()]
        if not _FLOAT.fullmatch(text):
            raise ValueError("a number is due")
        return text
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, float):
        raise ValueError("a number is due")
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value)


def _number_text(value: Value) -> str:
    if isinstance(value, str):
        value = value.strip()
        if value.lower() in _FLOATS:
            return _FLOATS[value.lower()]
        if not _FLOAT.fullmatch(value):
            raise ValueError("a number is due")
    if isinstance(value, float) and not math.isfinite(value):
        return _float_text(value)
    text = forms.decimal_form(value)
    return text[1:] if text.startswith("-") and not text.strip("-0.") else text


def _timestamp_text(value: Value) -> str:
    """PostgreSQL drops a zone that it is given, whatever it is."""
    text = _text(value).strip()
    if _ZONE_SUFFIX.search(text) and not _UTC_SUFFIX.search(text):
        raise ValueError("a timestamp without a zone is due, or one in UTC")
    return text


_BINDERS: dict[str, Callable[[Value], str]] = {
    "smallint": _integer_text("smallint"),
    "integer": _integer_text("integer"),
    "bigint": _integer_text("bigint"),
    "oid": _integer_text("oid"),
    "boolean": _boolean_text,
    "real": _float_text,
    "double": _float_text,
    "numeric": _number_text,
    "trimmed": _number_text,
    "money": _number_text,
    "uuid": forms.uuid_form,
    "timestamp": _timestamp_text,
}


# ---------------------------------------------------------------- as the source gives them back
def trimmed(text: str) -> str:
    """The same number without zeros at the end of its fraction, as `trim_scale` leaves it."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def _integer_back(kind: str) -> _Back:
    return lambda base, value: int(_BINDERS[kind](value))


def _boolean_back(base: str, value: Value) -> Value | Unknown:
    return int(_boolean_text(value) == "true")


def _double_back(base: str, value: Value) -> Value | Unknown:
    number = float(_float_text(value))
    if math.isinf(number) and "inf" not in str(value).lower():
        return UNKNOWN
    return "NaN" if math.isnan(number) else number + 0.0  # -0 comes back as 0


def _real_back(base: str, value: Value) -> Value | Unknown:
    """Six digits come back from four bytes as they were."""
    number = _double_back(base, value)
    if not isinstance(number, float) or not number or math.isinf(number):
        return number
    keeps = float(f"{number:.{_REAL_DIGITS}g}") == number and _REAL_LEAST < abs(number) < _REAL_MOST
    return number if keeps else UNKNOWN


def _number_back(base: str, value: Value) -> Value | Unknown:
    text = _number_text(value)
    if text == "NaN":
        return text
    if "Inf" in text:
        return UNKNOWN
    found = _SCALED.search(base)
    if not found:
        return text
    scale = int(found[2])
    if scale < 0:
        return UNKNOWN
    return _number_text(format(Decimal(text).quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP, _DIGITS), "f"))


def _trimmed_back(base: str, value: Value) -> Value | Unknown:
    found = _number_back(base, value)
    return trimmed(found) if isinstance(found, str) else found


def _moment_back(form: Callable[[object], str], drops_zone: bool = False) -> _Back:
    def back(base: str, value: Value) -> Value | Unknown:
        text = _text(value).strip()
        if text.lower() in ("infinity", "-infinity"):
            return text.lower()
        if base.endswith(")") or _FINER.search(text):
            return UNKNOWN  # PostgreSQL rounds
        return form(_UTC_SUFFIX.sub("", text) if drops_zone else text)

    return back


def _text_back(base: str, value: Value) -> Value | Unknown:
    text, length = _text(value), _LENGTH.search(base)
    return UNKNOWN if length and len(text) > int(length[1]) else text


def _char_back(base: str, value: Value) -> Value | Unknown:
    return _text_back(base, _text(value).rstrip(" "))


def _as_it_is(base: str, value: Value) -> Value | Unknown:
    return value


_CANONICAL: dict[str, _Back] = {
    "smallint": _integer_back("smallint"),
    "integer": _integer_back("integer"),
    "bigint": _integer_back("bigint"),
    "oid": _integer_back("oid"),
    "boolean": _boolean_back,
    "real": _real_back,
    "double": _double_back,
    "numeric": _number_back,
    "trimmed": _trimmed_back,
    "text": _text_back,
    "char": _char_back,
    "enum": _text_back,
    "json": _text_back,
    "bits": _text_back,
    "bytes": _as_it_is,
    "uuid": lambda base, value: forms.uuid_form(value),
    "date": _moment_back(forms.date_form),
    "time": _moment_back(forms.time_form),
    "timestamp": _moment_back(forms.timestamp_form, drops_zone=True),
    "instant": _moment_back(forms.instant_form),
}
