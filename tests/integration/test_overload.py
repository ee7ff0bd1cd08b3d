"""A server that is asked for more than it can do: it says so early, goes on with whom it has, and takes all in in time."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from tests.integration.company import CONFIGURATION, Company, holds_scope, query, token, wait_for
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from syncline import Replica
from syncline.protocol import frames

SLOW = """
import asyncio
from syncline.server.service import Service
hello = Service.hello

async def hello_slowly(self, *arguments):
    await asyncio.sleep(0.1)
    return await hello(self, *arguments)

Service.hello = hello_slowly
"""


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Company]:
    """A server with room for two requests and three connections."""
    limits = "[serve]\nrequests_in_work_max = 2\nconnections_max = 3\n"
    company = Company(tmp_path, configuration=CONFIGURATION + limits)
    yield company
    company.close()


def hello() -> bytes:
    message = {"protocol": 2, "device": None, "nonce": None, "engine": "flood", "sqlite": sqlite3.sqlite_version}
    more = {"packings": [], "clock": int(time.time() * 1e6), "included": 0}
    return frames.pack(frames.dump({**message, **more}), frames.PLAIN)


@contextmanager
def flood(url: str, many: int) -> Iterator[list[httpx.Response]]:
    """So many clients that ask again and again without a pause, until the block ends."""
    answers: list[httpx.Response] = []
    over = threading.Event()
    headers = {"Authorization": f"Bearer {token('ben')}"}

    def ask() -> None:
        with httpx.Client(timeout=30) as client:
            while not over.is_set():
                answers.append(client.post(f"{url}/v1/hello", content=hello(), headers=headers))
                over.wait(0.01)

    threads = [threading.Thread(target=ask) for _ in range(many)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_flood_is_refused_early_and_sessions_that_run_go_on(small: Company) -> None:
    """P19: each refusal says when to come back; the office's change reaches Ann meanwhile, and Ann's the office."""
    server = small.serve(SLOW)
    ann = small.live("ann")
    with flood(server.url, 12) as answers:
        wait_for(lambda: len(answers) > 100, "a flood")
        small.execute("UPDATE patients SET name = 'Ada in the flood' WHERE id = 'ada'")
        wait_for(
            lambda: query(ann.path, "SELECT 1 FROM patients WHERE name = 'Ada in the flood'"), "the office's change"
        )
        query(ann.path, "INSERT INTO notes VALUES('flood', 'v-ada', 'written in the flood')")
        assert httpx.get(f"{server.url}/healthz").status_code == 200
    counts = Counter(answer.status_code for answer in answers)
    assert set(counts) == {200, 503} and counts[503] > counts[200] > 0
    refused = [answer for answer in answers if answer.status_code == 503]
    assert {answer.json()["code"] for answer in refused} == {"overloaded"}
    assert all(answer.json()["retry"] and int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert len({answer.json()["retry_after"] for answer in refused}) > len(refused) / 2, "not all at one moment"
    wait_for(lambda: small.execute("SELECT 1 FROM notes WHERE id = 'flood'"), "Ann's change")


def test_many_devices_that_come_at_once_all_end_in_step(small: Company) -> None:
    """P19, P2: most are refused at first; each has written something, and nothing is lost."""
    small.serve(SLOW)
    devices: list[Replica] = []
    for number in range(8):
        device = small.device("ann", f"ann-{number}")
        device.sync(timeout=60)
        query(device.path, f"INSERT INTO notes VALUES('back-{number}', 'v-ada', 'from {number}')")
        device.stop()
        devices.append(device)
    errors: list[BaseException] = []

    def come_back(device: Replica) -> None:
        try:
            device.sync(timeout=90)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=come_back, args=(device,)) for device in devices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert small.execute("SELECT count(*) FROM notes WHERE id LIKE 'back-%'") == [(8,)]
    for device in devices:
        device.sync(timeout=90)
        assert holds_scope(small, "ann", device.path)


def test_streams_beyond_the_limit_are_refused_and_taken_when_there_is_room(small: Company) -> None:
    """Who gets no stream has the rows all the same, says why it waits, and gets one when another device leaves."""
    small.serve()
    first = [small.live("ann", f"ann-{number}") for number in range(3)]
    late = small.device("ben")
    late.start()
    wait_for(lambda: (late.status.state, late.status.reason) == ("waiting", "overloaded"), "refused")
    assert holds_scope(small, "ben", late.path)
    first[0].stop()
    wait_for(lambda: late.status.state == "live", "a stream")
    small.execute("UPDATE patients SET name = 'Bo of the office' WHERE id = 'bo'")
    for device in (late, first[1]):
        wait_for(lambda d=device: query(d.path, "SELECT 1 FROM patients WHERE name = 'Bo of the office'"), "news")  # type: ignore[misc]


def test_a_refused_stream_says_when_to_come_back(small: Company) -> None:
    server = small.serve()
    for number in range(3):
        small.live("ann", f"ann-{number}")
    headers = {"Authorization": f"Bearer {token('ben')}"}
    with connect("ws" + server.url.removeprefix("http") + "/v1/live", additional_headers=headers) as stream:
        packed = stream.recv(timeout=30)
        assert isinstance(packed, bytes)
        if packed[0] == 0:
            error = frames.load(frames.unpack(packed))
        assert (error["t"], error["code"], error["retry"]) == ("error", "overloaded", True)
        assert error["retry_after"] >= 1
        with pytest.raises(ConnectionClosed) as closed:
            stream.recv(timeout=30)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1013
