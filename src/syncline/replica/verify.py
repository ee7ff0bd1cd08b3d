"""Comparing the file with its scope in the source, table by table, and mending what differs.

A table is read here first, as the last cut left it (`digests`), and then asked about: the server says what its buckets
hold, and which of them changed since that cut. So both sides speak of one cut, whatever happens on either meanwhile.
What differs is sent anew by the server, as a `replace` in a cut like any other: the cursor moves with its rows.

Like a course (`course`) it speaks to no network: it yields what is to be asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any, TypeAlias

from syncline import limits
from syncline.errors import ProtocolError
from syncline.log import logger
from syncline.model.digest import EMPTY, Difference, Digest, differences
from syncline.protocol import checks
from syncline.protocol.cursor import digest_of
from syncline.protocol.verify import Repair, Verified, Verify
from syncline.replica.apply import AppliedCut
from syncline.replica.course import Ask, Request
from syncline.replica.digests import TableReading
from syncline.replica.file import ReplicaFile, server_error
from syncline.replica.transport import BucketsNeededError
from syncline.replica.verify_goal import TableDifference, VerifyReport

_log = logger("replica.verify")

STEP_SECONDS = 0.05
"""So long a step reads the file; then whatever else there is to do has its turn."""

ATTEMPTS_MAX = 3
"""How often a table is tried while the device and the source move apart."""


class Rest(Enum):
    """Why a verification pauses. BEHIND: it goes on when the device has caught up once more."""

    NEXT = "next"
    BEHIND = "behind"


Receive: TypeAlias = Callable[[dict[str, Any]], "AppliedCut | None"]
_Work: TypeAlias = "Generator[Request | Rest, Any, Any]"


class Verification:
    """One, from its first table to its report. After an error `step` goes on with the table at which it happened."""

    def __init__(self, file: ReplicaFile, receive: Receive, *, repair: bool) -> None:
        self._file = file
        self._receive = receive
        self._repair = repair
        self._left = sorted(name for name, table in file.store.tables.items() if "held_rows" in table.statements)
        self._missing = sorted(set(file.store.tables) - set(self._left))
        self._attempts: Counter[str] = Counter()
        self._found: list[TableDifference] = []
        self._tables = self._rows = self._pending = self._changed = 0
        self._work: _Work = self._all()
        self.report: VerifyReport | None = None

    def step(self) -> Generator[Request, Any, Rest]:
        """A piece of it: at most some milliseconds, or one question. It is over when there is a `report`."""
        answer: Any = None
        error: Exception | None = None
        while True:
            try:
                item = self._work.send(answer) if error is None else self._work.throw(error)
            except StopIteration:
                return Rest.NEXT
            except BaseException:
                self._work = self._all()
                raise
            if isinstance(item, Rest):
                return item
            answer = error = None
            try:
                answer = yield item
            except Exception as failure:
                error = failure

    def close(self) -> None:
        """Lets go of the file in the middle of it."""
        self._work.close()

    # ------------------------------------------------------------ all tables
    def _all(self) -> _Work:
        while self._left:
            name = self._left[0]
            if name in self._file.store.tables and not (yield from self._table(name)):
                self._attempts[name] += 1
                if self._attempts[name] < ATTEMPTS_MAX:
                    yield Rest.BEHIND
                    continue
                self._missing.append(name)
            self._left.pop(0)
            yield Rest.NEXT
        found = self._found
        counted = Counter(each.table for each in found)
        told = Verified(
            device=self._file.state().device or "",
            tables=self._tables,
            rows=self._rows,
            differences=tuple(sorted(counted.items())),
            repaired=sum(each.repaired for each in found),
        )
        yield Request(Ask.VERIFIED, told.dump())
        self.report = VerifyReport(
            tables=self._tables,
            rows=self._rows,
            pending=self._pending,
            changed=self._changed,
            not_compared=tuple(sorted(self._missing)),
            differences=tuple(found),
        )

    # ------------------------------------------------------------ one table
    def _table(self, name: str) -> Generator[Request | Rest, Any, bool]:
        """False where nothing could be said of it now."""
        compared = yield from self._compare(name)
        if compared is None:
            return False
        reading, found, changed = compared
        if found and self._repair:
            _log.warning("%s: the table %s is not as in the source in %s buckets", self._file.path, name, len(found))
            found = yield from self._mend(name, found)
        self._tables += 1
        self._rows += reading.rows
        self._pending += len(reading.skip)
        self._changed += changed
        self._found += found
        return True

    def _compare(
        self, name: str
    ) -> Generator[Request | Rest, Any, tuple[TableReading, list[TableDifference], int] | None]:
        """What was read here, what differs, and how many buckets changed meanwhile."""
        reading = TableReading(self._file.store, self._file.store.table(name))
        try:
            yield from self._read(reading)
        finally:
            reading.close()
        if reading.cursor is None or len(reading.skip) > self._file.verify_keys_max:
            return None
        answered = yield from self._ask(name, reading)
        if answered is None:
            return None
        there, changed = answered
        found = [_named(name, each) for each in differences(reading.digests, there, changed)]
        if reading.unheld:
            found.append(TableDifference(name, None, reading.unheld, 0))
        return reading, found, len(changed)

    def _read(self, reading: TableReading) -> Generator[Rest, Any, None]:
        clock = self._file.store.clock
        ends = clock.monotonic_seconds() + STEP_SECONDS
        while reading.read():
            if clock.monotonic_seconds() >= ends:
                yield Rest.NEXT
                ends = clock.monotonic_seconds() + STEP_SECONDS

    def _ask(
        self, name: str, reading: TableReading
    ) -> Generator[Request | Rest, Any, tuple[dict[str, Digest], set[str]] | None]:
        """What the source holds, by bucket, and the buckets that changed since the cut; None where the device and the
        source are too far apart."""
        there: dict[str, Digest] = {}
        changed: set[str] = set()
        question = Verify(
            device=self._file.state().device or "",
            cursor=reading.cursor or "",
            table=name,
            layout=self._file.store.table(name).layout,
            digest=digest_of(reading.buckets),
            skip=tuple(sorted(reading.skip, key=repr)),
        )
        while True:
            try:
                answer = yield Request(Ask.VERIFY, question.dump())
            except BucketsNeededError:
                if question.buckets is not None:
                    raise
                question = replace(question, buckets=reading.buckets)
                continue
            last = _take(answer, name, there, changed)
            if last["t"] == "moved":
                return None
            if last["t"] == "verified":
                return there, changed
            question = replace(question, token=checks.text(last, "token", limits.STAGE_TOKEN_CHARACTERS_MAX))
            yield Rest.NEXT

    # ------------------------------------------------------------ mending
    def _mend(self, name: str, found: list[TableDifference]) -> Generator[Request | Rest, Any, list[TableDifference]]:
        """The same differences, each with what became of it."""
        for buckets in _portions([each.bucket for each in found if each.bucket is not None]):
            yield from self._fetch(Repair(name, buckets))
        again = yield from self._compare(name)
        left = {each.bucket for each in again[1]} if again is not None else set()
        return [_repaired(each) if again is not None and each.bucket not in left else each for each in found]

    def _fetch(self, repair: Repair) -> Generator[Request | Rest, Any, None]:
        """Downloads until the table came anew in these buckets; what is new besides comes with it, or before."""
        with_buckets, came, attempts = False, False, 0
        while attempts < ATTEMPTS_MAX:
            asked = self._file.download_request(with_buckets=with_buckets)
            try:
                yield Request(Ask.DOWNLOAD, {**asked, "repair": repair.dump()})
                last, applied = dict[str, Any](), None
                while (frame := (yield Request(Ask.FRAME))) is not None:
                    last = frame
                    came = came or (frame.get("t") == "replace" and frame.get("table") == repair.table)
                    applied = self._receive(frame)
            except BucketsNeededError:
                if with_buckets:
                    raise
                with_buckets = True
                continue
            finally:
                self._file.abandon()
            if last.get("t") == "pause":
                continue
            if came and last.get("t") == "commit" and applied is not None:
                return
            attempts += 1


def _take(answer: Sequence[dict[str, Any]], table: str, there: dict[str, Digest], changed: set[str]) -> dict[str, Any]:
    """Adds an answer to what is known; its last frame. ServerError for an `error` frame."""
    for frame in answer:
        kind = frame.get("t")
        if kind in ("pause", "verified", "moved"):
            return frame
        if kind == "error":
            raise server_error(frame)
        if frame.get("table") != table or kind not in ("digests", "changed"):
            raise ProtocolError(f'A frame "{kind}" came in the answer to a verification.', code="bad_frame")
        names = checks.texts(frame, "buckets", limits.BUCKETS_PER_USER_MAX)
        if kind == "changed":
            changed.update(names)
            continue
        for name, part in zip(names, _digests(frame, len(names)), strict=True):
            there[name] = there.get(name, EMPTY) + part
    raise ProtocolError("The answer to a verification broke off.", code="cut_short")


def _digests(frame: dict[str, Any], count: int) -> Iterator[Digest]:
    rows, sums = (checks.items(frame, field, limits.BUCKETS_PER_USER_MAX) for field in ("rows", "sums"))
    if not len(rows) == len(sums) == count:
        raise checks.bad("sums", "does not fit the buckets")
    for number, text in zip(rows, sums, strict=True):
        if type(number) is not int or type(text) is not str or len(text) != 32:
            raise checks.bad("sums", "holds something that is no digest")
        try:
            yield Digest(number, int(text, 16))
        except ValueError as error:
            raise checks.bad("sums", "holds something that is no digest") from error


def _portions(buckets: list[str]) -> Iterator[tuple[str, ...]]:
    """As many as one repair may name. One without a bucket where there is none: then the table's stray rows go."""
    portion: list[str] = []
    size = 0
    for bucket in buckets:
        if portion and (
            len(portion) >= limits.REPAIR_BUCKETS_MAX or size + len(bucket) > limits.REPAIR_NAMES_CHARACTERS_MAX
        ):
            yield tuple(portion)
            portion, size = [], 0
        portion.append(bucket)
        size += len(bucket)
    if portion or not buckets:
        yield tuple(portion)


def _named(table: str, each: Difference) -> TableDifference:
    return TableDifference(table, each.bucket, each.rows_here, each.rows_there)


def _repaired(each: TableDifference) -> TableDifference:
    return replace(each, repaired=True)
