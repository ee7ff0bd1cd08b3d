"""A TCP relay between devices and a server: a network that breaks when a test says so."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

_PIECE_BYTES = 65536


class Relay:
    """An address on 127.0.0.1 that stays while servers come and go behind it. `opened` counts connections, `answered`
    the bytes that went to devices. While `is_frozen`, connections stay open and carry nothing, as behind a dead radio
    mast. `close` it at the end.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.opened = 0
        self.answered = 0
        self._port: int | None = None
        self._bytes_left: int | None = None
        self._thawed = threading.Event()
        self._thawed.set()
        self._broken = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._guard = threading.Lock()
        self._start(self._accept)

    # ------------------------------------------------------------ what a test does to the network
    def lead_to_port(self, port: int | None) -> None:
        """What is open is cut; from now on connections lead there, or with None are refused."""
        self._port = port
        self._cut()
        self._broken.clear()

    def break_after(self, bytes_left: int) -> None:
        """When so many more bytes have gone to devices everything is cut, in the middle of whatever it was, and nobody
        answers until `lead_to_port`."""
        with self._guard:
            self._bytes_left = bytes_left

    def wait_until_broken(self, seconds: float) -> bool:
        """Whether that came within so many seconds."""
        return self._broken.wait(seconds)

    @property
    def is_frozen(self) -> bool:
        return not self._thawed.is_set()

    @is_frozen.setter
    def is_frozen(self, frozen: bool) -> None:
        if frozen:
            self._thawed.clear()
        else:
            self._thawed.set()

    def close(self) -> None:
        """Nobody holds a connection afterwards."""
        self.is_frozen = False
        self._port = None
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._cut()
        for thread in self._threads:
            thread.join(10)

    # ------------------------------------------------------------ carrying
    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _cut(self) -> None:
        with self._guard:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.opened += 1
            try:
                if self._port is None:
                    raise ConnectionRefusedError
                far = socket.create_connection(("127.0.0.1", self._port), 10)
                far.settimeout(None)
            except OSError:
                near.close()
                continue
            with self._guard:
                self._open |= {near, far}
            self._start(self._carry, near, far, lambda data: data)
            self._start(self._carry, far, near, self._answer)

    def _carry(self, source: socket.socket, target: socket.socket, passed: Callable[[bytes], bytes]) -> None:
        try:
            while data := source.recv(_PIECE_BYTES):
                self._thawed.wait()
                target.sendall(passed(data))
                if self._broken.is_set():
                    break
        except OSError:
            pass
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        if self._broken.is_set():
            self._cut()
        with self._guard:
            if source in self._open and target not in self._open:  # the other direction has ended, too
                source.close()
                target.close()
            self._open.discard(source)

    def _answer(self, data: bytes) -> bytes:
        """As much of it as gets through."""
        with self._guard:
            if self._bytes_left is not None:
                data = data[: self._bytes_left]
                self._bytes_left -= len(data)
                if self._bytes_left == 0:
                    self._bytes_left, self._port = None, None
                    self._broken.set()
            self.answered += len(data)
        return data
