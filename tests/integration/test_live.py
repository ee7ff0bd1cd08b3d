"""Devices that are connected: news comes by itself, in both directions, and over every kind of network."""

from __future__ import annotations

import base64
import contextlib
import functools
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.integration.company import (
    CONFIGURATION,
    TABLES,
    Company,
    Server,
    bytes_of,
    holds_scope,
    query,
    query_elsewhere,
    token,
    wait_for,
    wait_for_rows,
    wait_for_scope,
)
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from syncline import limits
from syncline.protocol import frames
from syncline.protocol.cursor import digest_of
from syncline.replica.transport import HttpTransport

SOON_SECONDS = 5.0
"""A change is promised within one; a slow machine that runs many tests is given more."""

SLOW_SENDING = """
import asyncio
from syncline.server.live import LiveConnection
send = LiveConnection._send

async def send_slowly(connection, packed):
    await asyncio.sleep(0.1)
    await send(connection, packed)

LiveConnection._send = send_slowly
"""

WEBSOCKETS_REFUSED = """
import sys
from syncline.cli import serving
run = serving.run_server

class Refusing:
    def __init__(self, app): self._app = app
    async def __call__(self, scope, receive, send):
        if scope["type"] != "websocket":
            return await self._app(scope, receive, send)
        await receive()
        await send({"type": "websocket.http.response.start", "status": STATUS, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"no"})

serving.run_server = lambda app, *arguments, **options: run(Refusing(app), *arguments, **options)
"""


CLOCK = """
from pathlib import Path
from syncline.source.sqlite import source
connections = source.Connections

def with_clock(path, prepare, **options):
    def set_clock(db):
        db.create_function("julianday", 1, lambda modifier: float(Path("clock.txt").read_text()))
    return connections(path, set_clock, **options)

source.Connections = with_clock
"""
"""The database of the server's process looks at a clock of ours."""


# ---------------------------------------------------------------- what the office does
def test_a_write_of_the_office_reaches_connected_devices_by_itself(company: Company) -> None:
    """P1, P2: a plain sqlite3 program in another process writes; nobody pokes anybody."""
    company.serve()
    ann, ben = company.live("ann"), company.live("ben")
    query_elsewhere(
        company.path,
        "UPDATE visits SET status = 'done' WHERE id = 'v-bo'",
        "INSERT INTO notes VALUES('x', 'v-bo', 'é')",
    )
    for replica in (ann, ben):
        wait_for_rows(replica.path, "SELECT body FROM notes WHERE id = 'x'", [("é",)], SOON_SECONDS)
        assert query(replica.path, "SELECT status FROM visits WHERE id = 'v-bo'") == [("done",)]
    assert holds_scope(company, "ann", ann.path) and holds_scope(company, "ben", ben.path)


def test_a_changed_grant_moves_rows_without_reconnecting(company: Company) -> None:
    """P9: the patient's rows go to the new nurse and leave the old one's file to the last byte."""
    company.serve()
    ann, ben = company.live("ann"), company.live("ben")
    opened = company.road.opened
    query_elsewhere(company.path, "UPDATE assignments SET nurse = 'ann' WHERE patient_id = 'cy'")
    wait_for(lambda: holds_scope(company, "ann", ann.path), "Ann has Cy", SOON_SECONDS)
    wait_for(lambda: holds_scope(company, "ben", ben.path), "Ben has Cy no more", SOON_SECONDS)
    assert query(ann.path, "SELECT body FROM notes WHERE id = 'n-cy'") == [("canary-of-cy",)]
    wait_for(lambda: b"canary-of-cy" not in bytes_of(ben.path), "every byte of it is gone")
    query_elsewhere(company.path, "DELETE FROM assignments WHERE nurse = 'ann'")
    wait_for(lambda: query(ann.path, "SELECT count(*) FROM patients") == [(0,)], "Ann has nobody", SOON_SECONDS)
    assert query(ann.path, "SELECT count(*) FROM medications") == [(1,)]
    assert company.road.opened == opened


