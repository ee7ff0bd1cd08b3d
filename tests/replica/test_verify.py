"""The agent compares its file with the office by itself, now and then, and mends it; or when somebody asks."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.replica.messages import BUCKET, Bench, put
from tests.replica.office import Office, execute, until

from syncline import Replica
from syncline.errors import ConfigError, ProtocolError, ServerError, UnreachableError
from syncline.model.digest import Tally, hash_of_values
from syncline.protocol.verify import CAPABILITY
from syncline.replica.course import VERIFY_AGAIN_SECONDS, Ask, Course, Request
from syncline.replica.session import State
from syncline.replica.transport import BucketsNeededError
from syncline.replica.verifier import LOOK_SECONDS, RETRY_SECONDS, due_us
from syncline.replica.verify import Verification
from syncline.testing.world import SECOND_US, VirtualClock

HOUR = 3600
DAY = 24 * HOUR


class VerifyingOffice(Office):
    """An office that can be compared with. `asked`: the tables that were asked about; `told`: what devices found."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[dict[str, Any]] = []
        self.told: list[dict[str, Any]] = []
        self.repairs: list[dict[str, Any]] = []
        self.keys_max = 100
        self.trouble: list[Exception] = []
        self.last_words: list[dict[str, Any]] = []
        self.is_moved = False

    def hello(self, message: dict[str, Any]) -> dict[str, Any]:
        answer = super().hello(message)
        return {**answer, "limits": {CAPABILITY: self.keys_max}} if self.keys_max else answer

    def verify(self, message: dict[str, Any]) -> Iterator[dict[str, Any]]:
        self._fail()
        if self.trouble:
            raise self.trouble.pop()
        self.asked.append(message)
        if self.is_moved:
            yield {"t": "moved"}
            return
        skipped = [tuple(key) for key in message["skip"]]
        tally: Tally[str] = Tally()
        for row in self.rows.values() if message["table"] == "visits" else ():
            if row[:1] not in skipped:
                tally.add(BUCKET, hash_of_values(row))
        found = tally.take()
        if found and message["token"] is None:
            sums = [digest.sum_text for digest in found.values()]
            yield {
                "t": "digests",
                "table": message["table"],
                "buckets": [BUCKET],
                "rows": [digest.rows for digest in found.values()],
                "sums": sums,
            }
            yield self.last_words.pop() if self.last_words else {"t": "pause", "token": "half way"}
        else:
            yield {"t": "verified", "table": message["table"], "checkpoint": self.head}

    def verified(self, message: dict[str, Any]) -> None:
        self.told.append(message)

    def download(self, message: dict[str, Any]) -> Iterator[dict[str, Any]]:
        repair = message.get("repair")
        if repair is None:
            yield from super().download(message)
            return
        self.repairs.append(repair)
        begin, *rest = self._cut(message["apply_count"], False)
        yield begin
        yield {"t": "replace", **repair}
        yield from rest


@pytest.fixture
def office() -> VerifyingOffice:
    return VerifyingOffice()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def make_replica(tmp_path: Path, office: VerifyingOffice, clock: VirtualClock) -> Iterator[Callable[..., Replica]]:
    made: list[Replica] = []

    def make(**options: Any) -> Replica:
        url = "https://sync.example.org"
        made.append(Replica(tmp_path / "nurse.db", url, "token", transport=office, clock=clock, **options))
        return made[-1]

    yield make
    for replica in made:
        replica.stop()


def damage(replica: Replica, sql: str) -> None:
    with closing(sqlite3.connect(replica.path)) as db:
        db.execute("UPDATE syncline_state SET applying = 1")
        db.execute(sql)
        db.execute("UPDATE syncline_state SET applying = 0")
        db.commit()


def settle(replica: Replica) -> None:
    """Until the agent is live, and has thought of its next verification."""
    until(lambda: replica.status.state == "live")
    until(lambda: execute(replica.path, "SELECT count(*) FROM syncline_verified") == [(1,)])


def pass_time(clock: VirtualClock, seconds: float) -> None:
    clock.advance(int(seconds * SECOND_US))


