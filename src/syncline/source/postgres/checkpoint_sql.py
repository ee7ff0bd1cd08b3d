"""What a poll asks, and what the end of a cut writes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import asyncpg

from syncline.source.postgres.batch_sql import LARGE, WAITING, waiting_rows
from syncline.source.postgres.capture import Capture

LOCK_KEYS = (0x53594E43, 1)
"""Of the advisory lock that the one active sequencer holds: "SYNC"."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one snapshot could not see: transactions from `xmax` on, and those `running`. Every row that waits after a
    cut, or after a poll that found none waiting, is of one of these.

    Bounding by them keeps a poll cheap also while dead rows of the queues cannot be vacuumed away, and while one
    transaction of the host's runs for hours.
    """

    xmax: int = 0
    running: tuple[int, ...] = ()

    @classmethod
    def parse(cls, snapshot: str) -> Seen:
        """From the text of a pg_snapshot: `xmin:xmax:xid,xid`."""
        _, xmax, running = snapshot.split(":")
        return cls(int(xmax), tuple(int(xid) for xid in running.split(",") if xid))

    @property
    def arguments(self) -> tuple[int, list[int]]:
        """For the halves of `WAITING`."""
        return self.xmax, list(self.running)


_HEAD = "SELECT c.term, c.head, c.time_us, pg_current_snapshot()::text AS snapshot"


def poll_sql(captures: Iterable[Capture]) -> str:
    """One row: the head, the snapshot, and whether anything waits."""
    waits = [*(_any(capture.changelog) for capture in captures), *_OWN]
    return f"{_HEAD}, {' OR '.join(waits)} AS waits FROM syncline.checkpoint AS c"


def _any(queue: str, condition: str = "") -> str:
    halves = (f"EXISTS(SELECT FROM {queue} WHERE {half}{condition})" for half in WAITING)
    return f"({' OR '.join(halves)})"


_OWN = (
    _any("syncline.marker"),
    _any("syncline.upload"),
    _any("syncline.gap", " AND table_name <> ALL($3::text[])"),
)
"""$3: the tables that are left out."""


def waiting_sql(captures: Iterable[Capture]) -> str:
    """One row: the head, the snapshot, how many changes wait of each table (none beyond LARGE + 1 is counted), and
    which of our own queues hold something."""
    counts = [
        f"(SELECT count(*) FROM (SELECT FROM {waiting_rows(capture.changelog, '1')} AS q LIMIT {LARGE + 1}) AS w)"
        for capture in captures
    ]
    markers, uploads, gaps = _OWN
    return (
        f"{_HEAD}, ARRAY[{', '.join(counts)}]::bigint[] AS counts, {markers} AS markers, {uploads} AS uploads, "
        f"{gaps} AS gaps FROM syncline.checkpoint AS c"
    )


_BEYOND = "d.last > coalesce((SELECT i.number FROM syncline.included AS i WHERE i.device = d.device), 0)"
HAS_NEWS = f"SELECT EXISTS(SELECT FROM syncline.device AS d WHERE {_BEYOND})"
"""Whether any device at all has sent what no checkpoint includes: asked once in a term."""


_KNOWN = " AND ($1::xid8 IS NOT NULL OR $2::xid8[] IS NOT NULL)"
"""Nothing: it gives parameters that a statement does not need their types."""


async def include(db: asyncpg.Connection, seen: Seen, number: int, *, all_devices: bool) -> frozenset[str]:
    """Of the devices that have uploaded: those with news, whose last number is now included."""
    among = f" AND d.device IN (SELECT u.device FROM {waiting_rows('syncline.upload')} AS u)"
    rows = await db.fetch(
        "INSERT INTO syncline.included AS n(device, number, checkpoint) SELECT d.device, d.last, $3::bigint "
        f"FROM syncline.device AS d WHERE {_BEYOND}{_KNOWN if all_devices else among} "
        "ON CONFLICT (device) DO UPDATE SET number = excluded.number, checkpoint = excluded.checkpoint "
        "RETURNING n.device",
        *seen.arguments,
        number,
    )
    return frozenset(row[0] for row in rows)


async def take_out(db: asyncpg.Connection, queue: str, seen: Seen) -> int:
    """Delete exactly what this snapshot shows of a queue; the answer is how many."""
    taken = 0
    for half, argument in zip(WAITING, seen.arguments, strict=True):
        if argument or isinstance(argument, int):
            tag = await db.execute(f"DELETE FROM {queue} WHERE {half.replace('$2', '$1')}", argument)
            taken += int(tag.rpartition(" ")[2])
    return taken


async def touch_grants(db: asyncpg.Connection, tables: Iterable[str], number: int) -> None:
    wanted = sorted(tables)
    if wanted:
        await db.execute(
            "INSERT INTO syncline.grant_touch(table_name, checkpoint) SELECT name, $2::bigint FROM unnest($1::text[]) "
            "AS name ON CONFLICT (table_name) DO UPDATE SET checkpoint = excluded.checkpoint",
            wanted,
            number,
        )


async def raise_floor(db: asyncpg.Connection, newest_us: int) -> None:
    """The source's own stamps shall be later than what has been accepted or told. Written only where the database's
    clock would not see to it."""
    await db.execute(
        "UPDATE syncline.pulse SET floor_us = $1::bigint "
        "WHERE floor_us < $1::bigint AND $1::bigint > syncline.now_us()",
        newest_us,
    )
