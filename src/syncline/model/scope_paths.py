"""From the links that a person wrote to the paths from each table to its scope's root."""

from __future__ import annotations

from syncline.errors import ConfigError
from syncline.model.identifiers import nearest
from syncline.model.schema import Schema, Table
from syncline.model.scope_config import LinkConfig, TableConfig
from syncline.model.scopes import Path, Step


def paths_of(
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
    if table in walked[-1:]:
        raise ConfigError(
            f"{where}: it cannot be its own parent: a path has a fixed number of steps, and a tree any number.",
            hint='Join all rows to one above them by a column that each has: parent = "…", on = { … = "…" }.',
            code="path_circle",
        )
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
        step = step_of(schema.table(table), link, schema, where)
        for rest in paths_of(step.table, root, members, schema, scope, paths, (*walked, table)):
            path = Path(scope, table, (step, *rest.steps))
            if path not in found:
                found.append(path)
    paths[table] = found
    return found


def step_of(table: Table, link: LinkConfig, schema: Schema, where: str) -> Step:
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
