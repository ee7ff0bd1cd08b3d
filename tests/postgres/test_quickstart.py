"""The quick start of docs/postgresql.md: its commands are run as they stand there, and say what stands there."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import environment
from tests.postgres.conftest import HostDatabase

PAGE = Path(__file__).parents[2] / "docs" / "postgresql.md"
SECTION = PAGE.read_text(encoding="utf-8").split("\n## Quick start\n")[1].split("\n## ")[0]
PAIRS = re.findall(r"^```sh\n(.*?)^```\n```\n(.*?)^```", SECTION, re.DOTALL | re.MULTILINE)
SECONDS_MAX = 120


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def shell(postgres: HostDatabase, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a shell in which `syncline`, `psql` and `pg_dump` are found."""
    if shutil.which("sqlite3") is None:
        pytest.skip("the program sqlite3 is not installed")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "syncline").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m syncline "$@"\n')
    (programs / "syncline").chmod(0o755)
    for name in ("psql", "pg_dump"):
        (programs / name).symlink_to(postgres.server.installation.programs / name)
    found = environment()
    yield {
        **found,
        "PATH": f"{programs}{os.pathsep}{found['PATH']}",
        "DATABASE_URL": postgres.url,
        "TMPDIR": str(tmp_path),
    }


def run(script: str, environment: dict[str, str], out: Path) -> str:
    """What a shell says, on both outputs. Whatever it leaves behind is ended with it."""
    with out.open("wb") as file:
        process = subprocess.Popen(
            ["bash", "-c", script], stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            process.wait(SECONDS_MAX)
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    return out.read_text(encoding="utf-8")


def plain(text: str) -> list[str]:
    """Lines without what is another one each time: times, checkpoints, ports; the order of two programs."""
    text = re.sub(r"postgresql://\S*?\.(?=\s)", "postgresql://….", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8787", text)
    text = re.sub(r"\d+\.\d s\b", "0.0 s", re.sub(r"Checkpoint \d+", "Checkpoint n", text))
    lines = [line.rstrip() for line in text.splitlines() if "does not answer yet" not in line]
    return sorted(line for line in lines if line)


def test_every_command_of_the_quick_start_says_what_the_page_says(shell: dict[str, str], tmp_path: Path) -> None:
    assert len(PAIRS) == len(re.findall(r"^```sh$", SECTION, re.MULTILINE)) == 5, "each has its output"
    mark = "========"
    port = free_port()
    script = f"\necho {mark}\n".join(["set +m", *(commands for commands, _ in PAIRS)])
    script = script.replace("syncline serve &", f"syncline serve --port {port} &").replace(
        "127.0.0.1:8787", f"127.0.0.1:{port}"
    )
    begun = time.monotonic()
    said = run(script, shell, tmp_path / "said").split(f"{mark}\n")[1:]
    assert len(said) == len(PAIRS), (said, time.monotonic() - begun)
    for (commands, promised), found in zip(PAIRS, said, strict=True):
        assert plain(found) == plain(promised), commands
