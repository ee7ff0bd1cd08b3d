"""Scopes: which rows go to whom, resolved against the source's tables.

`ScopeConfig` is what a person wrote; `resolve` makes a `Plan` of it: for every synced table its visible columns, the
paths by which its rows reach a bucket, and the columns whose old values capture must keep.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from syncline.errors import ConfigError
from syncline.model import merge
from syncline.model.identifiers import nearest
from syncline.model.schema import ForeignKey, Schema, Table
from syncline.values import Key, encode_row, key_of_text

_T = TypeVar("_T")


# ---------------------------------------------------------------- as written
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


# ---------------------------------------------------------------- resolved
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

    @property
    def values(self) -> tuple[str, ...]:
        """The visible columns that are not part of the key: what masks count, from bit 0."""
        return tuple(column for column in self.columns if column not in self.key)

    @property
    def generated(self) -> frozenset[str]:
        return frozenset(column.name for column in self.table.columns if column.generated)

    def policy(self, column: str) -> str:
        return self.merge.get(column, "latest")


@dataclass(frozen=True)
class Plan:
    """The whole configuration, resolved. `grant_reads`: per scope the tables that its grant reads."""

    schema: Schema
    scopes: dict[str, Scope]
    tables: dict[str, SyncedTable]
    grant_reads: dict[str, frozenset[str]]
    warnings: tuple[str, ...] = ()

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


# ---------------------------------------------------------------- buckets
def bucket_name(scope: str, key: Key) -> str:
    """`caseload["p-12"]`, or `reference[]` for a global scope."""
    return scope + encode_row(key)


def bucket_scope(bucket: str) -> str:
    return bucket.partition("[")[0]


def bucket_key(bucket: str) -> Key:
    """ProtocolError for what is no bucket's name."""
    return key_of_text(bucket[len(bucket_scope(bucket)) :])


# ---------------------------------------------------------------- resolving
@dataclass(frozen=True, slots=True)
class QueryReads:
    """What the database says that a query reads: table -> columns; `volatile` names functions such as now()."""

    tables: dict[str, frozenset[str]]
    volatile: tuple[str, ...] = ()


def resolve(
    config: PlanConfig,
    schema: Schema,
    grant_reads: dict[str, QueryReads],
    filter_reads: dict[tuple[str, str], QueryReads],
) -> Plan:
    """A plan, or ConfigError. `grant_reads` is by scope, `filter_reads` by (table, where)."""
    scopes: dict[str, Scope] = {}
    paths: dict[str, list[Path]] = {}
    for scope_config in config.scopes:
        scope, scope_paths = _resolve_scope(scope_config, schema)
        scopes[scope.name] = scope
        for table, found in scope_paths.items():
            paths.setdefault(table, []).extend(path for path in found if path not in paths.get(table, ()))
    captured = _captured_columns(schema, scopes, paths, filter_reads)
    _check_names(config, schema, paths)
    _check_grants(scopes, grant_reads)
    tables = {
        name: SyncedTable(
            table=schema.table(name),
            columns=_visible_columns(config, schema.table(name)),
            paths=tuple(table_paths),
            captured=captured[name],
            merge=_policies(config, schema.table(name)),
            keys=_by_table(config.rules, name, TableRules()).keys,
        )
        for name, table_paths in paths.items()
    }
    reads = {
        scope: frozenset(schema.table(table).name for table in found.tables)
        for scope, found in grant_reads.items()
        if scope in scopes
    }
    _check_bucket_keys(scopes, tables)
    _check_collations(schema, scopes, paths)
    return Plan(schema, scopes, tables, reads, tuple(_warnings(schema, tables)))


