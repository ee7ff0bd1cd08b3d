"""When each column of a row was last written, and by whom: the text kept in `row_state`, and folding changes over
it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from syncline.model.merge import Stamp


@dataclass(slots=True)
class RowStamps:
    """`born` and `died` are the row's last insert and delete; a column without a stamp of its own has that of
    `born`."""

    born: Stamp | None = None
    died: Stamp | None = None
    columns: dict[str, Stamp] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | None) -> RowStamps:
        if not text:
            return cls()
        stored = json.loads(text)
        return cls(
            Stamp(*stored["b"]) if "b" in stored else None,
            Stamp(*stored["d"]) if "d" in stored else None,
            {column: Stamp(*stamp) for column, stamp in stored.get("c", {}).items()},
        )

    def text(self) -> str:
        parts = []
        if self.born:
            parts.append(f'"b":[{self.born.time_us},{self.born.writer}]')
        if self.died:
            parts.append(f'"d":[{self.died.time_us},{self.died.writer}]')
        if self.columns:
            columns = {column: (stamp.time_us, stamp.writer) for column, stamp in self.columns.items()}
            parts.append(f'"c":{json.dumps(columns, ensure_ascii=False, separators=(",", ":"))}')
        return f"{{{','.join(parts)}}}"

    def of(self, column: str) -> Stamp | None:
        return self.columns.get(column, self.born)

    def fold(self, op: str, stamp: Stamp, columns: Iterable[str]) -> None:
        """One change: a delete clears and leaves `died`, an insert sets all and `born`, the others only raise."""
        if op == "D":
            self.died = max(stamp, self.died) if self.died else stamp
            self.born = None
            self.columns = {}
        elif op == "I":
            self.born = stamp
            self.columns = {}
        else:
            for column in columns:
                known = self.of(column)
                if known is None or stamp > known:
                    self.columns[column] = stamp


Changes = list[tuple[str, Stamp, list[str]]]
"""A row's changes in order: operation, stamp, changed columns."""


def fold_changes(stored: str | None, changes: Changes, *, exists: bool = True) -> str:
    """Stored stamps with changes folded over them. "R" only says that the row may have been replaced; `exists`: whether
    it is there now."""
    stamps = RowStamps.parse(stored)
    for op, stamp, columns in changes:
        if op != "R":
            stamps.fold(op, stamp, columns)
    last_op, last_stamp, _ = changes[-1]
    if not exists and last_op == "R":  # another row's INSERT OR REPLACE removed it
        stamps.fold("D", last_stamp, ())
    return stamps.text()
