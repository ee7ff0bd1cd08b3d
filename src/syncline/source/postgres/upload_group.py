"""What an upload's transaction knows about the group of mutations that it is working at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from syncline.model.merge import Stamp
from syncline.source.port import RowRead
from syncline.values import Key, Value

Place = tuple[str, Key]
"""A table's name, and a key in it."""


class Write(NamedTuple):
    """`changes_row`: whether the row will be another one, so that capture notes it. `is_new`: an insert of a key that
    was free when it was looked for."""

    table: str
    key: Key
    operation: str
    values: dict[str, Value]
    stamp: Stamp
    changes_row: bool
    is_new: bool = False

    def key_after(self, names: tuple[str, ...]) -> Key:
        return tuple(self.values.get(name, value) for name, value in zip(names, self.key, strict=True))


@dataclass
class UploadGroup:
    """`together`: writes are held back, in `waiting`. `wave`: what is judged now, and by which operations. `read` and
    `buckets`: rows as they are before `waiting` is written. `written`: keys that are there when it is. `table`: the
    last one written. `noted`: the stamps that capture noted for what was held back, and how many changes keep them;
    `held_back`: the tables of those."""

    together: bool = False
    wave: dict[Place, set[str]] = field(default_factory=dict)
    read: dict[Place, RowRead] = field(default_factory=dict)
    buckets: dict[Place, frozenset[str]] = field(default_factory=dict)
    written: dict[str, dict[Key, None]] = field(default_factory=dict)
    waiting: list[Write] = field(default_factory=list)
    table: str = ""
    noted: dict[Stamp, int] = field(default_factory=dict)
    held_back: set[str] = field(default_factory=set)

    def forget(self) -> None:
        """What was read may be otherwise now."""
        self.read.clear()
        self.buckets.clear()

    def keys_by_table(self) -> dict[str, list[Key]]:
        """Of the wave."""
        found: dict[str, list[Key]] = {}
        for table, key in self.wave:
            found.setdefault(table, []).append(key)
        return found
