"""Scopes: which rows go to whom, resolved against the source's tables.

`resolving.resolve` makes a `Plan` of a `PlanConfig`: for every synced table its visible columns, the paths by which its
rows reach a bucket, and the columns whose old values capture must keep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from syncline.model.schema import ForeignKey, Schema, Table
from syncline.model.scope_config import LinkConfig, PlanConfig, ScopeConfig, TableConfig, TableRules
from syncline.values import Key, encode_row, key_of_text

__all__ = [
    "LinkConfig",
    "Path",
    "Plan",
    "PlanConfig",
    "QueryReads",
    "Scope",
    "ScopeConfig",
    "Step",
    "SyncedTable",
    "TableConfig",
    "TableRules",
    "bucket_key",
    "bucket_name",
    "bucket_scope",
    "declared_parent",
]


@dataclass(frozen=True, slots=True)
class QueryReads:
    """What the database says that a query reads: table -> columns, those of `views` resolved; `volatile` names
    functions such as now(); `columns` is how many the query answers, where that is known."""

    tables: dict[str, frozenset[str]]
    volatile: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    columns: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """From a row to rows of `table`: its `columns` equal their `references`."""

    columns: tuple[str, ...]
    table: str
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Path:
    """How a row of `table` belongs to a bucket: over `steps` to the scope's root; none for the root itself."""

    scope: str
    table: str
    steps: tuple[Step, ...]

    @property
    def aliases(self) -> tuple[str, ...]:
        """The tables on the path, own first."""
        return (self.table, *(step.table for step in self.steps))


@dataclass(frozen=True)
class Scope:
    """`key` names the root's columns that tell buckets apart: empty in a global scope."""

    name: str
    root: str | None
    key: tuple[str, ...]
    grant: str | None
    filters: dict[str, str]
    writable: frozenset[str]
    tables: tuple[str, ...]
    refresh_seconds: float | None = None
    own_edit_may_leave: bool = False


@dataclass(frozen=True)
class SyncedTable:
    """One table that devices hold. `columns` are the visible ones in source order: the layout of its images."""

    table: Table
    columns: tuple[str, ...]
    paths: tuple[Path, ...]
    captured: tuple[str, ...]
    merge: dict[str, str]
    keys: str = "unique"

    @property
    def name(self) -> str:
        return self.table.name

    @property
    def key(self) -> tuple[str, ...]:
        return self.table.key

    @cached_property
    def values(self) -> tuple[str, ...]:
        """The visible columns that are not part of the key: what masks count, from bit 0."""
        return tuple(column for column in self.columns if column not in self.key)

    @cached_property
    def generated(self) -> frozenset[str]:
        return frozenset(column.name for column in self.table.columns if column.generated)

    def policy(self, column: str) -> str:
        return self.merge.get(column, "latest")


@dataclass(frozen=True)
class Plan:
    """The whole configuration, resolved. `grant_reads`: per scope the tables that its grant reads, also by way of the
    views in `grant_views`. `unfit`: tables whose filter the database took before and does not take now, and why;
    `unfit_grants`: the same of scopes."""

    schema: Schema
    scopes: dict[str, Scope]
    tables: dict[str, SyncedTable]
    grant_reads: dict[str, frozenset[str]]
    warnings: tuple[str, ...] = ()
    grant_views: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unfit: Mapping[str, str] = field(default_factory=dict)
    unfit_grants: Mapping[str, str] = field(default_factory=dict)

    @property
    def grant_only_tables(self) -> tuple[str, ...]:
        """Tables that grants read and no device holds: capture notices that they changed, nothing more."""
        read = {table for tables in self.grant_reads.values() for table in tables}
        return tuple(sorted(read - set(self.tables)))

    @property
    def captured_tables(self) -> tuple[str, ...]:
        return (*sorted(self.tables), *self.grant_only_tables)

    def is_writable(self, scope: str, table: str) -> bool:
        return table in self.scopes[scope].writable


def declared_parent(table: Table, step: Step) -> ForeignKey | None:
    """The foreign key that a step follows, if it is a declared one."""
    for key in table.foreign_keys:
        if key.table == step.table and set(zip(key.columns, key.references, strict=True)) == set(
            zip(step.columns, step.references, strict=True)
        ):
            return key
    return None


# ---------------------------------------------------------------- buckets
def bucket_name(scope: str, key: Key) -> str:
    """`caseload["p-12"]`, or `reference[]` for a global scope."""
    return scope + encode_row(key)


def bucket_scope(bucket: str) -> str:
    return bucket.partition("[")[0]


def bucket_key(bucket: str) -> Key:
    """ProtocolError for what is no bucket's name."""
    return key_of_text(bucket[len(bucket_scope(bucket)) :])
