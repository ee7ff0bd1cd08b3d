"""`syncline serve` as a script uses it: it says when it is ready, and ends when it is told to."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from tests.cli.conftest import Syncline, environment, python


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running server and its URL; killed at the end if it still runs."""
    command = [sys.executable, "-m", "syncline", "serve", "--port", "0", *options]
    process = subprocess.Popen(
        command, cwd=folder, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on http://"), process.stderr.read() if process.stderr else ""
        yield process, line.removeprefix("listening on ").strip()
    finally:
        process.kill()
        process.communicate(timeout=30)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_listens_answers_and_ends_cleanly(number: signal.Signals, configured: Path, syncline: Syncline) -> None:
    assert syncline("provision").status == 0
    with serving(configured) as (process, url):
        assert httpx.get(f"{url}/healthz").status_code == 200
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (0, "")
        assert "Traceback" not in err


def test_it_ends_while_a_client_holds_a_connection(configured: Path, syncline: Syncline) -> None:
    assert syncline("provision").status == 0
    with serving(configured) as (process, url), httpx.Client() as client:
        client.get(f"{url}/healthz")
        process.terminate()
        process.communicate(timeout=30)
        assert process.returncode == 0


def test_two_servers_on_one_database_both_answer(configured: Path, syncline: Syncline) -> None:
    assert syncline("provision").status == 0
    with serving(configured) as (_, first), serving(configured) as (_, second):
        assert first != second
        assert httpx.get(f"{second}/healthz").status_code == 200
        told = syncline("deprovision", "--yes")
        assert told.status == 1
        assert "[server_running]" in told.err


def test_without_capture_it_says_what_to_run(configured: Path) -> None:
    told = python("-m", "syncline", "serve", "--port", "0", folder=configured)
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr == (
        "Error: Capture is not installed in this database. Run: syncline provision [not_provisioned]\n"
    )


def test_a_configuration_that_does_not_fit_is_2(configured: Path, syncline: Syncline) -> None:
    assert syncline("provision").status == 0
    path = configured / "syncline.toml"
    path.write_text(path.read_text(encoding="utf-8").replace('root = "patients"', 'root = "patient"'), encoding="utf-8")
    told = python("-m", "syncline", "serve", "--port", "0", folder=configured)
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.startswith("Error: syncline.toml:")
    assert 'Did you mean "patients"?' in told.stderr


def test_a_port_that_is_taken(configured: Path, syncline: Syncline) -> None:
    assert syncline("provision").status == 0
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        told = python("-m", "syncline", "serve", "--port", str(port), folder=configured)
    assert (told.returncode, told.stdout) == (1, "")
    assert f"Nothing can listen on 127.0.0.1:{port}" in told.stderr
    assert "[address_in_use]" in told.stderr


def test_a_log_level_that_is_none(configured: Path) -> None:
    told = python("-m", "syncline", "serve", "--log-level", "loud", folder=configured)
    assert (told.returncode, told.stdout) == (2, "")
    assert "[usage]" in told.stderr
