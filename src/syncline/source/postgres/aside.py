"""Tables that cuts fail at: set aside, so that all others go on, and tried again until one can be computed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import asyncpg
from asyncpg.exceptions import PostgresError

from syncline.log import logger
from syncline.source.postgres import batch_sql
from syncline.source.postgres.adopting import Attachment
from syncline.source.postgres.batch_sql import SIZES, Scratch
from syncline.source.postgres.catalogue import queries
from syncline.source.postgres.checkpoint_sql import Seen
from syncline.source.postgres.generations import mark_gaps
from syncline.source.postgres.layout import TableSql
from syncline.source.postgres.standing import Standing
from syncline.source.postgres.trouble import is_connection_lost
from syncline.source.postgres.troubles import TableFailsError, told

TRY_SECONDS = 5.0
TRY_SECONDS_MAX = 300.0
"""A table that failed again although a trial of it went well is left alone for longer each time: devices fetch it whole
whenever it comes back."""
_FENCED = "SET LOCAL lock_timeout = '100ms'; LOCK TABLE syncline.checkpoint IN EXCLUSIVE MODE"
_log = logger("sequencer")


@dataclass
class _Patience:
    due: float
    failures: int = 1

    @property
    def seconds(self) -> float:
        return min(TRY_SECONDS * 2.0 ** (self.failures - 1), TRY_SECONDS_MAX)


class Aside:
    """Of one sequencer's session."""

    def __init__(self) -> None:
        self._known: dict[str, _Patience] = {}

    async def put(self, db: asyncpg.Connection, attached: Attachment, failure: TableFailsError) -> None:
        """Outside a transaction, after a cut that came to nothing. What failed is raised where it is not the table's
        own trouble: the schema has moved, or the role lacks what all tables need."""
        name, standing = failure.table, attached.standing
        await standing.require(db)
        if await db.fetchval(queries("diagnosis.sql")["lacks_what_all_need"]):
            raise failure.error
        await mark_gaps(db, [name], failure.trouble.mark)
        standing.set_aside(name, failure.trouble)
        patience = self._known.setdefault(name, _Patience(0.0, failures=0))
        patience.failures += 1
        patience.due = _now() + patience.seconds
        [finding, *_] = told(attached.plan, {name: failure.trouble})
        _log.error("%s %s", finding.what, finding.remedy)

    async def try_again(self, db: asyncpg.Connection, attached: Attachment) -> None:
        """Take back what a cut could compute now; the gap that it left has devices fetch the table anew."""
        standing = attached.standing
        for name in standing.aside:
            patience = self._known.setdefault(name, _Patience(0.0))
            if _now() < patience.due:
                continue
            if await _is_computable(db, standing, attached.sql.tables[name]):
                standing.take_back(name)
                _log.info('checkpoints of "%s" are taken again', name)
            else:
                patience.due = _now() + patience.seconds


async def _is_computable(db: asyncpg.Connection, standing: Standing, table: TableSql) -> bool:
    """Of a few of the changes that wait; it leaves nothing behind."""
    size, capture, name = SIZES[0], table.capture, table.synced.name
    transaction = db.transaction(isolation="repeatable_read")
    await transaction.start()
    try:
        await db.execute(f"{_FENCED}; {standing.locks()}")
        await db.execute(Scratch(capture).create_sql())
        await db.fetchrow(batch_sql.batch_sql(capture, size), *Seen().arguments)
        await db.execute(batch_sql.affected_sql(table, size, {}, {}))
        await db.execute(batch_sql.member_sql(table, size, {}))
        await db.fetch(batch_sql.entries_sql(table, size), 0, name)
        await db.execute(batch_sql.images_sql(table, size, None), 0, name)
    except PostgresError as error:
        if is_connection_lost(error):
            raise
        _log.debug('"%s" still fails: %s', name, error)
        return False
    finally:
        if not db.is_closed():
            await transaction.rollback()
    return True


def _now() -> float:
    return asyncio.get_running_loop().time()
