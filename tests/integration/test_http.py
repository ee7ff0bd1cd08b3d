"""docs/protocol.md spoken by hand: what a client in any language, or an attacker, would send."""

from __future__ import annotations

import base64
import json
import os
import socket
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import pytest
import zstandard
from tests.integration.company import SECRET, Company, holds_scope, token, wait_for

from syncline import limits
from syncline.protocol import frames
from syncline.protocol.cursor import digest_of

HELLO: dict[str, Any] = {
    "protocol": 2,
    "device": None,
    "nonce": None,
    "engine": "hand",
    "sqlite": sqlite3.sqlite_version,
    "packings": ["gzip"],
    "clock": 0,
    "program": None,
    "schema_version": None,
    "included": 0,
    "cursor": None,
}
CANARY = "canary-8bd1"
"""Sent in what is refused: no answer repeats it."""
HIDDEN = ("ssn", "SSN-OF")


class Hand:
    """A client; `seen` holds every byte that the server ever answered to it."""

    def __init__(self, url: str, bearer: str) -> None:
        self.url = url
        self.headers = {"Authorization": f"Bearer {bearer}"}
        self.http = httpx.Client(timeout=60, headers={"Accept-Encoding": "identity"})
        self.seen = bytearray()
        self.device = ""

    def post(self, path: str, body: bytes | Iterator[bytes], **headers: str) -> httpx.Response:
        response = self.http.post(self.url + path, content=body, headers={**self.headers, **headers})
        self.seen += response.content
        return response

    def send(self, path: str, message: dict[str, Any], packing: int = frames.PLAIN) -> httpx.Response:
        return self.post(path, frames.pack(frames.dump(message), packing))

    def hello(self, **changed: Any) -> dict[str, Any]:
        response = self.send("/v1/hello", {**HELLO, "clock": int(time.time() * 1e6), **changed})
        assert response.status_code == 200, response.text
        answer = frames.load(frames.unpack(response.content))
        self.seen += frames.dump(answer)
        self.device = answer["device"]
        return answer

    def download(self, **changed: Any) -> httpx.Response:
        message = {"device": self.device, "cursor": None, "included": 0, "apply_count": 0, "digest": digest_of(())}
        return self.send("/v1/download", {**message, **changed})

    def download_all(self, **changed: Any) -> list[dict[str, Any]]:
        response = self.download(**changed)
        assert response.status_code == 200, response.text
        reader = frames.FrameReader()
        received = [frames.unpack(packed) for packed in reader.feed(response.content)]
        reader.close()
        self.seen += b"".join(received)
        return [frames.load(frame) for frame in received]

    def mutation(self, number: int, **changed: Any) -> dict[str, Any]:
        return {
            "n": number,
            "id": base64.b64encode(os.urandom(16)).decode(),
            "table": "patients",
            "op": "U",
            "key": ["ada"],
            "key_columns": ["id"],
            "columns": ["name"],
            "new": [CANARY],
            "was": ["Ada"],
            "wall": int(time.time() * 1e6),
            "seen": 0,
            "base": 0,
            "insert": 0,
            "included": 0,
            **changed,
        }

    def upload(self, *mutations: dict[str, Any], **changed: Any) -> httpx.Response:
        groups = [{"marked": False, "mutations": list(mutations)}]
        clock = int(time.time() * 1e6)
        message = {"device": self.device, "clock": clock, "offset": 0, "floor": 0, "groups": groups, **changed}
        return self.send("/v1/upload", message)

    def close(self) -> None:
        self.http.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """One company for the tests that leave its data alone."""
    shared = Company(tmp_path_factory.mktemp("shared"))
    shared.serve()
    yield shared
    shared.close()


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    """The server's: of the test's own company if it asks for one."""
    if "company" in request.fixturenames:
        company: Company = request.getfixturevalue("company")
        return company.serve(road=False).url
    shared: Company = request.getfixturevalue("shared")
    return shared.servers[0].url


@pytest.fixture
def ann(url: str) -> Iterator[Hand]:
    """Ann's client. Whatever happened: hidden columns were in no answer."""
    hand = Hand(url, token("ann"))
    yield hand
    hand.close()
    for word in HIDDEN:
        assert word.encode() not in hand.seen


