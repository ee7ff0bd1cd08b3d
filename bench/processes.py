"""The server and the devices as processes of their own, with what they cost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

READY = "listening on "
ROOT = Path(__file__).resolve().parents[1]
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """`cpu_seconds` of user and system time; `peak_mib` of resident memory."""

    cpu_seconds: float
    peak_mib: float


def cost_of(pid: int) -> Cost:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    peak = next(
        int(line.split()[1])
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
        if line.startswith("VmHWM")
    )
    return Cost((int(fields[11]) + int(fields[12])) / TICKS, peak / 1024)


def environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def syncline(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "syncline", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"syncline {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Server:
    """`syncline serve` on a free port from entering to leaving the block."""

    def __init__(self, folder: Path, *arguments: str, module: str = "syncline") -> None:
        self._folder = folder
        self._module = module
        self._arguments = arguments

    def __enter__(self) -> Server:
        self._log = (self._folder / "server.log").open("w", encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-m", self._module, "serve", "--port", "0", *self._arguments],
            cwd=self._folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self.process.stdout
        for line in self.process.stdout:
            if READY in line:
                self.url = line.split(READY)[1].strip()
                return self
        raise RuntimeError((self._folder / "server.log").read_text(encoding="utf-8"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        self.process.wait(20)
        assert self.process.stdout
        self.process.stdout.close()
        self._log.close()

    def cost(self) -> Cost:
        return cost_of(self.process.pid)


class Child:
    """A helper process of a module of this package: answers one JSON document per line on standard output."""

    def __init__(self, module: str, **options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(options)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, **order: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"A helper process ended with {self.process.wait()}.")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()
