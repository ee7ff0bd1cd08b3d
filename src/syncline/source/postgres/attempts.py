"""Statements that may fail for the data's fault, without ending the transaction that they are in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import asyncpg

from syncline.source.postgres.binding import INTEGER_BITS
from syncline.source.postgres.trouble import is_data_fault

T = TypeVar("T")


_CHECKED = frozenset({*INTEGER_BITS, "oid", "boolean", "text", "char", "uuid"})


def is_checked(kind: str) -> bool:
    """Whether `types.bind` lets nothing pass that PostgreSQL refuses."""
    return kind.removesuffix("[]") in _CHECKED


async def attempted(
    db: asyncpg.Connection,
    work: Callable[[], Awaitable[T]],
    is_fault: Callable[[BaseException], bool] = is_data_fault,
) -> T | None:
    """What `work` answers; None where it fails with a fault: then it is as if it had not been tried."""
    await db.execute("SAVEPOINT syncline_attempt")
    try:
        found = await work()
    except Exception as error:
        if not is_fault(error):
            raise
        await db.execute("ROLLBACK TO SAVEPOINT syncline_attempt; RELEASE SAVEPOINT syncline_attempt")
        return None
    await db.execute("RELEASE SAVEPOINT syncline_attempt")
    return found


async def castable(db: asyncpg.Connection, texts: Sequence[str | None], types: Sequence[str]) -> bool:
    """Whether each text is one of its type (as SQL names it)."""
    if not texts:
        return True
    casts = ", ".join(f"CAST(${number}::text AS {name}) IS NULL" for number, name in enumerate(types, 1))

    async def cast() -> bool:
        await db.fetch(f"SELECT {casts}", *texts)
        return True

    return bool(await attempted(db, cast))
