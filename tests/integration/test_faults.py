"""Each fault of the network at each step of the protocol: when it is over, all arrives by itself, and nobody writes
anything to wake it. Real devices, a real server, and a relay of its own between each of them.

All devices of a step are at it at once. What a device or a server waits for is shortened, on both sides.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from tests.integration.company import (
    PATIENCE_SECONDS,
    TABLES,
    Company,
    holds_scope,
    query,
    token,
)

from syncline import Replica, Status, limits
from syncline.cli import main
from syncline.replica import course, live, session_pace, transport
from syncline.testing.relay import (
    Blackhole,
    Cut,
    Delay,
    Direction,
    Fault,
    Freeze,
    HalfClose,
    Relay,
    Trickle,
    Truncate,
    Unanswered,
)

UP, DOWN = Direction.UP, Direction.DOWN
ANSWER_SECONDS = 1.5
BEAT_SECONDS, SILENCE_SECONDS = 1.0, 3.0
IN_FAULT_SECONDS = 2.0
"""A fault is over when the device has noticed it, and at the latest after this."""
LOOK_SECONDS = 0.2
"""Looking costs what thirteen devices need to work."""

SERVER_SCRIPT = f"""
from syncline import limits
limits.HEARTBEAT_SECONDS, limits.SILENCE_SECONDS_MAX = {BEAT_SECONDS}, {SILENCE_SECONDS}
"""


@dataclass(frozen=True)
class Step:
    """`at`: the request with which the fault begins, or with its answer; without one it begins when the device is
    live. `way`: where the bytes go that it is about; `after` how many of them it breaks off, where it does."""

    at: bytes = b""
    in_answer: bool = False
    way: Direction = DOWN
    after: int = 0


STEPS = {
    "hello": Step(b"POST /v1/hello", way=DOWN, after=250),
    "upload request": Step(b"POST /v1/upload", way=UP, after=400),
    "upload answer": Step(b"POST /v1/upload", in_answer=True, after=150),
    "first download": Step(b"POST /v1/download", in_answer=True, after=600),
    "later download": Step(b"POST /v1/download", in_answer=True, after=300),
    "live stream": Step(after=30),
}
FAULTS: dict[str, Callable[[Step], Fault]] = {
    "cut": lambda step: Cut(),
    "cut inside": lambda step: Cut(step.after, step.way),
    "truncated at once": lambda step: Truncate(1, step.way),
    "truncated inside": lambda step: Truncate(step.after, step.way),
    "late": lambda step: Delay(ANSWER_SECONDS + 1),
    "a trickle": lambda step: Trickle(50, step.way),
    "half closed": lambda step: HalfClose(0, step.way),
    "half closed inside": lambda step: HalfClose(step.after, step.way),
    "frozen": lambda step: Freeze(),
    "black hole": lambda step: Blackhole(),
    "black hole up": lambda step: Blackhole(UP),
    "black hole down": lambda step: Blackhole(DOWN),
    "unanswered": lambda step: Unanswered(),
}


def numbered_tables() -> str:
    """A nurse with a patient for each fault."""
    rows = [
        f"INSERT INTO patients VALUES('p{n}', 'Patient {n}', ''); INSERT INTO assignments VALUES('nurse{n}', 'p{n}');"
        f"INSERT INTO visits(id, patient_id) VALUES('v{n}', 'p{n}');"
        for n in range(len(FAULTS) * len(STEPS))
    ]
    return TABLES + "".join(rows)


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    company = Company(tmp_path_factory.mktemp("faults"), numbered_tables())
    assert main.run(["program", "--config", str(company.config), "--out", str(company.folder / "program.json")]) == 0
    company.serve(SERVER_SCRIPT, road=False)
    yield company
    company.close()


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "ANSWER_SECONDS", ANSWER_SECONDS)
    monkeypatch.setattr(transport, "CONNECT_SECONDS", ANSWER_SECONDS)
    monkeypatch.setattr(live, "CONNECT_SECONDS", ANSWER_SECONDS)
    monkeypatch.setattr(course, "_POLL_SECONDS", BEAT_SECONDS)
    monkeypatch.setattr(session_pace, "WAIT_SECONDS", BEAT_SECONDS)
    monkeypatch.setattr(limits, "BACKOFF_SECONDS_MAX", 2.0)
    monkeypatch.setattr(limits, "HEARTBEAT_SECONDS", BEAT_SECONDS)
    monkeypatch.setattr(limits, "SILENCE_SECONDS_MAX", SILENCE_SECONDS)


class Nurse:
    """One device that meets one fault at one step."""

    def __init__(self, company: Company, number: int, step_name: str, fault_name: str) -> None:
        self.company = company
        self.number = number
        self.name = f"{step_name}: {fault_name}"
        self.step = STEPS[step_name]
        self.fault = FAULTS[fault_name](self.step)
        self.is_first = step_name == "first download"
        self._life = ExitStack()
        self.relay = self._life.enter_context(Relay(company.servers[-1].url))
        path = company.folder / f"nurse{number}.device.db"
        program = company.folder / "program.json"
        self.phone = Replica(path, self.relay.url, token(f"nurse{number}"), program=program)
        self._life.callback(self.phone.stop)
        self.is_live, self.has_noticed = threading.Event(), threading.Event()
        self.phone.on("status", self.note)

    def go_through_it(self) -> str:
        """What went wrong; nothing, if all is well."""
        try:
            with self._life:
                if not self.is_first:
                    self.phone.sync(timeout=PATIENCE_SECONDS)
                self.meet_fault()
                self.relay.heal()
                self.wait_until_over()
                counted = self.company.execute("SELECT added FROM audit WHERE visit_id = ?", self.visit)
                assert counted == ([] if self.is_first else [(1,)])
        except Exception as error:
            return f"{self.name}: {error!r} {self.phone.path}"
        return ""

    def meet_fault(self) -> None:
        if self.step.at:
            self.write()
            self.has_noticed.clear()
            self.relay.begin(self.fault, at=self.step.at, in_answer=self.step.in_answer)
            self.phone.start()
        else:
            self.phone.start()
            assert self.is_live.wait(PATIENCE_SECONDS)
            self.has_noticed.clear()
            self.relay.begin(self.fault)
            self.write()
        assert self.relay.wait_until_hit(PATIENCE_SECONDS), "the fault hits"
        self.has_noticed.wait(IN_FAULT_SECONDS)

    def note(self, status: Status) -> None:
        if status.state == "live":
            self.is_live.set()
        elif status.state in ("offline", "waiting"):
            self.has_noticed.set()

    def wait_until_over(self) -> None:
        ends = time.monotonic() + PATIENCE_SECONDS
        while not self.is_over() and time.monotonic() < ends:
            time.sleep(LOOK_SECONDS)
        assert self.is_over(), self.phone.status

    def write(self) -> None:
        """She and the office, at the same time. Before her first download she knows the visit from paper."""
        with contextlib.closing(sqlite3.connect(self.phone.path, timeout=30, isolation_level=None)) as db:
            db.execute("UPDATE visits SET n = n + 1 WHERE id = ?", (self.visit,))
            db.execute("INSERT INTO notes VALUES(?, ?, ?)", (f"n{self.number}", self.visit, "written " * 99))
        assert self.phone.status.pending or not self.step.at
        self.company.execute("UPDATE patients SET name = 'renamed' WHERE id = ?", f"p{self.number}")

    def is_over(self) -> bool:
        """Her queue is empty, all is where it belongs, and she has the office's news."""
        return (
            query(self.phone.path, "SELECT count(*) FROM syncline_pending") == [(0,)]
            and self.company.execute("SELECT count(*) FROM notes WHERE id = ?", f"n{self.number}") == [(1,)]
            and holds_scope(self.company, f"nurse{self.number}", self.phone.path)
        )

    @property
    def visit(self) -> str:
        return f"v{self.number}"


@pytest.mark.parametrize("step", STEPS)
def test_after_any_fault_all_arrives_by_itself(step: str, company: Company) -> None:
    """P1, P2, P3, P5: nothing is lost or doubled, and no new write is needed. P18: to the server it is an ordinary day."""
    first = list(STEPS).index(step) * len(FAULTS)
    nurses = [Nurse(company, first + number, step, fault) for number, fault in enumerate(FAULTS)]
    with ThreadPoolExecutor(len(nurses)) as pool:
        failed = [told for told in pool.map(Nurse.go_through_it, nurses) if told]
    assert not failed, "\n".join(failed)
    assert "Traceback" not in company.servers[0].log(), "a peer that goes away is nothing unforeseen"
