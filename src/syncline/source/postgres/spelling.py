"""Mutations in the source's own words, before they are judged: two values that mean the same are then the same.

A device may write `2026-11-22T20:31:05Z` where the source says `2026-11-22 20:31:05.000000`, also in a key. For most
types that is known without asking; the database is asked for the rest, once per column of a group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

import asyncpg
from asyncpg.exceptions import PostgresError

from syncline.model.schema import Column, Table
from syncline.protocol.messages import Mutation, are_halves
from syncline.source.port import PiecemealError, Prepared, SourceRefusedError
from syncline.source.postgres.layout import PlanSql
from syncline.source.postgres.refusals import Treatment, treatment
from syncline.source.postgres.types import Unknown, bind, canonical, value_of
from syncline.source.postgres.upload_sql import arrays, cast_back
from syncline.values import Key, Value, key_text, same

_NUMBERS = {"numeric", "trimmed", "money"}
_EXACT_KINDS = {"text", "char"}
"""Whatever the database does to such a value it does as it is written, and says so then."""
_SURE_KEYS = {"smallint", "integer", "bigint", "oid", "boolean", "uuid", "bytes"}
"""Kinds of which the database takes every value that can be bound. A key is read before it is written, so that nothing
else may come as far as that unasked."""
_ALL_CHARACTERS = {"UTF8", "SQL_ASCII"}


class _Asked(NamedTuple):
    """A value that only the database knows: of which mutation, and which of its columns, or of its key."""

    place: int
    column: Column
    key_index: int | None
    value: Value


def same_in(column: Column, a: Value, b: Value) -> bool:
    """Decimals are equal without their trailing zeros; all else to the letter."""
    if same(a, b):
        return True
    if column.kind not in _NUMBERS or a is None or b is None:
        return False
    try:
        return Decimal(str(a)) == Decimal(str(b))
    except InvalidOperation:
        return False


class Spelling:
    """Of one transaction."""

    def __init__(self, connection: asyncpg.Connection, sql: PlanSql) -> None:
        self._db = connection
        self._sql = sql
        self._as_text: set[tuple[str, Key]] = set()
        """Keys of texts that are known to be spelled as the source does. (Of numbers, 1 and 1.0 would be one key.)"""
        self._holds_all_text = str(connection.get_settings().server_encoding) in _ALL_CHARACTERS

    def known_key(self, table: str, key: Key) -> Key | None:
        """The key as the source would write it, as far as that is known; None where it cannot be one."""
        place = (table, key)
        if place in self._as_text:
            return key
        entry = self._sql.tables.get(table)
        if entry is None or len(key) != len(entry.synced.key):
            return None
        found: list[Value] = []
        for name, value in zip(entry.synced.key, key, strict=True):
            column = entry.synced.table.column(name)
            try:
                bind(column, value)
            except ValueError:
                return None
            form = canonical(column, value)
            found.append(value if isinstance(form, Unknown) else form)
        return tuple(found)

    async def prepare(self, mutations: Sequence[Mutation], *, together: bool) -> Prepared:
        """SourceRefusedError, with its place, for a value that its column cannot hold; PiecemealError where it is not
        known which."""
        asked: list[_Asked] = []
        found = [self._without_asking(place, mutation, asked) for place, mutation in enumerate(mutations)]
        for question, answer in zip(asked, await self._answers(asked, together=together), strict=True):
            found[question.place] = _respelled(found[question.place], question, answer)
        self._as_text.update((each.table, each.key) for each in found if self._is_key_of_texts(each))
        pairs = zip(mutations, found, strict=True)
        respelled = frozenset(now.number for sent, now in pairs if sent is not now and not _are_alike(sent, now))
        return Prepared(tuple(found), waves_of(found), respelled)

    def _is_key_of_texts(self, mutation: Mutation) -> bool:
        """Of one that is prepared."""
        entry = self._sql.tables.get(mutation.table)
        is_whole = entry is not None and mutation.key_columns == entry.synced.key
        return is_whole and all(type(value) is str for value in mutation.key)

    def _without_asking(self, place: int, mutation: Mutation, asked: list[_Asked]) -> Mutation:
        entry = self._sql.tables.get(mutation.table)
        if entry is None or mutation.key_columns != entry.synced.key or None in mutation.key:
            return mutation  # refused when it is judged
        table = entry.synced.table
        own = table.by_name
        key = tuple(
            self._form(place, table, name, index, mutation.key[index], asked)
            for index, name in enumerate(mutation.key_columns)
        )
        changes = {}
        for name, (new, was) in mutation.changes.items():
            column = own.get(name) if name in entry.synced.columns else None  # what is hidden is not there
            if column is not None and not column.generated:
                form = canonical(column, was)
                was = was if isinstance(form, Unknown) else form
                new = self._form(place, table, name, None, new, asked)
            changes[name] = (new, was)
        if key == mutation.key and changes == mutation.changes and _types(changes) == _types(mutation.changes):
            return mutation
        return replace(mutation, key=key, changes=changes)

    def _form(
        self, place: int, table: Table, name: str, key_index: int | None, value: Value, asked: list[_Asked]
    ) -> Value:
        column = table.column(name)
        form = canonical(column, value)
        is_sure = key_index is None or self._is_sure_key(column, value)
        if is_sure and not isinstance(form, Unknown):
            return form
        try:
            bind(column, value)
        except ValueError as error:
            raise SourceRefusedError(
                "type", f'The value of "{name}" cannot be stored: {error}.', place=place
            ) from error
        if column.kind not in _EXACT_KINDS or not is_sure:
            asked.append(_Asked(place, column, key_index, value))
        return value

    def _is_sure_key(self, column: Column, value: Value) -> bool:
        """Whether the database takes the value as one of the column's type, if it can be bound."""
        if column.kind in _EXACT_KINDS:
            return self._holds_all_text or str(value).isascii()
        return column.kind in _SURE_KEYS

    async def _answers(self, asked: Sequence[_Asked], *, together: bool) -> list[Value]:
        answers: list[Value] = [None] * len(asked)
        groups: dict[Column, list[int]] = {}
        for index, question in enumerate(asked):
            groups.setdefault(question.column, []).append(index)
        for column, members in groups.items():
            for part in [members] if together else [[index] for index in members]:
                values = await self._cast(column, [asked[index] for index in part], together=together)
                for index, value in zip(part, values, strict=True):
                    answers[index] = value
        return answers

    async def _cast(self, column: Column, asked: Sequence[_Asked], *, together: bool) -> list[Value]:
        try:
            rows = await self._db.fetch(cast_back(column), *arrays([column], [[each.value] for each in asked]))
        except PostgresError as error:
            if treatment(error) is not Treatment.REJECT:
                raise
            if together:
                raise PiecemealError from error
            said = f'The value of "{column.name}" is not one that its column can hold.'
            raise SourceRefusedError("type", said, place=asked[0].place) from error
        mend = value_of(column)
        return [mend(row[0]) if mend else row[0] for row in rows]


