"""A paged download: what its pages bring, in an order in which the later frame is always the newer one.

First the walk over rows, then laps over the feed, then one exact read: see docs/decisions/0025-paged-downloads.md for
why a device that applies all of it in that order, in one transaction, holds exactly the cut of the last read. Nothing
is kept here between two answers; the token says it all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace

from syncline import limits
from syncline.clock import Clock
from syncline.model.scopes import Plan
from syncline.protocol import frames
from syncline.server.bucket_lists import BucketLists
from syncline.server.cut_frames import (
    begin_frame,
    commit_frame,
    drop_frame,
    entry_frames,
    outcome_frame,
    replace_frames,
    rows_frame,
)
from syncline.server.job_token import JobToken
from syncline.server.seal import Seal
from syncline.source.port import Claims, Cursor, Cut, LapPage, Page, PageSize, Since, Source, Survey, Walk


@dataclass(frozen=True)
class Paging:
    """How large pages and answers are."""

    size: PageSize = field(default_factory=lambda: PageSize(limits.PAGE_ROWS_MAX, limits.PAGE_BYTES_TARGET))
    progress_bytes: int = limits.PROGRESS_BYTES_TARGET
    answer_seconds: float = limits.ANSWER_SECONDS_MAX
    answer_bytes: int = limits.ANSWER_BYTES_MAX
    count_seconds: float = limits.COUNT_SECONDS_MAX


@dataclass(frozen=True)
class JobRequest:
    """Whose job it is, and on what the device stands. `buckets`: the new ones that the job brings."""

    device: str
    claims: Claims
    cursor: Cursor | None
    held: frozenset[str]
    buckets: frozenset[str]
    included: int
    apply_count: int
    is_reset: bool


class Job:
    """One answer of a paged download. `begin` or `resume` it, then take its `frames`."""

    def __init__(
        self,
        source: Source,
        plan: Plan,
        wait_for_marker: Callable[[], Awaitable[None]],
        clock: Clock,
        paging: Paging,
        request: JobRequest,
        lists: BucketLists,
    ) -> None:
        self._source = source
        self._plan = plan
        self._wait_for_marker = wait_for_marker
        self._clock = clock
        self._paging = paging
        self._request = request
        self._lists = lists
        self._buckets = request.buckets
        self._lost: set[str] = set()
        self._seal: Seal
        self._token: JobToken
        self._walk: Walk | None = None
        self._first: Page | None = None
        self._unsaved = 0
        self._sent = 0
        self._ends = 0.0
        self._saved_token: JobToken | None = None
        self._is_over = False

    def begin(self, walk: Walk, survey: Survey, first: Page | None, *, is_repair: bool = False) -> None:
        """`first`: the first page of the walk, if there are rows to walk over. `is_repair`: the walk's tables come anew
        in its own held buckets, and not in all that the device holds."""
        head = (first.survey if first else survey).head
        start = (head.term, head.checkpoint)
        self._walk, self._first = walk, first
        self._token = JobToken(
            start=start,
            newest=start,
            generation=survey.generation,
            replaced=tuple(sorted(walk.replaced)),
            is_reset=self._request.is_reset,
            walking=first is not None,
            only=tuple(sorted(walk.held)) if is_repair else None,
        )

    def resume(self, token: JobToken) -> None:
        self._token = self._saved_token = token

    # ------------------------------------------------------------ the answer
    async def frames(self) -> AsyncIterator[bytes]:
        self._ends = self._clock.monotonic_seconds() + self._paging.answer_seconds
        self._seal = Seal(await self._source.seal_key())
        if self._walk is not None:
            total = await self._count(self._walk)
            self._token = replace(self._token, total_rows=total)
        request = self._request
        stage = "new" if self._walk is not None else "resume"
        yield begin_frame(request.apply_count, self._token.total_rows or 0, reset=request.is_reset, stage=stage)
        if self._walk is not None:
            self._lists.remember(self._buckets)
            yield frames.dump({"t": "stage", "buckets": sorted(self._buckets)})
            for frame in replace_frames(self._walk.replaced, self._walk.held):
                yield frame
        async for frame in self._read_rows():
            yield frame
        if not self._is_over:
            async for frame in self._read_feed():
                yield frame

    async def _count(self, walk: Walk) -> int | None:
        if self._first is None:
            return None
        return await self._source.count_rows(replace(walk, start=self._token.start), self._paging.count_seconds)

    def _pause(self) -> Iterator[bytes]:
        self._is_over = True
        if self._token != self._saved_token or self._lost:
            yield self._progress()
        yield frames.dump({"t": "pause"})

    def _progress(self) -> bytes:
        token, self._unsaved = self._token, 0
        self._saved_token = token
        lost, self._lost = sorted(self._lost), set()
        if lost:
            self._lists.remember(self._buckets)
        return frames.dump(
            {
                "t": "progress",
                "token": self._seal.close(token.dump()),
                "rows": token.rows,
                "bytes": token.bytes,
                "total_rows": token.total_rows,
                "lost": lost,
            }
        )

    def _account(self, frame: bytes, rows: int) -> None:
        self._sent += len(frame)
        self._unsaved += len(frame)
        self._token = replace(self._token, rows=self._token.rows + rows, bytes=self._token.bytes + len(frame))

    def _look(self, survey: Survey) -> bool:
        """What a read tells beside its rows. False if the job cannot go on as it began: the next request will see why,
        and begin another one, or first drop what was revoked."""
        if not self._token.fits(survey):
            return False
        lost = self._buckets - survey.granted
        self._buckets -= lost
        self._lost |= lost
        head = survey.head
        self._token = replace(self._token, newest=(head.term, head.checkpoint))
        return True

    def _is_revoked(self, survey: Survey) -> bool:
        """A bucket that the device holds was revoked: the answer ends, so that the next one can begin with that."""
        return not self._request.held <= survey.granted

    def _is_spent(self) -> bool:
        return self._sent >= self._paging.answer_bytes or self._clock.monotonic_seconds() >= self._ends

    # ------------------------------------------------------------ the walk over rows
    async def _read_rows(self) -> AsyncIterator[bytes]:
        while self._token.walking:
            page, self._first = self._first or await self._next_page(), None
            if not self._look(page.survey):
                for frame in self._pause():
                    yield frame
                return
            for rows in page.rows:
                frame = rows_frame(rows)
                self._account(frame, rows.count)
                yield frame
                if self._unsaved >= self._paging.progress_bytes:
                    self._token = replace(self._token, place=rows.place)
                    yield self._progress()
            self._token = replace(
                self._token, place=page.next, walking=page.next is not None, marker_due=not page.exact
            )
            if self._is_revoked(page.survey) or self._is_spent():
                for frame in self._pause():
                    yield frame
                return
        if self._token.marker_due:
            await self._wait_for_marker()
            self._token = replace(self._token, marker_due=False)

    async def _next_page(self) -> Page:
        token = self._token
        held = self._request.held if token.only is None else frozenset(token.only) & self._request.held
        walk = Walk(self._buckets, frozenset(token.replaced), held if token.replaced else frozenset(), token.start)
        return await self._source.read_page(
            self._request.claims, walk, token.place, token.known(self._request.cursor), self._paging.size
        )

    # ------------------------------------------------------------ laps over the feed, and the exact read at their end
    async def _read_feed(self) -> AsyncIterator[bytes]:
        while True:
            if self._token.upto is None:
                cut = await self._last_read()
                if not cut.valid or cut.generation != self._token.generation:
                    for frame in self._pause():
                        yield frame
                    return
                if not cut.overflow:
                    for frame in self._closing(cut):
                        yield frame
                    return
            page = await self._next_lap_page()
            if not self._look(page.survey):
                for frame in self._pause():
                    yield frame
                return
            for entries in page.entries:
                for frame in entry_frames(entries):
                    self._account(frame, 0)
                    yield frame
                self._token = replace(self._token, rows=self._token.rows + len(entries.rows))
            self._advance(page)
            if self._is_revoked(page.survey) or self._is_spent():
                for frame in self._pause():
                    yield frame
                return
            if self._unsaved >= self._paging.progress_bytes:
                yield self._progress()

    def _advance(self, page: LapPage) -> None:
        token, head = self._token, page.survey.head
        upto = token.upto or (head.term, head.checkpoint)
        if page.next is None:
            self._token = replace(token, reached=upto, upto=None, lap_place=None)
        else:
            self._token = replace(token, upto=upto, lap_place=page.next)

    def _since(self) -> tuple[Since, Since]:
        """Which entries of the held buckets, and of the new ones, are still to be read."""
        reached, cursor = self._token.reached, self._request.cursor
        held_after = reached[1] if reached else cursor[1] if cursor else 0
        added_after = reached[1] if reached else self._token.start[1]
        return Since(self._request.held, held_after), Since(self._buckets, added_after)

    async def _next_lap_page(self) -> LapPage:
        token = self._token
        upto = token.upto[1] if token.upto else None
        return await self._source.read_lap(
            self._request.claims,
            self._since(),
            upto,
            token.lap_place,
            token.known(self._request.cursor),
            self._paging.size,
        )

    async def _last_read(self) -> Cut:
        request = self._request
        _, added = self._since()
        cursor = self._token.reached or request.cursor
        return await self._source.read_cut(
            request.device, request.claims, request.held, cursor, request.included, added, self._paging.size
        )

    def _closing(self, cut: Cut) -> Iterator[bytes]:
        request = self._request
        added = self._buckets & cut.granted
        dropped = request.held - cut.granted
        if dropped:
            yield drop_frame(dropped)
        for entries in cut.entries:
            yield from entry_frames(entries)
        for outcome in cut.outcomes:
            yield outcome_frame(self._plan, outcome)
        self._lists.remember((request.held - dropped) | added)
        more = bool(cut.granted - request.held - added)
        yield commit_frame(cut, added, request.included, request.apply_count, more=more)
