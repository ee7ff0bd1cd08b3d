"""A device facing a server that is broken or hostile: it refuses, keeps what it has, says why, and goes on when the
server is well again."""

from __future__ import annotations

import json
import logging
import sqlite3
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.hostile.watching import Logs
from tests.replica.messages import BUCKET, Bench, outcome, put, remove
from tests.replica.office import Office as FakeOffice
from tests.replica.office import execute, until

from syncline import Replica, limits
from syncline.errors import LimitError, ProtocolError, ReplicaError, SynclineError, UnreachableError
from syncline.protocol import frames
from syncline.replica import cut as cut_module
from syncline.replica.transport import MEDIA_TYPE, HttpTransport

CANARY = "canary-of-patient-3"


def standing(bench: Bench) -> tuple[Any, ...]:
    """All that a person would miss: rows, what waits, what was refused, and where the device stands."""
    db = bench.file.store.connection
    state = bench.file.state()
    parked = db.execute("SELECT * FROM syncline_parked").fetchall()
    return bench.rows("visits"), bench.rows("lines"), bench.brief(), parked, state.cursor, state.included, state.user


@pytest.fixture
def busy(bench: Bench, app: sqlite3.Connection) -> Bench:
    """A device with rows, and with work that waits."""
    bench.cut(put("visits", (1, "p", "s", 0, CANARY), (2, "p", "s", 0, None)), put("lines", ("a", 1, "x")))
    app.execute("UPDATE visits SET status = 'mine' WHERE id = 1")
    app.execute("INSERT INTO visits (id, patient) VALUES (70, 'p')")
    return bench


# ---------------------------------------------------------------- frames at every point of a cut
def whole_cut(bench: Bench) -> list[dict[str, Any]]:
    count = bench.file.state().apply_count
    commit = {
        "t": "commit", "cursor": "term.5", "checkpoint": 5, "buckets": {"add": [BUCKET]}, "included": 0, "time": 5,
        "apply_count": count, "more": False,
    }  # fmt: skip
    return [
        {"t": "begin", "apply_count": count, "reset": False, "rows": 1, "stage": None},
        put("visits", (3, "p", "s", 0, None)),
        remove("visits", (2,)),
        {"t": "replace", "table": "lines", "buckets": [BUCKET]},
        outcome(1, "merged", "visits", (1,), "gone", (1, "p", "s", 0, None)),
        {"t": "drop_bucket", "buckets": ["other"]},
        commit,
    ]


WRONG: tuple[Any, ...] = (None, True, -1, 2**70, "x", [[]], {"t": 1})


def test_every_field_of_every_frame_in_every_wrong_type(busy: Bench) -> None:
    """P4, P6, P19: a cut with one wrong field is applied as a whole or not at all, and never by another way than an
    error with a code."""
    refused = applied = 0
    good = whole_cut(busy)
    before = standing(busy)
    for place, frame in enumerate(good):
        for field in frame:
            for value in WRONG:
                busy.file.store.connection.execute("SAVEPOINT test")
                busy.file.store.connection.execute("ROLLBACK TO test")
                busy.file.store.connection.execute("RELEASE test")
                try:
                    for number, each in enumerate(whole_cut(busy)):
                        sent = {**each, field: value} if number == place else each
                        applied += busy.file.receive(frames.load(frames.dump(sent))) is not None
                except SynclineError as error:
                    refused += 1
                    assert CANARY not in str(error)
                    assert standing(busy) == before, (frame["t"], field, value)
                busy.file.abandon()
                if standing(busy) != before:
                    before = standing(busy)
    assert refused > 120 and applied > 8
    assert {row[0] for row in busy.rows("visits")} >= {1, 70}, "the device's own words stay"
    assert len(busy.brief()) == 2


def test_a_frame_of_every_kind_where_it_cannot_stand(busy: Bench) -> None:
    """P6, P19: outside a cut, and after each frame of one."""
    kinds: list[dict[str, Any]] = [
        *whole_cut(busy), {"t": "stage", "buckets": ["x"]}, {"t": "pause"}, {"t": "x"}, {"t": ""}, {},
        {"t": "progress", "token": "t", "rows": 0, "bytes": 0, "total_rows": None, "lost": []},
        {"t": "begin", "apply_count": 0, "reset": False, "rows": 0, "stage": "resume"}, {"t": ["rows"]}, {"t": None},
    ]  # fmt: skip
    before = standing(busy)
    for stranger in kinds:
        with_stranger = [[stranger]] + [[*whole_cut(busy)[:place], stranger] for place in range(1, 6)]
        for cut in with_stranger:
            try:
                results = [busy.file.receive(frame) for frame in cut]
                is_applied = results[-1] is not None
            except SynclineError:
                is_applied = False
            busy.file.abandon()
            assert not is_applied or (stranger.get("t") == "commit" and len(cut) > 1), cut
            if not is_applied:
                assert standing(busy) == before
            before = standing(busy)