def _respelled(mutation: Mutation, question: _Asked, answer: Value) -> Mutation:
    if question.key_index is None:
        _, was = mutation.changes[question.column.name]
        return replace(mutation, changes={**mutation.changes, question.column.name: (answer, was)})
    key = (*mutation.key[: question.key_index], answer, *mutation.key[question.key_index + 1 :])
    return replace(mutation, key=key)


def _types(changes: Mapping[str, tuple[Value, Value]]) -> list[tuple[type, type]]:
    """1 and 1.0 are equal to Python."""
    return [(type(new), type(was)) for new, was in changes.values()]


def _are_alike(sent: Mutation, now: Mutation) -> bool:
    if key_text(sent.key) != key_text(now.key):
        return False
    return all(same(new, now.changes[column][0]) for column, (new, _) in sent.changes.items())


def waves_of(mutations: Sequence[Mutation]) -> tuple[tuple[int, ...], ...]:
    """Places by how many mutations of the same row come before. The two halves of a changed key stay neighbours."""
    waves: list[list[int]] = []
    depth: dict[tuple[str, str], int] = {}
    place = 0
    while place < len(mutations):
        first = mutations[place]
        both = place + 1 < len(mutations) and are_halves(first, mutations[place + 1])
        unit = [place, place + 1] if both else [place]
        rows = {(mutations[each].table, key_text(mutations[each].key)) for each in unit}
        at = max(depth.get(row, 0) for row in rows)
        depth.update(dict.fromkeys(rows, at + 1))
        if at == len(waves):
            waves.append([])
        waves[at] += unit
        place += len(unit)
    return tuple(map(tuple, waves))
