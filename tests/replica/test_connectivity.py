"""Who says that there is a network, and what is made of it."""

from __future__ import annotations

import errno
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from syncline.replica.connectivity import linux
from syncline.replica.connectivity.choose import connectivity_for, is_on_this_machine
from syncline.replica.connectivity.linux import LinuxConnectivity, evaluate_change
from syncline.replica.connectivity.port import Change, Conditions, NoConnectivity, Tell
from syncline.replica.connectivity.rtnetlink import (
    NetworkState,
    default_route,
    messages,
    open_socket,
    read_state,
    usable_address,
    usable_link,
)
from syncline.replica.connectivity.surroundings import Surroundings
from syncline.replica.session import Event

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="rtnetlink is Linux's")


# ---------------------------------------------------------------- which listener
@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:8787", True),
        ("http://127.8.0.9", True),
        ("http://[::1]:8787/base", True),
        ("http://[::ffff:127.0.0.1]", True),
        ("http://0.0.0.0:1", True),
        ("http://LOCALHOST:8787", True),
        ("https://sync.localhost", True),
        (f"http://{socket.gethostname()}", True),
        ("https://sync.example.org", False),
        ("https://localhost.example.org", False),
        ("http://192.0.2.7", False),
        ("http://[2001:db8::1]", False),
    ],
)
def test_a_server_on_this_machine_needs_no_network(url: str, here: bool) -> None:
    assert is_on_this_machine(url) is here
    assert isinstance(connectivity_for(url), NoConnectivity) or not here


# ---------------------------------------------------------------- what Linux says
def link(index: int, flags: int) -> bytes:
    return struct.pack("=BxHiII", 0, 1, index, flags, 0)


def attribute(kind: int, content: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(content), kind) + content + bytes(-len(content) % 4)


def address(text: str, index: int, scope: int = 0, flags: int = 0, *more: bytes) -> bytes:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    packed = socket.inet_pton(family, text)
    return struct.pack("=BBBBI", family, 24, flags, scope, index) + attribute(1, packed) + b"".join(more)


def test_which_links_addresses_and_routes_count() -> None:
    up, running, loopback = 0x1, 0x40, 0x8
    assert usable_link(link(2, up | running)) == 2
    assert usable_link(link(2, up)) is None, "the cable is pulled"
    assert usable_link(link(2, running)) is None
    assert usable_link(link(1, up | running | loopback)) is None
    assert usable_address(address("192.0.2.7", 2)) == (2, "192.0.2.7")
    assert usable_address(address("2001:db8::7", 2)) == (2, "2001:db8::7")
    assert usable_address(address("169.254.1.1", 2, scope=253)) is None
    assert usable_address(address("fe80::1", 2, scope=253)) is None
    assert usable_address(address("2001:db8::7", 2, 0, 0x40)) is None, "not yet checked"
    assert usable_address(address("2001:db8::7", 2, 0, 0, attribute(8, struct.pack("=I", 0x40)))) is None
    route = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, 254, 0, 0, 1, 0) + attribute(4, struct.pack("=i", 2))
    assert default_route(route + attribute(5, b"\xc0\0\2\1")) == (2, "c0000201")
    assert default_route(struct.pack("=BBBBBBBBI", 2, 24, 0, 0, 254, 0, 0, 1, 0) + route[12:]) is None


def test_bytes_that_make_no_sense_are_no_network() -> None:
    for data in (b"", b"\1", b"\xff" * 15, b"\0" * 64, b"\xff" * 64, b"\x11" * 31):
        assert list(messages(data)) is not None
        for read in (usable_link, usable_address, default_route):
            read(data)  # raises nothing


HOME = NetworkState(frozenset({(2, "192.0.2.7")}), frozenset({(2, "c0000201")}))
MOBILE = NetworkState(frozenset({(3, "198.51.100.9")}), frozenset({(3, "")}))
BOTH = NetworkState(HOME.addresses | MOBILE.addresses, HOME.routes | MOBILE.routes)
NONE = NetworkState()


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        (HOME, HOME, None),
        (NONE, NONE, None),
        (HOME, NONE, Change(online=False)),
        (NONE, HOME, Change(online=True)),
        (HOME, BOTH, Change(online=True)),
        (BOTH, MOBILE, Change(online=True, moved=True)),
        (HOME, MOBILE, Change(online=True, moved=True)),
        (NetworkState(HOME.addresses), HOME, Change(online=True)),
        (HOME, NetworkState(HOME.addresses), None),
    ],
)
def test_what_a_change_is(before: NetworkState, after: NetworkState, change: Change | None) -> None:
    assert evaluate_change(before, after) == change


@linux_only
def test_the_real_state_can_be_read_without_any_right() -> None:
    try:
        state = read_state()
    except OSError as error:
        pytest.skip(f"rtnetlink is missing here: {error}")
    assert not any(address.startswith("127.") for _, address in state.addresses)


