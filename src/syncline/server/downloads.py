"""From an exact read of the source to a download's answer (PROTOCOL_MODEL rules 16 to 18): a cut in one piece, or the
next piece of a paged one (`job`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace

from syncline.clock import Clock
from syncline.errors import SourceBusyError
from syncline.log import logger
from syncline.model.scopes import Plan
from syncline.protocol import frames
from syncline.protocol.cursor import cursor_text, parse_cursor
from syncline.protocol.messages import Download
from syncline.protocol.verify import Repair
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
from syncline.server.job import Job, JobRequest, Paging
from syncline.server.job_token import JobToken
from syncline.server.seal import Seal
from syncline.source.port import Claims, Cursor, Cut, Page, Since, Source, Survey, Walk

_log = logger("downloads")

MarkerWait = Callable[[], Awaitable[None]]
"""Returns when the sequencer has taken everything that was committed before the call."""

ATTEMPTS_MAX = 10
"""How often a cut is read again because grants or tables changed under it."""


class BucketsNeededError(Exception):
    """The digest names a list of buckets that the server cannot know; the device has to send the list."""


class CatchUpNeededError(Exception):
    """What the device lacks comes in pages, and pages come by POST /v1/download alone."""


@dataclass(frozen=True)
class StagedJob:
    """How far the device's paged download has come. `buckets`: the new ones that it brings."""

    token: JobToken
    buckets: frozenset[str]


@dataclass(frozen=True)
class Position:
    """Where a device stands: what its next cut starts from. `repair`: what it wants anew besides; where more has to
    come anew, that comes, and the device asks again."""

    cursor: Cursor | None
    held: frozenset[str]
    included: int
    apply_count: int
    is_reset: bool = False
    staged: StagedJob | None = None
    repair: Repair | None = None

    def anew(self) -> Position:
        """The same device with nothing that could be built on."""
        return Position(None, frozenset(), self.included, self.apply_count, is_reset=True)


@dataclass(frozen=True)
class CutFrames:
    """One cut as JSON frames, and where the device stands once it has applied it. `is_empty`: only the cursor moves."""

    frames: tuple[bytes, ...]
    position: Position
    is_empty: bool
    more: bool
    checkpoint: int
    time_us: int


