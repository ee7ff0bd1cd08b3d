"""The canonical text form of dates, times, UUIDs and decimals on a replica, and the other usual forms of the same.

Canonical: `2026-11-22`, `20:31:05.123456`, `2026-11-22 20:31:05.123456` (with a zone: in UTC, without a suffix), UUIDs
with dashes and in lower case, decimals with all their digits and without an exponent. It is the form that SQLite's own
date functions, sqlite3, SQLAlchemy and Django read; text in it sorts as the values do. Each function takes a value as
some program wrote it, answers its canonical form, and raises ValueError for what is not of the type. Applying one twice
changes nothing.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal, InvalidOperation

_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_TIME = re.compile(r"(\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?", re.ASCII)
_ZONE = re.compile(r"(?:[zZ]|([+-])(\d\d):?(\d\d)?(?::?(\d\d))?)$", re.ASCII)
DECIMAL_PLACES_MAX = 131_072
"""Before or after the point, as in PostgreSQL: `1E999999999` would be a gigabyte of digits."""

_UUID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_UUID_FORM = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


def date_form(value: object) -> str:
    """`2026-11-22`. A timestamp at midnight is a date too: some programs write dates so."""
    if isinstance(value, datetime):
        return _date_of(value)
    if isinstance(value, date):
        return value.isoformat()
    text = _text(value, "date")
    return _date_of(_parse(text)) if len(text) > 10 else _parse_date(text).isoformat()


def time_form(value: object) -> str:
    """`20:31:05.123456`, a time of day without a zone."""
    found = value if isinstance(value, time) else _parse_time(_text(value, "time"))
    if found.tzinfo is not None:
        raise ValueError("a time of day with a zone")
    return found.strftime("%H:%M:%S.%f")


def timestamp_form(value: object) -> str:
    """`2026-11-22 20:31:05.123456`, without a zone: a zone that the value names is an error."""
    found = _moment(value)
    if found.tzinfo is not None:
        raise ValueError("a timestamp with a zone, where one without is due")
    return _timestamp(found)


def instant_form(value: object) -> str:
    """`2026-11-22 20:31:05.123456` in UTC; what names no zone is in UTC already."""
    found = _moment(value)
    if found.tzinfo is None:
        return _timestamp(found)
    try:
        return _timestamp(found.astimezone(UTC).replace(tzinfo=None))
    except OverflowError as error:
        raise ValueError("a timestamp outside the years 1 to 9999 in UTC") from error


def uuid_form(value: object) -> str:
    """With dashes, in lower case; read from 32 hex digits, braces, `urn:uuid:`, 16 bytes and `uuid.UUID`."""
    if type(value) is str and _UUID_FORM.fullmatch(value):
        return value
    if isinstance(value, bytes):
        digits = value.hex()
    else:
        hexadecimal = getattr(value, "hex", None)
        text = hexadecimal if isinstance(hexadecimal, str) else _text(value, "UUID")
        digits = text.strip().lower().removeprefix("urn:uuid:").strip("{}").replace("-", "")
    if not _UUID.fullmatch(digits):
        raise ValueError("a UUID is not of 32 hex digits")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def decimal_form(value: object) -> str:
    """All digits, trailing zeros too, no exponent: `1.50`, `-0.001`, `NaN`."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise ValueError("not a number")
    try:
        number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    except InvalidOperation as error:
        raise ValueError("not a number") from error
    if not number.is_finite():
        return str(number)
    if abs(number.adjusted()) > DECIMAL_PLACES_MAX:
        raise ValueError("a number of more digits than any database holds")
    return format(number, "f")


# ---------------------------------------------------------------- reading
def _text(value: object, kind: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a {kind} is text, not {type(value).__name__}")
    return value.strip()


def _moment(value: object) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    return _parse(_text(value, "timestamp"))


def _parse(text: str) -> datetime:
    """A date, then perhaps `T` or spaces, a time and a zone."""
    day = _parse_date(text[:10])
    rest = text[10:]
    if not rest:
        return datetime(day.year, day.month, day.day)
    if rest[0] not in "Tt ":
        raise ValueError("between date and time stands neither a space nor a T")
    clock = rest[1:].strip()
    zone: timezone | None = None
    found = _ZONE.search(clock)
    if found:
        zone = _zone(found)
        clock = clock[: found.start()].strip()
    moment = _parse_time(clock)
    return datetime.combine(day, moment, tzinfo=zone)


def _zone(found: re.Match[str]) -> timezone:
    sign, hours, minutes, seconds = found.groups()
    if sign is None:
        return UTC
    ahead = timedelta(hours=int(hours), minutes=int(minutes or 0), seconds=int(seconds or 0))
    return timezone(-ahead if sign == "-" else ahead)


def _parse_date(text: str) -> date:
    found = _DATE.fullmatch(text)
    if not found:
        raise ValueError("not a date of the form 2026-11-22")
    return date(*(int(part) for part in found.groups()))


def _parse_time(text: str) -> time:
    found = _TIME.fullmatch(text)
    if not found:
        raise ValueError("not a time of the form 20:31:05.123456")
    hours, minutes, seconds, fraction = found.groups()
    return time(int(hours), int(minutes), int(seconds or 0), int((fraction or "0")[:6].ljust(6, "0")))


# ---------------------------------------------------------------- writing
def _timestamp(value: datetime) -> str:
    return f"{value.year:04d}-{value:%m-%d %H:%M:%S.%f}"


def _date_of(value: datetime) -> str:
    if value.timetz() != time(0):
        raise ValueError("a timestamp, where a date is due")
    return value.date().isoformat()
