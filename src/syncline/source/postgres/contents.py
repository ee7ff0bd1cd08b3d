"""What the catalogue says of the values in a table's columns, and whether they may be others than they were.

A statement like ALTER COLUMN … TYPE … USING changes values and fires no trigger; often the column looks afterwards as
it did. Its line in the catalogue is written anew, though, and the table gets a new file; either alone means nothing:
VACUUM FULL makes a new file, and GRANT or SET STATISTICS write the line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Columns = Mapping[str, list[str]]


@dataclass(frozen=True)
class Contents:
    """`columns`: name -> [version of its line, number and type, the same in words]; `files`: relation, quoted -> number
    of its file; `computed`: relation and generated column -> its expression's oid; `labels`: oids of an enum
    type and a value -> the label, of all that the columns may hold (also one line of a type without values);
    `composites`: oid -> the attributes of a composite type that they may hold."""

    columns: Columns
    files: Mapping[str, int]
    computed: Mapping[str, int]
    labels: Mapping[str, str | None]
    composites: Mapping[str, str]

    @classmethod
    def parse(cls, record: Mapping[str, Any]) -> Contents:
        return cls(**{name: record.get(name) or {} for name in cls.__dataclass_fields__})

    def record(self) -> dict[str, Any]:
        return {name: dict(getattr(self, name)) for name in self.__dataclass_fields__}

    def may_differ(self, known: Contents) -> bool:
        """Whether a value of a column that was there when `known` was read, and still is, may be another one now."""
        written = _moved(self.files, known.files)
        for name in self.columns.keys() & known.columns.keys():
            (version, shape, _), (version_known, shape_known, _) = self.columns[name], known.columns[name]
            if shape != shape_known or (written and version != version_known):
                return True
        pairs = ((self.computed, known.computed), (self.labels, known.labels), (self.composites, known.composites))
        return any(_moved(now, before) for now, before in pairs)

    def is_within(self, known: Contents) -> bool:
        """Whether all that is there now was there then: of what came later, nobody could say what it was."""
        return all(
            getattr(self, name).keys() <= getattr(known, name).keys()
            for name in ("columns", "computed", "labels", "composites")
        )

    def differs_in_words(self, known: Contents) -> bool:
        """As `may_differ`, where a restore or an upgrade has given everything new numbers."""
        common = self.columns.keys() & known.columns.keys()
        return any(self.columns[name][2] != known.columns[name][2] for name in common) or not (
            set(known.labels.values()) <= set(self.labels.values())
        )


NOTHING = Contents({}, {}, {}, {}, {})


def _moved(now: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    return any(now[name] != before[name] for name in now.keys() & before.keys())
