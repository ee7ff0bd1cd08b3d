"""Which tables a gap in capture concerns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from syncline.model.scopes import Plan

Gaps = Mapping[str, str]
"""Table -> the mark left there."""


def raised_by(plan: Plan, tables: Iterable[str]) -> frozenset[str]:
    """The synced tables to be sent anew where changes of `tables` may have been missed: they, and every table whose
    paths run through them, for its rows may have entered or left buckets unseen."""
    lost = frozenset(tables)
    return frozenset(
        name for name, table in plan.tables.items() if any(lost & set(path.aliases) for path in table.paths)
    )


def grant_tables(plan: Plan) -> frozenset[str]:
    """All tables that some grant reads."""
    return frozenset(table for tables in plan.grant_reads.values() for table in tables)