class Wire:
    """In place of rtnetlink: a socket that a test speaks into, and the state that it finds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.near, self.far = socket.socketpair()
        self.states: list[NetworkState | OSError] = [NONE]
        self.told: list[Change] = []
        self.more = threading.Semaphore(0)
        monkeypatch.setattr(linux, "open_socket", lambda groups: self.near)
        monkeypatch.setattr(linux, "read_state", self._read)
        monkeypatch.setattr(linux, "SETTLE_SECONDS", 0.01)
        monkeypatch.setattr(linux, "READ_AGAIN_SECONDS", 0.01)

    def _read(self) -> NetworkState:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, OSError):
            raise state
        return state

    def tell(self, change: Change) -> None:
        self.told.append(change)
        self.more.release()

    def happen(self, *states: NetworkState | OSError) -> None:
        self.states = [*states]
        self.far.send(b"news")
        assert self.more.acquire(timeout=20)


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    wire = Wire(monkeypatch)
    yield wire
    wire.far.close()
    wire.near.close()


def test_the_listener_tells_how_it_stands_and_what_changes(wire: Wire) -> None:
    listener = LinuxConnectivity()
    listener.listen(wire.tell)
    assert wire.told == [Change(online=False)]
    wire.more.acquire()
    wire.happen(HOME)
    wire.happen(MOBILE)
    wire.happen(OSError(errno.EINTR, "it changed while it was read"), NONE)
    listener.close()
    assert wire.told[1:] == [Change(online=True), Change(online=True, moved=True), Change(online=False)]
    assert wire.near.fileno() == -1 and "syncline-network" not in {thread.name for thread in threading.enumerate()}
    listener.close()


class Overrun:
    """A socket that has lost what was said."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        self.overruns = 0

    def recv(self, size: int) -> bytes:
        data = self._inner.recv(size)
        self.overruns += 1
        raise OSError(errno.ENOBUFS, f"{len(data)} bytes were thrown away")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __enter__(self) -> Overrun:
        return self

    def __exit__(self, *error: object) -> None:
        self._inner.close()


def test_an_overrun_means_that_the_state_is_read_anew(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    overrun = Overrun(wire.near)
    monkeypatch.setattr(linux, "open_socket", lambda groups: overrun)
    listener = LinuxConnectivity()
    listener.listen(wire.tell)
    wire.more.acquire()
    wire.happen(HOME)
    listener.close()
    assert overrun.overruns == 1 and wire.told == [Change(online=False), Change(online=True)]


def test_where_nobody_can_listen_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox without rtnetlink: timers do."""

    def missing(*arguments: Any) -> Any:
        raise OSError(errno.EPERM, "not here")

    told: list[Change] = []
    monkeypatch.setattr(linux, "open_socket", missing)
    LinuxConnectivity().listen(told.append)
    if sys.platform == "linux":
        monkeypatch.setattr(linux, "open_socket", open_socket)
    monkeypatch.setattr(linux, "read_state", missing)
    listener = LinuxConnectivity()
    listener.listen(told.append)
    listener.close()
    assert told == []


# ---------------------------------------------------------------- the app and the system together
class Played:
    """A listener that a test plays."""

    def __init__(self) -> None:
        self.tell: Tell | None = None

    def listen(self, tell: Tell) -> None:
        self.tell = tell
        tell(Change(online=True))

    def close(self) -> None:
        self.tell = None


@pytest.fixture
def heard() -> list[tuple[Event, ...]]:
    return []


def test_what_is_told_becomes_events(heard: list[tuple[Event, ...]]) -> None:
    played = Played()
    surroundings = Surroundings(played, heard.append)
    surroundings.begin()
    assert surroundings.conditions == Conditions(online=True) and played.tell is not None
    heard.clear()
    played.tell(Change(online=False))
    played.tell(Change(online=True))
    played.tell(Change(online=True, moved=True))
    surroundings.network(online=True, metered=True)
    surroundings.power(low_battery=True)
    surroundings.network(online=None, metered=False)
    assert surroundings.conditions.postponed_by == "low_battery"
    surroundings.power(low_battery=False)
    assert heard == [
        (Event.OFFLINE,),
        (Event.ONLINE,),
        (Event.MOVED,),
        (Event.POSTPONE, Event.ONLINE),
        (Event.RESUME,),
    ]
    surroundings.end()
    assert played.tell is None and surroundings.conditions.online is None


def test_an_app_that_says_offline_means_it(heard: list[tuple[Event, ...]]) -> None:
    """A switch "work offline" is not undone by a network that comes."""
    played = Played()
    surroundings = Surroundings(played, heard.append)
    surroundings.begin()
    surroundings.network(online=False, metered=None)
    assert played.tell is not None
    played.tell(Change(online=True))
    assert surroundings.conditions.online is False
    surroundings.end()
    surroundings.begin()
    assert surroundings.conditions.online is False, "also after a restart"
    surroundings.network(online=True, metered=None)
    assert surroundings.conditions.online is True and heard[-1] == (Event.ONLINE,)
    played.tell(Change(online=False))
    assert heard[-1] == (Event.OFFLINE,)


def test_an_agent_hears_what_it_missed_while_it_was_made(heard: list[tuple[Event, ...]]) -> None:
    surroundings = Surroundings(NoConnectivity(), heard.append)
    surroundings.network(online=False, metered=True)
    before = surroundings.conditions
    surroundings.network(online=True, metered=False)
    heard.clear()
    surroundings.changed_since(before)
    surroundings.changed_since(surroundings.conditions)
    assert heard == [(Event.ONLINE, Event.RESUME)]
