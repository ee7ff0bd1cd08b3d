"""The command line in each mishap on the way: the exit status, the code on standard error, a report or nothing on
standard output, and never a traceback. The agent's side of the same: tests/integration/test_mishaps.py."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import python
from tests.integration.mishaps import Between, Play, answer, captive_portal, cut, redirect
from tests.integration.test_mishaps import MEDIA_TYPE, packed

from syncline.error_catalogue import CATALOGUE


@pytest.fixture
def between() -> Iterator[Between]:
    between = Between()
    yield between
    between.close()


def error_of(status: int, code: str, message: str) -> Play:
    """As the server itself would answer."""
    body = json.dumps({"t": "error", "code": code, "message": message, "hint": "", "retry": status >= 500}).encode()
    return answer(f"{status} Refused", body, kind="application/json")


WAITS: dict[str, tuple[Play, str]] = {
    "captive portal": (captive_portal(), "captive_portal"),
    "captive portal that redirects": (redirect(), "captive_portal"),
    "another program": (answer("404 Not Found"), "not_syncline"),
    "closed without a word": (cut, "unreachable"),
    "a server that starts": (error_of(503, "not_ready", "The service is starting or stopping."), "not_ready"),
    "the office's disk is full": (error_of(503, "source_disk_full", "It is full."), "source_disk_full"),
    "no frame": (answer("200 OK", b"\x09garbage", kind=MEDIA_TYPE), "bad_frame"),
}
ENDS: dict[str, tuple[Play, str]] = {
    "a token that has expired": (error_of(401, "token_expired", "The token has expired."), "token_expired"),
    "a token for somebody else": (error_of(401, "token_invalid", "Another audience."), "token_invalid"),
    "somebody else's file": (error_of(403, "other_user", "This device belongs to another user."), "other_user"),
    "an older server": (error_of(400, "protocol_version", "The device speaks 1, this server 0."), "protocol_version"),
    "too large a request": (error_of(413, "limit", "A request is above the limit."), "limit"),
    "no JSON": (answer("200 OK", b"\0{never", kind=MEDIA_TYPE), "bad_json"),
    "JSON of another kind": (answer("200 OK", packed({"hello": "there"}), kind=MEDIA_TYPE), "bad_field"),
}


def sync(url: str, folder: Path, *options: str) -> tuple[int, str, str]:
    where = ("--db", "ann.db", "--server", url, "--token", "t", "--timeout", "1", "--json")
    done = python("-m", "syncline", "device", "sync", *where, *options, folder=folder)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", WAITS)
def test_what_may_pass_is_waited_for_and_then_reported(name: str, between: Between, tmp_path: Path) -> None:
    between.play, code = WAITS[name]
    status, out, err = sync(between.url, tmp_path)
    assert status == 1 and "[sync_timeout]" in err and f"[{code}]" in err, err
    assert json.loads(out)["pending"] == 0
    assert CATALOGUE[code].again or code == "bad_frame", "another frame may be whole"


@pytest.mark.parametrize("name", ENDS)
def test_what_does_not_pass_is_told_at_once(name: str, between: Between, tmp_path: Path) -> None:
    """With something to do next, if only from the catalogue; nothing on standard output."""
    between.play, code = ENDS[name]
    status, out, err = sync(between.url, tmp_path)
    assert (status, out) == (1, "") and f"[{code}]" in err, err
    assert not CATALOGUE[code].again
    assert len([line for line in err.splitlines() if line.startswith("Error: ")]) == 1
    if name != "somebody else's file":  # the device has advice of its own
        assert CATALOGUE[code].remedy in err


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    status, out, err = sync(f"http://127.0.0.1:{port}", tmp_path)
    assert status == 1 and "[connection_refused]" in err and json.loads(out)["checkpoint"] == 0


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--server", "ftp://x"), "server_url"),
        (("--token", "@nothing"), "token_missing"),
        (("--token", "$NOTHING"), "token_missing"),
        (("--db", ":memory:"), "path"),
        (("--timeout", "soon"), "usage"),
        (("--colour", "red"), "usage"),
    ],
)
def test_wrong_use_is_2(options: tuple[str, ...], code: str, tmp_path: Path) -> None:
    status, out, err = sync("http://127.0.0.1:1", tmp_path, *options)
    assert (status, out) == (2, "") and f"[{code}]" in err and 2 in CATALOGUE[code].exit, err


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    status, out, err = sync("http://127.0.0.1:1", tmp_path, "--db", "no/such/ann.db")
    assert (status, out) == (1, "") and "[open_failed]" in err
