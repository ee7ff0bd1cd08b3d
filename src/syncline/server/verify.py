"""Digests of a device's buckets in the source, for a device that compares them with its own (`POST /v1/verify`).

The table is read by the pages of a download (`Source.read_page`), each in a short snapshot of its own, so neither
mapping nor filters can differ from what devices get, and nobody is kept waiting longer than by a page. What was read at
several moments is still compared exactly: the feed names every bucket that changed in the table after the device's
cursor, up to the end of the walk, and of these nothing is said this time. All others stood still meanwhile.

Nothing is kept here between two answers. Digests add up, so the device adds up the parts; the token says where the walk
goes on.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from dataclasses import replace

from syncline import limits
from syncline.clock import Clock
from syncline.log import logger
from syncline.model.digest import Tally, hash_of_image
from syncline.model.scopes import Plan, SyncedTable
from syncline.protocol import frames
from syncline.protocol.verify import Verified, Verify
from syncline.server.downloads import Position
from syncline.server.job_token import JobToken
from syncline.server.seal import Seal
from syncline.source.port import Claims, Cursor, LapPage, PageRows, PageSize, Since, Source, Survey, Walk
from syncline.values import key_text

_log = logger("verify")
PAGE = PageSize(limits.VERIFY_PAGE_ROWS_MAX, limits.VERIFY_PAGE_BYTES_TARGET)


class Verification:
    """One answer. `held`: the buckets that the device names; `synced`: the table."""

    def __init__(
        self,
        source: Source,
        wait_for_marker: Callable[[], Awaitable[None]],
        clock: Clock,
        claims: Claims,
        request: Verify,
        cursor: Cursor,
        held: frozenset[str],
        synced: SyncedTable,
    ) -> None:
        self._source = source
        self._wait_for_marker = wait_for_marker
        self._clock = clock
        self._claims = claims
        self._request = request
        self._cursor = cursor
        self._held = held
        self._key_places = tuple(synced.columns.index(column) for column in synced.key)
        self._reads = frozenset(alias for path in synced.paths for alias in path.aliases)
        self._skip = frozenset(key_text(key) for key in request.skip)
        self._tally: Tally[str] = Tally()
        self._token: JobToken

    async def frames(self) -> AsyncIterator[bytes]:
        """`digests`, `changed`, and at the end one of `pause`, `verified`, `moved`."""
        ends = self._clock.monotonic_seconds() + limits.VERIFY_ANSWER_SECONDS_MAX
        seal = Seal(await self._source.seal_key())
        if not await self._begin(seal):
            yield _moved()
            return
        while self._token.walking:
            if not await self._read_page():
                yield _moved()
                return
            if self._token.walking and self._clock.monotonic_seconds() >= ends:
                for frame in self._digests():
                    yield frame
                yield frames.dump({"t": "pause", "token": seal.close(self._token.dump())})
                return
        for frame in self._digests():
            yield frame
        if self._token.marker_due:
            await self._wait_for_marker()
        changed = await self._changed()
        if changed is None:
            yield _moved()
            return
        if changed:
            yield frames.dump({"t": "changed", "table": self._request.table, "buckets": sorted(changed)})
        yield frames.dump({"t": "verified", "table": self._request.table, "checkpoint": self._token.newest[1]})

    # ------------------------------------------------------------ the walk over rows
    async def _begin(self, seal: Seal) -> bool:
        """False where the device is not in step: it lacks a bucket, or holds one too many, or its table came anew."""
        asked = self._request.token
        text = seal.open(asked) if asked is not None else None
        token = JobToken.parse(text) if text is not None else None
        survey = await self._source.read_survey(self._claims, token.known(self._cursor) if token else (self._cursor,))
        if token is None:
            if asked is not None or survey.granted != self._held:
                return False
            head = (survey.head.term, survey.head.checkpoint)
            token = JobToken(head, head, survey.generation, replaced=(self._request.table,))
        self._token = token
        raised = survey.generations.get(self._request.table, 0)
        return raised <= self._cursor[1] and self._look(survey)

    def _look(self, survey: Survey) -> bool:
        """Whether what was read still means what it meant at the beginning."""
        if self._source.stopped() & self._reads or not self._token.fits(survey) or not self._held <= survey.granted:
            return False
        self._token = replace(self._token, newest=(survey.head.term, survey.head.checkpoint))
        return True

    async def _read_page(self) -> bool:
        token = self._token
        walk = Walk(frozenset(), frozenset({self._request.table}), self._held, token.start)
        page = await self._source.read_page(self._claims, walk, token.place, token.known(self._cursor), PAGE)
        if not self._look(page.survey):
            return False
        for rows in page.rows:
            if rows.layout != self._request.layout:
                return False
            self._add(rows)
        self._token = replace(
            self._token, place=page.next, walking=page.next is not None, marker_due=token.marker_due or not page.exact
        )
        return True

    def _add(self, rows: PageRows) -> None:
        add, names = self._tally.add, rows.buckets
        for index, row in enumerate(json.loads(rows.images)):
            if self._skip and self._key_text(row) in self._skip:
                continue
            row_hash = hash_of_image(row)
            of = rows.of[index] if rows.of is not None else 0
            for place in (of,) if type(of) is int else of:  # type: ignore[union-attr]
                add(names[place], row_hash)

    def _key_text(self, row: list[object]) -> str:
        return json.dumps([row[place] for place in self._key_places], ensure_ascii=False, separators=(",", ":"))

    def _digests(self) -> Iterator[bytes]:
        found = self._tally.take()
        if found:
            yield frames.dump(
                {
                    "t": "digests",
                    "table": self._request.table,
                    "buckets": list(found),
                    "rows": [digest.rows for digest in found.values()],
                    "sums": [digest.sum_text for digest in found.values()],
                }
            )

    # ------------------------------------------------------------ what moved meanwhile
    async def _changed(self) -> set[str] | None:
        """The held buckets that the feed names for this table after the device's cursor. A line that moves on while a
        lap is read is met by the next one; the last lap is a single read."""
        found: set[str] = set()
        after, upto, place = self._cursor[1], None, None
        while True:
            page = await self._read_lap(after, upto, place)
            if not self._look(page.survey):
                return None
            found |= {entries.bucket for entries in page.entries if entries.table == self._request.table}
            if page.next is not None:
                upto, place = page.upto, page.next
            elif place is not None:
                after, upto, place = page.upto, None, None
            else:
                return found

    async def _read_lap(self, after: int, upto: int | None, place: str | None) -> LapPage:
        known = self._token.known(self._cursor)
        return await self._source.read_lap(self._claims, (Since(self._held, after),), upto, place, known, PAGE)


def _moved() -> bytes:
    """The device and the source are too far apart to be compared: it downloads first, and asks again."""
    return frames.dump({"t": "moved"})


async def answer_verify(
    source: Source,
    plan: Plan,
    wait_for_marker: Callable[[], Awaitable[None]],
    clock: Clock,
    claims: Claims,
    request: Verify,
    position: Position,
) -> AsyncIterator[bytes]:
    """The frames for a device that stands at `position`."""
    synced = plan.tables.get(request.table)
    if synced is None or position.cursor is None:
        yield _moved()
        return
    verification = Verification(source, wait_for_marker, clock, claims, request, position.cursor, position.held, synced)
    async for frame in verification.frames():
        yield frame


async def count_verified(source: Source, user: str, told: Verified, tables: Collection[str]) -> None:
    """What a device found goes into the installation's counters, and where there was something, into the log.
    `tables`: those of the plan; what is said of others is nonsense."""
    known = {table: buckets for table, buckets in told.differences if table in tables}
    found = sum(known.values())
    await source.count_up(
        {
            "verifications": 1,
            "verified_rows": told.rows,
            "verify_differences": found,
            "verify_repaired": min(told.repaired, found),
        }
    )
    if known:  # names of the plan alone, and in one line: what a device says is a stranger's text
        listed = ", ".join(f"{table} ({buckets} buckets)" for table, buckets in known.items())
        _log.warning("device %r of %r differed from the source: %s", told.device, user, listed)
