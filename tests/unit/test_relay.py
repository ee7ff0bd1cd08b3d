"""The network that breaks when a test says so."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest

from syncline.testing.relay import (
    Blackhole,
    Cut,
    Delay,
    Direction,
    Fault,
    Freeze,
    HalfClose,
    Relay,
    Trickle,
    Truncate,
    Unanswered,
)
from syncline.testing.relay.__main__ import FAULTS, obey, parse

LETTER = b"0123456789" * 100
UP, DOWN = Direction.UP, Direction.DOWN
NEVER = 3600.0


class LetterServer:
    """Answers every byte with LETTER; `heard` is what came, `ended` how many said that they were through."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.heard = b""
        self.ended = 0
        self.asked = threading.Condition()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(peer,), daemon=True))
            self._threads[-1].start()

    def _serve(self, peer: socket.socket) -> None:
        with peer, suppress(OSError):
            while heard := peer.recv(1):
                with self.asked:
                    self.heard += heard
                    self.asked.notify_all()
                peer.sendall(LETTER)
        with self.asked:
            self.ended += 1
            self.asked.notify_all()

    def wait_for(self, heard: bytes, ended: int = 0) -> bool:
        with self.asked:
            return self.asked.wait_for(lambda: (self.heard, self.ended) == (heard, ended), 10)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)


@pytest.fixture
def server() -> Iterator[LetterServer]:
    with closing(LetterServer()) as server:
        yield server


@pytest.fixture
def relay(server: LetterServer) -> Iterator[Relay]:
    with Relay(f"127.0.0.1:{server.port}") as relay:
        yield relay


@pytest.fixture
def device(relay: Relay) -> Iterator[socket.socket]:
    with connect(relay) as connection:
        yield connection


def connect(relay: Relay, seconds: float = 10) -> socket.socket:
    return socket.create_connection(("127.0.0.1", relay.port), seconds)


def read(connection: socket.socket, size: int) -> bytes:
    """Up to `size` bytes; fewer where the line ends."""
    found = b""
    while len(found) < size and (piece := connection.recv(size - len(found))):
        found += piece
    return found


def asks(connection: socket.socket) -> bytes:
    connection.sendall(b"a")
    return read(connection, len(LETTER))


def is_silent(connection: socket.socket) -> bool:
    """Nothing comes, and nobody says that nothing will."""
    connection.settimeout(0.2)
    try:
        return bool(connection.recv(1)) and False
    except TimeoutError:
        return True
    finally:
        connection.settimeout(10)


# ---------------------------------------------------------------- where it leads
def test_it_breaks_after_as_many_bytes_as_were_asked_for(relay: Relay, device: socket.socket) -> None:
    relay.break_after(1_500)
    assert asks(device) == LETTER
    assert asks(device) == LETTER[:500]
    assert relay.wait_until_broken(10) and relay.answered == 1_500
    with connect(relay) as refused:
        assert refused.recv(1) == b""


def test_after_a_break_it_leads_on_when_it_is_told_where(
    relay: Relay, device: socket.socket, server: LetterServer
) -> None:
    relay.break_after(1)
    assert asks(device) == LETTER[:1]
    relay.lead_to_port(server.port)
    with connect(relay) as again:
        assert asks(again) == LETTER


def test_without_a_server_connections_end_at_once() -> None:
    with Relay() as relay, connect(relay) as device:
        assert device.recv(1) == b"" and relay.opened == 1


def test_it_carries_much_and_both_ends_hear_of_the_end(
    relay: Relay, device: socket.socket, server: LetterServer
) -> None:
    device.sendall(b"a" * 3_000)
    device.shutdown(socket.SHUT_WR)
    assert read(device, 4_000_000) == LETTER * 3_000
    assert server.wait_for(b"a" * 3_000, ended=1)
    assert (relay.opened, relay.answered, relay.hit_connections, relay.hit_bytes) == (1, 3_000_000, 0, 0)


