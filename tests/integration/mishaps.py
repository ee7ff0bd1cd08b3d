"""Things that stand between a device and its server: a hotel's sign-in page, proxies, servers that make no sense."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

from tests.integration.company import Server

Play = Callable[[socket.socket, bytes], None]
"""What is done with a connection whose first request has these bytes so far."""

HTML = b"<html><head><title>Welcome to Hotel Adlon</title></head><body>Please sign in.</body></html>"


def answer(status: str, body: bytes = HTML, *headers: str, kind: str = "text/html") -> Play:
    """The same to every request."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close"]
    head = "\r\n".join([*lines, *headers, "", ""]).encode()
    return lambda connection, request: connection.sendall(head + body)


def captive_portal() -> Play:
    return answer("200 OK")


def redirect() -> Play:
    return answer("302 Found", b"", "Location: http://hotel.example/login")


def hang(connection: socket.socket, request: bytes) -> None:
    """A connection that stays open and says nothing: half open."""
    with contextlib.suppress(OSError):
        while connection.recv(65536):
            pass


def cut(connection: socket.socket, request: bytes) -> None:
    """Closed without a word."""


class Between:
    """An address that stays, and what stands there: `play`, or the way to the server while it is None.

    `websockets`: what is done with an Upgrade; None lets it through. `cut_after`: answers break off after so many
    bytes. `buffers`: what the server sends over a WebSocket is kept back for ever. `upgrades` and `requests` count.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.port: int | None = None
        self.play: Play | None = None
        self.websockets: Play | None = None
        self.cut_after: int | None = None
        self.buffers = False
        self.context: ssl.SSLContext | None = None
        self.requests = 0
        self.upgrades = 0
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def lead_to(self, server: Server) -> None:
        self.port = server.port
        self.change()

    def change(self) -> None:
        """What is open is cut, so that the next request meets what stands here now."""
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.change()
        for thread in self._threads:
            thread.join(10)

    def use_tls(self, certificate: Path) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)
        self.url = self.url.replace("http:", "https:").replace("127.0.0.1", "localhost")

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, near)

    def _serve(self, near: socket.socket) -> None:
        self._open.add(near)
        try:
            if self.context is not None:
                near = self.context.wrap_socket(near, server_side=True)
                self._open.add(near)
            request = near.recv(65536)
            if not request:
                return
            self.requests += 1
            is_upgrade = b"upgrade: websocket" in request.lower()
            self.upgrades += is_upgrade
            play = self.websockets if is_upgrade and self.websockets else self.play
            if play is not None:
                play(near, request)
            else:
                self._pass_on(near, request, is_upgrade)
        except OSError:
            pass
        finally:
            self._open.discard(near)
            with contextlib.suppress(OSError):
                near.shutdown(socket.SHUT_RDWR)
            near.close()

    def _pass_on(self, near: socket.socket, request: bytes, is_upgrade: bool) -> None:
        assert self.port is not None
        with socket.create_connection(("127.0.0.1", self.port), 10) as far:
            far.settimeout(None)
            self._open.add(far)
            far.sendall(request)
            back = threading.Thread(target=self._carry_back, args=(far, near, is_upgrade), daemon=True)
            back.start()
            with contextlib.suppress(OSError):
                while data := near.recv(65536):
                    far.sendall(data)
            with contextlib.suppress(OSError):
                far.shutdown(socket.SHUT_RDWR)
            back.join(10)
            self._open.discard(far)

    def _carry_back(self, far: socket.socket, near: socket.socket, is_upgrade: bool) -> None:
        carried = 0
        with contextlib.suppress(OSError):
            while data := far.recv(65536):
                if is_upgrade and self.buffers and carried:
                    continue
                if is_upgrade and self.buffers:
                    data = data[: data.index(b"\r\n\r\n") + 4]  # the handshake gets through, and nothing after it
                if self.cut_after is not None and not is_upgrade:
                    data = data[: max(self.cut_after - carried, 0)]
                near.sendall(data)
                carried += len(data)
                if self.cut_after is not None and not is_upgrade and carried >= self.cut_after:
                    break
        with contextlib.suppress(OSError):
            near.shutdown(socket.SHUT_RDWR)
