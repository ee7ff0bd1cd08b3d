"""A phone of `bench` that is compared with its scope, without an agent: for scenario tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from syncline.protocol import frames
from syncline.replica.course import Ask, Request
from syncline.replica.transport import BucketsNeededError
from syncline.replica.verify import Rest, Verification
from syncline.replica.verify_goal import VerifyReport
from syncline.server.downloads import BucketsNeededError as NamesNeededError
from syncline.testing.bench import Phone

Between = Callable[[Ask], None]
"""Called before each question, with what is asked."""


@dataclass
class PhoneVerification:
    """`told`: what the server answered to the questions. `run` answers the report."""

    phone: Phone
    repair: bool = False
    between: Between | None = None
    told: list[dict[str, Any]] = field(default_factory=list)
    fetched: list[dict[str, Any]] = field(default_factory=list)

    def run(self) -> VerifyReport:
        verification = Verification(self.phone.file, self.phone.file.receive, repair=self.repair)
        while verification.report is None:
            if self._drive(verification) is Rest.BEHIND:
                self.phone.sync()
        return verification.report

    def _drive(self, verification: Verification) -> Rest:
        step = verification.step()
        try:
            request = next(step)
            while True:
                try:
                    answer = self._perform(request)
                except NamesNeededError:
                    request = step.throw(BucketsNeededError("The server needs the list of buckets."))
                else:
                    request = step.send(answer)
        except StopIteration as end:
            assert isinstance(end.value, Rest)
            return end.value

    def _perform(self, request: Request) -> Any:
        if request.ask is Ask.FRAME:
            return next(self._answer, None)
        if self.between is not None:
            self.between(request.ask)
        office, identity = self.phone.office, self.phone.identity
        message = frames.load(frames.dump(request.message))
        if request.ask is Ask.VERIFIED:
            return office.wait(office.service.verified(identity, message))
        if request.ask is Ask.DOWNLOAD:
            received = self._collect(message, download=True)
            self.fetched += received
            self._answer: Iterator[dict[str, Any]] = iter(received)
            return None
        answer = self._collect(message, download=False)
        self.told += answer
        return answer

    def _collect(self, message: dict[str, Any], *, download: bool) -> list[dict[str, Any]]:
        service, identity = self.phone.office.service, self.phone.identity

        async def collect() -> list[bytes]:
            answer = await (service.download(identity, message) if download else service.verify(identity, message))
            return [frame async for frame in answer]

        return [frames.load(frame) for frame in self.phone.office.wait(collect())]

    def rows_fetched(self) -> dict[str, int]:
        """Table -> how many rows a repair brought."""
        found: dict[str, int] = {}
        for frame in self.fetched:
            if frame["t"] == "rows":
                found[frame["table"]] = found.get(frame["table"], 0) + len(frame["rows"])
        return found


def verify(phone: Phone, *, repair: bool = False) -> VerifyReport:
    return PhoneVerification(phone, repair).run()


def damage(phone: Phone, *statements: str) -> None:
    """What no trigger sees: a stray program, a disk that forgets. The statements run with capture silenced."""
    db = phone.file.store.connection
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE syncline_state SET applying = 1")
    for statement in statements:
        db.execute(statement)
    db.execute("UPDATE syncline_state SET applying = 0")
    db.execute("COMMIT")