# ---------------------------------------------------------------- faults
def test_a_cut_resets_what_is_open_and_what_is_opened(relay: Relay, device: socket.socket) -> None:
    assert asks(device) == LETTER
    relay.begin(Cut())
    with pytest.raises(ConnectionResetError):
        device.recv(1)
    with pytest.raises(ConnectionResetError), connect(relay) as other:  # the reset may come while it connects
        other.recv(1)
    assert relay.wait_until_hit(10) and relay.hit_connections == 2
    relay.heal()
    with connect(relay) as other:
        assert asks(other) == LETTER


def test_a_cut_comes_after_so_many_bytes(relay: Relay, device: socket.socket, server: LetterServer) -> None:
    relay.begin(Cut(after=2, direction=UP))
    device.sendall(b"abcd")
    with pytest.raises(ConnectionResetError):
        read(device, 4 * len(LETTER))
    assert relay.wait_until_hit(10) and relay.hit_bytes == 2 and b"abcd" not in server.heard


def test_a_cut_once_lets_new_connections_through(relay: Relay, device: socket.socket) -> None:
    relay.cut()
    assert device.recv(1) == b""
    with connect(relay) as other:
        assert asks(other) == LETTER


def test_an_answer_is_truncated_on_each_connection(relay: Relay, device: socket.socket) -> None:
    relay.begin(Truncate(after=300))
    assert asks(device) == LETTER[:300]
    with connect(relay) as other:
        assert asks(other) == LETTER[:300]
    assert (relay.hit_connections, relay.hit_bytes) == (2, 1_400)


def test_the_way_down_ends_and_the_way_up_goes_on(relay: Relay, device: socket.socket, server: LetterServer) -> None:
    relay.begin(HalfClose(direction=DOWN))
    assert device.recv(1) == b""
    device.sendall(b"ab")
    assert server.wait_for(b"ab")
    relay.heal()
    device.sendall(b"c")
    assert server.wait_for(b"abc") and device.recv(1) == b""


def test_the_way_up_ends_and_the_way_down_goes_on(relay: Relay, device: socket.socket, server: LetterServer) -> None:
    relay.begin(HalfClose(after=1, direction=UP))
    device.sendall(b"ab")
    assert read(device, 2_000) == LETTER
    assert server.wait_for(b"a", ended=1)


def test_a_delay_keeps_the_order_and_ends_when_it_is_healed(relay: Relay, device: socket.socket) -> None:
    relay.begin(Delay(NEVER, direction=DOWN))
    device.sendall(b"ab")
    assert is_silent(device) and relay.wait_until_hit(10)
    relay.heal()
    assert read(device, 2_000) == LETTER * 2


def test_a_delay_delays_and_does_not_narrow(relay: Relay, device: socket.socket) -> None:
    relay.begin(Delay(0.1, direction=UP))
    begun = time.monotonic()
    for _ in range(20):
        device.sendall(b"a")
        time.sleep(0.002)
    assert read(device, 20_000) == LETTER * 20
    assert 0.1 <= time.monotonic() - begun < 20 * 0.1


def test_a_trickle_brings_byte_after_byte(relay: Relay, device: socket.socket) -> None:
    relay.begin(Trickle(20, direction=DOWN))
    device.sendall(b"a")
    assert read(device, 3) == LETTER[:3]
    assert relay.answered < 500
    relay.heal()
    assert read(device, 997) == LETTER[3:]


@pytest.mark.parametrize("direction", [None, UP, DOWN])
def test_what_is_frozen_goes_on(
    direction: Direction | None, relay: Relay, device: socket.socket, server: LetterServer
) -> None:
    relay.begin(Freeze(direction))
    assert relay.is_frozen
    device.sendall(b"a")
    assert is_silent(device) and relay.answered == 0
    assert server.heard == (b"a" if direction is DOWN else b"")
    relay.is_frozen = False
    assert read(device, 1_000) == LETTER