def test_a_grant_that_changes_by_the_clock_alone_moves_rows(tmp_path: Path) -> None:
    """P9: a shift begins and ends; nobody writes anything, and `refresh` says how often to look."""
    tables = f"{TABLES} CREATE TABLE shifts(nurse TEXT, patient_id TEXT, begins REAL, ends REAL);"
    grant = "FROM shifts WHERE nurse = :sub AND julianday('now') BETWEEN begins AND ends"
    configuration = CONFIGURATION.replace("FROM assignments WHERE nurse = :sub", grant)
    configuration = configuration.replace('root = "patients"', 'root = "patients"\nrefresh = "1s"', 1)
    with closing(Company(tmp_path, tables, configuration)) as company:
        now = company.execute("SELECT julianday('now')")[0][0]
        company.execute("INSERT INTO shifts VALUES('ann', 'ada', ?1, ?1 + 1), ('ann', 'bo', ?1 + 2, ?1 + 3)", now)
        turn_clock(company, now + 0.5)
        company.serve(CLOCK)
        ann = company.live("ann")
        for day, patients in ((0.5, ["ada"]), (1.5, []), (2.5, ["bo"]), (3.5, [])):
            turn_clock(company, now + day)
            rows = [(patient,) for patient in patients]
            wait_for_rows(ann.path, "SELECT id FROM patients", rows)
        wait_for(lambda: b"v-bo" not in bytes_of(ann.path), "every byte is gone")


def turn_clock(company: Company, day: float) -> None:
    """To a Julian day, at once for whoever looks."""
    fresh = company.folder / "clock.new"
    fresh.write_text(repr(day), encoding="utf-8")
    fresh.replace(company.folder / "clock.txt")


def test_news_of_a_bucket_that_was_just_granted_is_not_missed(company: Company) -> None:
    """P2: a grant, and a change in the new bucket while the device is still being sent that bucket's rows."""
    company.serve(SLOW_SENDING)
    ann = company.live("ann")
    for number in range(4):
        company.execute(f"INSERT INTO patients(id, name) VALUES('p{number}', 'old')")
        company.execute(f"INSERT INTO assignments VALUES('ann', 'p{number}')")
        time.sleep(0.15 + 0.1 * number)
        company.execute(f"UPDATE patients SET name = 'new' WHERE id = 'p{number}'")
    wait_for(lambda: holds_scope(company, "ann", ann.path), "everything new", 20)


# ---------------------------------------------------------------- what apps do
def test_two_devices_converge_on_what_a_third_program_writes(company: Company) -> None:
    """P1, P2: the app is any program with plain sqlite3; its commits wake the agent."""
    company.serve()
    ann, ben = company.live("ann"), company.live("ben")
    query_elsewhere(
        ann.path, "INSERT INTO notes VALUES('a1', 'v-bo', 'from Ann')", "UPDATE visits SET n = n + 1 WHERE id = 'v-bo'"
    )
    query_elsewhere(
        ben.path, "INSERT INTO notes VALUES('b1', 'v-bo', 'from Ben')", "UPDATE visits SET n = n + 1 WHERE id = 'v-bo'"
    )
    for user, replica in (("ann", ann), ("ben", ben)):
        wait_for_rows(replica.path, "SELECT count(*) FROM notes WHERE visit_id = 'v-bo'", [(2,)])
        wait_for_rows(replica.path, "SELECT seq - included FROM syncline_state", [(0,)])
        wait_for_scope(company, user, replica.path)
    assert company.execute("SELECT n FROM visits WHERE id = 'v-bo'") == [(2,)]
    assert company.execute("SELECT added FROM audit") == [(1,), (1,)]


