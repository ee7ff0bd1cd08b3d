"""Scopes as a person wrote them: names that nobody has held against a database yet."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class LinkConfig:
    """One way from a table to another of the scope. `on`: own column -> the other table's column."""

    parent: str | None = None
    referenced_by: str | None = None
    on: dict[str, str] | None = None


@dataclass(frozen=True)
class TableConfig:
    links: tuple[LinkConfig, ...] = ()
    where: str | None = None
    read_only: bool = False


@dataclass(frozen=True)
class ScopeConfig:
    """`root` and `grant` are None in a global scope. `refresh_seconds`: re-evaluate the grant by the clock."""

    name: str
    tables: dict[str, TableConfig]
    root: str | None = None
    grant: str | None = None
    key: tuple[str, ...] | None = None
    where: str | None = None
    read_only: bool = False
    refresh_seconds: float | None = None
    own_edit_may_leave: bool = False


@dataclass(frozen=True)
class TableRules:
    """`[table.x]`: what is not about one column. `keys`: "unique" or "natural"."""

    keys: str = "unique"


@dataclass(frozen=True)
class PlanConfig:
    scopes: tuple[ScopeConfig, ...]
    hide: dict[str, tuple[str, ...]] = field(default_factory=dict)
    keep: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rules: dict[str, TableRules] = field(default_factory=dict)
    merge: dict[str, dict[str, str]] = field(default_factory=dict)
