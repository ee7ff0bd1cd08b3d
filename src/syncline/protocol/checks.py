"""Reading fields of a message that nobody vouches for."""

from __future__ import annotations

from typing import Any

from syncline import limits
from syncline.errors import LimitError, ProtocolError


def bad(field: str, what: str) -> ProtocolError:
    return ProtocolError(f'Field "{field}" {what}.', code="bad_field")


def text(message: dict[str, Any], field: str, length_max: int = limits.IDENTIFIER_CHARACTERS_MAX) -> str:
    value = message.get(field)
    if type(value) is not str:
        raise bad(field, "is not text")
    if len(value) > length_max:
        raise LimitError(f'Field "{field}" is longer than {length_max} characters.')
    return value


def optional_text(
    message: dict[str, Any], field: str, length_max: int = limits.IDENTIFIER_CHARACTERS_MAX
) -> str | None:
    return None if message.get(field) is None else text(message, field, length_max)


def integer(message: dict[str, Any], field: str, minimum: int = 0, maximum: int = 2**53) -> int:
    value = message.get(field)
    if type(value) is not int or not minimum <= value <= maximum:
        raise bad(field, f"is not an integer from {minimum} to {maximum}")
    return value


def optional_integer(message: dict[str, Any], field: str, minimum: int = 0, maximum: int = 2**53) -> int | None:
    return None if message.get(field) is None else integer(message, field, minimum, maximum)


def wall(message: dict[str, Any], field: str) -> int:
    """A device's raw clock, or how far it is off (µs). A clock that shows the year 9999 must not keep work back."""
    return integer(message, field, minimum=-(2**62), maximum=2**62)


def boolean(message: dict[str, Any], field: str) -> bool:
    value = message.get(field, False)
    if type(value) is not bool:
        raise bad(field, "is not true or false")
    return value


def items(message: dict[str, Any], field: str, count_max: int) -> list[Any]:
    value = message.get(field)
    if type(value) is not list:
        raise bad(field, "is not a list")
    if len(value) > count_max:
        raise LimitError(f'Field "{field}" has more than {count_max} items.')
    return value


def texts(message: dict[str, Any], field: str, count_max: int, length_max: int = 2_000) -> list[str]:
    found = items(message, field, count_max)
    for value in found:
        if type(value) is not str or len(value) > length_max:
            raise bad(field, f"holds something that is not text of at most {length_max} characters")
    return found


def said(message: dict[str, Any], field: str, default: str, length_max: int = 1_000) -> str:
    """What the other side says of an error, for a person to read: text, and not too much of it."""
    value = message.get(field)
    return value[:length_max] if type(value) is str and value else default


def seconds(value: Any) -> float | None:
    """A time to wait; None where it is none."""
    return float(value) if type(value) in (int, float) and 0 <= value <= 1e9 else None
