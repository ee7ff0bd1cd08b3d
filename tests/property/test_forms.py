"""Canonical forms: one text per value, whatever form it was written in."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncline.model import forms

zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 12, 31))
numbers = st.decimals(allow_nan=False, allow_infinity=False, places=None).filter(
    lambda number: abs(number.adjusted()) <= forms.DECIMAL_PLACES_MAX
)


@given(moments)
def test_a_timestamp_has_one_form_however_it_was_written(moment: datetime) -> None:
    canonical = forms.timestamp_form(moment)
    assert canonical == f"{moment.year:04d}" + moment.strftime("-%m-%d %H:%M:%S.%f")
    assert datetime.fromisoformat(canonical) == moment
    for written in (moment, str(moment), moment.isoformat(), moment.isoformat(" ", "microseconds"), canonical):
        assert forms.timestamp_form(written) == canonical


@given(st.datetimes(min_value=datetime(3, 1, 1), max_value=datetime(9997, 1, 1), timezones=zones))
def test_an_instant_is_utc_whatever_the_zone(moment: datetime) -> None:
    canonical = forms.instant_form(moment)
    in_utc = moment.astimezone(UTC)
    for written in (moment.isoformat(), in_utc, str(in_utc), in_utc.isoformat().replace("+00:00", "Z"), canonical):
        assert forms.instant_form(written) == canonical
    assert datetime.fromisoformat(canonical).replace(tzinfo=UTC) == moment


@given(moments, moments)
def test_timestamps_sort_as_their_texts(one: datetime, other: datetime) -> None:
    assert (one < other) == (forms.timestamp_form(one) < forms.timestamp_form(other))


@given(st.dates())
def test_a_date_has_one_form(day: date) -> None:
    canonical = forms.date_form(day)
    assert canonical == day.isoformat() == forms.date_form(f"{canonical} 00:00:00") == forms.date_form(canonical)
    assert forms.date_form(datetime(day.year, day.month, day.day)) == canonical


@given(st.times())
def test_a_time_has_one_form(moment: time) -> None:
    canonical = forms.time_form(moment)
    assert forms.time_form(canonical) == forms.time_form(moment.isoformat()) == canonical
    assert time.fromisoformat(canonical) == moment


@given(st.uuids())
def test_a_uuid_has_one_form(value: uuid.UUID) -> None:
    for written in (value, value.hex, value.hex.upper(), str(value).upper(), value.urn, f"{{{value}}}", value.bytes):
        assert forms.uuid_form(written) == str(value)


@given(numbers)
def test_a_decimal_keeps_every_digit_and_has_no_exponent(number: Decimal) -> None:
    canonical = forms.decimal_form(number)
    assert "E" not in canonical.upper()
    assert Decimal(canonical) == number
    assert forms.decimal_form(canonical) == canonical


@given(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False))
def test_plain_numbers_are_decimals_too(whole: int, real: float) -> None:
    assert int(forms.decimal_form(whole)) == whole
    assert float(forms.decimal_form(real)) == real


@pytest.mark.parametrize(
    ("form", "value"),
    [
        (forms.date_form, "22.11.2026"),
        (forms.date_form, "2026-02-30"),
        (forms.date_form, "2026-11-22 01:00"),
        (forms.date_form, 20261122),
        (forms.time_form, "25:00"),
        (forms.time_form, time(1, tzinfo=UTC)),
        (forms.timestamp_form, "2026-11-22T20:31:05Z"),
        (forms.timestamp_form, "2026-11-22x20:31"),
        (forms.timestamp_form, "٢٠٢٦-11-22"),
        (forms.instant_form, "tomorrow"),
        (forms.instant_form, None),
        (forms.uuid_form, "1234"),
        (forms.uuid_form, b"1234"),
        (forms.decimal_form, "1,5"),
        (forms.decimal_form, True),
        (forms.decimal_form, b"1"),
        (forms.decimal_form, "1E999999999"),
        (forms.decimal_form, Decimal("1E-999999999")),
    ],
)
def test_what_is_not_of_the_type_is_refused(form: Callable[[object], str], value: object) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        form(value)
