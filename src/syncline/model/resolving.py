"""Holding a configuration against the source's tables: the plan that everything else works from."""

from __future__ import annotations

from typing import TypeVar

from syncline.errors import ConfigError
from syncline.model import merge
from syncline.model.schema import Schema, Table
from syncline.model.scope_checks import (
    check_bucket_keys,
    check_collations,
    check_grants,
    check_names,
    check_scope,
    refuse_keyless,
    warnings_of,
)
from syncline.model.scope_config import PlanConfig, ScopeConfig, TableConfig, TableRules
from syncline.model.scope_paths import paths_of
from syncline.model.scopes import Path, Plan, QueryReads, Scope, SyncedTable

_T = TypeVar("_T")


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
    check_names(config, schema, paths)
    check_grants(scopes, grant_reads)
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
    check_bucket_keys(scopes, tables)
    check_collations(schema, scopes, paths)
    views = {scope: found.views for scope, found in grant_reads.items() if scope in scopes and found.views}
    return Plan(schema, scopes, tables, reads, tuple(warnings_of(schema, tables)), views)


def _resolve_scope(config: ScopeConfig, schema: Schema) -> tuple[Scope, dict[str, list[Path]]]:
    where = f"[scope.{config.name}]"
    members: dict[str, TableConfig] = {}
    for name, member in config.tables.items():
        members[schema.table(name).name] = member
    root = schema.table(config.root) if config.root else None
    check_scope(config, where)
    for table in (*members, *([root.name] if root else [])):
        refuse_keyless(schema.table(table), where)
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
                f'{where}: "{root.name}" is the root and has a path.', hint="Take the path away.", code="root_path"
            )
        for table in members:
            if table != root.name:
                paths_of(table, root.name, members, schema, config.name, paths, ())
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
