"""From a configuration in code to a plan on a live database."""

from __future__ import annotations

from syncline.model.resolving import resolve
from syncline.model.scopes import Plan, PlanConfig
from syncline.source.port import Source


async def plan_for(source: Source, config: PlanConfig) -> Plan:
    """Resolve a configuration against a live database."""
    grants = {scope.name: await source.reads_of_query(scope.grant) for scope in config.scopes if scope.grant}
    filters = {
        (table, member.where): await source.reads_of_filter(table, member.where)
        for scope in config.scopes
        for table, member in scope.tables.items()
        if member.where
    }
    return resolve(config, await source.introspect(), grants, filters)
