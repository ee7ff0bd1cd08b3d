"""Guesses that `syncline init` proposes: which table is the root, how others hang on it, who may see what.

Everything here only looks at names, keys and foreign keys; a person checks the result.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from syncline.model.schema import Schema, Table

_PEOPLE = re.compile(
    r"user|employee|staff|caregiver|nurse|carer|provider|practitioner|clinician|doctor|agent|technician|worker|driver"
    r"|member|person|people|rep$|representative|inspector|officer|operator|account$|accounts$"
)


@dataclass(frozen=True)
class Join:
    """`columns` of `child` equal `references` of `parent`. `declared`: by a foreign key, else guessed from names."""

    child: str
    columns: tuple[str, ...]
    parent: str
    references: tuple[str, ...]
    declared: bool = True


@dataclass(frozen=True)
class Guess:
    """A proposal. `members`: child -> its ways to tables nearer to the root, best first; `grant` as `_grant` says."""

    root: str
    members: dict[str, tuple[Join, ...]]
    upward: tuple[Join, ...]
    others: tuple[str, ...]
    grant: tuple[str, Join, Join | None] | None = None


def usable_tables(schema: Schema) -> dict[str, Table]:
    return {name: table for name, table in sorted(schema.tables.items()) if not table.refusal}


def find_joins(schema: Schema) -> list[Join]:
    """Declared foreign keys, and for columns without one those whose name is a table's name (`PATIENT` -> patients)."""
    tables = usable_tables(schema)
    joins: list[Join] = []
    for table in tables.values():
        taken: set[str] = set()
        for key in sorted(table.foreign_keys, key=lambda key: table.column_names.index(key.columns[0])):
            taken.update(key.columns)
            if key.table in tables and key.table != table.name:
                joins.append(Join(table.name, key.columns, key.table, key.references))
        joins.extend(_joins_by_name(table, tables, taken))
    return joins


def _joins_by_name(table: Table, tables: dict[str, Table], taken: set[str]) -> Iterator[Join]:
    by_name = {form: other for other in tables.values() for form in _forms(other.name)}
    for column in table.column_names:
        other = by_name.get(re.sub(r"(_id|id|_no|_key)$", "", column.lower()).rstrip("_"))
        if other and other is not table and column not in taken and len(other.key) == 1:
            yield Join(table.name, (column,), other.name, other.key, declared=False)


def _forms(name: str) -> tuple[str, ...]:
    """A table's name as columns use it: patients -> patient, countries -> country."""
    name = name.lower()
    singular = name[:-3] + "y" if name.endswith("ies") else name[:-1] if name.endswith("s") else name
    return (name, singular)


def guess(schema: Schema) -> Guess | None:
    """The proposal, or None if no table refers to another."""
    joins = find_joins(schema)
    parents = sorted({join.parent for join in joins})
    if not parents:
        return None
    root = max(parents, key=lambda name: (_fitness(name, joins, schema), -parents.index(name)))
    members = _members(root, joins)
    inside = {root, *members}
    upward = tuple(
        join
        for number, join in enumerate(joins)
        if join.child in inside
        and join.parent not in inside
        and not any(join.parent == earlier.parent and earlier.child in inside for earlier in joins[:number])
    )
    others = tuple(name for name in usable_tables(schema) if name not in inside)
    return Guess(root, members, upward, others, _grant(root, joins, schema))


def _fitness(name: str, joins: list[Join], schema: Schema) -> tuple[bool, int, int]:
    """A root is what users are granted and what much hangs on; the users themselves are not."""
    direct = {join.child for join in joins if join.parent == name}
    granted = not is_people(name) and _grant(name, joins, schema) is not None
    return (granted, len(direct) if not is_people(name) else 0, len(_members(name, joins)))


def is_people(name: str) -> bool:
    return _PEOPLE.search(name.lower()) is not None


def _members(root: str, joins: list[Join]) -> dict[str, tuple[Join, ...]]:
    """What hangs on the root, nearest first. A way leads only to a table found before: no circle can arise."""
    order = [root]
    found: dict[str, tuple[Join, ...]] = {}
    for parent in order:
        for child in sorted({join.child for join in joins if join.parent == parent}):
            if child not in order:
                order.append(child)
    for number, child in enumerate(order[1:], 1):
        ways = [join for join in joins if join.child == child and join.parent in order[:number]]
        found[child] = tuple(sorted(ways, key=lambda join: (order.index(join.parent), not join.declared)))
    return found


def _grant(root: str, joins: list[Join], schema: Schema) -> tuple[str, Join, Join | None] | None:
    """(table, join to people, join to root): the root with a person's column, or a table that names both."""
    to_people = [join for join in joins if is_people(join.parent) and len(join.columns) == 1]
    to_root = [join for join in joins if join.parent == root and join.references == schema.table(root).key]
    if is_people(root):
        return None
    for person in (join for join in to_people if join.child == root):
        return (root, person, None)
    pairs = [(person, way) for person in to_people for way in to_root if way.child == person.child]
    small = sorted(pairs, key=lambda pair: (len(schema.table(pair[0].child).columns), pair[0].child))
    return (small[0][0].child, small[0][0], small[0][1]) if small else None