def refusal(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Errors are plain JSON with these fields, and repeat nothing of what was sent."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body: dict[str, Any] = response.json()
    assert set(body) == {"t", "code", "message", "hint", "retry", "retry_after"}
    assert (body["t"], body["code"]) == ("error", code)
    assert CANARY not in response.text
    return body


# ---------------------------------------------------------------- as it should be
def test_a_first_sync_by_hand(ann: Hand) -> None:
    """P8: the frames of a cut in their order, and in them the scope and nothing else."""
    answer = ann.hello()
    assert (answer["identity"], answer["user"], answer["last"]) == ("new", "ann", 0)
    assert answer["received"] <= answer["answered"]
    cut = ann.download_all()
    assert [cut[0]["t"], cut[-1]["t"]] == ["begin", "commit"]
    assert cut[0]["reset"] is True
    rows = {(frame["table"], row[0]) for frame in cut if frame["t"] == "rows" for row in frame["rows"]}
    assert rows == {
        ("patients", "ada"), ("patients", "bo"), ("visits", "v-ada"), ("visits", "v-bo"), ("notes", "n-ada"),
        ("orders", "o-bo"), ("lines", "l1"), ("lines", "l2"), ("medications", "m1"),
    }  # fmt: skip
    assert cut[-1]["buckets"]["add"] == ['caseload["ada"]', 'caseload["bo"]', "formulary[]"]


def test_an_upload_by_hand_is_included_by_the_next_cut(ann: Hand, company: Company) -> None:
    """P3, P5: a repeat, a gap and an older part of the same request change nothing."""
    ann.hello()
    commit = ann.download_all()[-1]
    first, second = ann.mutation(1, new=["One"]), ann.mutation(2, new=["Two"], was=["One"])
    assert frames.load(frames.unpack(ann.upload(second).content)) == {"last": 0, "gap": True}
    for mutations in ((first,), (first, second), (first,), (second,)):
        assert frames.load(frames.unpack(ann.upload(*mutations).content))["gap"] is False
    held = commit["buckets"]["add"]
    standing = {"cursor": commit["cursor"], "apply_count": 1, "digest": digest_of(held)}
    cut = ann.download_all(**standing, wait=20)
    while cut[-1]["included"] < 2:
        cut = ann.download_all(**standing, wait=20)
    assert company.execute("SELECT name FROM patients WHERE id = 'ada'") == [("Two",)]
    assert [frame["rows"] for frame in cut if frame["t"] == "rows"] == [[["ada", "Two"]]]
    assert [frame for frame in cut if frame["t"] == "outcome"] == []


def test_what_was_agreed_on_packs_the_frames(ann: Hand, company: Company) -> None:
    """Frames above 1 KB come in the packing that hello agreed on; a client without any gets plain ones."""
    company.execute("WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 200) "
                    "INSERT INTO notes SELECT 'long' || i, 'v-ada', 'the same words again and again' FROM c")  # fmt: skip
    sizes = {}
    for name, number in (("zstd", frames.ZSTD), ("gzip", frames.GZIP), ("plain", frames.PLAIN)):
        answer = ann.hello(packings=[name])
        assert answer["packing"] == name
        content = ann.download(packing=name).content
        kinds = {packed[0] for packed in frames.FrameReader().feed(content) if len(packed) > 2000 or packed[0]}
        assert kinds == {number}
        sizes[name] = len(content)
    assert max(sizes["zstd"], sizes["gzip"]) < sizes["plain"] / 3
    assert ann.hello(packings=["zstd", "gzip"])["packing"] == "zstd"
    assert ann.hello(packings=["brotli"])["packing"] == "plain"


@pytest.mark.parametrize("packing", [frames.PLAIN, frames.GZIP, frames.ZSTD])
def test_requests_may_be_packed(packing: int, ann: Hand) -> None:
    message = {**HELLO, "engine": "e" * 150, "sqlite": "s" * 150, "packings": ["p" * 1500]}
    assert ann.send("/v1/hello", message, packing).status_code == 200


def test_a_long_poll_returns_at_once_on_news_and_with_a_heartbeat_on_time_out(ann: Hand, company: Company) -> None:
    ann.hello()
    commit = ann.download_all()[-1]
    standing = {"cursor": commit["cursor"], "apply_count": 1, "digest": digest_of(commit["buckets"]["add"])}
    begun = time.monotonic()
    (beat,) = ann.download_all(**standing, wait=1)
    assert 0.9 < time.monotonic() - begun < 20
    assert (beat["t"], beat["head"], beat["apply_count"]) == ("heartbeat", commit["checkpoint"], 1)

    writing = threading.Timer(0.5, company.execute, ("UPDATE patients SET name = 'News' WHERE id = 'bo'",))
    writing.start()
    begun = time.monotonic()
    cut = ann.download_all(**standing, wait=50)
    writing.join()
    assert time.monotonic() - begun < 25
    assert [frame["rows"] for frame in cut if frame["t"] == "rows"] == [[["bo", "News"]]]

    begun = time.monotonic()
    assert ann.download_all(**standing, wait=50)[-1]["t"] == "commit"
    assert time.monotonic() - begun < 25


def test_a_cursor_of_nowhere_gets_everything_anew(ann: Hand) -> None:
    """P19: a forged cursor is one of a lost time."""
    ann.hello()
    commit = ann.download_all()[-1]
    held = commit["buckets"]["add"]
    for cursor in ("x.1", commit["cursor"].replace(".", "0."), f"{commit['cursor']}99", "", "💥", "a.-1"):
        cut = ann.download_all(cursor=cursor, digest=digest_of(held), buckets=held)
        assert cut[0]["reset"] is True
        assert {frame["table"] for frame in cut if frame["t"] == "rows"} >= {"patients", "visits", "notes"}


def test_health(url: str) -> None:
    assert httpx.get(f"{url}/healthz").status_code == 200
    wait_for(lambda: httpx.get(f"{url}/readyz").status_code == 200, "ready")
    answer = httpx.get(f"{url}/readyz").json()
    assert (answer["ready"], answer["fault"]) == (True, None)


def test_not_ready_says_why(url: str, company: Company) -> None:
    """P20: a migration that takes a table of the configuration away is told, and nothing is guessed."""
    wait_for(lambda: httpx.get(f"{url}/readyz").status_code == 200, "ready")
    company.execute("ALTER TABLE lines RENAME TO order_lines")
    wait_for(lambda: httpx.get(f"{url}/readyz").status_code == 503, "the fault")
    assert "syncline.toml:" in httpx.get(f"{url}/readyz").json()["fault"]
    assert "[unknown_table]" in httpx.get(f"{url}/readyz").json()["fault"]
    company.execute("ALTER TABLE order_lines RENAME TO lines")
    wait_for(lambda: httpx.get(f"{url}/readyz").status_code == 200, "ready again")


# ---------------------------------------------------------------- who is asking
@pytest.mark.parametrize("path", ["/v1/hello", "/v1/upload", "/v1/download"])
def test_without_a_good_token_it_is_401(path: str, ann: Hand) -> None:
    now = int(time.time())
    good: dict[str, Any] = {"sub": CANARY, "exp": now + 60}
    bearers = {
        "": "token_missing",
        "Basic YTpi": "token_missing",
        "Bearer": "token_missing",
        f"Bearer {CANARY}": "token_invalid",
        f"Bearer {jwt.encode(good, SECRET[::-1], 'HS256')}": "token_invalid",
        f"Bearer {jwt.encode(good, '', 'none')}": "token_invalid",
        f"Bearer {jwt.encode(good, SECRET + SECRET, 'HS512')}": "token_invalid",
        f"Bearer {jwt.encode({**good, 'exp': now - 3600}, SECRET, 'HS256')}": "token_expired",
        f"Bearer {jwt.encode({**good, 'nbf': now + 3600}, SECRET, 'HS256')}": "token_invalid",
    }
    for bearer, code in bearers.items():
        ann.headers = {"Authorization": bearer} if bearer else {}
        refusal(ann.send(path, HELLO), 401, code)


def test_a_token_that_names_nobody_is_403(ann: Hand) -> None:
    for claims in ({}, {"sub": None}, {"sub": ""}, {"sub": ["ann"]}, {"sub": True}):
        bearer = jwt.encode({"exp": int(time.time()) + 60, **claims}, SECRET, "HS256")
        ann.headers = {"Authorization": f"Bearer {bearer}"}
        response = ann.send("/v1/hello", HELLO)
        assert response.status_code in (401, 403), claims
        assert response.json()["code"] in ("claim_missing", "token_invalid")


def test_another_users_device_is_403_for_every_call(ann: Hand, url: str, shared: Company) -> None:
    """P8: Ben has Ann's device id, and learns nothing by it."""
    nonce = ann.hello()["nonce"]
    ben = Hand(url, token("ben"))
    ben.device = ann.device
    refusal(ben.send("/v1/hello", {**HELLO, "device": ann.device, "nonce": nonce}), 403, "other_user")
    refusal(ben.download(), 403, "other_user")
    refusal(ben.upload(ben.mutation(1)), 403, "other_user")
    ben.close()
    assert shared.execute("SELECT name FROM patients WHERE id = 'ada'") == [("Ada",)]
    assert ann.hello(device=ann.device, nonce=nonce)["identity"] == "known"


def test_an_unknown_device_is_409(ann: Hand) -> None:
    for name in (CANARY, "", "' OR 1=1 --"):
        ann.device = name
        refusal(ann.download(), 409, "device_unknown")
        refusal(ann.upload(ann.mutation(1)), 409, "device_unknown")


def test_a_digest_of_other_buckets_is_409_until_they_are_named(ann: Hand) -> None:
    ann.hello()
    commit = ann.download_all()[-1]
    held = ['caseload["ada"]', 'caseload["gone"]']
    refusal(ann.download(cursor=commit["cursor"], digest=digest_of(held)), 409, "buckets_needed")
    cut = ann.download_all(cursor=commit["cursor"], digest=digest_of(held), buckets=held)
    assert [frame["buckets"] for frame in cut if frame["t"] == "drop_bucket"] == [['caseload["gone"]']]
    assert cut[-1]["buckets"]["add"] == ['caseload["bo"]', "formulary[]"]


def test_buckets_that_were_never_granted_give_nothing(ann: Hand, company: Company) -> None:
    """P8: a device that says that it holds Cy's bucket is told to drop it, and gets no row of it."""
    ann.hello()
    cursor = ann.download_all()[-1]["cursor"]
    company.execute("UPDATE notes SET body = 'canary-of-cy again' WHERE id = 'n-cy'")
    wait_for(lambda: company.execute("SELECT head FROM syncline_checkpoint") != [(0,)], "a checkpoint")
    for named in ([], ["caseload"], ['caseload["cy"]'], ["x" * 1000], ['caseload["ada"]', 'caseload["cy"]']):
        ann.download_all(cursor=cursor, digest="", buckets=named)
    assert b"canary-of-cy" not in ann.seen
    assert b"n-cy" not in ann.seen


# ---------------------------------------------------------------- what is no request
def test_an_unknown_protocol_version_is_400(ann: Hand) -> None:
    for version in (0, 1, 3, 10**30, -1, None, CANARY, [CANARY], {"x": CANARY}, True, 1.0):
        refusal(ann.send("/v1/hello", {**HELLO, "protocol": version}), 400, "protocol_version")


@pytest.mark.parametrize("path", ["/v1/hello", "/v1/upload", "/v1/download"])
def test_garbage_is_400_and_is_not_repeated(path: str, ann: Hand) -> None:
    """P19"""
    bodies = {
        b"": "bad_frame",
        CANARY.encode(): "bad_frame",
        b"\x09" + CANARY.encode(): "bad_frame",
        b"\0": "bad_json",
        b"\0" + CANARY.encode(): "bad_json",
        b'\0"' + CANARY.encode() + b'"': "bad_json",
        b"\0[1, 2]": "bad_json",
        b"\0null": "bad_json",
        b"\0{} {}": "bad_json",
        b'\0{"a": NaN}': "bad_json",
        b"\0\xff\xfe\x00": "bad_json",
        b'\0{"a": "\\ud800"}': "bad_json",
        b'\0{"a": ' + b"9" * 5000 + b"}": "bad_json",
        b"\0" + b'{"a":' * 5000 + b"1" + b"}" * 5000: "bad_json",
        b"\1" + CANARY.encode(): "bad_frame",
        b"\2" + CANARY.encode(): "bad_frame",
        b"\1" + zlib.compress(b"{}")[:-3]: "bad_frame",
        b"\1" + zlib.compress(b"{}") + CANARY.encode(): "bad_frame",
        b"\2" + zstandard.compress(b"{}" * 900)[:-3]: "bad_frame",
    }
    for body, code in bodies.items():
        response = ann.post(path, body)
        if body.startswith(b'\0{"a":{'):  # depending on the depth that Python's own parser bears
            assert response.status_code in (400, 413)
            continue
        refusal(response, 400, code)


def test_fields_that_are_missing_or_of_another_type_are_400(ann: Hand) -> None:
    """P19: each field of each call in turn is left out and made into something else."""
    ann.hello()
    mutation = ann.mutation(1)
    download = {"device": ann.device, "cursor": None, "included": 0, "apply_count": 0, "digest": "", "buckets": None}
    upload = {"device": ann.device, "clock": 0, "offset": 0, "floor": 0, "groups": [{"mutations": [mutation]}]}
    optional = {"nonce", "program", "schema_version", "cursor", "device", "buckets", "offset", "wait", "marked"}
    wrong: list[Any] = [{"x": CANARY}, [[CANARY]], -(2**70), 1.5]
    checked = 0
    for path, message in (("/v1/hello", HELLO), ("/v1/download", download), ("/v1/upload", upload)):
        for field in message:
            for value in wrong:
                response = ann.send(path, {**message, field: value})
                assert response.status_code in (400, 409, 413), (path, field, value, response.text)
                refusal(response, response.status_code, response.json()["code"])
                checked += 1
            if field not in optional:
                response = ann.send(path, {name: value for name, value in message.items() if name != field})
                assert response.status_code == 400, (path, field)
    for field in mutation:
        for value in [*wrong, None, ""]:
            if (field, value) in (("table", ""),):
                continue  # well formed: such a mutation is judged, and refused
            body = {**upload, "groups": [{"mutations": [{**mutation, field: value}]}]}
            response = ann.send("/v1/upload", body)
            assert response.status_code in (400, 413), (field, value, response.text)
            refusal(response, response.status_code, response.json()["code"])
            checked += 1
    assert checked > 100


def test_mutations_that_fit_no_column_are_refused_and_block_nothing(ann: Hand, company: Company) -> None:
    """P18, P8: each is answered by a rejection; the good one behind them is applied; nothing hidden is named."""
    ann.hello()
    commit = ann.download_all()[-1]
    strange: list[dict[str, Any]] = [
        {"table": "no such table"},
        {
            "table": "assignments",
            "key": ["ann", "cy"],
            "key_columns": ["nurse", "patient_id"],
            "op": "I",
            "columns": [],
            "new": [],
            "was": [],
        },
        {"table": "sqlite_schema", "key": ["x"]},
        {"table": 'patients"; DROP TABLE patients; --'},
        {"columns": ["ssn"]},
        {"columns": ["ssn", "name"], "new": ["x" * 99, "y"], "was": [None, None]},
        {"columns": ["no such"]},
        {"columns": ['name" = (SELECT ssn FROM patients) --']},
        {"key": ["ada", "bo"]},
        {"key": ["ada", "bo"], "key_columns": ["id", "name"]},
        {"key_columns": ["name"]},
        {"key": [None]},
        {"key": ["cy"]},
        {"key": [["i", "99999999999999999999999999"]]},
        {"new": [["i", "99999999999999999999999999"]]},
        {"new": [["f", "nan"]]},
        {"new": [["t", "/w=="]]},
        {"new": [None]},
        {"table": "visits", "key": ["v-ada"], "columns": ["status"], "new": [["b", "AAEC"]], "was": ["planned"]},
        {"table": "visits", "key": ["v-ada"], "columns": ["n"], "new": ["text"], "was": [0]},
        {"table": "visits", "key": ["v-ada"], "columns": ["n"], "new": [2**53], "was": [-(2**53)]},
        {
            "table": "visits",
            "key": ["v-ada"],
            "columns": ["n"],
            "new": [["i", str(2**63 - 1)]],
            "was": [["i", str(-(2**63))]],
        },
        {"table": "medications", "key": ["m1"]},
        {"op": "D", "columns": ["name", "ssn"], "new": [None, None], "was": ["Ada", "x"]},
        {"op": "I", "columns": ["name"], "new": ["Twin"], "was": [None]},
        {"op": "I", "key": ["cy"], "columns": ["name"], "new": ["Twin"], "was": [None]},
        {"op": "I", "key": ["new"], "columns": ["name"], "new": ["Mine"], "was": [None]},
    ]
    number = 0
    for changes in strange:
        response = ann.upload(ann.mutation(number + 1, **changes))
        if response.status_code == 400:  # not a value at all: no such mutation ever was
            refusal(response, 400, response.json()["code"])
            continue
        assert response.status_code == 200, (changes, response.text)
        number += 1
        assert frames.load(frames.unpack(response.content)) == {"last": number, "gap": False}, changes
    number += 1
    good = ann.mutation(number, table="notes", key=["n-ada"], columns=["body"], new=["good"], was=["sleeps well"])
    assert ann.upload(good).status_code == 200
    standing = {"cursor": commit["cursor"], "apply_count": 1, "digest": digest_of(commit["buckets"]["add"])}
    while (cut := ann.download_all(**standing, wait=20))[-1].get("included", 0) < number:
        pass
    assert company.execute("SELECT body FROM notes WHERE id = 'n-ada'") == [("good",)]
    assert company.execute("SELECT id, ssn FROM patients ORDER BY 1") == [
        ("ada", "SSN-OF-ADA"), ("bo", "SSN-OF-BO"), ("cy", "SSN-OF-CY"),
    ]  # fmt: skip
    outcomes = {frame["n"]: frame for frame in cut if frame["t"] == "outcome"}
    assert number not in outcomes
    assert {frame["kind"] for frame in outcomes.values()} <= {"rejected", "merged"}
    assert sum(frame["kind"] == "rejected" for frame in outcomes.values()) > 10


# ---------------------------------------------------------------- too much
def test_too_large_a_request_is_413(ann: Hand) -> None:
    """P19: in every packing."""
    message = {**HELLO, "engine": CANARY * (limits.REQUEST_BYTES_MAX // len(CANARY))}
    body = frames.dump(message)
    refusal(ann.post("/v1/hello", b"\0" + body), 413, "limit")
    refusal(ann.post("/v1/hello", b"\1" + zlib.compress(body)), 413, "limit")
    refusal(ann.post("/v1/hello", b"\2" + zstandard.compress(body)), 413, "limit")


def test_a_request_is_refused_before_it_is_read_whole(ann: Hand) -> None:
    """P19: the answer comes while most of what was announced has not been sent."""
    ann.hello()
    parts = urlsplit(ann.url)
    for announced in ("Content-Length: 10000000000", "Transfer-Encoding: chunked"):
        head = f"POST /v1/upload HTTP/1.1\r\nHost: x\r\nAuthorization: {ann.headers['Authorization']}\r\n{announced}\r\n\r\n"
        with socket.create_connection((str(parts.hostname), int(parts.port or 0)), 30) as raw:
            raw.sendall(head.encode())
            raw.settimeout(0.2)
            answer, sent = b"", 0
            piece = b"0" * 65536 if "Length" in announced else b"10000\r\n" + b"0" * 65536 + b"\r\n"
            while sent < 40 * 1024 * 1024:
                try:
                    raw.sendall(piece)
                    sent += len(piece)
                except TimeoutError:  # it reads no more
                    break
                except OSError:
                    break
                if sent > limits.REQUEST_BYTES_MAX and (answer := _received(raw)):
                    break
            answer = answer or _received(raw, 20)
        assert b" 413 " in answer.partition(b"\r\n")[0], answer[:200]
        assert sent < 40 * 1024 * 1024


def _received(raw: socket.socket, seconds: float = 0.01) -> bytes:
    raw.settimeout(seconds)
    try:
        return raw.recv(65536)
    except OSError:
        return b""
    finally:
        raw.settimeout(0.2)


def test_a_compression_bomb_is_refused(ann: Hand, shared: Company) -> None:
    """P19: by its header or at the limit, never by inflating it: the server's memory stays."""
    pid = shared.servers[0].process.pid
    before = _memory_bytes(pid)
    gzip_bomb = b"\1" + zlib.compress(b"\0" * (1 << 28), 1)
    zstd_bomb = b"\2" + zstandard.ZstdCompressor(level=3).compress(b"\0" * (1 << 28))
    unknown_size = zstandard.ZstdCompressor(level=3, write_content_size=False).compress(b"\0" * (1 << 28))
    for bomb in (gzip_bomb, zstd_bomb):
        refusal(ann.post("/v1/hello", bomb), 413, "limit")
    refusal(ann.post("/v1/hello", b"\2" + unknown_size), 400, "bad_frame")
    if before:
        assert _memory_bytes(pid) - before < 150 * 1024 * 1024


def _memory_bytes(pid: int) -> int:
    """The most it ever had; 0 where the system does not say."""
    try:
        with Path(f"/proc/{pid}/status").open(encoding="ascii") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except OSError:
        return 0


def test_too_many_and_too_deep_are_413(ann: Hand) -> None:
    ann.hello()
    many = [ann.mutation(number) for number in range(1, limits.UPLOAD_MUTATIONS_MAX + 2)]
    refusal(ann.upload(*many), 413, "limit")
    refusal(ann.upload(ann.mutation(1, new=["x" * (limits.VALUE_BYTES_MAX + 1)])), 413, "limit")
    refusal(ann.download(buckets=["x"] * (limits.BUCKETS_PER_USER_MAX + 1)), 413, "limit")
    refusal(ann.send("/v1/hello", {**HELLO, "packings": ["x"] * 11}), 413, "limit")
    refusal(ann.send("/v1/hello", {**HELLO, "x": json.loads("[" * 50 + "]" * 50)}), 413, "limit")


def test_a_hostile_device_disturbs_no_other(ann: Hand, company: Company) -> None:
    """P18, P19: garbage, bombs and torn connections from four threads, while another device stays in step."""
    ben = company.live("ben", url=ann.url)
    ann.hello()
    ends = time.monotonic() + 3
    bomb = b"\1" + zlib.compress(b"\0" * (1 << 26), 9)
    failures: list[str] = []

    def attack(number: int) -> None:
        parts = urlsplit(ann.url)
        with httpx.Client(timeout=60, headers=ann.headers) as http:
            while time.monotonic() < ends:
                for body in (bomb, os.urandom(2000), b'\0{"protocol":1}', b"\0" + b"[" * 100_000):
                    response = http.post(f"{ann.url}/v1/{('hello', 'upload', 'download')[number % 3]}", content=body)
                    if not 400 <= response.status_code < 500:
                        failures.append(response.text)
                with socket.create_connection((str(parts.hostname), int(parts.port or 0)), 30) as raw:
                    raw.sendall(b"POST /v1/upload HTTP/1.1\r\nContent-Length: 99999\r\n\r\nx")

    attackers = [threading.Thread(target=attack, args=(number,)) for number in range(4)]
    for thread in attackers:
        thread.start()
    for number in range(20):
        company.execute(f"INSERT INTO notes VALUES('during{number}', 'v-cy', 'x')")
        time.sleep(0.1)
    for thread in attackers:
        thread.join()
    assert failures == []
    wait_for(lambda: holds_scope(company, "ben", ben.path), "Ben is in step", 20)
    assert ben.status.state == "live"
    assert "Traceback" not in company.servers[0].log()