def _resolve_scope(config: ScopeConfig, schema: Schema) -> tuple[Scope, dict[str, list[Path]]]:
    where = f"[scope.{config.name}]"
    members: dict[str, TableConfig] = {}
    for name, member in config.tables.items():
        members[schema.table(name).name] = member
    root = schema.table(config.root) if config.root else None
    _check_scope(config, where)
    for table in (*members, *([root.name] if root else [])):
        _refuse_keyless(schema.table(table), where)
    paths: dict[str, list[Path]] = {}
    if root is None:
        key: tuple[str, ...] = ()
        for table, member in members.items():
            if member.links:
                raise ConfigError(
                    f'{where}: "{table}" has a path, but the scope has no root.', hint="Add root = …", code="no_root"
                )
            paths[table] = [Path(config.name, table, ())]
    else:
        key = tuple(root.column(column).name for column in config.key) if config.key else root.key
        paths[root.name] = [Path(config.name, root.name, ())]
        if root.name in members and members[root.name].links:
            raise ConfigError(
                f'{where}: "{root.name}" is the root and has a path.', hint="Take the path away.", code="bad_path"
            )
        for table in members:
            if table != root.name:
                _paths_of(table, root.name, members, schema, config.name, paths, ())
    filters = {table: member.where for table, member in members.items() if member.where}
    if root is not None and config.where and filters.setdefault(root.name, config.where) != config.where:
        raise ConfigError(
            f'{where}: "{root.name}" has two filters.', hint="Join them with AND, in one place.", code="two_filters"
        )
    writable = {table for table in paths if not config.read_only and not members.get(table, TableConfig()).read_only}
    scope = Scope(
        name=config.name,
        root=root.name if root else None,
        key=key,
        grant=config.grant,
        filters=filters,
        writable=frozenset(writable),
        tables=tuple(paths),
        refresh_seconds=config.refresh_seconds,
        own_edit_may_leave=config.own_edit_may_leave,
    )
    return scope, paths


def _check_scope(config: ScopeConfig, where: str) -> None:
    """What is written must be what is done: a grant or a key that nothing reads would open the scope to everybody."""
    if not config.name or "[" in config.name:
        raise ConfigError(f'{where}: a scope\'s name is not empty and has no "[".', code="bad_scope_name")
    if not config.root:
        for option in ("grant", "key", "where"):
            if getattr(config, option) is not None:
                hint = "Write it at a table." if option == "where" else "Add root = …"
                raise ConfigError(f"{where}: {option} belongs to a root, and there is none.", hint=hint, code="no_root")
    elif not config.grant:
        raise ConfigError(
            f"{where}: it has a root, but no grant says who holds which bucket.",
            hint='Add grant = "SELECT … WHERE … = :sub".',
            code="no_grant",
        )


def _check_grants(scopes: dict[str, Scope], grant_reads: dict[str, QueryReads]) -> None:
    for name, scope in scopes.items():
        reads = grant_reads.get(name)
        if reads and reads.volatile and scope.refresh_seconds is None:
            raise ConfigError(
                f"[scope.{name}] grant uses {reads.volatile[0]}(), which changes by itself.",
                hint='Say how often to ask again: refresh = "60s".',
                code="grant_volatile",
            )


def _check_bucket_keys(scopes: dict[str, Scope], tables: dict[str, SyncedTable]) -> None:
    """A bucket's name travels to the device, and the values of its key with it."""
    for scope in scopes.values():
        hidden = [column for column in scope.key if scope.root and column not in tables[scope.root].columns]
        if hidden:
            raise ConfigError(
                f'[scope.{scope.name}] key names "{hidden[0]}", which [columns] hides from devices.',
                hint="Buckets are named by it: show the column, or use another key.",
                code="hidden_key",
            )


def _refuse_keyless(table: Table, where: str) -> None:
    if table.refusal:
        raise ConfigError(
            f'{where}: table "{table.name}" cannot sync: {table.refusal}', hint=table.remedy, code="no_key"
        )