def test_a_server_that_goes_back_is_not_followed(busy: Bench) -> None:
    """P10: a cut from before what is here would bring older rows. A reset may come from anywhere."""
    busy.checkpoint = 8
    busy.cut(put("visits", (2, "p", "newer", 0, None)))
    before = standing(busy)
    busy.checkpoint = 3
    with pytest.raises(ProtocolError) as refused:
        busy.cut(put("visits", (2, "p", "older", 0, None)))
    assert refused.value.error_code == "bad_order"
    busy.file.receive(
        {"t": "heartbeat", "head": 2, "time": 1, "cursor": "term.2", "apply_count": busy.file.state().apply_count}
    )
    assert standing(busy) == before
    busy.cut(put("visits", (2, "p", "anew", 0, None)), reset=True)
    assert busy.file.state().cursor == "term.5"


def test_acknowledged_numbers_that_were_never_made_are_not_believed(busy: Bench) -> None:
    """P3, P4: beyond the last number, or with another id, the file takes itself for a copy, and offers all it has."""
    before = standing(busy)
    for number, identity in (
        (3, None),
        (2**53, None),
        (2, "AAAAAAAAAAAAAAAAAAAAAA=="),
        (99, "AAAAAAAAAAAAAAAAAAAAAA=="),
    ):
        *body, commit = whole_cut(busy)
        with pytest.raises(SynclineError) as refused:
            for frame in (*body[:2], {**commit, "included": number, "included_id": identity}):
                busy.file.receive(frame)
        assert refused.value.error_code == "device_cloned"
        assert standing(busy) == before
        busy.file.accept_upload({"last": number, "gap": False})
        assert len(busy.brief()) == 2, "an upload's answer is a hint"


def test_a_row_that_the_file_does_not_take_is_told_and_the_cut_is_left(busy: Bench, app: sqlite3.Connection) -> None:
    """P6, P18: for a rule of the app's own, whose words are repeated, and no value."""
    before = standing(busy)
    app.execute("CREATE TRIGGER mine BEFORE INSERT ON lines WHEN NEW.b = 6 BEGIN SELECT RAISE(ABORT, 'not six'); END")
    with pytest.raises(ReplicaError) as refused:
        busy.cut(put("lines", ("b", 6, CANARY)))
    assert refused.value.error_code == "row_refused" and CANARY not in str(refused.value)
    assert standing(busy)[:4] == before[:4]


