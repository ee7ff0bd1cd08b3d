"""Several processes that serve one address: started together, replaced when one dies, ended together.

All take connections from one listening socket. They share nothing but the source: one of them is the sequencer, by the
lock on the source, the others follow, and when it dies another one takes over.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

from syncline.cli.serving import configure_logging, listen, serve_on, url_of
from syncline.errors import ConfigError, SynclineError
from syncline.log import logger

if TYPE_CHECKING:
    from syncline.server.config_settings import Settings

STEADY_SECONDS = 10.0
"""A worker that lived for longer is replaced at once; others after a pause that doubles."""
PAUSE_SECONDS_MIN = 0.5
PAUSE_SECONDS_MAX = 30.0
END_SECONDS = 15.0
"""How long a worker may take to end before it is killed: longer than what it gives the requests under way."""

_log = logger("workers")
_READY = "ready"


def run_workers(
    settings: Settings, host: str, port: int, count: int, log_level: str, announce: Callable[[str], None]
) -> None:
    """Serve with `count` processes until SIGTERM or SIGINT; `announce` gets the URL when all of them answer.

    What `run_server` raises: an error with which a worker does not start is told as the command's own.
    """
    configure_logging(log_level)
    listener = listen(host, port)
    supervisor = _Supervisor(settings, listener, count, log_level)
    try:
        with _told_to_end() as told:
            supervisor.run(told, lambda: announce(url_of(host, listener)))
    finally:
        supervisor.end()
        listener.close()


@contextlib.contextmanager
def _told_to_end() -> Iterator[socket.socket]:
    """A socket that can be read once a signal said that it is time to end."""
    told, tell = socket.socketpair()
    tell.setblocking(False)
    wakeup = signal.set_wakeup_fd(tell.fileno())
    kept = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield told
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in kept.items():
            signal.signal(number, handler)
        told.close()
        tell.close()


@dataclass(frozen=True)
class _Refusal:
    """An error with which a worker does not start, by its parts: errors themselves do not travel between processes."""

    message: str
    hint: str
    code: str
    exit_status: int

    def error(self) -> SynclineError:
        kind = ConfigError if self.exit_status == ConfigError.exit_status else SynclineError
        return kind(self.message, hint=self.hint, code=self.code)


@dataclass
class _Place:
    """One of the processes, and who comes after it. `due`: when the next one is started, if none runs."""

    number: int
    process: BaseProcess | None = None
    line: Connection | None = None
    begun: float = 0.0
    due: float = 0.0
    pause: float = PAUSE_SECONDS_MIN
    is_ready: bool = False


class _Supervisor:
    def __init__(self, settings: Settings, listener: socket.socket, count: int, log_level: str) -> None:
        self._settings = settings
        self._listener = listener
        self._log_level = log_level
        self._context = multiprocessing.get_context("spawn")  # no thread, lock or connection is inherited
        self._places = [_Place(number) for number in range(1, count + 1)]
        self._announced = False

    def run(self, told: socket.socket, announce: Callable[[], None]) -> None:
        while True:
            for place in self._places:
                if place.process is None and time.monotonic() >= place.due:
                    self._start(place)
            if not self._announced and all(place.is_ready for place in self._places):
                self._announced = True
                announce()
            lines = {place.line: place for place in self._places if place.line is not None}
            for each in wait([told, *lines], timeout=self._idle_seconds()):
                if each is told:
                    return
                self._hear(lines[each])  # type: ignore[index]

    def _idle_seconds(self) -> float | None:
        due = [place.due for place in self._places if place.process is None]
        return max(min(due) - time.monotonic(), 0.0) if due else None

    def _start(self, place: _Place) -> None:
        place.line, theirs = self._context.Pipe()
        arguments = (self._settings, self._listener, self._log_level, theirs)
        place.process = self._context.Process(target=_work, args=arguments, name=f"syncline-worker-{place.number}")
        place.begun = time.monotonic()
        place.process.start()
        theirs.close()

    def _hear(self, place: _Place) -> None:
        """A worker says that it is ready or why it does not start; its line breaks when it has died, however it did."""
        assert place.line is not None
        try:
            news = place.line.recv()
        except (EOFError, OSError):
            self._died(place)
            return
        if news == _READY:
            place.is_ready = True
        elif self._announced:
            _log.error("worker %d does not start: %s", place.number, news.error())
        else:
            raise news.error()

    def _died(self, place: _Place) -> None:
        assert place.process is not None and place.line is not None
        place.process.join(END_SECONDS)
        status = place.process.exitcode
        place.line.close()
        place.process.close()
        place.process, place.line, place.is_ready = None, None, False
        if not self._announced:
            raise SynclineError(f"Worker {place.number} ended at its start (status {status}).", code="worker_ended")
        lived = time.monotonic() - place.begun
        place.pause = PAUSE_SECONDS_MIN if lived > STEADY_SECONDS else min(place.pause * 2, PAUSE_SECONDS_MAX)
        place.due = time.monotonic() + (0 if lived > STEADY_SECONDS else place.pause)
        _log.warning("worker %d ended (status %s) and is replaced", place.number, status)

    def end(self) -> None:
        """Every worker ends what it is doing; one that does not is killed."""
        running = [(place.process, place.line) for place in self._places if place.process is not None]
        for process, _ in running:
            process.terminate()
        deadline = time.monotonic() + END_SECONDS
        for process, line in running:
            process.join(max(deadline - time.monotonic(), 0.0))
            if process.exitcode is None:
                _log.warning("%s did not end and is killed", process.name)
                process.kill()
                process.join()
            process.close()
            if line is not None:
                line.close()


# ---------------------------------------------------------------- in the worker
def _work(settings: Settings, listener: socket.socket, log_level: str, line: Connection) -> None:
    from syncline.server.app import create_app

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C reaches the supervisor, which ends the workers in order
    configure_logging(log_level)
    try:
        serve_on(listener, create_app(settings), lambda: _tell(line, _READY), lambda: _broken(line))
    except SynclineError as error:
        _tell(line, _Refusal(error.message, error.hint, error.error_code, error.exit_status))
    finally:
        listener.close()
        line.close()


def _tell(line: Connection, news: object) -> None:
    """A supervisor that has died meanwhile hears nothing; `_broken` ends the worker then."""
    with contextlib.suppress(OSError):
        line.send(news)


async def _broken(line: Connection) -> None:
    """Returns when the supervisor is gone: its workers do not outlive it."""
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(line.fileno(), gone.set)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(line.fileno())
