"""The changelog, the function and the triggers that notice every change of one table.

Triggers fire once per statement and read its rows from transition tables. A changelog row holds typed columns, never
JSON: `k_i` the key, `o_i` the old values of what scopes join and filter on, `m_i` the mask of changed columns, on
tables that some scope may write. No column of it can refuse a value: types stand without length and without domain.

op: I inserted · U updated · D deleted · T touched by an upload. A change of key is D of the old and I of the new.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from syncline.model.identifiers import quote
from syncline.model.schema import Column, Table
from syncline.model.scopes import Plan
from syncline.source.postgres.names import object_name, ours

MASK_BITS = 60
CHANGELOG, FUNCTION = "changelog", "capture"
_LENGTH = re.compile(r"\([0-9,-]+\)(?=(?:\[\])?$)")


@dataclass(frozen=True)
class Capture:
    """Names and columns of one table's capture. `watched`: the columns whose change devices must hear of; masks are
    kept of `writable` tables only."""

    table: Table
    key: tuple[str, ...]
    captured: tuple[str, ...]
    watched: tuple[str, ...]
    writable: bool = False

    @property
    def changelog_name(self) -> str:
        """As the catalogue has it, in the schema `syncline`."""
        return object_name(CHANGELOG, self.table)

    @property
    def changelog(self) -> str:
        return ours(self.changelog_name)

    @property
    def changelog_mark(self) -> str:
        """The comment on the changelog: another one is of another shape."""
        return f"syncline {hashlib.sha256(changelog_sql(self).encode()).hexdigest()[:16]}"

    @property
    def function_name(self) -> str:
        return object_name(FUNCTION, self.table)

    @property
    def key_columns(self) -> list[str]:
        return [f"k_{index}" for index in range(1, len(self.key) + 1)]

    @property
    def old_columns(self) -> list[str]:
        return [f"o_{index}" for index in range(1, len(self.captured) + 1)]

    @property
    def mask_columns(self) -> list[str]:
        """Empty where no scope may write the table."""
        words = (len(self.watched) + MASK_BITS - 1) // MASK_BITS if self.writable else 0
        return [f"m_{index}" for index in range(words)]

    def old_column(self, column: str) -> str:
        """The changelog's column that holds the key column or old value `column`."""
        if column in self.key:
            return f"k_{self.key.index(column) + 1}"
        return f"o_{self.captured.index(column) + 1}"

    def changed_columns(self, masks: tuple[int, ...]) -> list[str]:
        if not self.writable:
            return []
        return [
            column for index, column in enumerate(self.watched) if masks[index // MASK_BITS] >> (index % MASK_BITS) & 1
        ]

    def mask_of(self, columns: set[str]) -> list[int]:
        masks = [0] * len(self.mask_columns)
        for index, column in enumerate(self.watched):
            if masks and column in columns:
                masks[index // MASK_BITS] |= 1 << (index % MASK_BITS)
        return masks


def captures(plan: Plan) -> dict[str, Capture]:
    """One per captured table; for tables that only grants read it holds neither key nor values."""
    writable = {table for scope in plan.scopes.values() for table in scope.writable}
    found = {}
    for name, synced in plan.tables.items():
        found[name] = Capture(synced.table, synced.key, synced.captured, synced.values, name in writable)
    for name in plan.grant_only_tables:
        found[name] = Capture(plan.schema.table(name), (), (), ())
    return found


def column_type(column: Column) -> str:
    """The column's type without length, domain or collation."""
    return _LENGTH.sub("", column.base)


def changelog_sql(capture: Capture) -> str:
    """It fills and empties all day: it is vacuumed early, and never cut short, for that takes a lock that hosts wait
    for."""

    def column(name: str, of: str) -> str:
        described = capture.table.column(of)
        return f"{name} {column_type(described)}{f' COLLATE {described.collate}' if described.collate else ''}"

    columns = ["id bigint GENERATED ALWAYS AS IDENTITY", 'op "char" NOT NULL']
    columns += [column(name, of) for name, of in zip(capture.key_columns, capture.key, strict=True)]
    columns += [column(name, of) for name, of in zip(capture.old_columns, capture.captured, strict=True)]
    columns += [f"{name} bigint" for name in capture.mask_columns]
    columns += ["stamp bigint", "writer bigint", "txid xid8 NOT NULL DEFAULT pg_current_xact_id()"]
    settings = "vacuum_truncate = false, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000"
    return f"CREATE TABLE IF NOT EXISTS {capture.changelog}({', '.join(columns)}) WITH ({settings})"


def changelog_index_sql(capture: Capture) -> str:
    """By transaction: where the sequencer's poll begins."""
    name = quote(object_name("waiting", capture.table))
    return f"CREATE INDEX IF NOT EXISTS {name} ON {capture.changelog}(txid)"
