"""What `syncline check` finds out, as one document. It reads the source and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from syncline.errors import ConfigError, SynclineError
from syncline.model.new_keys import remark_on_keys
from syncline.model.scope_checks import index_statement, missing_indexes
from syncline.model.scopes import Plan
from syncline.server.config_plan import load_plan
from syncline.server.config_settings import Settings, problems_of
from syncline.server.starter import refusals
from syncline.source.port import Claims, ScopeReport, Source


@dataclass
class CheckReport:
    """`error` is None if the configuration fits the database; `changes` is what provisioning would do now."""

    source: str = ""
    scopes: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    refused_tables: list[dict[str, str]] = field(default_factory=list)
    unsynced_tables: list[str] = field(default_factory=list)
    missing_indexes: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    error: SynclineError | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": self.error is None,
            "source": self.source,
            "scopes": self.scopes,
            "warnings": self.warnings,
            "missing_indexes": self.missing_indexes,
            "notes": self.notes,
            "refused_tables": self.refused_tables,
            "unsynced_tables": self.unsynced_tables,
            "provisioned": self.error is None and not self.changes,
            "changes": self.changes,
            "errors": errors_as_json(self.error),
        }


def errors_as_json(error: SynclineError | None) -> list[dict[str, str]]:
    """`[{"message", "hint", "code"}]`: each mistake of a configuration by itself."""
    if error is None:
        return []
    problems = problems_of(error) if isinstance(error, ConfigError) else (error,)
    return [{"message": problem.message, "hint": problem.hint, "code": problem.error_code} for problem in problems]


async def check_source(settings: Settings, source: Source, claims: Claims | None = None) -> CheckReport:
    """Hold the settings against the database; what is wrong stands in `error`, not raised. The example downloads are
    those of the user with these claims, or of one that is found per scope."""
    report = CheckReport(source=settings.source_label)
    try:
        schema = await source.introspect()
        report.refused_tables = refusals(schema)
        plan = await load_plan(settings, source)
        report.unsynced_tables = sorted(
            name for name, table in schema.tables.items() if name not in plan.captured_tables and not table.refusal
        )
        report.warnings = list(plan.warnings)
        if settings.auth.secret is None:
            report.warnings.append("There is no [auth] secret: syncline serve and syncline token need one.")
        found = await source.describe_scopes(plan, claims)
        report.scopes = [_scope(plan, each) for each in found]
        report.warnings += [text for each in found for text in (*_keyless(each), *each.warnings)]
        report.missing_indexes = [
            {"table": table, "columns": list(columns), "statement": index_statement(schema.table(table), columns)}
            for table, columns in missing_indexes(schema, plan.tables)
        ]
        report.notes = list(_notes(plan, source.kind))
        report.changes = list(await source.pending_provision(plan))
    except SynclineError as error:
        report.error = error
    return report


def _keyless(found: ScopeReport) -> Iterator[str]:
    for table, rows in found.keyless_rows.items():
        some = "1 row of it has" if rows == 1 else f"{rows:,} rows of it have"
        yield f'[scope.{found.scope}] "{table}": {some} NULL in the key and can sync to nobody.'


def _notes(plan: Plan, kind: str) -> Iterator[str]:
    """What is right as it is, and good to know."""
    writable = {table for scope in plan.scopes.values() for table in scope.writable}
    for name in sorted(writable):
        if remark := remark_on_keys(plan.schema.table(name)):
            yield remark
    if kind == "sqlite" and plan.captured_tables:
        yield (
            "SQLite refuses ALTER TABLE ... DROP COLUMN while a trigger of ours names the column: "
            "run such a migration under: syncline migrate -- COMMAND"
        )


def _joins(plan: Plan, scope: str) -> list[dict[str, Any]]:
    """Per table and path of a scope the joins from the table to the root."""
    found: list[dict[str, Any]] = []
    for name in plan.scopes[scope].tables:
        for path in plan.tables[name].paths:
            if path.scope == scope and path.steps:
                steps = [
                    " and ".join(
                        f"{table}.{own} = {step.table}.{theirs}"
                        for own, theirs in zip(step.columns, step.references, strict=True)
                    )
                    for table, step in zip(path.aliases, path.steps, strict=False)
                ]
                found.append({"table": name, "path": steps})
    return found


def _scope(plan: Plan, found: ScopeReport) -> dict[str, Any]:
    scope = plan.scopes[found.scope]
    return {
        "scope": found.scope,
        "root": scope.root,
        "key": list(scope.key),
        "grant_reads": sorted(plan.grant_reads.get(found.scope, ())),
        "grant_views": list(plan.grant_views.get(found.scope, ())),
        "tables": {name: None if found.unread else rows for name, rows in found.tables.items()},
        "joins": _joins(plan, found.scope),
        "read_only": sorted(table for table in scope.tables if table not in scope.writable),
        "rows": None if found.unread else sum(found.tables.values()),
        "estimated": list(found.estimated),
        "unread": list(found.unread),
        "buckets": None if found.unread else found.buckets,
        "largest_bucket": found.largest_bucket,
        "largest_rows": found.largest_rows,
        "example": asdict(found.example) if found.example else None,
    }