def _paths_of(
    table: str,
    root: str,
    members: dict[str, TableConfig],
    schema: Schema,
    scope: str,
    paths: dict[str, list[Path]],
    walked: tuple[str, ...],
) -> list[Path]:
    """All paths from a table to the root, over the paths of the tables that it links to."""
    if table in paths:
        return paths[table]
    where = f'[scope.{scope}] table "{table}"'
    if table in walked:
        circle = " -> ".join((*walked, table))
        raise ConfigError(
            f"{where}: its path runs in a circle: {circle}.",
            hint="Give one of them another parent.",
            code="path_circle",
        )
    if table not in members:
        hint = f'Add "{table}" to [scope.{scope}.tables].{nearest(table, members)}'
        raise ConfigError(
            f'{where}: the path of "{walked[-1]}" goes over it, but the scope does not hold it.',
            hint=hint,
            code="path_outside_scope",
        )
    if not members[table].links:
        raise ConfigError(
            f"{where}: no path to the root.", hint='Add parent = "…" or referenced_by = "…".', code="no_path"
        )
    found: list[Path] = []
    for link in members[table].links:
        step = _step(schema.table(table), link, schema, where)
        for rest in _paths_of(step.table, root, members, schema, scope, paths, (*walked, table)):
            path = Path(scope, table, (step, *rest.steps))
            if path not in found:
                found.append(path)
    paths[table] = found
    return found


def _step(table: Table, link: LinkConfig, schema: Schema, where: str) -> Step:
    if (link.parent is None) == (link.referenced_by is None):
        raise ConfigError(f"{where}: a path has either parent or referenced_by.", code="bad_path")
    other = schema.table(link.parent or link.referenced_by or "")
    if link.on:
        own = tuple(table.column(column).name for column in link.on)
        return Step(own, other.name, tuple(other.column(column).name for column in link.on.values()))
    if link.parent:
        keys = [key for key in table.foreign_keys if key.table == other.name]
        found = [Step(key.columns, other.name, key.references) for key in keys]
    else:
        keys = [key for key in other.foreign_keys if key.table == table.name]
        found = [Step(key.references, other.name, key.columns) for key in keys]
    candidates = list(dict.fromkeys(found))  # the same key may be declared twice
    if len(candidates) == 1:
        return candidates[0]
    verb = "parent" if link.parent else "referenced_by"
    if not candidates:
        raise ConfigError(
            f'{where}: {verb} = "{other.name}", but no foreign key between the two is declared.',
            hint=f'Say which columns are equal: on = {{ own_column = "column of {other.name}" }}.',
            code="no_foreign_key",
        )
    choices = " or ".join(_as_on(step) for step in candidates)
    raise ConfigError(
        f'{where}: {verb} = "{other.name}" is ambiguous: {len(candidates)} foreign keys join the two.',
        hint=f"Say which: {choices}.",
        code="ambiguous_path",
    )


def _as_on(step: Step) -> str:
    pairs = ", ".join(f'{own} = "{theirs}"' for own, theirs in zip(step.columns, step.references, strict=True))
    return f"on = {{ {pairs} }}"


def _check_collations(schema: Schema, scopes: dict[str, Scope], paths: dict[str, list[Path]]) -> None:
    """What joins and names buckets has to compare byte by byte: else 'Ada' and 'ada' are one row here and two there."""
    used = [(scope.name, scope.root or "", column) for scope in scopes.values() for column in scope.key]
    for path in (path for table_paths in paths.values() for path in table_paths):
        for left, step in zip(path.aliases, path.steps, strict=False):
            used += [(path.scope, left, column) for column in step.columns]
            used += [(path.scope, step.table, column) for column in step.references]
    for scope_name, table, name in used:
        column = schema.table(table).column(name)
        if column.collation:
            raise ConfigError(
                f'[scope.{scope_name}] joins on "{table}"."{name}", whose collation is {column.collation}.',
                hint="Join on a column that compares byte by byte.",
                code="collation",
            )


