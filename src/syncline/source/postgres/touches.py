"""Touches: what a device has to be told of although nothing was written, or whose stamps rise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import asyncpg
from asyncpg.exceptions import PostgresError

from syncline.model.merge import Stamp
from syncline.source.postgres.layout import PlanSql
from syncline.source.postgres.refusals import Treatment, treatment
from syncline.values import Key, key_text


class Touch(NamedTuple):
    key: Key
    stamp: Stamp
    masks: list[int]


class Touches:
    """Of one transaction: held back, and put into the changelogs by `flush`."""

    def __init__(self, connection: asyncpg.Connection, sql: PlanSql) -> None:
        self._db = connection
        self._sql = sql
        self._waiting: dict[str, list[Touch]] = {}
        self._keys: set[tuple[str, str]] = set()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def know(self, table: str, key: Key) -> None:
        """It is one of the table's type."""
        self._keys.add((table, key_text(key)))

    def add(self, table: str, touch: Touch) -> None:
        self._waiting.setdefault(table, []).append(touch)

    def forget(self) -> None:
        self._waiting.clear()

    async def flush(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for table, touches in waiting.items():
            sure = [each for each in touches if (table, key_text(each.key)) in self._keys]
            if sure:
                await self._note(table, sure)
            for each in touches:
                if (table, key_text(each.key)) not in self._keys:
                    await self._note_if_key(table, each)

    async def _note(self, table: str, touches: Sequence[Touch]) -> None:
        upload = self._sql.tables[table].upload
        masks: list[list[Any]] = [list(word) for word in zip(*(each.masks for each in touches), strict=True)]
        stamps = [each.stamp.time_us for each in touches]
        writers = [each.stamp.writer for each in touches]
        keys = upload.key_arrays([each.key for each in touches])
        await self._db.execute(upload.touch, *keys, stamps, writers, *masks)

    async def _note_if_key(self, table: str, touch: Touch) -> None:
        """A key that is none of the column's type is no row's: nothing has to be told of it."""
        await self._db.execute("SAVEPOINT syncline_touch")
        try:
            await self._note(table, [touch])
        except PostgresError as error:
            if treatment(error) is not Treatment.REJECT:
                raise
            await self._db.execute("ROLLBACK TO SAVEPOINT syncline_touch")
        await self._db.execute("RELEASE SAVEPOINT syncline_touch")
