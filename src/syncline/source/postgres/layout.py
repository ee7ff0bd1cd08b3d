"""A plan with all the SQL that serving it needs, built once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from syncline.model.scopes import Plan, SyncedTable
from syncline.source.postgres.capture import Capture, captures
from syncline.source.postgres.listings import Jobs
from syncline.source.postgres.paths import PathSql
from syncline.source.postgres.upload_sql import UploadSql

if TYPE_CHECKING:
    from syncline.source.postgres.claims import Grant


@dataclass(frozen=True)
class TableSql:
    """One synced table. `path_tables`: all tables that its paths run through, itself among them."""

    synced: SyncedTable
    capture: Capture
    layout: int
    paths: tuple[PathSql, ...]
    path_tables: frozenset[str]

    @cached_property
    def upload(self) -> UploadSql:
        return UploadSql(self.synced, self.capture, self.paths)


@dataclass(frozen=True)
class PlanSql:
    """`grant_scopes`: of every table that grants read, the scopes whose grants do. `grants`: what PostgreSQL makes of
    the grants, by scope, kept by `claims` once it has asked; `jobs`: what the pages of downloads keep between them."""

    plan: Plan
    captures: dict[str, Capture]
    tables: dict[str, TableSql]
    grant_scopes: dict[str, frozenset[str]]
    grants: dict[str, Grant] = field(default_factory=dict, compare=False)
    jobs: Jobs = field(default_factory=Jobs, compare=False)

    @cached_property
    def grants_at(self) -> str:
        """A query for the newest change that this transaction has made to each table that grants read; empty where
        they read none."""
        newest = [
            f"(SELECT max(id) FROM {self.captures[table].changelog} "
            "WHERE txid = pg_current_xact_id_if_assigned() AND op <> 'T')"
            for table in sorted(self.grant_scopes)
        ]
        return f"SELECT ARRAY[{', '.join(newest)}]::bigint[]" if newest else ""


def build_plan_sql(plan: Plan, layouts: dict[str, int]) -> PlanSql:
    """`layouts`: table -> number of the layout that its present visible columns have."""
    found = captures(plan)
    tables = {
        name: TableSql(
            synced=synced,
            capture=found[name],
            layout=layouts[name],
            paths=tuple(PathSql(path, plan) for path in synced.paths),
            path_tables=frozenset(alias for path in synced.paths for alias in path.aliases),
        )
        for name, synced in plan.tables.items()
    }
    grants: dict[str, set[str]] = {}
    for scope, read in plan.grant_reads.items():
        for table in read:
            grants.setdefault(table, set()).add(scope)
    return PlanSql(plan, found, tables, {table: frozenset(scopes) for table, scopes in grants.items()})