def _captured_columns(
    schema: Schema,
    scopes: dict[str, Scope],
    paths: dict[str, list[Path]],
    filter_reads: dict[tuple[str, str], QueryReads],
) -> dict[str, tuple[str, ...]]:
    """Per table the columns, besides its key, that paths join on, filters read or buckets are named by."""
    needed: dict[str, set[str]] = {table: set() for table in paths}
    for path in (path for table_paths in paths.values() for path in table_paths):
        for left, step in zip(path.aliases, path.steps, strict=False):
            needed[left].update(step.columns)
            needed[step.table].update(step.references)
    for scope in scopes.values():
        if scope.root:
            needed[scope.root].update(scope.key)
        for table, where in scope.filters.items():
            reads = filter_reads[table, where]
            foreign = set(reads.tables) - {table}
            if foreign:
                raise ConfigError(
                    f'[scope.{scope.name}] where of "{table}" reads "{sorted(foreign)[0]}".',
                    hint="A filter may only use the table's own columns.",
                    code="filter_reads_other_table",
                )
            if reads.volatile:
                raise ConfigError(
                    f'[scope.{scope.name}] where of "{table}" uses {reads.volatile[0]}(), which changes by itself.',
                    hint="A filter must depend on the row alone.",
                    code="filter_volatile",
                )
            needed[table].update(schema.table(table).column(name).name for name in reads.tables.get(table, ()) if name)
    return {name: _in_source_order(schema.table(name), columns) for name, columns in needed.items()}


def _in_source_order(table: Table, columns: set[str]) -> tuple[str, ...]:
    return tuple(name for name in table.column_names if name in columns and name not in table.key)


def _by_table(mapping: dict[str, _T], table: str, default: _T) -> _T:
    for name, value in mapping.items():
        if name.lower() == table.lower():
            return value
    return default


def _check_names(config: PlanConfig, schema: Schema, synced: Iterable[str]) -> None:
    names = set(synced)
    sections = (("columns", (*config.hide, *config.keep)), ("table", config.rules), ("merge", config.merge))
    for section, tables in sections:
        for table in tables:
            if schema.table(table).name not in names:
                hint = (nearest(table, names) or " Add it to a scope, or remove the section.").strip()
                message = f'[{section}] names "{table}", which no scope holds.'
                raise ConfigError(message, hint=hint, code="table_not_synced")


def _visible_columns(config: PlanConfig, table: Table) -> tuple[str, ...]:
    none: tuple[str, ...] = ()
    hide = {table.column(column).name for column in _by_table(config.hide, table.name, none)}
    keep = {table.column(column).name for column in _by_table(config.keep, table.name, table.column_names)}
    hidden_key = [column for column in table.key if column in hide]
    if hidden_key:
        raise ConfigError(
            f'[columns] hides "{hidden_key[0]}", which is part of the key of "{table.name}".',
            hint="A key cannot be hidden.",
            code="hidden_key",
        )
    return tuple(name for name in table.column_names if name not in hide and (name in keep or name in table.key))


def _policies(config: PlanConfig, table: Table) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, policy in _by_table(config.merge, table.name, {}).items():
        column = table.column(name)
        if column.name in table.key:
            message = f'[merge.{table.name}] "{name}" is part of the key.'
            raise ConfigError(message, hint="Keys are not merged.", code="merge_key")
        refused = merge.policy(policy).refuses(column)
        if refused:
            message = f"[merge.{table.name}] {refused}"
            raise ConfigError(message, hint="Choose another policy.", code="policy_does_not_fit")
        found[column.name] = policy
    return found


def _warnings(schema: Schema, tables: dict[str, SyncedTable]) -> Iterable[str]:
    """Join columns that every checkpoint would have to scan for."""
    told: set[tuple[str, tuple[str, ...]]] = set()
    for table in tables.values():
        for path in table.paths:
            for left, step in zip(path.aliases, path.steps, strict=False):
                for name, columns in ((left, step.columns), (step.table, step.references)):
                    if (name, columns) not in told and not schema.table(name).has_index_on(columns):
                        told.add((name, columns))
                        yield f'"{name}" is joined on {", ".join(columns)} without an index: checkpoints will scan it.'


def declared_parent(table: Table, step: Step) -> ForeignKey | None:
    """The foreign key that a step follows, if it is a declared one."""
    for key in table.foreign_keys:
        if key.table == step.table and set(zip(key.columns, key.references, strict=True)) == set(
            zip(step.columns, step.references, strict=True)
        ):
            return key
    return None
