"""Processes that are there in a moment: forked from one that has imported all that they need.

A server or an app that starts from nothing spends a second of CPU on imports; a test that kills hundreds of them would
do little else. `python -m tests.integration.zygote FD MODULE…` is the process that is forked.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.integration.company import environment

MESSAGE_BYTES_MAX = 65536
SERVER_MODULES = (
    "syncline.cli.main",
    "syncline.cli.serve",
    "syncline.cli.serving",
    "syncline.server.app",
    "syncline.source.sqlite.source",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
    "uvloop",
)


class Zygote:
    """`Child` and `ServerChild` are made from it. With `close` it ends, and all that came from it."""

    def __init__(self, folder: Path, modules: Sequence[str]) -> None:
        self._channel, theirs = socket.socketpair()
        command = [sys.executable, "-m", "tests.integration.zygote", str(theirs.fileno()), *modules]
        with theirs:
            self._process = subprocess.Popen(command, cwd=folder, env=environment(), pass_fds=[theirs.fileno()])
        self._guard = threading.Lock()

    def ask(self, message: dict[str, Any], files: Sequence[int] = ()) -> int:
        with self._guard:
            socket.send_fds(self._channel, [json.dumps(message).encode()], list(files))
            answer: int = json.loads(self._channel.recv(MESSAGE_BYTES_MAX))
            return answer

    def close(self) -> None:
        self._channel.close()
        self._process.wait(60)


class Child:
    """A process that calls `target` ("module:function") with `arguments` and says on its first line that it is ready.
    `kill` is kill -9."""

    def __init__(self, zygote: Zygote, target: str, arguments: Sequence[str], log: Path, ready: str) -> None:
        self._zygote = zygote
        self._log = log
        self._is_over = False
        read_from, its_output = os.pipe()
        its_input, write_to = os.pipe()
        job = {"target": target, "arguments": list(arguments), "folder": str(log.parent), "log": str(log)}
        self.pid = zygote.ask(job, [its_input, its_output])
        os.close(its_input)
        os.close(its_output)
        self._output = os.fdopen(read_from, encoding="utf-8")
        self._input = os.fdopen(write_to, "w", encoding="utf-8")
        self.first_line = self._output.readline().strip()
        if not self.first_line.startswith(ready):
            self.kill()
            raise AssertionError(f"{target} did not start:\n{self.log()}")

    def tell(self, line: str) -> None:
        self._input.write(f"{line}\n")
        self._input.flush()

    def kill(self) -> None:
        """It is gone when this returns, and has let go of its files."""
        if self._is_over:
            return
        self._is_over = True
        self._zygote.ask({"kill": self.pid})
        self._output.close()
        with contextlib.suppress(OSError):  # what was told to a process that is gone
            self._input.close()

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")


class ServerChild(Child):
    """`syncline serve --port 0`. `url` has the port that was free."""

    def __init__(self, zygote: Zygote, log: Path) -> None:
        arguments = ["serve", "--port", "0", "--config", str(log.parent / "syncline.toml")]
        super().__init__(zygote, "syncline.cli.main:main", arguments, log, "listening on http://")
        self.url = self.first_line.removeprefix("listening on ")
        self.port = int(self.url.rpartition(":")[2])


# ---------------------------------------------------------------- in the process that is forked
def main() -> None:
    for module in sys.argv[2:]:
        importlib.import_module(module)
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        serve(channel)


def serve(channel: socket.socket) -> None:
    children: set[int] = set()
    while True:
        message, files, _, _ = socket.recv_fds(channel, MESSAGE_BYTES_MAX, 2)
        if not message:
            break
        asked = json.loads(message)
        if "kill" in asked:
            children.discard(asked["kill"])
            answer = end(asked["kill"])
        else:
            answer = os.fork()
            if answer == 0:
                channel.close()
                become(asked, *files)
            children.add(answer)
            for file in files:
                os.close(file)
        channel.sendall(json.dumps(answer).encode())
    for child in children:
        end(child)


def end(pid: int) -> int:
    os.kill(pid, signal.SIGKILL)  # a zombie, too, has this number until it is waited for
    return os.waitpid(pid, 0)[1]


def become(job: dict[str, Any], its_input: int, its_output: int) -> None:
    """Never returns."""
    status = 1
    try:
        os.chdir(job["folder"])
        log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number, file in enumerate((its_input, its_output, log)):
            os.dup2(file, number)
            os.close(file)
        sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        sys.argv = [job["target"], *job["arguments"]]
        module, _, function = job["target"].partition(":")
        getattr(importlib.import_module(module), function)()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
