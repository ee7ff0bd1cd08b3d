"""Merge policies: who wins when the device and the source changed the same column.

A policy is pure: from what the device saw, what the source holds, what the device wrote and both stamps, to what
is kept. New policies plug in by `register`; uploads look them up by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from syncline.errors import ConfigError, Reject
from syncline.model.identifiers import nearest
from syncline.model.schema import Column
from syncline.values import Value, same

SOURCE_WRITER = 0
"""The writer of a stamp that no device made."""


@dataclass(frozen=True, slots=True, order=True)
class Stamp:
    """When a value was written (µs since 1970, true time) and by which device number; ties go to the higher number."""

    time_us: int
    writer: int = SOURCE_WRITER


@dataclass(frozen=True, slots=True)
class Change:
    """One column of an uploaded update. `was` is what the device saw, `server` what the source holds now."""

    was: Value
    server: Value
    new: Value
    stamp: Stamp
    server_stamp: Stamp


@dataclass(frozen=True, slots=True)
class Merged:
    """`value` is what the source shall hold. `loser`: None, "server" (overwritten unseen) or "device" (left out)."""

    value: Value
    loser: str | None = None
    raise_stamp: bool = False


Policy: TypeAlias = Callable[[Change], Merged]


@dataclass(frozen=True, slots=True)
class PolicyEntry:
    """`rebase` is how a pending change is put back on a newer server row: "set" the value or "add" the difference."""

    name: str
    decide: Policy
    rebase: str = "set"
    refuses: Callable[[Column], str | None] = lambda column: None


def merge_latest(change: Change) -> Merged:
    """The stamp alone decides; `was` only says whether somebody was overwritten unseen (rule 12)."""
    if same(change.server, change.new):
        return Merged(change.server, raise_stamp=True)
    own = change.server_stamp.writer == change.stamp.writer
    if change.stamp > change.server_stamp:
        unseen = not own and not same(change.server, change.was)
        return Merged(change.new, "server" if unseen else None, raise_stamp=True)
    return Merged(change.server, None if own else "device")


def merge_server(change: Change) -> Merged:
    """What the source holds stays."""
    return Merged(change.server, None if same(change.server, change.new) else "device")


def merge_add(change: Change) -> Merged:
    """server + (new − was), never short-cut by equality: two devices that both count one visit make two.

    Reject where no column could hold the sum: otherwise one such change would stop all that wait behind it.
    """
    total = _number(change.server) + (_number(change.new) - _number(change.was))
    if math.isnan(total) or (isinstance(total, int) and not -(2**63) <= total < 2**63):
        raise Reject("out_of_range", "The sum does not fit into 64 bits.")
    return Merged(total, raise_stamp=True)


def _number(value: Value) -> int | float:
    return value if isinstance(value, int | float) else 0


def _refuse_add(column: Column) -> str | None:
    shown = (column.local_type or column.type).upper()
    if column.kind != "boolean" and any(word in shown for word in ("INT", "REAL", "FLOA", "DOUB", "NUM", "DEC")):
        return None
    kept = ", which devices hold as text" if column.local_type == "TEXT" else ""
    return f'"add" needs a numeric column; "{column.name}" is {column.type or "without a type"}{kept}.'


_policies: dict[str, PolicyEntry] = {}


def register(entry: PolicyEntry) -> None:
    _policies[entry.name] = entry


register(PolicyEntry("latest", merge_latest))
register(PolicyEntry("server", merge_server))
register(PolicyEntry("add", merge_add, rebase="add", refuses=_refuse_add))


def policy(name: str) -> PolicyEntry:
    """The policy of that name; ConfigError with the nearest name otherwise."""
    if name not in _policies:
        hint = (nearest(name, _policies) or f" Known: {', '.join(sorted(_policies))}.").strip()
        raise ConfigError(f'There is no merge policy "{name}" in this version.', hint=hint, code="unknown_policy")
    return _policies[name]
