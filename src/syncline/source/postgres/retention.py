"""Forgetting what is older than the retention, in short transactions (DESIGN.md section 4).

Which checkpoint is how old is known from *moments*: now and then the head and its time are noted. The newest moment
that is old enough is the horizon, and it is recorded before anything up to it goes: a cursor behind it counts as
unknown, and its device downloads anew. Conflict and rejection records stay, they are the office's.

What goes is what the sequencer writes, so each step takes the sequencer's fence: a cut that wrote one of these rows at
the same time would fail. Tables of the company are not touched, and no session of the host's can wait for a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import asyncpg

from syncline import limits
from syncline.clock import Clock

SLICE_ROWS = 500
"""How many rows a walk looks at in its first step; afterwards as many as fit into the time."""
SLICE_ROWS_MAX = 20_000
FENCE = "LOCK TABLE syncline.checkpoint IN EXCLUSIVE MODE"


async def read_horizon(db: asyncpg.Connection) -> int:
    """The newest checkpoint whose entries may be gone; 0 if none are."""
    return int(await db.fetchval("SELECT value FROM syncline.meta WHERE name = 'horizon'") or 0)


@dataclass(frozen=True)
class _Sweep:
    """What goes from one table, walked in key order. `old` is a condition on a bigint `bound`: the horizon, or, with
    `by_time`, the µs before which all is old."""

    table: str
    key: tuple[str, ...]
    old: str
    by_time: bool = False


_OLD_OUTCOME = (
    "at_us < {bound} AND EXISTS(SELECT FROM syncline.device d JOIN syncline.included i USING (device) "
    "WHERE d.device = outcome.device AND (outcome.number <= d.floor "
    "OR (coalesce(d.seen_us, 0) < {bound} AND outcome.number <= i.number "
    "AND i.checkpoint <= (SELECT value::bigint FROM syncline.meta WHERE name = 'horizon'))))"
)
"""A device that is still about may stand on the outcomes above its floor (PROTOCOL_MODEL rule 11); one that is not may
come back with a cursor that is still known, as long as the cut that brings them is not behind the horizon."""

SWEEPS = (
    _Sweep("entry", ("bucket", "table_name", "key"), "checkpoint <= {bound}"),
    _Sweep("row_state", ("table_name", "key"), "checkpoint <= {bound}"),
    _Sweep("truth", ("table_name", "key"), "checkpoint <= {bound}"),
    _Sweep("outcome", ("device", "number"), _OLD_OUTCOME, by_time=True),
)


class Retention:
    """One run after the other, each in many steps; where a run stands is kept here alone."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sweep = 0
        self._after: tuple[object, ...] | None = None
        self._rows = SLICE_ROWS
        self._is_running = False

    async def step(self, db: asyncpg.Connection, term: str, before_us: int) -> bool:
        """One transaction's work. False at the end of a run, or where another sequencer is active."""
        if not await _is_active(db, term):
            self._is_running = False
            return False
        if not self._is_running:
            await self._begin(db, term, before_us)
            return True
        if self._sweep == len(SWEEPS):
            self._is_running = False
            return False
        begun = self._clock.monotonic_seconds()
        await self._slice(db, SWEEPS[self._sweep], term, before_us)
        took = self._clock.monotonic_seconds() - begun
        scale = limits.PRUNE_STEP_SECONDS_MAX / 2 / max(took, 1e-6)
        self._rows = max(10, min(int(self._rows * min(scale, 2.0)), SLICE_ROWS_MAX))
        return True

    async def _begin(self, db: asyncpg.Connection, term: str, before_us: int) -> None:
        """Note the head's moment, and the horizon. Where a long cut has the fence, the next step tries again."""
        if not await _fenced(db, term):
            return
        await db.execute(
            "INSERT INTO syncline.moment(checkpoint, time_us) SELECT head, time_us FROM syncline.checkpoint "
            "ON CONFLICT DO NOTHING"
        )
        found = await db.fetchval("SELECT max(checkpoint) FROM syncline.moment WHERE time_us <= $1", before_us)
        if found is not None:
            await db.execute(
                "INSERT INTO syncline.meta AS known(name, value) VALUES('horizon', $1) ON CONFLICT (name) DO UPDATE "
                "SET value = greatest(known.value::bigint, excluded.value::bigint)::text",
                str(found),
            )
            await db.execute("DELETE FROM syncline.moment WHERE checkpoint < $1", found)
        self._is_running, self._sweep, self._after = True, 0, None

    async def _slice(self, db: asyncpg.Connection, sweep: _Sweep, term: str, before_us: int) -> None:
        """Look at the next rows in key order; take the fence only where some of them are old."""
        keys = ", ".join(sweep.key)
        bounds: list[Any] = []
        where = "true"
        if self._after:
            where = f"({keys}) > ({_bind(bounds, self._after)})"
        last = await db.fetchrow(
            f"SELECT {keys} FROM syncline.{sweep.table} WHERE {where} ORDER BY {keys} LIMIT 1 OFFSET {self._rows - 1}",
            *bounds,
        )
        if last:
            where += f" AND ({keys}) <= ({_bind(bounds, tuple(last))})"
        bound = _bind(bounds, (before_us if sweep.by_time else await read_horizon(db),))
        where += f" AND {sweep.old.format(bound=bound)}"
        if await db.fetchval(f"SELECT EXISTS(SELECT FROM syncline.{sweep.table} WHERE {where})", *bounds):
            if not await _fenced(db, term):
                return
            await db.execute(f"DELETE FROM syncline.{sweep.table} WHERE {where}", *bounds)
        if last:
            self._after = tuple(last)
        else:
            self._sweep, self._after = self._sweep + 1, None


async def _is_active(db: asyncpg.Connection, term: str) -> bool:
    return bool(await db.fetchval("SELECT EXISTS(SELECT FROM syncline.checkpoint WHERE term = $1)", term))


async def _fenced(db: asyncpg.Connection, term: str) -> bool:
    """Whether no cut is taken until this transaction ends, and `term` is still the active one. A cut that is being
    taken is waited for as long as lock_timeout says, and no longer."""
    await db.execute("SAVEPOINT fence")
    try:
        await db.execute(FENCE)
    except asyncpg.LockNotAvailableError:
        await db.execute("ROLLBACK TO SAVEPOINT fence")
        return False
    return await _is_active(db, term)


def _bind(bounds: list[Any], values: tuple[object, ...]) -> str:
    """The places of these values, which are added to `bounds`."""
    places = [f"${len(bounds) + index}" for index in range(1, len(values) + 1)]
    bounds.extend(values)
    return ", ".join(places)
