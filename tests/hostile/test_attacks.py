"""Attacks on a running server, over real sockets: whoever is not attacked notices nothing.

Elsewhere: garbage, bombs and too large requests in tests/integration/test_http.py; a stream's first message that makes
no sense, and a device that does not read, in tests/integration/test_live.py; floods in
tests/integration/test_overload.py.
"""

from __future__ import annotations

import base64
import contextlib
import os
import resource
import socket
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
import pytest
import zstandard
from tests.hostile.server_target import FOREIGN
from tests.integration.company import CONFIGURATION, Company, Server, holds_scope, query, token, wait_for
from tests.integration.test_http import Hand, refusal
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from syncline import limits
from syncline.protocol import frames
from syncline.protocol.cursor import digest_of

IMPATIENT = "from syncline import limits\nlimits.HEAD_SECONDS_MAX = 3.0\nlimits.SILENCE_SECONDS_MAX = 4.0\n"
PAGES = """
from syncline.server.job import Paging
from dataclasses import replace
from syncline.source.port import PageSize
begin = Paging.__init__

def small(paging, *arguments, **options):
    begin(paging, *arguments, **options)
    object.__setattr__(paging, "size", PageSize(2, 10_000))
    object.__setattr__(paging, "progress_bytes", 1)

Paging.__init__ = small
"""
"""Pages of two rows."""


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    company = Company(tmp_path, configuration=CONFIGURATION + "[serve]\nrequests_in_work_max = 20\n")
    yield company
    company.close()


def address(server: Server) -> tuple[str, int]:
    parts = urlsplit(server.url)
    return str(parts.hostname), int(parts.port or 0)


def memory_bytes(server: Server) -> int:
    """What it has now; 0 where the system does not say."""
    try:
        status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def descriptors(server: Server) -> int:
    return sum(1 for _ in Path(f"/proc/{server.process.pid}/fd").iterdir())


# ---------------------------------------------------------------- connections
@pytest.mark.skipif(sys.platform != "linux", reason="counts a process's descriptors")
def test_thousands_of_half_open_connections_disturb_nobody_and_are_closed(company: Company) -> None:
    """P18, P19: as many as the system lets this test open; some say nothing, some half a head, some half a second
    request. What they take is bounded for each, and given back."""
    server = company.serve(IMPATIENT)
    ben = company.live("ben")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = max(min(soft - 200, 3_000), 100)
    before = memory_bytes(server)
    heads = (b"", b"POST /v1/upload HT", b"POST /v1/hello HTTP/1.1\r\nHost: x\r\nX-Y: ", b"\x16\x03\x01\x02\x00\x01",
             b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /hea")  # fmt: skip
    with contextlib.ExitStack() as stack:
        for number in range(many):
            raw = stack.enter_context(socket.create_connection(address(server), 60))
            with contextlib.suppress(OSError):  # closed already, by a server that is faster than this test
                raw.sendall(heads[number % len(heads)])
        assert memory_bytes(server) - before < many * 64 * 1024
        company.execute("INSERT INTO notes VALUES('meanwhile', 'v-cy', 'x')")
        wait_for(lambda: query(ben.path, "SELECT 1 FROM notes WHERE id = 'meanwhile'"), "Ben hears of it")
        ann = company.device("ann")
        ann.sync(timeout=60)
        assert holds_scope(company, "ann", ann.path)
        wait_for(lambda: descriptors(server) < 100, "they are closed")
    assert ben.status.state == "live"


def test_a_slow_writer_has_no_more_than_half_of_the_places(company: Company) -> None:
    """P18, P19: one user sends thirty requests a byte at a time; the others are served, and he is given up."""
    server = company.serve(IMPATIENT)
    head = (
        f"POST /v1/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token('ben')}\r\nContent-Length: 9999\r\n\r\n"
    )
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(address(server), 60)) for _ in range(30)]
        for raw in slow:
            raw.sendall(head.encode() + b"\0")
        ann = company.device("ann")
        ann.sync(timeout=60)
        assert holds_scope(company, "ann", ann.path)
        answers = []
        for raw in slow:
            answers.append(heard(raw))
    codes = [answer.split(b'"code": "')[1].split(b'"')[0] for answer in answers]
    assert set(codes) == {b"too_many_requests", b"timed_out"} and codes.count(b"timed_out") == 10


