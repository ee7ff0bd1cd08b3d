"""Neither an unsteady network nor a fleet that comes back at once makes a flood; and in the end all are in step."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.session_world import Device, World, most_in

from syncline.replica.session import Do, Event, Session, State

REQUESTS_A_MINUTE_MAX = 60
FLEET = 1000

CHANGES = ("down", "down untold", "up", "up untold", "moved", "postpone", "resume", "write")


def change(device: Device, what: str) -> None:
    """Something happens to the device; the operating system may fail to tell."""
    if what.startswith("down"):
        device.has_network = False
        if what == "down":
            device.feel(Event.OFFLINE)
    elif what.startswith("up"):
        device.has_network = True
        if what == "up":
            device.feel(Event.ONLINE)
    elif what == "write":
        device.left = True
        device.feel(Event.COMMIT)
    else:
        device.feel(Event(what))


def refusing(share: float, retry_after: float | None) -> Any:
    """A server that refuses some requests."""

    def answer(device: Device, do: Do) -> tuple[Event, dict[str, Any]] | None:
        return (Event.FAILED, {"retry_after": retry_after}) if device.rng.random() < share else None

    return answer


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.01, 8), st.sampled_from(CHANGES)), max_size=120),
    st.sampled_from((0.0, 0.2, 0.9)),
    st.sampled_from((None, 1.0, 30.0)),
    st.integers(0, 2**16),
)
def test_an_unsteady_network_is_not_hammered_and_the_device_ends_in_step(
    changes: list[tuple[float, str]], share: float, retry_after: float | None, seed: int
) -> None:
    """P2, P19."""
    world = World()
    device = Device(world, random.Random(seed), refusing(share, retry_after))
    device.feel(Event.START)
    writes = 0
    for seconds, what in changes:
        world.run(world.now + seconds)
        change(device, what)
        writes += what == "write"
    assert most_in(device.asked, 60) <= REQUESTS_A_MINUTE_MAX + writes

    device.server = lambda device, do: None
    for what in ("resume", "up"):
        change(device, what)
    device.left = True
    world.run(world.now + 200)
    assert (device.session.state, device.left) == (State.LIVE, False)
    assert device.session.caught_up and not device.session.postponed
    device.asked.clear()
    world.run(world.now + 3600)
    assert device.asked == [], "and then there is nothing to ask"


@pytest.mark.parametrize("period", [0.2, 1.0, 5.0, 20.0])
def test_a_network_that_blinks_for_an_hour(period: float) -> None:
    world = World()
    device = Device(world, random.Random(1))
    device.feel(Event.START)
    while world.now < 3600:
        for what in ("down", "up"):
            world.run(world.now + period / 2)
            change(device, what)
    assert most_in(device.asked, 60) <= 25
    hours = [time for time in device.asked if time > 600]
    assert most_in(hours, 60) <= 8, "the pauses have grown"
    assert len(hours) > 50, "and yet it goes on"


def test_after_a_steady_while_the_network_is_trusted_again() -> None:
    world = World()
    device = Device(world, random.Random(1))
    device.feel(Event.START)
    for _ in range(40):
        for what in ("down", "up"):
            world.run(world.now + 0.5)
            change(device, what)
    world.run(world.now + 300)
    change(device, "down")
    world.run(world.now + 5)
    device.asked.clear()
    change(device, "up")
    assert device.asked == [world.now]


# ---------------------------------------------------------------- a thousand devices
def fleet(world: World) -> list[Device]:
    devices = [Device(world, random.Random(number)) for number in range(FLEET)]
    for device in devices:
        world.later(device.rng.random() * 60, lambda device=device: device.feel(Event.START))  # type: ignore[misc]
    world.run(120)
    assert all(device.session.state is State.LIVE for device in devices)
    for device in devices:
        device.asked.clear()
    return devices


def rounds(devices: list[Device], after: float) -> list[float]:
    """When each device knocked first after a moment."""
    return [min(time for time in device.asked if time > after) for device in devices]


def test_a_server_that_restarts_is_not_met_by_all_at_once() -> None:
    """P19: the streams of a thousand devices break in one moment; they come back spread over seconds."""
    world = World()
    devices = fleet(world)
    for device in devices:
        device.lose_stream()
    world.run(world.now + 60)
    fair = FLEET / 3
    assert most_in(rounds(devices, 120), 1) < 1.5 * fair
    assert all(device.session.state is State.LIVE for device in devices)


def test_retry_after_is_spread() -> None:
    """P19: a thousand are told "in 30 seconds", and no second sees more than its share."""
    world = World()
    devices = fleet(world)
    told = {"retry_after": 30.0}
    for device in devices:
        device.server = lambda device, do: (Event.FAILED, told) if device.world.now < 125 else None
        device.lose_stream()
    world.run(world.now + 300)
    knocks = rounds(devices, 125)
    assert min(knocks) >= 120 + 30
    fair = FLEET / 15
    assert most_in(knocks, 1) < 2 * fair
    assert all(device.session.state is State.LIVE for device in devices)


def test_a_server_with_room_for_few_takes_all_in_in_time() -> None:
    """P19, P2: it does 40 requests a second and refuses the rest; nobody is left outside."""
    world = World()
    devices = fleet(world)
    done: list[float] = []
    refused: list[float] = []

    def busy(device: Device, do: Do) -> tuple[Event, dict[str, Any]] | None:
        if sum(time > world.now - 1 for time in done[-60:]) < 40:
            done.append(world.now)
            return None
        refused.append(world.now)
        return Event.FAILED, {"retry_after": 2 + 20 * device.rng.random()}

    for device in devices:
        device.server = busy
        device.lose_stream()
    world.run(world.now + 900)
    assert all(device.session.state is State.LIVE for device in devices)
    assert len(refused) > 100
    assert most_in([time for time in refused if time > 140], 1) < 150, "after the first rush"


def test_a_signal_does_not_override_what_the_server_asked_for() -> None:
    world = World()
    device = Device(world, random.Random(3), lambda device, do: (Event.FAILED, {"retry_after": 40.0}))
    device.feel(Event.START)
    world.run(1)
    assert device.session.state is State.WAITING
    for _ in range(10):
        change(device, "down")
        world.run(world.now + 1)
        change(device, "up")
    assert len(device.asked) == 1
    world.run(200)
    assert device.asked[1] >= 40


def test_a_single_round_that_somebody_asked_for_is_not_postponed() -> None:
    world = World()
    device = Device(world, random.Random(3), session=Session(live=False, offline=True, postponed=True), left=True)
    device.feel(Event.START)
    world.run(60)
    assert (device.session.state, device.left) == (State.IDLE, False)