class Downloads:
    """Reads cuts. Holds no state of a device."""

    def __init__(self, source: Source, plan: Plan, wait_for_marker: MarkerWait, clock: Clock) -> None:
        self._source = source
        self._plan = plan
        self._wait_for_marker = wait_for_marker
        self._clock = clock
        self._lists = BucketLists()
        self.paging = Paging()

    # ------------------------------------------------------------ where a device stands
    async def position(self, claims: Claims, request: Download) -> Position:
        """Where the device says that it stands; BucketsNeededError if a digest of its cannot be resolved."""
        cursor = parse_cursor(request.cursor)
        stage = request.stage
        token = await self._open_token(stage.token) if stage else None
        granted = frozenset[str]()
        if (cursor and request.buckets is None) or (token and stage and stage.buckets is None):
            granted = await self._source.granted(claims)
        held = self._resolve(request.buckets, request.digest, granted) if cursor else frozenset[str]()
        staged = None
        if token and stage:
            staged = StagedJob(token, self._resolve(stage.buckets, stage.digest, granted - held))
        return Position(cursor, held, request.included, request.apply_count, is_reset=cursor is None, staged=staged)

    async def _open_token(self, sealed: str) -> JobToken | None:
        """None for what this source's processes did not send: the job begins anew."""
        text = Seal(await self._source.seal_key()).open(sealed)
        return None if text is None else JobToken.parse(text)

    def _resolve(self, named: tuple[str, ...] | None, digest: str, guess: frozenset[str]) -> frozenset[str]:
        found = frozenset(named) if named is not None else self._lists.find(digest, guess, frozenset())
        if found is None:
            raise BucketsNeededError
        return found

    # ------------------------------------------------------------ what it gets
    async def next_cut(self, device: str, claims: Claims, position: Position) -> CutFrames:
        """The exact cut at the newest checkpoint, as what is new since `position`; CatchUpNeededError where that is too
        much for one piece."""
        found = await self._next(device, claims, position)
        if isinstance(found, Job):
            raise CatchUpNeededError
        return found

    async def open(self, device: str, claims: Claims, position: Position) -> CutFrames | Job:
        """The same, or as much as an answer holds of what comes in pages."""
        staged = position.staged
        if staged is None:
            return await self._next(device, claims, position)
        asked = position
        if staged.token.is_reset:
            position = replace(position.anew(), staged=staged)
        survey = await self._source.read_survey(claims, staged.token.known(position.cursor))
        if not staged.token.fits(survey) or position.is_reset != staged.token.is_reset:
            return await self._next(device, claims, replace(position, staged=None))
        revoked = asked.held - survey.granted
        if revoked:
            return self._drop_only(asked, revoked, survey, stage="keep")
        return self._job(device, claims, position, staged.buckets, staged.token)

    async def _next(self, device: str, claims: Claims, position: Position) -> CutFrames | Job:
        asked = position
        for _ in range(ATTEMPTS_MAX):
            known = (position.cursor,) if position.cursor else ()
            survey = await self._source.read_survey(claims, known)
            if not survey.valid:  # a cursor of a lost time: everything anew
                _log.info("device %s stands in a time that is not known here, and downloads everything anew", device)
                position = position.anew()
                continue
            found = await self._attempt(device, claims, position, survey)
            revoked = asked.held - survey.granted
            if isinstance(found, Job) and revoked:  # now, and not when all pages have come, perhaps hours later
                return self._drop_only(asked, revoked, survey, stage=None)
            if found is not None:
                return found
        raise SourceBusyError("Grants or tables change too fast for a cut.", hint="It is tried again.")

    async def _attempt(self, device: str, claims: Claims, position: Position, survey: Survey) -> CutFrames | Job | None:
        """None where grants or tables changed between two reads."""
        held, new = position.held & survey.granted, survey.granted - position.held
        since = position.cursor[1] if position.cursor else 0
        replaced = frozenset(name for name, raised in survey.generations.items() if raised > since and held)
        walk = Walk(new, replaced, held if replaced else frozenset())
        is_repair = self._is_repair(position, walk)
        if is_repair and position.repair:
            walk = Walk(new, frozenset({position.repair.table}), held & frozenset(position.repair.buckets))
        page = await self._first_page(claims, position, walk) if new or walk.replaced else None
        if page and (not page.survey.valid or page.survey.generation != survey.generation):
            return None
        if page is None or page.next is None:
            if page and not page.exact:
                await self._wait_for_marker()
            added = Since(new, page.survey.head.checkpoint) if page else None
            cut = await self._source.read_cut(
                device, claims, held, position.cursor, position.included, added, self.paging.size
            )
            if not cut.valid or cut.generation != survey.generation or not (held | new) <= cut.granted:
                return None
            if (position.held - held) & cut.granted:  # granted again meanwhile: what changed in them was not read
                return None
            if not cut.overflow:
                return self._cut(position, walk, page, cut)
        return self._job(device, claims, position, new, None, walk=walk, survey=survey, first=page, is_repair=is_repair)

    def _is_repair(self, position: Position, walk: Walk) -> bool:
        """Whether nothing but what the device asked for has to come anew."""
        return (
            position.repair is not None
            and position.repair.table in self._plan.tables
            and position.cursor is not None
            and not walk.buckets
            and not walk.replaced
        )

    async def _first_page(self, claims: Claims, position: Position, walk: Walk) -> Page:
        known = (position.cursor,) if position.cursor else ()
        return await self._source.read_page(claims, walk, None, known, self.paging.size)

    def _job(
        self,
        device: str,
        claims: Claims,
        position: Position,
        buckets: frozenset[str],
        token: JobToken | None,
        *,
        walk: Walk | None = None,
        survey: Survey | None = None,
        first: Page | None = None,
        is_repair: bool = False,
    ) -> Job:
        request = JobRequest(
            device=device,
            claims=claims,
            cursor=position.cursor,
            held=position.held,
            buckets=buckets,
            included=position.included,
            apply_count=position.apply_count,
            is_reset=position.is_reset,
        )
        job = Job(self._source, self._plan, self._wait_for_marker, self._clock, self.paging, request, self._lists)
        if token is None:
            assert walk is not None and survey is not None
            job.begin(walk, survey, first, is_repair=is_repair)
        else:
            job.resume(token)
        return job

    # ------------------------------------------------------------ in one piece
    def _cut(self, position: Position, walk: Walk, page: Page | None, cut: Cut) -> CutFrames:
        dropped = position.held - cut.granted
        added = walk.buckets
        more = bool(cut.granted - position.held - added)
        body = [*self._body(walk, page, cut, dropped)]
        count = sum(rows.count for rows in page.rows) if page else 0
        count += sum(len(entries.rows) for entries in cut.entries)
        standing = Position(
            cursor=(cut.head.term, cut.head.checkpoint),
            held=(position.held - dropped) | added,
            included=cut.included,
            apply_count=position.apply_count + 1,
        )
        if standing.held != position.held:
            self._lists.remember(standing.held)
        quiet = not body and not added and not position.is_reset and cut.included <= position.included
        return CutFrames(
            frames=(
                begin_frame(position.apply_count, count, reset=position.is_reset, stage=None),
                *body,
                commit_frame(cut, added, position.included, position.apply_count, more=more),
            ),
            position=standing,
            is_empty=quiet,
            more=more,
            checkpoint=cut.head.checkpoint,
            time_us=cut.head.time_us,
        )

    def _body(self, walk: Walk, page: Page | None, cut: Cut, dropped: frozenset[str]) -> Iterator[bytes]:
        """What the feed says of a key comes after what the page said of it, and so counts (rule 17)."""
        if dropped:
            yield drop_frame(dropped)
        yield from replace_frames(walk.replaced, walk.held)
        for rows in page.rows if page else ():
            yield rows_frame(rows)
        for entries in cut.entries:
            yield from entry_frames(entries)
        for outcome in cut.outcomes:
            yield outcome_frame(self._plan, outcome)

    def _drop_only(
        self, position: Position, dropped: frozenset[str], survey: Survey, *, stage: str | None
    ) -> CutFrames:
        """What was revoked goes at once; all else is as it was. The time 0 is older than whatever the device saw."""
        assert position.cursor is not None
        held = position.held - dropped
        self._lists.remember(held)
        closing = {
            "t": "commit",
            "cursor": cursor_text(*position.cursor),
            "checkpoint": position.cursor[1],
            "buckets": {"add": []},
            "included": position.included,
            "included_id": None,
            "time": 0,
            "apply_count": position.apply_count,
            "more": True,
        }
        return CutFrames(
            frames=(
                begin_frame(position.apply_count, 0, reset=False, stage=stage),
                drop_frame(dropped),
                frames.dump(closing),
            ),
            position=replace(position, held=held, apply_count=position.apply_count + 1),
            is_empty=False,
            more=True,
            checkpoint=position.cursor[1],
            time_us=survey.head.time_us,
        )
