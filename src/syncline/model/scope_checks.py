"""What a configuration must not say, beyond what its shape forbids; and what it had better not."""

from __future__ import annotations

from collections.abc import Iterable

from syncline.errors import ConfigError
from syncline.model.identifiers import PREFIX, nearest, quote, quote_list
from syncline.model.schema import Schema, Table
from syncline.model.scope_config import PlanConfig, ScopeConfig
from syncline.model.scopes import Path, QueryReads, Scope, SyncedTable


def check_scope(config: ScopeConfig, where: str) -> None:
    """What is written must be what is done: a grant or a key that nothing reads would open the scope to everybody."""
    if not config.name or "[" in config.name:
        raise ConfigError(f'{where}: a scope\'s name is not empty and has no "[".', code="scope_name")
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


def check_grants(scopes: dict[str, Scope], grant_reads: dict[str, QueryReads]) -> None:
    for name, scope in scopes.items():
        reads = grant_reads.get(name)
        if reads and reads.volatile and scope.refresh_seconds is None:
            raise ConfigError(
                f"[scope.{name}] grant uses {reads.volatile[0]}(), which changes by itself.",
                hint='Say how often to ask again: refresh = "60s".',
                code="grant_volatile",
            )
        if reads and reads.columns not in (None, len(scope.key)):
            key = ", ".join(f'"{column}"' for column in scope.key)
            raise ConfigError(
                f"[scope.{name}] grant answers {_columns(reads.columns)}, and a bucket of it is named by "
                f"{_columns(len(scope.key))} of {scope.root}: {key}.",
                hint=f"SELECT just these: the values of {key}, in this order.",
                code="grant_columns",
            )


def _columns(number: int | None) -> str:
    return "1 column" if number == 1 else f"{number} columns"


def check_bucket_keys(scopes: dict[str, Scope], tables: dict[str, SyncedTable]) -> None:
    """A bucket's name travels to the device, and the values of its key with it."""
    for scope in scopes.values():
        hidden = [column for column in scope.key if scope.root and column not in tables[scope.root].columns]
        if hidden:
            raise ConfigError(
                f'[scope.{scope.name}] key names "{hidden[0]}", which [columns] hides from devices.',
                hint="Buckets are named by it: show the column, or use another key.",
                code="hidden_key",
            )


def refuse_keyless(table: Table, where: str) -> None:
    if table.refusal:
        code = "reserved_name" if table.name.lower().startswith(PREFIX) else "no_key"
        raise ConfigError(f'{where}: table "{table.name}" cannot sync: {table.refusal}', hint=table.remedy, code=code)


def check_collations(schema: Schema, scopes: dict[str, Scope], paths: dict[str, list[Path]]) -> None:
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
        if column.inexact:
            raise ConfigError(
                f'[scope.{scope_name}] joins on "{table}"."{name}", which has {column.inexact}.',
                hint="Join on a column of another type.",
                code="join_type",
            )


def check_names(config: PlanConfig, schema: Schema, synced: Iterable[str]) -> None:
    names = set(synced)
    sections = (("columns", (*config.hide, *config.keep)), ("table", config.rules), ("merge", config.merge))
    for section, tables in sections:
        for table in tables:
            if schema.table(table).name not in names:
                hint = (nearest(table, names) or " Add it to a scope, or remove the section.").strip()
                message = f'[{section}] names "{table}", which no scope holds.'
                raise ConfigError(message, hint=hint, code="table_not_synced")


def missing_indexes(schema: Schema, tables: dict[str, SyncedTable]) -> list[tuple[str, tuple[str, ...]]]:
    """(table, columns) of joins that every checkpoint would have to scan for."""
    found: dict[tuple[str, tuple[str, ...]], None] = {}
    for table in tables.values():
        for path in table.paths:
            for left, step in zip(path.aliases, path.steps, strict=False):
                for name, columns in ((left, step.columns), (step.table, step.references)):
                    if not schema.table(name).has_index_on(columns):
                        found[name, columns] = None
    return list(found)


def index_statement(table: Table, columns: tuple[str, ...]) -> str:
    """What to type for a join that has no index. Where tables have places writers need not wait for it."""
    if table.place:
        return f"CREATE INDEX CONCURRENTLY ON {'.'.join(map(quote, table.place))}({quote_list(columns)});"
    return f"CREATE INDEX {quote('_'.join((table.name, *columns)))} ON {quote(table.name)}({quote_list(columns)});"


def warnings_of(schema: Schema, tables: dict[str, SyncedTable]) -> list[str]:
    """What works, and will be slow."""
    return [
        f'"{table}" is joined on {", ".join(columns)} without an index: checkpoints will scan it. '
        f"Type: {index_statement(schema.table(table), columns)}"
        for table, columns in missing_indexes(schema, tables)
    ]