@pytest.mark.parametrize("direction", [None, UP, DOWN])
def test_what_a_black_hole_had_never_carries_again(
    direction: Direction | None, relay: Relay, device: socket.socket, server: LetterServer
) -> None:
    relay.begin(Blackhole(direction))
    with connect(relay) as later:
        for each in (device, later):
            each.sendall(b"a")
            assert is_silent(each)
        relay.heal()
        for each in (device, later):
            assert is_silent(each)
            each.sendall(b"b")
            assert is_silent(each)
    device.close()
    with connect(relay) as other:
        assert asks(other) == LETTER
        assert server.wait_for(b"aabba" if direction is DOWN else b"a", ended=2 if direction is DOWN else 0)


def test_new_connections_are_neither_accepted_nor_refused(relay: Relay, device: socket.socket) -> None:
    relay.begin(Unanswered())
    with pytest.raises(ConnectionResetError):
        device.recv(1)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            connect(relay, 0.2)
    relay.heal()
    with connect(relay) as other:
        assert asks(other) == LETTER
    assert relay.opened == 2


# ---------------------------------------------------------------- where a fault begins
def test_a_fault_begins_before_the_bytes_that_it_waits_for(
    relay: Relay, device: socket.socket, server: LetterServer
) -> None:
    relay.begin(Truncate(after=1, direction=UP), at=b"POST")
    device.sendall(b"aaaPO")
    assert server.wait_for(b"aaaPO") and not relay.wait_until_hit(0)
    device.sendall(b"STb")
    assert server.wait_for(b"aaaPOS", ended=1), "what came in two pieces is found, too"
    assert relay.wait_until_hit(10)


def test_a_fault_begins_with_the_answer(relay: Relay, device: socket.socket, server: LetterServer) -> None:
    relay.begin(Truncate(after=10), at=b"x", in_answer=True)
    assert asks(device) == LETTER
    device.sendall(b"x")
    assert read(device, 1_000) == LETTER[:10]
    assert server.heard == b"ax"


def test_healed_before_it_began_it_never_begins(relay: Relay, device: socket.socket) -> None:
    relay.begin(Cut(), at=b"a", in_answer=True)
    relay.heal()
    assert asks(device) == LETTER and relay.hit_connections == 0


@pytest.mark.parametrize(
    "fault", [Blackhole(), Cut(), Delay(NEVER), Freeze(), HalfClose(), Trickle(1), Truncate(), Unanswered()]
)
def test_a_relay_closes_whatever_is_wrong(fault: Fault, server: LetterServer) -> None:
    with Relay(f"127.0.0.1:{server.port}") as relay, connect(relay) as device:
        relay.begin(fault)
        with suppress(OSError):
            device.sendall(b"aa")


# ---------------------------------------------------------------- by hand
@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("cut", Cut()),
        ("cut 20 up", Cut(20, UP)),
        ("delay 0.5", Delay(0.5)),
        ("trickle 9 down", Trickle(9, DOWN)),
        ("blackhole up", Blackhole(UP)),
    ],
)
def test_a_fault_is_typed(line: str, fault: Fault) -> None:
    assert parse(line) == fault


@pytest.mark.parametrize("line", ["rain", "delay", "cut soon", "unanswered up", "freeze 3"])
def test_what_is_no_fault_is_told(line: str) -> None:
    with pytest.raises(ValueError):
        parse(line)


def test_a_person_breaks_and_heals(relay: Relay, device: socket.socket, capsys: pytest.CaptureFixture[str]) -> None:
    obey(relay, io.StringIO("cut\nheal\nrain\nhelp\nquit\ncut\n"))
    told: Any = capsys.readouterr()
    assert told.out.splitlines()[-1].endswith("1 of them and 0 bytes hit")
    assert 'There is no fault "rain"' in told.err and all(name in told.out for name in FAULTS)
    with connect(relay) as other:
        assert asks(other) == LETTER, "what came after quit was not done"


@pytest.mark.parametrize(
    "line", ["trickle 0", "trickle -5", "trickle", "cut -3", "truncate -1", "half-close -1", "delay -1", "delay nan",
             "delay inf", "cut 200 sideways", "cut 1.5", "earthquake"],
)  # fmt: skip
def test_what_makes_no_sense_is_no_fault(line: str) -> None:
    """Each would do something else than it says."""
    with pytest.raises(ValueError):
        parse(line)