def test_the_app_is_told(company: Company) -> None:
    """Status, changed tables, rejections and conflicts come as events."""
    server = company.serve()
    ann = company.device("ann")
    told: list[tuple[str, Any]] = []
    for event in ("status", "changed", "rejected", "conflict"):
        ann.on(event, functools.partial(lambda event, content: told.append((event, content)), event))
    ann.start()
    wait_for(lambda: ann.status.state == "live", "live")
    wait_for(lambda: any(event == "changed" and "patients" in tables for event, tables in list(told)), "the first rows")

    query(ann.path, "UPDATE visits SET status = 'nonsense' WHERE id = 'v-ada'")
    wait_for(lambda: ("rejected", 1) in told, "the refusal")
    (rejection,) = ann.rejections()
    assert (rejection["table"], rejection["code"], rejection["values"]["status"]) == ("visits", "check", "nonsense")
    wait_for(lambda: query(ann.path, "SELECT status FROM visits WHERE id = 'v-ada'") == [("planned",)], "the true row")

    company.road.lead_to(None)
    wait_for(lambda: ann.status.state == "offline", "offline")
    query(ann.path, "UPDATE patients SET name = 'Ada A.' WHERE id = 'ada'")
    time.sleep(0.05)
    company.execute("UPDATE patients SET name = 'Ada B.' WHERE id = 'ada'")
    company.road.lead_to(server)
    wait_for(lambda: ("conflict", 1) in told, "the conflict")
    wait_for(lambda: query(ann.path, "SELECT name FROM patients WHERE id = 'ada'") == [("Ada B.",)], "the later one")
    (conflict,) = ann.conflicts()
    assert (conflict["kind"], conflict["server"], conflict["device"]) == ("lost", "Ada B.", "Ada A.")
    states = [content.state for event, content in told if event == "status"]
    assert states[-1] in ("live", "syncing")
    assert [state for state in ("first_sync", "live", "offline") if state not in states] == []


# ---------------------------------------------------------------- networks as they are
def test_from_the_second_start_on_no_network_is_needed(company: Company) -> None:
    """P2, P4: the server is gone when the app starts; it reads, writes and says so; when the server is back the
    outbox drains by itself."""
    server = company.serve()
    company.live("ann").stop()
    server.kill()
    company.road.lead_to(None)

    ann = company.device("ann")
    ann.start()
    wait_for(lambda: ann.status.state == "offline", "offline")
    with closing(ann.connect()) as db:
        assert db.execute("SELECT name FROM patients ORDER BY 1").fetchall() == [("Ada",), ("Bo",)]
    query_elsewhere(ann.path, "INSERT INTO notes VALUES('offline', 'v-ada', 'no signal here')")
    with ann.transaction() as db:
        db.execute("UPDATE visits SET n = n + 1, status = 'done' WHERE id = 'v-ada'")
    assert (ann.status.pending, ann.status.state) == (2, "offline")
    company.execute("UPDATE patients SET name = 'Bo B.' WHERE id = 'bo'")

    company.serve()
    wait_for(lambda: ann.status.pending == 0 and ann.status.state == "live", "the outbox drains")
    wait_for(lambda: holds_scope(company, "ann", ann.path), "both sides are equal")
    assert company.execute("SELECT status, n FROM visits WHERE id = 'v-ada'") == [("done", 1)]
    assert company.execute("SELECT body FROM notes WHERE id = 'offline'") == [("no signal here",)]
    assert company.execute("SELECT visit_id, added FROM audit") == [("v-ada", 1)]


