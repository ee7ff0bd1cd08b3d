"""A server with one user that exists only in the tests, and the network to it, which they hold in their hands."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.replica.conftest import LINES, VISITS
from tests.replica.messages import BUCKET, outcome, plan_of, put

from syncline.model.program import build_program
from syncline.protocol.messages import HelloAnswer
from syncline.replica.live import StreamBlockedError
from syncline.values import decode_value

PROGRAM = build_program(plan_of(VISITS, LINES, merge={"visits": {"count": "add"}}))


class Office:
    """A server with one user and one table, without merging: what is uploaded is there at the next checkpoint.

    `refuses`: mutation -> code of a rejection, or nothing. `time_us`: its clock, where that matters.
    """

    def __init__(self) -> None:
        self.rows: dict[int, tuple[Any, ...]] = {1: (1, "p-1", "planned", 5, None)}
        self.last = self.head = 0
        self.included = 0
        self.fault: Exception | None = None
        self.user = "nurse-17"
        self.is_blocked = False
        self.holds_checkpoints = False
        self.wakes = threading.Condition()
        self.hellos = 0
        self.hello_message: dict[str, Any] = {}
        self.refuses: Callable[[dict[str, Any]], str | None] = lambda mutation: None
        self.outcomes: list[dict[str, Any]] = []
        self.time_us = 0
        self.program = PROGRAM
        self.received: list[dict[str, Any]] = []

    def change(self, *row: Any) -> None:
        with self.wakes:
            self.rows[row[0]] = row
            self.head += 1
            self.wakes.notify_all()

    # ------------------------------------------------------------ the port
    def _fail(self) -> None:
        if self.fault is not None:
            raise self.fault

    def hello(self, message: dict[str, Any]) -> dict[str, Any]:
        self._fail()
        self.hellos += 1
        self.hello_message = message
        return HelloAnswer(
            protocol=2,
            device=message["device"] or "device-1",
            nonce="nonce",
            identity="known" if message["device"] else "new",
            user=self.user,
            term="term",
            head=self.head,
            last=self.last,
            received_us=message["clock"],
            answered_us=message["clock"],
            packing="plain",
            program=None if message["program"] == self.program.hash else self.program.dump(),
        ).dump()

    def upload(self, message: dict[str, Any]) -> dict[str, Any]:
        self._fail()
        with self.wakes:
            for mutation in (each for group in message["groups"] for each in group["mutations"]):
                if mutation["n"] != self.last + 1:
                    continue
                self.last += 1
                self.received.append(mutation)
                if mutation["table"] != "visits":
                    continue
                (key,) = mutation["key"]
                code = self.refuses(mutation)
                if code is not None:
                    state = self.rows.get(key, "absent")
                    self.outcomes.append(outcome(self.last, "rejected", "visits", (key,), code, state))
                    continue
                if mutation["op"] == "D":
                    self.rows.pop(key, None)
                    continue
                row = list(self.rows.get(key, (key, None, None, None, None)))
                for column, value in zip(mutation["columns"], mutation["new"], strict=True):
                    row[PROGRAM.tables["visits"].columns.index(column)] = decode_value(value)
                self.rows[key] = tuple(row)
            if not self.holds_checkpoints:
                self.included = self.last
                self.head += 1
            self.wakes.notify_all()
        return {"last": self.last, "gap": False}

    def download(self, message: dict[str, Any]) -> Iterator[dict[str, Any]]:
        self._fail()
        cursor = int(message["cursor"].partition(".")[2]) if message["cursor"] else -1
        with self.wakes:
            self.wakes.wait_for(lambda: self.head > cursor, timeout=min(message["wait"], 0.3))
            if self.head <= cursor:
                yield {"t": "heartbeat", "head": self.head, "time": 1}
                return
        yield from self._cut(message["apply_count"], cursor < 0)

    def _cut(self, count: int, reset: bool) -> Iterator[dict[str, Any]]:
        yield {"t": "begin", "apply_count": count, "reset": reset, "rows": len(self.rows)}
        if self.rows:
            yield put("visits", *self.rows.values())
        told = [each for each in self.outcomes if each["n"] <= self.included]
        self.outcomes = [each for each in self.outcomes if each not in told]
        yield from told
        yield {
            "t": "commit",
            "cursor": f"term.{self.head}",
            "checkpoint": self.head,
            "buckets": {"add": [BUCKET]},
            "included": self.included,
            "time": self.time_us or self.head,
            "apply_count": count,
            "more": False,
        }

    def live(self, message: dict[str, Any]) -> OfficeStream:
        self._fail()
        if self.is_blocked:
            raise StreamBlockedError("a proxy is in between")
        return OfficeStream(self, message)

    def abort(self) -> None:
        pass

    def close(self) -> None:
        pass


class OfficeStream:
    def __init__(self, office: Office, message: dict[str, Any]) -> None:
        self._office = office
        self._head = int(message["cursor"].partition(".")[2])
        self._count = message["apply_count"]
        self._closed = False

    def frames(self) -> Iterator[dict[str, Any]]:
        office = self._office
        while True:
            with office.wakes:
                office.wakes.wait_for(lambda: office.head > self._head or self._closed or office.fault, timeout=5)
                if self._closed:
                    return
                office._fail()
                head, self._head = self._head, office.head
            if office.head > head:
                yield from office._cut(self._count, False)
                self._count += 1

    def close(self) -> None:
        with self._office.wakes:
            self._closed = True
            self._office.wakes.notify_all()


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


def execute(path: Path, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """One statement of a program that has never heard of Syncline."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        return db.execute(sql, parameters).fetchall()