def heard(raw: socket.socket) -> bytes:
    """An answer whose body has come, too."""
    raw.settimeout(60)
    found = b""
    while b'"code"' not in found and (piece := raw.recv(65536)):
        found += piece
    return found


# ---------------------------------------------------------------- bombs
def bombs() -> dict[str, tuple[bytes, str]]:
    zeros = b"\0" * (1 << 27)
    sized = zstandard.ZstdCompressor(level=3).compress(zeros)
    unsized = zstandard.ZstdCompressor(level=3, write_content_size=False).compress(zeros)
    nested = b"\0" + b'{"a":' * 50_000 + b"1" + b"}" * 50_000
    return {
        "gzip": (b"\1" + zlib.compress(zeros, 6), "limit"),
        "zstd": (b"\2" + sized, "limit"),
        "zstd of unknown size": (b"\2" + unsized, "bad_frame"),
        "bomb in a bomb": (b"\1" + zlib.compress(b"\1" + zlib.compress(zeros, 6), 6), "bad_json"),
        "nesting": (nested, "bad_json"),
        "lists": (b"\0" + b'{"t":"open","device":' + b"[" * 900 + b"]" * 900 + b"}", "limit"),
        "a bundle": (frames.bundle([b"\1" + zlib.compress(zeros, 6)]), "bad_frame"),
    }


def test_a_bomb_on_a_stream_is_refused_and_others_go_on(company: Company) -> None:
    """P19: what it inflates to is in nobody's memory."""
    server = company.serve()
    ben = company.live("ben")
    before = memory_bytes(server)
    headers = {"Authorization": f"Bearer {token('ann')}"}
    for name, (bomb, code) in bombs().items():
        with connect("ws" + server.url.removeprefix("http") + "/v1/live", additional_headers=headers) as stream:
            stream.send(bomb)
            packed = stream.recv(timeout=30)
            assert isinstance(packed, bytes)
            assert frames.load(frames.unpack(packed))["code"] == code, name
            with pytest.raises(ConnectionClosed):
                stream.recv(timeout=30)
    assert memory_bytes(server) - before < 64 * 2**20, "each would have been 128 MB"
    company.execute("INSERT INTO notes VALUES('meanwhile', 'v-cy', 'x')")
    wait_for(lambda: query(ben.path, "SELECT 1 FROM notes WHERE id = 'meanwhile'"), "Ben hears of it")


def test_the_largest_request_takes_a_bounded_multiple_of_itself_and_gives_it_back(company: Company) -> None:
    """P19: sixteen megabytes of the JSON that is dearest to read; docs/security.md has the factor."""
    server = company.serve()
    hand = Hand(server.url, token("ann"))
    hand.hello()
    before = memory_bytes(server)
    for piece in (b"[],",):
        count = (limits.REQUEST_BYTES_MAX - 200) // len(piece)
        body = b'{"device":"x","groups":[' + (piece * count)[:-1] + b"]}"
        packed = b"\2" + zstandard.compress(body)
        assert len(packed) < len(body) / 500
        refusal(hand.post("/v1/upload", packed), 413, "limit")
    assert memory_bytes(server) - before < 32 * limits.REQUEST_BYTES_MAX
    hand.close()