def visits(replica: Replica) -> list[tuple[Any, ...]]:
    return execute(replica.path, "SELECT id, patient, status FROM visits")


def test_an_agent_compares_its_file_about_once_a_day_and_mends_it(
    make_replica: Callable[..., Replica], office: VerifyingOffice, clock: VirtualClock
) -> None:
    """P1, P2: nobody asked for it. Where it was never done it is due within a day, and then a day later, about."""
    replica = make_replica()
    replica.start()
    settle(replica)
    pass_time(clock, 1.2 * DAY)
    until(lambda: len(office.told) == 1)
    assert office.told[0]["differences"] == []
    pass_time(clock, 0.8 * DAY)
    looked = threading.Event()
    replica.on("changed", lambda tables: looked.set())
    office.change(2, "p-2", "planned", 0, None)
    assert looked.wait(10)
    assert len(office.told) == 1, "not before its time"
    damage(replica, "UPDATE visits SET status = 'wrong' WHERE id = 1")
    pass_time(clock, 0.4 * DAY)
    until(lambda: len(office.told) == 2)
    assert (office.told[1]["differences"], office.told[1]["repaired"]) == ([["visits", 1]], 1)
    assert office.repairs == [{"table": "visits", "buckets": [BUCKET]}]
    assert visits(replica) == [(1, "p-1", "planned"), (2, "p-2", "planned")]
    until(lambda: replica.status.state == "live")


def test_an_agent_that_was_told_not_to_never_does(
    make_replica: Callable[..., Replica], office: VerifyingOffice, clock: VirtualClock
) -> None:
    replica = make_replica(verify_hours=None)
    replica.start()
    until(lambda: replica.status.state == "live")
    pass_time(clock, 10 * DAY)
    replica.sync(timeout=20)
    office.change(2, "p-2", "planned", 0, None)
    until(lambda: len(visits(replica)) == 2)
    assert office.asked == []


def test_it_waits_for_a_network_that_costs_nothing(
    make_replica: Callable[..., Replica], office: VerifyingOffice, clock: VirtualClock
) -> None:
    """A verification downloads little, but it is no work for a metered network or a low battery."""
    replica = make_replica()
    replica.start()
    settle(replica)
    replica.connectivity_changed(metered=True)
    until(lambda: replica.status.state != "live")
    pass_time(clock, 2 * DAY)
    replica.sync(timeout=20)
    assert office.asked == []
    replica.connectivity_changed(metered=False)
    until(lambda: len(office.told) == 1)


@pytest.mark.parametrize("error", [ServerError("no", code="overloaded"), UnreachableError("no"), ProtocolError("no")])
def test_one_of_its_own_that_fails_is_put_off_and_disturbs_nobody(
    make_replica: Callable[..., Replica], office: VerifyingOffice, clock: VirtualClock, error: Exception
) -> None:
    """P18."""
    replica = make_replica()
    replica.start()
    settle(replica)
    office.trouble = [error]
    pass_time(clock, 2 * DAY)
    until(lambda: office.trouble == [])
    office.change(2, "p-2", "planned", 0, None)
    until(lambda: len(visits(replica)) == 2)
    assert replica.status.state == "live" and office.hellos == 1
    pass_time(clock, RETRY_SECONDS + LOOK_SECONDS)
    until(lambda: len(office.told) == 1)


def test_it_is_compared_when_somebody_asks(make_replica: Callable[..., Replica], office: VerifyingOffice) -> None:
    """P1: beside a running agent or without one."""
    replica = make_replica()
    report = replica.verify()
    assert (report.tables, report.rows, report.differences) == (2, 1, ())
    assert [(each["table"], each["token"]) for each in office.asked][-2:] == [("visits", None), ("visits", "half way")]
    damage(replica, "UPDATE visits SET status = 'wrong'")
    (found,) = replica.verify().differences
    assert (found.bucket, found.repaired) == (BUCKET, False) and visits(replica) == [(1, "p-1", "wrong")]
    replica.start()
    (found,) = replica.verify(repair=True).differences
    assert found.repaired and visits(replica) == [(1, "p-1", "planned")]


