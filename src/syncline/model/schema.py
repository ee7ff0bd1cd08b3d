"""The source's tables as every database describes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from syncline.errors import ConfigError
from syncline.model.identifiers import nearest


@dataclass(frozen=True, slots=True)
class Column:
    """`type` as declared; `default` is SQL text; a `generated` column is computed by the database; `collation` is empty
    where text compares byte by byte.

    What a source with types of its own adds: `local_type` is what a replica declares instead; `kind` names the form of
    its values, `"numeric"` or `"numeric[]"`; `base` and `collate` are its type, domains resolved, and its collation as
    the source's SQL may name them; `inexact` says why equal values may be written in several ways, so that the column
    can name neither row nor bucket; `computed_from`: the columns that one is made from that is not stored, but computed
    whenever it is read (None: it is stored).
    """

    name: str
    type: str
    not_null: bool = False
    default: str | None = None
    generated: bool = False
    collation: str = ""
    local_type: str = ""
    kind: str = ""
    base: str = ""
    collate: str = ""
    inexact: str = ""
    computed_from: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """`columns` of the owning table equal `references` of `table`."""

    columns: tuple[str, ...]
    table: str
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """`columns` are plain columns in order; expression and partial indexes are not listed."""

    name: str
    columns: tuple[str, ...]
    unique: bool = False


@dataclass(frozen=True, slots=True)
class Unique:
    """What no two rows may have alike: `terms` are SQL expressions over the table's columns, each compared by its
    collation, among the rows that pass `where` (all, if it is empty). `columns`: those that it reads."""

    terms: tuple[str, ...]
    collations: tuple[str, ...]
    where: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """`key` is empty where there is none that Syncline can use; then `refusal` says why and `remedy` what to do.
    `place` is where the source has it, schema and relation, where `name` alone does not say so.

    `generated_key`: the database makes up the key of a row that is inserted without one. `uniques` and `row_number`
    matter where a database removes rows that stand in the way of a new one: `row_number` is the name of a number that
    rows have besides their key, or empty.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    foreign_keys: tuple[ForeignKey, ...] = ()
    indexes: tuple[Index, ...] = ()
    generated_key: bool = False
    refusal: str = ""
    remedy: str = ""
    uniques: tuple[Unique, ...] = ()
    row_number: str = ""
    place: tuple[str, ...] = ()

    def column(self, name: str) -> Column:
        """The column of that name, any case; ConfigError with the nearest name otherwise."""
        if found := self.by_name.get(name):
            return found
        for column in self.columns:
            if column.name.lower() == name.lower():
                return column
        hint = nearest(name, self.column_names).strip()
        raise ConfigError(f'Table "{self.name}" has no column "{name}".', hint=hint, code="unknown_column")

    @cached_property
    def by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def nullable_key(self) -> tuple[str, ...]:
        """The key columns that may hold NULL: a row in which one does cannot be told from others, and stays at home."""
        if self.generated_key:
            return ()
        return tuple(column.name for column in map(self.column, self.key) if not column.not_null)

    def has_index_on(self, columns: Iterable[str]) -> bool:
        """Whether a lookup by these columns needs no scan: they lead the key or an index, in any order."""
        wanted = set(columns)
        leads = [self.key, *(index.columns for index in self.indexes)]
        return any(set(lead[: len(wanted)]) == wanted for lead in leads)


@dataclass(frozen=True)
class Schema:
    """`views` names what looks like a table and is none."""

    tables: dict[str, Table]
    views: frozenset[str] = field(default_factory=frozenset)

    def table(self, name: str) -> Table:
        """The table of that name (exact, else any case); ConfigError with the nearest name otherwise."""
        if name in self.tables:
            return self.tables[name]
        for candidate in self.tables.values():
            if candidate.name.lower() == name.lower():
                return candidate
        if name.lower() in {view.lower() for view in self.views}:
            raise ConfigError(
                f'"{name}" is a view; only tables sync.',
                hint="Name the tables that it reads.",
                code="view_cannot_sync",
            )
        hint = nearest(name, self.tables).strip()
        raise ConfigError(f'The database has no table "{name}".', hint=hint, code="unknown_table")