# ---------------------------------------------------------------- tokens, cursors, replays
def test_a_stage_token_of_another_nurse_or_a_changed_one_brings_nothing_foreign(company: Company) -> None:
    """P8, P19: a token says where a download goes on, never what one may have; a changed one begins it anew."""
    company.execute(f"UPDATE notes SET body = '{FOREIGN}' WHERE id = 'n-cy'")
    company.execute(f"UPDATE patients SET name = '{FOREIGN}' WHERE id = 'cy'")
    for number in range(30):
        company.execute(f"INSERT INTO notes VALUES('bo-{number}', 'v-bo', 'x')")
        company.execute(f"INSERT INTO notes VALUES('cy-{number}', 'v-cy', '{FOREIGN}')")
    server = company.serve(PAGES)
    ann, ben = Hand(server.url, token("ann")), Hand(server.url, token("ben"))
    for hand in (ann, ben):
        hand.hello()
    begun = ben.download_all()
    sealed = [frame["token"] for frame in begun if frame["t"] == "progress"]
    staged = next(frame["buckets"] for frame in begun if frame["t"] == "stage")
    assert len(sealed) > 5 and FOREIGN.encode() in ben.seen
    raw = base64.urlsafe_b64decode(sealed[3])
    forged = [*sealed[:6], base64.urlsafe_b64encode(raw[:-1] + b"\0").decode(), sealed[2][:-4], sealed[2] + "AAAA", "", "é",
              base64.urlsafe_b64encode(bytes(200)).decode(), sealed[1].replace("A", "B")]  # fmt: skip
    for text in forged:
        stage = {"token": text, "digest": digest_of(staged), "buckets": staged}
        answer = ann.download(stage=stage)
        assert answer.status_code == 200, answer.text
        ann.seen += b"".join(frames.unpack(each) for each in frames.FrameReader().feed(answer.content))
    assert FOREIGN.encode() not in ann.seen and b"cy-1" not in ann.seen
    for hand in (ann, ben):
        hand.close()


def test_a_replayed_upload_does_nothing_and_a_replayed_id_of_another_device_is_a_duplicate(company: Company) -> None:
    """P5: whole requests again, hours later, by another connection, or from another device of hers."""
    server = company.serve()
    first, second = Hand(server.url, token("ann")), Hand(server.url, token("ann"))
    first.hello()
    second.hello()
    counted: dict[str, Any] = {"table": "visits", "key": ["v-ada"], "columns": ["n"], "new": [1], "was": [0]}
    mutation = first.mutation(1, **counted)
    for _ in range(3):
        assert frames.load(frames.unpack(first.upload(mutation).content)) == {"last": 1, "gap": False}
    assert frames.load(frames.unpack(second.upload(mutation).content)) == {"last": 1, "gap": False}
    assert company.execute("SELECT n FROM visits WHERE id = 'v-ada'") == [(1,)]
    assert company.execute("SELECT count(*) FROM audit") == [(1,)]
    refusal(first.upload({**mutation, "id": base64.b64encode(os.urandom(16)).decode()}), 409, "device_cloned")
    second.device = first.device
    second.headers = {"Authorization": f"Bearer {token('ben')}"}
    refusal(second.upload(mutation), 403, "other_user")
    for hand in (first, second):
        hand.close()


def test_sql_in_every_name_and_value_is_a_name_or_a_value(company: Company) -> None:
    """P8, P19: nothing that a device writes is read as SQL, by the server or by the devices that get it."""
    server = company.serve()
    hand = Hand(server.url, token("ann"))
    hand.hello()
    before = company.execute("SELECT sql FROM sqlite_schema ORDER BY 1")
    evil = [
        "' OR 1=1 --",
        '"; DROP TABLE notes; --',
        "x'); DELETE FROM patients; --",
        "]",
        "`",
        "?1",
        ":sub",
        "%s",
        "\0",
        "\\",
    ]
    number = 0
    for text in evil:
        for change in ({"table": text}, {"columns": [text]}, {"key_columns": [text]}, {"key": [text]}):
            number += 1
            assert hand.upload(hand.mutation(number, **change)).status_code == 200
        number += 1
        note = {
            "table": "notes",
            "op": "I",
            "key": [f"{number}{text}"],
            "columns": ["visit_id", "body"],
            "was": [None, None],
        }
        assert hand.upload(hand.mutation(number, **note, new=["v-bo", text])).status_code == 200
        refusal(hand.download(cursor=f"{text}.1", digest=text), 409, "buckets_needed") if "\0" not in text else None
        hand.download_all(cursor=f"{text}.1", digest=text, buckets=[text])
    assert company.execute("SELECT sql FROM sqlite_schema ORDER BY 1") == before
    stored = company.execute(
        "SELECT body FROM notes WHERE body <> 'sleeps well' AND body <> 'canary-of-cy' ORDER BY rowid"
    )
    assert [body for (body,) in stored] == evil
    ben = company.device("ben")
    ben.sync(timeout=60)
    assert holds_scope(company, "ben", ben.path)
    hand.close()