def test_a_line_that_breaks_in_the_middle_is_waited_for(
    make_replica: Callable[..., Replica], office: VerifyingOffice
) -> None:
    """P2: it goes on with the table at which it broke."""
    replica = make_replica()
    office.trouble = [UnreachableError("The cable was cut."), BucketsNeededError("Which?")]
    report = replica.verify(timeout=30)
    assert (report.tables, report.not_compared) == (2, ())
    assert office.asked[0]["buckets"] is None or office.asked[0]["buckets"] == [BUCKET]
    assert len(office.told) == 1


def test_a_database_that_restarts_in_the_middle_of_an_answer_is_waited_for(
    make_replica: Callable[..., Replica], office: VerifyingOffice
) -> None:
    """P2, P18."""
    office.last_words = [{"t": "error", "code": "source_busy", "message": "no", "hint": "", "retry_after": 0.1}] * 2
    report = make_replica().verify(timeout=30)
    assert (report.rows, report.differences, report.not_compared) == (1, (), ())
    assert office.last_words == [] and len(office.told) == 1


@pytest.mark.parametrize(
    ("error", "seconds"), [(UnreachableError("no"), VERIFY_AGAIN_SECONDS), (ServerError("", retry_after_seconds=7), 7)]
)
def test_one_that_somebody_waits_for_is_not_asked_again_at_once(bench: Bench, error: Exception, seconds: float) -> None:
    """P18: whoever waits does not become a flood upon a server that is in trouble already."""
    now = 100.0
    course = Course(bench.file, live=False, announce=lambda *_: None, jitter=lambda: 0.5, now=lambda: now)
    asked: list[float] = []

    def step(*_: object) -> Iterator[Request]:
        asked.append(now)
        yield Request(Ask.VERIFY)

    course.verifier = cast(Any, SimpleNamespace(step=step))
    course.session = replace(course.session, state=State.IDLE, caught_up=True)
    for _ in range(3):
        with pytest.raises(type(error)):
            work = course.look()
            next(work)
            work.throw(error)
        now += seconds - 0.1
        assert list(course.look()) == []
        now += 0.2
    assert len(asked) == 3


def test_the_last_word_of_an_answer_is_taken_for_what_the_server_says(bench: Bench) -> None:
    """P18: an error of its own, and not something that cannot be understood."""
    bench.cut(put("visits", (1, "p", "planned", 0, None)))
    verification = Verification(bench.file, bench.file.receive, repair=False)
    piece = verification.step()
    assert next(piece).ask is Ask.VERIFY
    with pytest.raises(ServerError) as told:
        piece.send([{"t": "error", "code": "source_busy", "message": "no", "hint": "", "retry_after": 7}])
    assert (told.value.code, told.value.retry_after_seconds) == ("source_busy", 7)
    verification.close()


def test_an_old_server_is_not_asked(
    make_replica: Callable[..., Replica], office: VerifyingOffice, clock: VirtualClock
) -> None:
    """It says nothing of verifications at `hello`: the agent leaves it alone, and whoever asks is told."""
    office.keys_max = 0
    replica = make_replica()
    with pytest.raises(ProtocolError) as refused:
        replica.verify()
    assert refused.value.code == "cannot_verify"
    replica.start()
    until(lambda: replica.status.state == "live")
    pass_time(clock, 3 * DAY)
    replica.sync(timeout=20)
    assert office.asked == []


def test_a_server_that_is_never_in_step_ends_it(make_replica: Callable[..., Replica], office: VerifyingOffice) -> None:
    office.is_moved = True
    report = make_replica().verify()
    assert (report.tables, report.not_compared) == (0, ("lines", "visits"))
    assert len(office.asked) == 6


def test_the_hours_are_a_number(make_replica: Callable[..., Replica]) -> None:
    for wrong in (0, -1, float("nan"), "24"):
        with pytest.raises(ConfigError) as refused:
            make_replica(verify_hours=wrong)
        assert refused.value.code == "verify_hours"


def test_a_fleet_spreads_over_a_fifth_of_the_time() -> None:
    assert [due_us(0, DAY, jitter) / SECOND_US / DAY for jitter in (0.0, 0.5, 1.0)] == [0.9, 1.0, 1.1]
