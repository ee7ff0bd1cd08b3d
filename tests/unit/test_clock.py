"""True time: offsets and stamps (PROTOCOL_MODEL rule 10)."""

from __future__ import annotations

import pytest

from syncline.clock import SECOND, CallableClock, ClockSample, evaluate_offset, evaluate_sample, evaluate_stamp
from syncline.limits import CLOCK_TRAVEL_SECONDS_MAX

HOUR = 3600 * SECOND
TRAVEL_MAX = int(CLOCK_TRAVEL_SECONDS_MAX * SECOND)


def test_a_clock_is_made_of_two_functions() -> None:
    clock = CallableClock(wall=lambda: 5, steady=lambda: 1.5)
    assert (clock.now_us(), clock.monotonic_seconds()) == (5, 1.5)


def test_the_four_time_stamps_give_offset_and_round_trip() -> None:
    """An hour slow; 30 ms there, 10 ms work, 30 ms back."""
    sent, received = 0, HOUR + 30_000
    answered, arrived = received + 10_000, 70_000
    assert evaluate_sample(sent, received, answered, arrived) == ClockSample(HOUR, 60_000)


def test_a_clock_set_back_during_the_exchange_gives_no_negative_round_trip() -> None:
    assert evaluate_sample(1000, 5, 6, 0).round_trip_us == 0


def test_a_measured_offset_is_believed_while_the_journey_it_means_is_possible() -> None:
    for travel in (0, 1, TRAVEL_MAX):
        assert evaluate_offset(HOUR, device_now_us=0, server_now_us=HOUR + travel) == HOUR


@pytest.mark.parametrize("jump", [-10 * 365 * 24 * HOUR, -HOUR, HOUR, 10 * 365 * 24 * HOUR])
def test_a_clock_that_was_set_since_it_was_measured_is_measured_on_arrival(jump: int) -> None:
    """P17."""
    assert evaluate_offset(0, device_now_us=jump, server_now_us=50_000) == 50_000 - jump


def test_without_a_measurement_the_offset_is_that_on_arrival() -> None:
    assert evaluate_offset(None, device_now_us=7, server_now_us=HOUR) == HOUR - 7


def test_an_ordinary_edit_is_stamped_with_its_true_time() -> None:
    assert evaluate_stamp(wall_us=1_000, offset_us=500, seen_us=10, previous_us=20, now_us=9_000) == 1_500


def test_an_edit_from_the_future_is_stamped_now() -> None:
    """P17."""
    assert evaluate_stamp(wall_us=HOUR, offset_us=HOUR, seen_us=10, previous_us=20, now_us=9_000) == 9_000


def test_an_edit_by_a_slow_clock_is_after_all_it_had_seen() -> None:
    """P11."""
    assert evaluate_stamp(wall_us=-HOUR, offset_us=0, seen_us=8_000, previous_us=20, now_us=9_000) == 8_001


def test_an_edit_after_the_clock_was_set_back_is_after_its_predecessor() -> None:
    """P12."""
    assert evaluate_stamp(wall_us=-HOUR, offset_us=0, seen_us=10, previous_us=8_000, now_us=9_000) == 8_001


def test_having_seen_the_future_is_not_believed() -> None:
    """P12, P19: one forged `seen` would otherwise win every conflict for ever."""
    assert evaluate_stamp(wall_us=0, offset_us=0, seen_us=2**53, previous_us=20, now_us=9_000) == 9_001