# ---------------------------------------------------------------- what is told
def test_no_value_of_a_row_is_in_a_log_or_in_an_error(company: Company) -> None:
    """P19: everything that a day brings, at the finest log level, with a mark in each value."""
    canary = "canary-in-every-value"
    for table, column in (("patients", "name"), ("notes", "body"), ("medications", "name")):
        company.execute(f"UPDATE {table} SET {column} = {column} || '{canary}'")
    server = company.serve("", "--log-level", "debug")
    ann = company.live("ann")
    for statement in (
        f"UPDATE visits SET status = '{canary}' WHERE id = 'v-ada'",
        f"INSERT INTO notes VALUES('n1', 'v-bo', '{canary}')",
        f"UPDATE patients SET name = '{canary}' WHERE id = 'bo'",
        "UPDATE visits SET n = n + 1 WHERE id = 'v-bo'",
    ):
        query(ann.path, statement)
    wait_for(lambda: len(ann.rejections()) == 1 and not ann.status.pending, "all is judged")
    hand = Hand(server.url, token("ann"))
    hand.hello()
    errors = [
        hand.upload(hand.mutation(1, new=[["i", canary]])),
        hand.upload(hand.mutation(1, key=[{"x": canary}])),
        hand.upload(hand.mutation(1, wall=canary)),
        hand.post("/v1/upload", b"\0" + canary.encode()),
        hand.download(cursor=canary, digest=canary),
        hand.download(stage={"token": canary, "digest": canary, "buckets": canary}),
        httpx.post(f"{server.url}/v1/hello", headers={"Authorization": f"Bearer {canary}"}),
    ]
    for number, change in enumerate(
        ({"table": canary}, {"columns": [canary]}, {"key": [canary]}, {"key_columns": [canary]}), 1
    ):
        hand.upload(hand.mutation(number, **change))
    refused = [answer.text for answer in errors if answer.status_code >= 400]
    assert len(refused) == 6 and not any(canary in text for text in refused)
    hand.close()
    log = server.log()
    assert canary not in log and "Traceback" not in log


# ---------------------------------------------------------------- dear messages
def dear(items: int) -> bytes:
    """A message of so many lists, packed: each counts as four."""
    return b"\2" + zstandard.compress(b'{"t":"x","a":[' + b"[]," * items + b"0]}")


def test_requests_and_streams_refuse_them_and_others_are_served(company: Company) -> None:
    """P18, P19: a stream's first message, one on a stream that is open, and requests of every kind."""
    server = company.serve()
    hand = Hand(server.url, token("ann"))
    with contextlib.closing(hand.http):
        for path in ("hello", "download", "verify", "verified"):
            refusal(hand.post(f"/v1/{path}", dear(limits.SHORT_MESSAGE_ITEMS_MAX // 4 + 1)), 413, "limit")
        refusal(hand.post("/v1/upload", dear(limits.JSON_ITEMS_MAX // 4 + 1)), 413, "limit")
    headers = {"Authorization": f"Bearer {token('ann')}"}
    with connect("ws" + server.url.removeprefix("http") + "/v1/live", additional_headers=headers) as stream:
        stream.send(dear(limits.SHORT_MESSAGE_ITEMS_MAX // 4 + 1))
        assert frames.load(frames.unpack(cast(bytes, stream.recv(timeout=30))))["code"] == "limit"
    ben = company.device("ben")
    ben.sync(timeout=60)
    assert holds_scope(company, "ben", ben.path)
