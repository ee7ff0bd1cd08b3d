"""Uploads: exactly once, judged one by one, never blocked (PROTOCOL_MODEL rules 9 to 14).

A request becomes one or more transactions. In each, whole groups are tried; what fails for the data's fault is
rejected with a reason and
the rest goes on; number, ids, outcomes, conflicts and touches are committed together with the effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

from syncline import limits
from syncline.clock import Clock, evaluate_offset, evaluate_stamp
from syncline.errors import AuthError, ProtocolError, Reject
from syncline.model.merge import Stamp
from syncline.model.scopes import Plan
from syncline.protocol.messages import Group, Mutation, Upload, UploadAnswer, are_halves
from syncline.server.judge import GroupScopeError, Judge, Verdict
from syncline.source.port import (
    Claims,
    DeviceRow,
    PiecemealError,
    Source,
    SourceRefusedError,
    StoredOutcome,
    TransactionLostError,
    UploadPace,
    WriteTransaction,
)

Stamped = tuple[Mutation, Stamp]


@dataclass
class _Progress:
    """`defer`: the next group is to be tried alone with its foreign keys checked at the end; which of its mutations
    failed when each was checked at once. -1: nothing of the kind. `mutations` took `seconds`."""

    groups_done: int
    last: int
    gap: bool
    defer: int = -1
    mutations: int = 0
    seconds: float = 0.0


@dataclass
class _Trial:
    """A group as it is tried: as it was `sent`, and in the source's words once it is prepared. `at`: which mutation is
    being judged."""

    sent: Sequence[Stamped]
    stamped: Sequence[Stamped]
    verdicts: list[Verdict] = field(default_factory=list)
    at: int = 0

    def culprit(self, error: Exception) -> int:
        place = error.index if isinstance(error, GroupScopeError) else getattr(error, "place", None)
        return self.at if place is None else place


class Uploads:
    """`retention_us`: a row without a known stamp counts as changed that long ago."""

    def __init__(self, source: Source, plan: Plan, clock: Clock, retention_days: int) -> None:
        self._source = source
        self._plan = plan
        self._clock = clock
        self._retention_us = retention_days * 86_400 * 1_000_000
        self._run_mutations = source.pace.run_first

    async def upload(self, claims: Claims, user: str, request: Upload) -> UploadAnswer:
        """The answer is a hint; outcomes travel with the checkpoint."""
        now = self._clock.now_us()
        offset = evaluate_offset(request.offset_us, request.clock_us, now)
        _refuse_repeated_ids(request)
        waiting = [whole for group in request.groups for whole in _with_keys_whole(group)]
        alone, deferred = False, -1
        last, gap = 0, False
        while True:
            batch = _split(waiting, self._run_mutations, 1 if alone else limits.UPLOAD_GROUPS_PER_TRANSACTION_MAX)
            run = _Run(
                self._plan, self._clock, claims, user, request, offset, self._clock.now_us() - self._retention_us
            )
            run.pace, run.deferred = self._source.pace, deferred
            try:
                progress = await self._source.write(partial(run.transaction, groups=batch), claims)
            except TransactionLostError as lost:
                if not alone:
                    alone = True
                elif len(batch[0].mutations) > 1 and not batch[0].marked:
                    waiting[:0] = [Group(False, (mutation,)) for mutation in _take(waiting, batch)]
                else:
                    refuse = partial(run.refuse_alone, group=batch[0], refusal=lost.refusal, culprit=max(deferred, 0))
                    progress = await self._source.write(refuse, claims)
                    _take(waiting, batch)
                    last, alone, deferred = progress.last, False, -1
                    if not waiting:
                        return UploadAnswer(last, False)
                continue
            last, gap, deferred = progress.last, progress.gap, progress.defer
            alone = deferred >= 0
            _take(waiting, batch[: progress.groups_done])
            self._run_mutations = evaluate_run(
                self._source.pace, self._run_mutations, progress.mutations, progress.seconds
            )
            if gap or not waiting:
                return UploadAnswer(last, gap)


def _refuse_repeated_ids(request: Upload) -> None:
    ids = [mutation.id for group in request.groups for mutation in group.mutations]
    if len(set(ids)) != len(ids):
        raise ProtocolError(
            "Two mutations of one request have the same id.",
            hint="An id names one mutation for ever: draw 16 random bytes for each.",
            code="repeated_id",
        )


def evaluate_run(pace: UploadPace, before: int, mutations: int, seconds: float) -> int:
    """How many mutations the next piece of a run has, after a transaction of so many that held the lock so long."""
    if not mutations:
        return before
    fitting = pace.hold_seconds * mutations / max(seconds, 1e-6)
    return max(pace.run_min, min(int(before + fitting) // 2, pace.run_max))


def _with_keys_whole(group: Group) -> list[Group]:
    """The two halves of a changed key are applied or refused as one, marked or not: a refused insert alone would leave
    the row deleted."""
    if group.marked:
        return [group]
    found, run = list[Group](), list[Mutation]()
    for mutation in group.mutations:
        if run and are_halves(run[-1], mutation):
            pair = (run.pop(), mutation)
            found += [Group(False, tuple(run)), Group(True, pair)] if run else [Group(True, pair)]
            run = []
        else:
            run.append(mutation)
    return [*found, Group(False, tuple(run))] if run else found


def _split(groups: Sequence[Group], run_mutations: int, pieces_max: int) -> list[Group]:
    """The first pieces of them: no more are made than one transaction takes."""
    found: list[Group] = []
    for group in groups:
        size = len(group.mutations) if group.marked else run_mutations
        for start in range(0, len(group.mutations), size):
            if len(found) == pieces_max:
                return found
            found.append(Group(group.marked, group.mutations[start : start + size]))
    return found


def _take(groups: list[Group], pieces: Sequence[Group]) -> list[Mutation]:
    """Takes the pieces away from the groups at whose beginning they stand. Answers their mutations."""
    taken = [mutation for piece in pieces for mutation in piece.mutations]
    left = len(taken)
    while left:
        first = groups.pop(0)
        if left < len(first.mutations):
            groups.insert(0, Group(first.marked, first.mutations[left:]))
            break
        left -= len(first.mutations)
    return taken


class _Run:
    """One transaction of one request. `deferred`: of a marked group which mutation failed when constraints were checked
    at once; they are checked at its end now. -1: nothing of the kind."""

    pace: UploadPace
    deferred = -1

    def __init__(
        self, plan: Plan, clock: Clock, claims: Claims, user: str, request: Upload, offset_us: int, horizon_us: int
    ) -> None:
        self._plan = plan
        self._clock = clock
        self._claims = claims
        self._user = user
        self._request = request
        self._offset_us = offset_us
        self._horizon_us = horizon_us

    async def _device(self, tx: WriteTransaction) -> DeviceRow:
        device = await tx.lock_device(self._request.device)
        if device is None:
            raise AuthError(
                "This device is not known here.", hint="Say hello first.", code="device_unknown", status=409
            )
        if device.user != self._user:
            raise AuthError("This device belongs to another user.", code="other_user", status=403)
        return device

    async def transaction(self, tx: WriteTransaction, groups: Sequence[Group]) -> _Progress:
        device = await self._device(tx)
        judge = Judge(tx, self._plan, self._claims, device, self._horizon_us)
        if self.deferred >= 0:
            await tx.defer_constraints()
        last, stamp_us, done, gap, defer = device.last, device.last_stamp_us, 0, False, -1
        for group in groups:
            mutations = await self._fresh(tx, device, group, last)
            if mutations is None:
                gap = True
                break
            if mutations:
                await judge.look_up(mutation.id for mutation in mutations)
                stamped, stamped_us = self._stamp(mutations, stamp_us, device)
                together = self.pace.together and len(stamped) > 1 and self.deferred < 0
                defer = await self._attempt(tx, judge, device, stamped, marked=group.marked, together=together)
                if defer >= 0:
                    break
                last, stamp_us = mutations[-1].number, stamped_us
            done += 1
            if tx.elapsed_seconds() > self.pace.hold_seconds:
                break
        await tx.finish_device(device, last, stamp_us, self._request.floor)
        return _Progress(done, last, gap, defer, last - device.last, tx.elapsed_seconds())

    async def _fresh(
        self, tx: WriteTransaction, device: DeviceRow, group: Group, last: int
    ) -> tuple[Mutation, ...] | None:
        """The group's mutations that were not taken before; None if a number is missing before them."""
        known = [mutation for mutation in group.mutations if mutation.number <= last]
        for mutation in known[-1:]:  # copies of a file agree up to a number, and on none after it
            stored = await tx.id_of_number(device.device, mutation.number)
            if stored is not None and stored != mutation.id:
                raise AuthError(
                    "Another copy of this device has used this number for another change.",
                    hint="Say hello without a nonce: the device gets a new identity and loses nothing.",
                    code="device_cloned",
                    status=409,
                )
        fresh = tuple(mutation for mutation in group.mutations if mutation.number > last)
        if fresh and (fresh[0].number != last + 1 or any(b.number != a.number + 1 for a, b in pairwise(fresh))):
            return None
        return fresh

    def _stamp(self, mutations: Sequence[Mutation], previous_us: int, device: DeviceRow) -> tuple[list[Stamped], int]:
        now = max(self._clock.now_us(), device.newest_us)
        stamped = []
        for mutation in mutations:
            seen = min(mutation.seen_us, now)
            previous_us = evaluate_stamp(mutation.wall_us, self._offset_us, seen, previous_us, now)
            stamped.append((mutation, Stamp(previous_us, device.number)))
        return stamped, previous_us

    async def _attempt(
        self,
        tx: WriteTransaction,
        judge: Judge,
        device: DeviceRow,
        stamped: Sequence[Stamped],
        *,
        marked: bool,
        together: bool,
    ) -> int:
        """Try a group whole. A marked one that fails is refused whole; any other is tried in parts, down to single
        mutations.

        The answer is -1, or which mutation of a marked group failed on what may pass once the rest of the group is
        there: nothing was done then.
        """
        await tx.savepoint()
        trial = _Trial(stamped, stamped)
        try:
            await self._judge_all(tx, judge, trial, as_one=len(stamped) > 1 and (marked or together), together=together)
            await tx.release()
        except (Reject, SourceRefusedError, GroupScopeError, PiecemealError) as error:
            await tx.rollback_to_savepoint()
            judge.forget_grants()
            judge.leave_group()
            return await self._attempt_otherwise(tx, judge, device, trial, error, marked=marked, together=together)
        for (mutation, stamp), verdict in zip(trial.stamped, trial.verdicts, strict=True):
            await tx.record(device, _outcome(mutation, stamp, verdict))
        return -1

    async def _attempt_otherwise(
        self,
        tx: WriteTransaction,
        judge: Judge,
        device: DeviceRow,
        trial: _Trial,
        error: Reject | SourceRefusedError | GroupScopeError | PiecemealError,
        *,
        marked: bool,
        together: bool,
    ) -> int:
        count = len(trial.sent)
        if not marked and count > 1:
            size = (count + 1) // 2 if together else 1
            for start in range(0, count, size):
                part = trial.sent[start : start + size]
                await self._attempt(tx, judge, device, part, marked=False, together=together and len(part) > 1)
            return -1
        if together:
            return await self._attempt(tx, judge, device, trial.sent, marked=marked, together=False)
        assert not isinstance(error, PiecemealError), "nothing was held back"
        refusal = error.refusal if isinstance(error, GroupScopeError) else error
        culprit = trial.culprit(error)
        if isinstance(refusal, SourceRefusedError) and refusal.may_pass_later and count > 1 and self.deferred < 0:
            return min(culprit, count - 1)
        culprit = culprit if culprit < count else max(self.deferred, 0)
        group = [mutation for mutation, _ in trial.stamped]
        refusal = await judge.blame_parent(group[culprit], group, refusal)
        await self._refuse(tx, device, trial.stamped, culprit, refusal)
        return -1

    @staticmethod
    async def _judge_all(tx: WriteTransaction, judge: Judge, trial: _Trial, *, as_one: bool, together: bool) -> None:
        prepared = await tx.prepare([mutation for mutation, _ in trial.stamped], together=together)
        stamps = [stamp for _, stamp in trial.stamped]
        trial.stamped = list(zip(prepared.mutations, stamps, strict=True))
        judge.respelled = prepared.respelled
        found: dict[int, Verdict] = {}
        for number, wave in enumerate(prepared.waves):
            await tx.begin_wave([prepared.mutations[place] for place in wave])
            if as_one and not number:
                await judge.begin_group(prepared.mutations, stamps[0])
            at = 0
            while at < len(wave):
                trial.at = judge.place = wave[at]
                for verdict in await judge.judge_next([trial.stamped[place] for place in wave[at : at + 2]]):
                    found[wave[at]] = verdict
                    at += 1
        trial.at = len(stamps)
        if as_one:
            await judge.end_group()
        trial.verdicts = [found[place] for place in range(len(stamps))]

    async def _refuse(
        self,
        tx: WriteTransaction,
        device: DeviceRow,
        stamped: Sequence[Stamped],
        culprit: int,
        refusal: Reject | SourceRefusedError,
    ) -> None:
        code = refusal.error_code if isinstance(refusal, Reject) else refusal.code
        for index, (mutation, stamp) in enumerate(stamped):
            verdict = Verdict("rejected", code, refusal.reason)
            if index != culprit:
                verdict = Verdict("rejected", "group", "Another change of the same transaction was refused.")
            await tx.touch(mutation.table, mutation.key)
            await tx.record(device, _outcome(mutation, stamp, verdict))

    async def refuse_alone(
        self, tx: WriteTransaction, group: Group, refusal: SourceRefusedError, culprit: int
    ) -> _Progress:
        """Record that a group was refused whose transaction the database gave up."""
        device = await self._device(tx)
        mutations = await self._fresh(tx, device, group, device.last)
        if not mutations:
            return _Progress(1, device.last, mutations is None)
        stamped, stamp_us = self._stamp(mutations, device.last_stamp_us, device)
        await self._refuse(tx, device, stamped, culprit, refusal)
        await tx.finish_device(device, mutations[-1].number, stamp_us, self._request.floor)
        return _Progress(1, mutations[-1].number, False)


def _outcome(mutation: Mutation, stamp: Stamp, verdict: Verdict) -> StoredOutcome:
    kept = verdict.kind == "rejected" or verdict.code in ("gone", "reborn")
    return StoredOutcome(
        number=mutation.number,
        id=mutation.id if verdict.kind != "duplicate" else None,
        kind=verdict.kind,
        code=verdict.code,
        reason=verdict.reason,
        table=mutation.table,
        operation=mutation.operation,
        key=mutation.key,
        stamp_us=stamp.time_us,
        values={column: new for column, (new, _) in mutation.changes.items()} if kept else None,
        conflicts=verdict.conflicts,
    )