def test_a_connection_that_has_died_silently_is_noticed(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: nothing comes and nothing says so, as behind a dead mast. Silence is the sign; then all heals by itself."""
    monkeypatch.setattr(limits, "HEARTBEAT_SECONDS", 0.5)
    monkeypatch.setattr(limits, "SILENCE_SECONDS_MAX", 2.0)
    company.serve(_limits(HEARTBEAT_SECONDS=0.5, SILENCE_SECONDS_MAX=2.0))
    ann = company.live("ann")
    company.road.is_frozen = True
    company.execute("UPDATE patients SET name = 'while silent' WHERE id = 'ada'")
    wait_for(lambda: ann.status.state != "live", "the silence is noticed")
    company.road.lead_to(company.servers[0])
    company.road.is_frozen = False
    wait_for(lambda: query(ann.path, "SELECT name FROM patients WHERE id = 'ada'") == [("while silent",)], "healed")
    wait_for(lambda: ann.status.state == "live", "live again")


@pytest.mark.parametrize("status", [400, 403, 404, 501])
def test_where_websockets_are_refused_long_polls_do(status: int, company: Company) -> None:
    """P2: a proxy that lets no WebSocket through (most answer 403) costs nothing but efficiency."""
    company.serve(WEBSOCKETS_REFUSED.replace("STATUS", str(status)))
    ann = company.live("ann")
    ben = company.live("ben")
    query_elsewhere(company.path, "INSERT INTO notes VALUES('x', 'v-bo', 'polled')")
    wait_for(lambda: query(ann.path, "SELECT 1 FROM notes WHERE id = 'x'"), "the office's note")
    query_elsewhere(ann.path, "INSERT INTO notes VALUES('y', 'v-bo', 'polled back')")
    wait_for(lambda: query(ben.path, "SELECT 1 FROM notes WHERE id = 'y'"), "Ann's note")
    query_elsewhere(company.path, "DELETE FROM assignments WHERE nurse = 'ann' AND patient_id = 'ada'")
    wait_for(lambda: holds_scope(company, "ann", ann.path), "the changed grant")


# ---------------------------------------------------------------- the stream itself, by hand
def _limits(**values: float) -> str:
    assignments = "\n".join(f"limits.{name} = {value}" for name, value in values.items())
    return f"from syncline import limits\n{assignments}"


class Hand:
    """A device that a test plays: hello, then streams."""

    def __init__(self, server: Server, user: str, **claims: Any) -> None:
        self._url = server.url
        self._headers = {"Authorization": f"Bearer {token(user, **claims)}"}
        transport = HttpTransport(server.url, token(user))
        answer = transport.hello(
            {
                "protocol": 2,
                "device": None,
                "nonce": None,
                "engine": "hand",
                "sqlite": sqlite3.sqlite_version,
                "packings": [],
                "clock": int(time.time() * 1e6),
                "included": 0,
            }
        )
        transport.close()
        self.device = str(answer["device"])

    def connect(self) -> ClientConnection:
        return connect(
            "ws" + self._url.removeprefix("http") + "/v1/live", additional_headers=self._headers, ping_interval=None
        )

    @contextmanager
    def open(self, **changed: Any) -> Iterator[ClientConnection]:
        with self.connect() as stream:
            message = {"device": self.device, "cursor": None, "included": 0, "apply_count": 0, "digest": digest_of(())}
            send(stream, {"t": "open", **message, **changed})
            yield stream


def send(stream: ClientConnection, message: dict[str, Any]) -> None:
    stream.send(frames.pack(frames.dump(message), frames.PLAIN))


_UNREAD: weakref.WeakKeyDictionary[ClientConnection, list[bytes]] = weakref.WeakKeyDictionary()


def receive(stream: ClientConnection, seconds: float = 30) -> dict[str, Any]:
    """The next frame; a message may hold several."""
    unread = _UNREAD.setdefault(stream, [])
    if not unread:
        message = stream.recv(timeout=seconds)
        assert isinstance(message, bytes)
        unread += frames.unbundle(message)
    return frames.load(frames.unpack(unread.pop(0)))


def receive_cut(stream: ClientConnection) -> dict[str, Any]:
    """Its commit."""
    while (frame := receive(stream))["t"] != "commit":
        pass
    return frame


def close_code(stream: ClientConnection, seconds: float = 30) -> int | None:
    """Reads to the end."""
    ends = time.monotonic() + seconds
    try:
        while time.monotonic() < ends:
            stream.recv(timeout=seconds)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None
    raise AssertionError("the stream did not end")


def test_a_newer_stream_of_the_same_device_ends_the_older(company: Company) -> None:
    """A device has one stream at a time; the other devices' streams go on."""
    server = company.serve()
    hand, other = Hand(server, "ann"), Hand(server, "ann")
    with hand.open() as older, other.open() as bystander:
        commit = receive_cut(older)
        receive_cut(bystander)
        held = commit["buckets"]["add"]
        with hand.open(cursor=commit["cursor"], apply_count=1, digest=digest_of(held)) as newer:
            assert close_code(older) == 4410
            assert receive(newer)["t"] == "heartbeat"
            company.execute("UPDATE patients SET name = 'New' WHERE id = 'ada'")
            assert receive_cut(newer)["apply_count"] == 1
            receive_cut(bystander)


def test_heartbeats_go_both_ways(company: Company) -> None:
    """The server beats; who beats back stays, who is silent is closed with 4408."""
    server = company.serve(_limits(HEARTBEAT_SECONDS=0.3, SILENCE_SECONDS_MAX=1.5))
    talker, sleeper = Hand(server, "ann"), Hand(server, "ben")
    with talker.open() as beating, sleeper.open() as silent:
        codes: list[int | None] = []
        watcher = threading.Thread(target=lambda: codes.append(close_code(silent)), daemon=True)
        watcher.start()
        checkpoint = receive_cut(beating)["checkpoint"]
        ends, beats = time.monotonic() + 4, 0
        while time.monotonic() < ends:
            beat = receive(beating, 10)
            assert beat["t"] == "heartbeat"
            assert beat["head"] == checkpoint
            beats += 1
            send(beating, {"t": "heartbeat"})
        assert beats >= 5
        watcher.join(30)
        assert codes == [4408]
        company.execute("UPDATE patients SET name = 'New' WHERE id = 'ada'")
        receive_cut(beating)


def test_a_stream_ends_with_its_token(company: Company) -> None:
    """P8: 4401; the device comes back with another token."""
    server = company.serve(_limits(HEARTBEAT_SECONDS=0.3))
    with Hand(server, "ann", exp=int(time.time()) + 2).open() as stream:
        receive_cut(stream)
        assert close_code(stream) == 4401


@pytest.mark.parametrize(
    "said",
    [
        "text",
        b"",
        b"\0not json",
        b"\x07unknown packing",
        b'\0{"t":"open"}',
        b'\0{"t":"open","device":"nobody","cursor":null,"included":0,"apply_count":0,"digest":""}',
        frames.pack(frames.dump({"t": "open", "device": "x" * 300}), frames.PLAIN),
        b"\2" + base64.b64decode("KLUv/aAAAABA"),
    ],
    ids=["text", "empty", "no json", "packing", "no fields", "unknown device", "long", "bomb"],
)
def test_a_stream_that_makes_no_sense_is_closed(said: str | bytes, company: Company) -> None:
    """P19: with an error that repeats nothing of it; the others notice nothing."""
    server = company.serve()
    with Hand(server, "ben").open() as bystander, Hand(server, "ann").connect() as stream:
        receive_cut(bystander)
        stream.send(said)
        told = []
        try:
            while True:
                told.append(receive(stream, 30))
        except ConnectionClosed:
            pass
        assert [frame["t"] for frame in told] in ([], ["error"])
        assert not any("not json" in str(frame) or "nobody" in str(frame) for frame in told)
        company.execute("UPDATE patients SET name = 'New' WHERE id = 'cy'")
        receive_cut(bystander)


def test_a_device_that_does_not_read_costs_the_others_nothing(company: Company) -> None:
    """P18, P19: its socket is full; the others are told at once, and the server keeps nothing for it. When it reads
    again it gets all of it, or is told that there is more than a stream carries."""
    server = company.serve()
    with contextlib.ExitStack() as streams:
        reader, *others = [streams.enter_context(Hand(server, user).open()) for user in ("ben", *["ann"] * 5)]
        for stream in (reader, *others):
            receive_cut(stream)
        text = base64.b64encode(os.urandom(150_000)).decode()
        before = memory_kib(server)
        for number in range(60):
            company.execute("INSERT INTO notes VALUES(?, 'v-bo', ?)", f"n{number}", text)
            receive_cut(reader)
        assert memory_kib(server) - before < 45_000, "60 MB wait for the five who do not read"
        got: set[str] = set()
        try:
            while len(got) < 60:
                frame = receive(others[0])
                got.update(row[0] for row in (frame["rows"] if frame["t"] == "rows" else []))
        except ConnectionClosed as closed:
            assert closed.rcvd is not None and closed.rcvd.code == 4412


def memory_kib(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])
