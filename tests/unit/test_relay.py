"""The network that breaks when a test says so."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from urllib.parse import urlsplit

import pytest

from syncline.testing.relay import Relay

LETTER = b"0123456789" * 100


@pytest.fixture
def port() -> Iterator[int]:
    """A server that answers every byte with LETTER."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                while peer.recv(1):
                    peer.sendall(LETTER)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


@pytest.fixture
def relay(port: int) -> Iterator[Relay]:
    with closing(Relay()) as relay:
        relay.lead_to_port(port)
        yield relay


def device(relay: Relay) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", urlsplit(relay.url).port or 0), 10)
    connection.settimeout(10)
    return connection


def read(connection: socket.socket, size: int) -> bytes:
    """Up to `size` bytes; fewer where the line breaks."""
    found = b""
    while len(found) < size and (piece := connection.recv(size - len(found))):
        found += piece
    return found


def test_it_breaks_after_as_many_bytes_as_were_asked_for(relay: Relay) -> None:
    relay.break_after(1_500)
    with device(relay) as connection:
        connection.sendall(b"a")
        assert read(connection, 1_000) == LETTER
        connection.sendall(b"b")
        assert read(connection, 1_000) == LETTER[:500]
    assert relay.wait_until_broken(10) and relay.answered == 1_500
    with device(relay) as refused:
        assert refused.recv(1) == b""


def test_after_a_break_it_leads_on_when_it_is_told_where(relay: Relay, port: int) -> None:
    relay.break_after(1)
    with device(relay) as connection:
        connection.sendall(b"a")
        assert read(connection, 2) == LETTER[:1]
    assert relay.wait_until_broken(10)
    relay.lead_to_port(port)
    with device(relay) as connection:
        connection.sendall(b"a")
        assert read(connection, 1_000) == LETTER


def test_what_is_frozen_stays_open_and_goes_on(relay: Relay) -> None:
    with device(relay) as connection:
        relay.is_frozen = True
        connection.sendall(b"a")
        assert relay.answered == 0
        relay.is_frozen = False
        assert read(connection, 1_000) == LETTER
