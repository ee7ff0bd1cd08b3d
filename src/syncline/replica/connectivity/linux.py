"""Linux tells when a network comes or goes: a thread listens on rtnetlink and reads the state anew each time."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import threading
import time

from syncline.log import logger
from syncline.replica.connectivity.port import Change, Tell
from syncline.replica.connectivity.rtnetlink import GROUPS, NetworkState, open_socket, read_state

_log = logger("replica.connectivity")

SETTLE_SECONDS = 0.1
"""A link that comes up is followed by its address and its route: they are read together."""

READ_AGAIN_SECONDS = 1.0
"""After a read that failed, because things changed meanwhile."""


class LinuxConnectivity:
    """Online: an interface besides loopback is up, has a carrier and an address that is not only the link's own.

    Where rtnetlink is missing, as in some sandboxes, nothing is told.
    """

    def __init__(self) -> None:
        self._stop: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def listen(self, tell: Tell) -> None:
        self.close()
        try:
            heard = open_socket(GROUPS)
        except (OSError, AttributeError) as error:
            _log.info("The system does not tell of its network (%s): timers do.", error)
            return
        try:
            state = read_state()
        except OSError as error:
            heard.close()
            _log.info("The state of the network cannot be read (%s): timers do.", error)
            return
        stopped, self._stop = socket.socketpair()
        tell(Change(online=state.is_online))
        self._thread = threading.Thread(
            target=_Listening(heard, stopped, tell, state).run, name="syncline-network", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        stop, self._stop = self._stop, None
        thread, self._thread = self._thread, None
        if stop is not None:
            stop.close()
        if thread is not None and thread is not threading.current_thread():
            thread.join()


class _Listening:
    """One thread's work; ends when the other end of `stopped` is closed."""

    def __init__(self, heard: socket.socket, stopped: socket.socket, tell: Tell, state: NetworkState) -> None:
        self._heard = heard
        self._stopped = stopped
        self._tell = tell
        self._state = state
        heard.setblocking(False)

    def run(self) -> None:
        with self._heard, self._stopped:
            while self._wait(None):
                if not self._settle():
                    return
                while not self._look():
                    if self._is_stopped(READ_AGAIN_SECONDS):
                        return

    def _wait(self, seconds: float | None) -> bool:
        """Until something is heard; False when it is over."""
        ready, _, _ = select.select([self._heard, self._stopped], [], [], seconds)
        return self._stopped not in ready

    def _is_stopped(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._stopped], [], [], seconds)
        return bool(ready)

    def _settle(self) -> bool:
        """Takes what belongs together: all that comes within a moment of the first."""
        ends = time.monotonic() + SETTLE_SECONDS
        while (left := ends - time.monotonic()) > 0:
            self._drain()
            if not self._wait(left):
                return False
        self._drain()
        return True

    def _drain(self) -> None:
        """What was said does not matter, only that something was: an overrun (ENOBUFS) says no less."""
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    self._heard.recv(1 << 16)
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise

    def _look(self) -> bool:
        """Reads the state and tells what is new; False where it has to be read again."""
        try:
            state = read_state()
        except OSError as error:
            _log.debug("The state of the network could not be read: %s", error)
            return False
        before, self._state = self._state, state
        change = evaluate_change(before, state)
        if change is not None:
            self._tell(change)
        return True


def evaluate_change(before: NetworkState, after: NetworkState) -> Change | None:
    """What a device has to know of the difference; None for what does not concern it."""
    if not after.is_online:
        return Change(online=False) if before.is_online else None
    if not before.is_online:
        return Change(online=True)
    if before.addresses - after.addresses:
        return Change(online=True, moved=True)
    is_better = after.addresses - before.addresses or after.routes - before.routes
    return Change(online=True) if is_better else None
