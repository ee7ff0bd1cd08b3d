"""The source's write transactions: tried again, from their beginning, for whatever is not the data's fault."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from asyncpg.exceptions import PostgresError

from syncline.clock import Clock
from syncline.errors import SourceBusyError
from syncline.log import logger
from syncline.source.port import Claims, TransactionLostError, WriteTransaction
from syncline.source.postgres.adopting import Attachment
from syncline.source.postgres.company import WriteOptions
from syncline.source.postgres.connections import UPLOAD_STATEMENT_SECONDS, Connections, milliseconds
from syncline.source.postgres.refusals import RULE_REFUSES, Treatment, is_timeout, refusal_of, treatment
from syncline.source.postgres.upload import PostgresWrite

__all__ = ["TRIES_MAX", "WriteOptions", "write"]

T = TypeVar("T")
_log = logger("upload")
TRIES_MAX = 6
PAUSE_SECONDS = 0.02
"""Before the second try; twice as long before each further one, more or less, so that two who stood in each other's way
do not meet again."""


async def write(
    connections: Connections,
    attachment: Attachment,
    clock: Clock,
    options: WriteOptions,
    work: Callable[[WriteTransaction], Awaitable[T]],
    claims: Claims | None = None,
) -> T:
    """What `work` answers, committed. SourceBusyError when the database could not do it in several tries; none of them
    left anything behind, or what the last of them left is found by its numbers when the device sends it again."""
    was_slow = False
    for tried in range(1, TRIES_MAX + 1):
        is_last = tried == TRIES_MAX
        try:
            return await _write_once(connections, attachment, clock, options, work, claims, is_last, was_slow)
        except SourceBusyError as error:
            if is_last:
                raise
            was_slow = was_slow or is_timeout(error.__cause__)
            _log.info("an upload is tried again: %s", error)
            await asyncio.sleep(PAUSE_SECONDS * 2 ** (tried - 1) * random.uniform(0.5, 1.5))
    raise AssertionError("unreachable")


async def _write_once(
    connections: Connections,
    attachment: Attachment,
    clock: Clock,
    options: WriteOptions,
    work: Callable[[WriteTransaction], Awaitable[T]],
    claims: Claims | None,
    is_last_try: bool,
    was_slow: bool,
) -> T:
    is_done = False
    try:
        async with connections.transaction(statement_timeout=milliseconds(UPLOAD_STATEMENT_SECONDS)) as db:
            await attachment.standing.require_for_writing(db)
            tries = {"is_last_try": is_last_try, "was_slow": was_slow}
            transaction = PostgresWrite(db, attachment.sql, clock, options, **tries)
            await transaction.begin(claims)
            result = await work(transaction)
            await transaction.end()
            is_done = True
        return result
    except PostgresError as error:
        if is_done and treatment(error) is Treatment.REJECT:  # a rule of the company's that puts itself off to COMMIT
            refusal = refusal_of(error, lambda text: text != RULE_REFUSES)
            raise TransactionLostError(refusal) from error
        raise
