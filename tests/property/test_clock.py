"""Stamps hold under clocks that are wrong by any amount and jump while one looks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syncline.clock import SECOND, evaluate_offset, evaluate_sample, evaluate_stamp
from syncline.limits import CLOCK_TRAVEL_SECONDS_MAX

TRAVEL_MAX = int(CLOCK_TRAVEL_SECONDS_MAX * SECOND)

walls = st.integers(-(2**62), 2**62)
times = st.integers(0, 2**53)
delays = st.integers(0, TRAVEL_MAX)


@given(walls, times, delays, delays, delays)
def test_the_measured_offset_is_wrong_by_half_the_round_trip_at_most(
    skew: int, sent: int, there: int, work: int, back: int
) -> None:
    """P17. `skew` is how far the device's clock is ahead."""
    received, answered = sent + there, sent + there + work
    sample = evaluate_sample(sent + skew, received, answered, answered + back + skew)
    assert sample.round_trip_us == there + back
    assert abs(sample.offset_us + skew) <= (sample.round_trip_us + 1) // 2


@given(st.none() | walls, walls, times)
def test_no_edit_made_before_it_was_sent_lands_in_the_future(claimed: int | None, device_now: int, now: int) -> None:
    """P17."""
    assert device_now + evaluate_offset(claimed, device_now, now) <= now


@given(walls, times, delays)
def test_a_true_measurement_gives_edits_their_true_time(skew: int, now: int, travel: int) -> None:
    """P17."""
    assert evaluate_offset(-skew, device_now_us=now - travel + skew, server_now_us=now) == -skew


@given(st.none() | walls, walls, times, delays)
def test_any_offset_is_wrong_by_the_journey_allowed_at_most(
    claimed: int | None, skew: int, now: int, travel: int
) -> None:
    """P17: whatever a device claims, and however its clock jumped since."""
    offset = evaluate_offset(claimed, device_now_us=now - travel + skew, server_now_us=now)
    assert abs(offset + skew) <= TRAVEL_MAX


@given(walls, walls, times, times, times)
def test_a_stamp_is_after_its_predecessor_and_all_that_was_seen_and_not_in_the_future(
    wall: int, offset: int, seen: int, previous: int, now: int
) -> None:
    """P12, P17."""
    stamp = evaluate_stamp(wall, offset, seen, previous, now)
    assert stamp > previous
    assert stamp > min(seen, now)
    assert stamp <= max(now, min(seen, now) + 1, previous + 1)


@given(st.lists(st.tuples(walls, st.none() | walls, delays, times), min_size=1, max_size=20), times)
def test_a_devices_edits_keep_their_order_whatever_its_clock_does(
    edits: list[tuple[int, int | None, int, int]], start: int
) -> None:
    """P12, P17: a batch's stamps rise, and run ahead of the server by a microsecond an edit at most."""
    now, previous, given_out = start, 0, []
    for wall, claimed, passed, seen in edits:
        now += passed
        previous = evaluate_stamp(wall, evaluate_offset(claimed, wall, now), seen, previous, now)
        given_out.append(previous)
        assert previous <= now + len(given_out)
    assert given_out == sorted(set(given_out))


@given(walls, walls, times, delays)
def test_an_answer_is_stamped_after_what_it_answers(wall: int, offset: int, written: int, passed: int) -> None:
    """P11: the cut that showed it was taken at or after its stamp, by the same clock that stamps the answer."""
    cut = written + passed
    assert evaluate_stamp(wall, offset, seen_us=cut, previous_us=0, now_us=cut) > written
