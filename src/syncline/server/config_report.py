"""What `syncline check` finds out, as one document. It reads the source and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from syncline.errors import ConfigError, SynclineError
from syncline.model.scopes import Plan
from syncline.server.config_plan import load_plan
from syncline.server.config_settings import Settings, problems_of
from syncline.server.starter import refusals
from syncline.source.port import ScopeReport, Source


@dataclass
class CheckReport:
    """`error` is None if the configuration fits the database; `changes` is what provisioning would do now."""

    source: str = ""
    scopes: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    refused_tables: list[dict[str, str]] = field(default_factory=list)
    unsynced_tables: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    error: SynclineError | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": self.error is None,
            "source": self.source,
            "scopes": self.scopes,
            "warnings": self.warnings,
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


async def check_source(settings: Settings, source: Source) -> CheckReport:
    """Hold the settings against the database; what is wrong stands in `error`, not raised."""
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
        report.scopes = [_scope(plan, found) for found in await source.describe_scopes(plan)]
        report.changes = list(await source.pending_provision(plan))
    except SynclineError as error:
        report.error = error
    return report


def _scope(plan: Plan, found: ScopeReport) -> dict[str, Any]:
    scope = plan.scopes[found.scope]
    return {
        "scope": found.scope,
        "root": scope.root,
        "key": list(scope.key),
        "grant_reads": sorted(plan.grant_reads.get(found.scope, ())),
        "tables": found.tables,
        "read_only": sorted(table for table in scope.tables if table not in scope.writable),
        "rows": sum(found.tables.values()),
        "buckets": found.buckets,
        "largest_bucket": found.largest_bucket,
        "largest_rows": found.largest_rows,
    }
