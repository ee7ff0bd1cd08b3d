"""The real server as a child process, driven by the command line as anybody would."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import syncline
from examples.homecare.configuration import CONFIG

READY = "listening on "
COMMAND_SECONDS_MAX = 60.0
START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 10.0


class ServerFailedError(Exception):
    """A command of Syncline did not do what it should; the message is what it printed."""


def _environment() -> dict[str, str]:
    """Children import the same Syncline as we do, installed or not, and never wait with their output."""
    root = str(Path(syncline.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "syncline", *arguments]


def run_command(folder: Path, *arguments: str) -> str:
    """`syncline …` in the folder; what it printed on standard output."""
    words = f"`syncline {' '.join(arguments)}`"
    try:
        done = subprocess.run(
            _command(*arguments),
            cwd=folder,
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ServerFailedError(f"{words} took more than {COMMAND_SECONDS_MAX:.0f} s.") from None
    if done.returncode:
        raise ServerFailedError(f"{words} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def make_token(folder: Path, sub: str) -> str:
    return run_command(folder, "token", "--sub", sub, "--ttl", "8h", "--config", CONFIG).strip()


class Server:
    """`syncline serve` from entering to leaving the block; its output goes to server.log in the folder."""

    def __init__(self, folder: Path, arguments: Sequence[str] = ("--port", "0")) -> None:
        self.url = ""
        self._folder = folder
        self._arguments = arguments
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Server:
        # A session of its own: ^C in the terminal is for us alone, and the devices stop before the server does.
        self._process = subprocess.Popen(
            _command("serve", "--config", CONFIG, *self._arguments),
            cwd=self._folder,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._keep_output, args=(self._process,), daemon=True).start()
        try:
            self.url = self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """SIGTERM, which ends it cleanly; kill only what does not listen."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def exit_status(self) -> int | None:
        """None while it runs."""
        return self._process.poll() if self._process else None

    def _keep_output(self, process: subprocess.Popen[str]) -> None:
        """Read to the end: a server whose pipe is full would stop in the middle of its work."""
        assert process.stdout is not None
        with (self._folder / "server.log").open("a", encoding="utf-8") as log, process.stdout as output:
            for line in output:
                log.write(line)
                log.flush()
                self._lines.put(line)
        self._lines.put(None)

    def _wait_until_ready(self) -> str:
        printed: list[str] = []
        while True:
            try:
                line = self._lines.get(timeout=START_SECONDS_MAX)
            except queue.Empty:
                raise ServerFailedError(f"The server was not ready after {START_SECONDS_MAX:.0f} s.") from None
            if line is None:
                raise ServerFailedError("The server ended at once: " + "".join(printed[-12:]).strip())
            printed.append(line)
            if READY in line:
                return line.split(READY, 1)[1].split()[0]
