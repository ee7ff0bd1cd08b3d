"""A plan with all the SQL that serving it needs, built once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from syncline.model.identifiers import quote, quote_list
from syncline.model.scopes import Plan, SyncedTable
from syncline.source.sqlite.capture import Capture, captures
from syncline.source.sqlite.paths import PathBuilder, PathSql, affected_table
from syncline.source.sqlite.upload_sql import UploadSql, build_upload_sql

GRANT_PREFIX = "grant:"
"""Of the names in syncline_meta that tell at which checkpoint a table that grants read was last touched."""


@dataclass(frozen=True)
class TableSql:
    """One synced table: its capture, its paths, and the statement that reads the affected rows' images."""

    synced: SyncedTable
    capture: Capture
    layout: int
    paths: tuple[PathSql, ...]
    images: str
    path_tables: frozenset[str]

    @cached_property
    def upload(self) -> UploadSql:
        return build_upload_sql(self.synced, self.capture)


@dataclass(frozen=True)
class PlanSql:
    """`waiting` tells for every captured table, in order, whether its changelog holds anything; `grants_at`, of each
    that grants read, the newest line there, and is empty where grants read none."""

    plan: Plan
    captures: dict[str, Capture]
    tables: dict[str, TableSql]
    waiting: str
    grants_at: str
    grant_scopes: dict[str, frozenset[str]]


def build_plan_sql(plan: Plan, layouts: dict[str, int]) -> PlanSql:
    """`layouts`: table -> number of the layout that its present visible columns have."""
    found = captures(plan)
    builder = PathBuilder(plan)
    tables = {}
    for name, synced in plan.tables.items():
        capture = found[name]
        keys = " AND ".join(
            f"t.{quote(column)} = a.{key}" for key, column in zip(capture.key_columns, synced.key, strict=True)
        )
        tables[name] = TableSql(
            synced=synced,
            capture=capture,
            layout=layouts[name],
            paths=tuple(builder.build(synced)),
            images=(
                f"SELECT {', '.join('a.' + key for key in capture.key_columns)}, {quote_list(synced.columns, 't.')} "
                f"FROM {affected_table(name)} AS a CROSS JOIN {quote(name)} AS t WHERE {keys}"
            ),
            path_tables=frozenset(alias for path in synced.paths for alias in path.aliases),
        )
    waiting = ", ".join(f"EXISTS(SELECT 1 FROM {capture.changelog})" for capture in found.values())
    grants: dict[str, set[str]] = {}
    for scope, read in plan.grant_reads.items():
        for table in read:
            grants.setdefault(table, set()).add(scope)
    newest = ", ".join(f"(SELECT max(id) FROM {found[table].changelog})" for table in sorted(grants))
    return PlanSql(
        plan=plan,
        captures=found,
        tables=tables,
        waiting=f"SELECT {waiting or '0'}",
        grants_at=f"SELECT {newest}" if newest else "",
        grant_scopes={table: frozenset(scopes) for table, scopes in grants.items()},
    )