# ---------------------------------------------------------------- endless, huge, packed
def answering(content: Any, *, status: int = 200, **headers: str) -> HttpTransport:
    """A transport whose server answers everything with this."""

    def handle(request: httpx.Request) -> httpx.Response:
        media = {"content-type": MEDIA_TYPE, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return httpx.Response(status, headers=media, content=content() if callable(content) else iter([content]))

    return HttpTransport("https://x.org", "t", client=httpx.Client(transport=httpx.MockTransport(handle)))


def endless(piece: bytes, count: list[int]) -> Iterator[bytes]:
    while True:
        count[0] += len(piece)
        yield piece


HELLO: dict[str, Any] = {"protocol": 2}


@pytest.mark.parametrize(
    "piece", [b"\0" * 65536, b"x" * 65536, b'{"t":"error"' + b" " * 65000], ids=["zeros", "text", "json"]
)
@pytest.mark.parametrize("status", [200, 503])
def test_an_endless_answer_to_a_call_is_broken_off(piece: bytes, status: int) -> None:
    """P19: at the limit of an answer, and of an error much earlier."""
    count = [0]
    kind = {"content_type": "application/json"} if status != 200 else {}
    transport = answering(lambda: endless(piece, count), status=status, **kind)
    tracemalloc.start()
    with pytest.raises(SynclineError):
        transport.hello(HELLO)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    most = limits.REQUEST_BYTES_MAX if status == 200 else limits.ERROR_BYTES_MAX
    assert count[0] <= most + 2 * len(piece) + 2**18
    assert peak < 3 * most + 2**22


def test_a_download_without_an_end_is_broken_off(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """P19: heartbeats and beginnings for ever, and a frame that promises four gigabytes."""
    monkeypatch.setattr(limits, "ANSWER_BYTES_TAKEN_MAX", 2**20)
    beat = frames.with_length(frames.pack(frames.dump({"t": "heartbeat", "head": 1, "time": 1}), frames.PLAIN))
    count = [0]
    with pytest.raises(LimitError):
        for frame in answering(lambda: endless(beat * 100, count)).download(bench.file.download_request()):
            bench.file.receive(frame)
    assert count[0] < 2**21
    with pytest.raises(LimitError):
        list(answering(b"\xff\xff\xff\xff" + b"x" * 100).download({}))


def test_a_page_without_an_end_is_left_aside(busy: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """P14, P19: rows for ever, and never a commit: they wait in the file, not in memory, and go when it is too much."""
    monkeypatch.setattr(limits, "ANSWER_BYTES_TAKEN_MAX", 2**18)
    monkeypatch.setattr(cut_module, "MEMORY_BYTES_MAX", 2**16)
    before = standing(busy)
    busy.file.receive(whole_cut(busy)[0])
    with pytest.raises(LimitError):
        for number in range(100_000):
            busy.file.receive(put("visits", *((number * 50 + n, "p", "s", 0, None) for n in range(50))))
    assert busy.file.store.connection.execute("SELECT count(*) FROM syncline_stage").fetchone() == (0,)
    assert standing(busy) == before


def test_what_something_in_between_has_compressed_is_not_inflated() -> None:
    """P19: of a body that httpx would unpack nobody knows how large it becomes."""
    bomb = zlib.compress(b"\0" * 2**27, 6)
    tracemalloc.start()
    with pytest.raises(SynclineError):
        answering(bomb, content_encoding="deflate").hello(HELLO)
    with pytest.raises(SynclineError):
        answering(bomb, status=500, content_type="application/json", content_encoding="deflate").hello(HELLO)
    with pytest.raises(SynclineError):
        answering(b"\1" + bomb).hello(HELLO)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 2**20


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000, b"{}", b"null", b'{"t":"error"}', b'{"t":"error","code":5,"message":[],"hint":{},"retry":"x"}',
        b'{"t":"error","retry":true,"retry_after":NaN}', b'{"t":"error","retry":true,"retry_after":1e999}',
        b'{"t":"error","retry":true,"retry_after":' + b"9" * 4000 + b"}", b'{"t":"error","retry_after":-5,"retry":true}',
        json.dumps({"t": "error", "code": "c" * 60_000, "message": "m" * 3_000}).encode(), b"\xff\xfe", b"",
    ],
    ids=range(12),
)  # fmt: skip
def test_whatever_an_error_says_is_an_error_of_bounded_length(body: bytes) -> None:
    for status in (400, 401, 403, 409, 418, 429, 500, 503):
        with pytest.raises(SynclineError) as told:
            answering(body, status=status, content_type="application/json").upload({})
        assert len(str(told.value)) < 3_000
        after = getattr(told.value, "retry_after_seconds", None)
        assert after is None or 0 <= after < 1e10


# ---------------------------------------------------------------- the whole device
class BrokenOffice(FakeOffice):
    """The office of the tests, until `breaks` says what is in place of its next cut."""

    breaks: list[dict[str, Any]] | None = None

    def _cut(self, count: int, reset: bool) -> Iterator[dict[str, Any]]:
        if self.breaks is not None:
            yield from ({**frame, "apply_count": count} for frame in self.breaks)
            return
        yield from super()._cut(count, reset)


COMMIT = {"t": "commit", "cursor": "term.99", "checkpoint": 99, "buckets": {"add": [BUCKET]}, "included": 0, "time": 9}


@pytest.mark.parametrize(
    ("breaks", "reason"),
    [
        ([{"t": "rows", "table": "visits"}], "bad_order"),
        ([{"t": "begin", "rows": "many"}], "bad_field"),
        ([{"t": "begin"}, {"t": "no such frame"}], "bad_frame"),
        ([{"t": "begin"}, {"t": "rows", "table": "visits", "rows": [[1]], "buckets": [BUCKET]}, COMMIT], "layout"),
        (
            [{"t": "begin"}, {"t": "rows", "table": "visits", "rows": [[{}] * 5], "buckets": [BUCKET]}, COMMIT],
            "bad_value",
        ),
        ([{"t": "error", "code": "internal", "message": "no", "retry_after": 1}], "internal"),
        ([{"t": "begin"}], "cut_short"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_status_says_what_is_wrong_and_the_device_goes_on_when_it_is_over(
    tmp_path: Path, breaks: list[dict[str, Any]], reason: str
) -> None:
    """P2, P4: what was written meanwhile is sent; no log line holds a value."""
    office = BrokenOffice()
    with Logs(CANARY) as logs, Replica(tmp_path / "nurse.db", "https://x.org", "t", transport=office) as replica:
        replica.sync(timeout=20)
        execute(replica.path, "UPDATE visits SET note = ? WHERE id = 1", CANARY)
        office.holds_checkpoints = True
        office.breaks = breaks
        office.change(2, "p-2", CANARY, 0, CANARY)
        replica.start()
        until(lambda: replica.status.reason == reason, 30)
        assert execute(replica.path, "SELECT note FROM visits") == [(CANARY,)] and replica.status.pending == 1
        office.breaks, office.holds_checkpoints = None, False
        with office.wakes:
            office.included = office.last
            office.head += 1
        replica.sync(timeout=60)
        assert office.rows[1][4] == CANARY and replica.status.pending == 0
        assert [row[0] for row in execute(replica.path, "SELECT id FROM visits ORDER BY id")] == [1, 2]
    assert logs.leaked == []


def test_a_captive_portal_and_its_kin_are_no_server() -> None:
    for kind, content in (("text/html", b"<html>Sign in"), ("application/json", b'{"detail": "no"}'), ("", b"")):
        with pytest.raises(UnreachableError):
            answering(content, content_type=kind).hello(HELLO)


def test_logging_is_as_it_was() -> None:
    """What is listened to is not left switched on."""
    logger = logging.getLogger("syncline")
    before = (logger.level, logger.propagate, list(logger.handlers))
    with Logs(CANARY):
        assert (logger.level, logger.propagate, list(logger.handlers)) != before
    assert (logger.level, logger.propagate, list(logger.handlers)) == before
