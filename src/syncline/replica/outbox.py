"""Reading the outbox: what waits, and the next upload (PROTOCOL_MODEL rules 6 to 8).

All outbox tables are read in one read transaction: read one by one they would split a transaction of the app's.
"""

from __future__ import annotations

import heapq
import math
import sqlite3
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal, cast

from syncline import limits
from syncline.model.program import ProgramTable
from syncline.model.program_statements import RECORD
from syncline.protocol.messages import Group, Mutation, Upload
from syncline.replica.store import Store, read_state
from syncline.values import Value

_INCLUDED_THEN = 1 + RECORD.index("included_then")
"""Its place in a row of `read_outbox`."""


@dataclass(frozen=True)
class Waiting:
    """A mutation as the outbox holds it. `group` 0: not marked. `bytes` is what its values weigh."""

    table: ProgramTable
    mutation: Mutation
    group: int
    included_then: int
    bytes: int

    @property
    def number(self) -> int:
        return self.mutation.number


@dataclass(frozen=True, slots=True)
class Pending:
    """How many mutations wait, and the least `included` that one of them was made at (None: nothing waits)."""

    count: int
    floor: int | None


def count_pending(store: Store) -> Pending:
    state = store.state()
    if not state.has_pending:
        return Pending(0, None)
    found = [store.run(table, "count_pending", (state.included,)).fetchone() for table in store.outboxes]
    floors = [floor for _, floor in found if floor is not None]
    return Pending(sum(count for count, _ in found), min(floors, default=None))


def build_upload(store: Store, position: int, clock_us: int, offset_us: int | None) -> Upload | None:
    """The next groups with numbers above `position`, or None. One request holds whole marked groups."""
    with store.reading() as reader, ExitStack() as cursors:
        state = read_state(reader)
        if state.device is None or state.seq <= max(position, state.included):
            return None
        after = max(position, state.included)
        lists = [cursors.enter_context(closing(_read(reader, table, after))) for table in store.outboxes]
        groups = _take(heapq.merge(*lists, key=attrgetter("number")))
        floor = min((_floor(reader, table) for table in store.outboxes), default=state.included)
        cursors.close()
    if not groups:
        return None
    return Upload(state.device, clock_us, offset_us, tuple(groups), int(min(floor, state.included)))


def _floor(reader: sqlite3.Connection, table: ProgramTable) -> float:
    """The least `included` of a table's mutations: that of the first one, since `included` never goes back. Looking at
    all of them would make each request as dear as the whole outbox."""
    with closing(reader.execute(table.statements["read_outbox"], (0,))) as rows:
        first = rows.fetchone()
    return math.inf if first is None else int(first[_INCLUDED_THEN])


def _read(reader: sqlite3.Connection, table: ProgramTable, after: int) -> Generator[Waiting, None, None]:
    with closing(reader.execute(table.statements["read_outbox"], (after,))) as rows:
        for row in rows:
            yield load_waiting(table, row)


def _take(waiting: Iterator[Waiting]) -> list[Group]:
    """Groups up to the limits of one request; at least the first."""
    groups: list[Group] = []
    open_group: list[Waiting] = []
    count = weight = 0

    def close() -> None:
        if open_group:
            mutations = tuple(each.mutation for each in open_group)
            groups.append(Group(bool(open_group[0].group), mutations))
            open_group.clear()

    for each in waiting:
        same = bool(open_group) and open_group[-1].group == each.group
        within_marked = same and each.group != 0
        is_full = count >= limits.UPLOAD_MUTATIONS_MAX or weight + each.bytes > limits.UPLOAD_BYTES_TARGET
        if count and is_full and not within_marked:
            break
        if not same or (not each.group and len(open_group) >= limits.GROUP_MUTATIONS_MAX):
            close()
        open_group.append(each)
        count, weight = count + 1, weight + each.bytes
    close()
    return groups


def load_waiting(table: ProgramTable, row: tuple[Any, ...]) -> Waiting:
    """From a row of `read_outbox` or `read_mutation`: number, record, mask words, key, old values, new values."""
    number = row[0]
    identity, operation, wall, seen, base, included_then, group, insert = row[1 : 1 + len(RECORD)]
    place = 1 + len(RECORD)
    words = row[place : place + table.words]
    place += table.words
    key = row[place : place + len(table.key)]
    place += len(table.key)
    width = len(table.values)
    old, new = row[place : place + width], row[place + width : place + 2 * width]
    changes = {table.values[index]: (new[index], _sendable(old[index])) for index in table.changed(words)}
    mutation = Mutation(
        number=number,
        id=bytes(identity),
        table=table.name,
        operation=cast(Literal["I", "U", "D"], operation),
        key=tuple(key),
        key_columns=table.key,
        changes=changes,
        wall_us=wall,
        seen_us=seen,
        base=base,
        insert=insert,
        included=included_then,
    )
    weight = 200 + sum(_weight(value) for pair in changes.values() for value in pair)
    return Waiting(table, mutation, group, included_then, weight)


def _sendable(value: Value) -> Value:
    """What the device saw only tells whether somebody was overwritten unseen: too large a value is not worth a request
    that the server would refuse, and with it everything behind."""
    return None if isinstance(value, str | bytes) and len(value) > limits.VALUE_BYTES_MAX // 4 else value


def _weight(value: Value) -> int:
    if isinstance(value, bytes):
        return len(value) * 4 // 3 + 8
    return len(value) + 8 if isinstance(value, str) else 12


def find_mutation(store: Store, table: str, number: int) -> Waiting | None:
    """The mutation of that number; `table` is where to look first."""
    ordered = sorted(store.outboxes, key=lambda each: each.name != table)
    for each in ordered:
        rows = store.fetch(each, "read_mutation", (number,))
        if rows:
            return load_waiting(each, rows[0])
    return None
