"""How rows and buckets hang together, for the walks of paged downloads."""

from __future__ import annotations

from syncline.model.scopes import Path, Plan


def leads_there_twice(plan: Plan, path: Path) -> bool:
    """Whether one path may bring a row to a bucket twice: 60 visits at one facility would name it 60 times."""
    return any(not set(plan.tables[step.table].key) <= set(step.references) for step in path.steps)
