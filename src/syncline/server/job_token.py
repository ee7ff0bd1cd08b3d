"""The token of a paged download: all that it takes to go on with it, hours later and in another process.

It names the key that was looked at last, which may be of a row that the device is not to have: it travels sealed
(`server/seal.py`), and is opaque to the device. What it says decides which rows a device does not need again, never
which it may have. A token that does not open or does not parse is as good as none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from syncline.source.port import Cursor, Survey

VERSION = 1
VERSION_OF_REPAIRS = 2
"""Has `only` at its end; a job without it travels as before, and any older process goes on with it."""


@dataclass(frozen=True)
class JobToken:
    """Where a job stands.

    `start` is the head that its first page saw, `newest` the newest head that any of its reads saw. `generation` is
    that of its beginning. `replaced`: tables that come anew in the held buckets. `place` is where the walk over rows
    goes on while `walking`. `marker_due`: something waited in the queue when the last page was read. Then come laps:
    all entries up to `reached` were read; `lap_place` is where the lap up to `upto` goes on. `rows`, `bytes`,
    `total_rows`: of the whole job. `only`: the held buckets of a repair; None: the replaced tables come in all of them.
    """

    start: Cursor
    newest: Cursor
    generation: int
    replaced: tuple[str, ...] = ()
    is_reset: bool = False
    walking: bool = True
    place: str | None = None
    marker_due: bool = False
    reached: Cursor | None = None
    upto: Cursor | None = None
    lap_place: str | None = None
    rows: int = 0
    bytes: int = 0
    total_rows: int | None = None
    only: tuple[str, ...] | None = None

    def fits(self, survey: Survey) -> bool:
        return survey.valid and survey.generation == self.generation

    def known(self, cursor: Cursor | None) -> tuple[Cursor, ...]:
        """What the source has to know if the job is to go on, for a device that stands at `cursor`."""
        return (*((cursor,) if cursor else ()), self.start, self.newest)

    def dump(self) -> str:
        *values, only = [getattr(self, field.name) for field in fields(self)]
        told = [VERSION, *values] if only is None else [VERSION_OF_REPAIRS, *values, only]
        return json.dumps(told, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> JobToken | None:
        """None for what is none of ours."""
        try:
            version, *values = json.loads(text)
        except (ValueError, TypeError, RecursionError):
            return None
        if version == VERSION:
            values.append(None)
        if version not in (VERSION, VERSION_OF_REPAIRS) or len(values) != len(_KINDS):
            return None
        if not all(check(value) for check, value in zip(_KINDS, values, strict=True)):
            return None
        named = {field.name: value for field, value in zip(fields(cls), values, strict=True)}
        for name in ("start", "newest", "reached", "upto", "replaced"):
            named[name] = named[name] and tuple(named[name])
        only = named["only"]
        return cls(**{**named, "replaced": tuple(named["replaced"]), "only": None if only is None else tuple(only)})


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _text(value: Any) -> bool:
    return type(value) is str


def _cursor(value: Any) -> bool:
    return type(value) is list and len(value) == 2 and _text(value[0]) and _count(value[1])


def _texts(value: Any) -> bool:
    return type(value) is list and all(map(_text, value))


def _optional_texts(value: Any) -> bool:
    return value is None or _texts(value)


def _flag(value: Any) -> bool:
    return type(value) is bool


def _optional_count(value: Any) -> bool:
    return value is None or _count(value)


def _optional_text(value: Any) -> bool:
    return value is None or _text(value)


def _optional_cursor(value: Any) -> bool:
    return value is None or _cursor(value)


_KINDS: Sequence[Any] = (
    *(_cursor, _cursor, _count, _texts, _flag, _flag, _optional_text, _flag),
    *(_optional_cursor, _optional_cursor, _optional_text, _count, _count, _optional_count),
    _optional_texts,
)
