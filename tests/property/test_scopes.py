"""Bucket names for any key, and capture for any scope."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.test_values import exact, values

from syncline.errors import ProtocolError
from syncline.model import resolving, scopes
from syncline.model.schema import Column, Schema, Table
from syncline.model.scopes import LinkConfig, PlanConfig, QueryReads, ScopeConfig, TableConfig
from syncline.values import Value

QUICK = settings(deadline=None, max_examples=200)

scope_names = st.text(min_size=1).filter(lambda name: "[" not in name)
keys = st.lists(values, max_size=4).map(tuple)


@QUICK
@given(scope_names, keys)
def test_a_bucket_name_is_read_as_it_was_written(scope: str, key: tuple[Value, ...]) -> None:
    """P16."""
    name = scopes.bucket_name(scope, key)
    assert scopes.bucket_scope(name) == scope
    assert [exact(value) for value in scopes.bucket_key(name)] == [exact(value) for value in key]


@QUICK
@given(scope_names, keys, scope_names, keys)
def test_two_buckets_have_two_names(
    scope: str, key: tuple[Value, ...], other: str, other_key: tuple[Value, ...]
) -> None:
    """P8."""
    one = (scope, [exact(value) for value in key]) == (other, [exact(value) for value in other_key])
    assert (scopes.bucket_name(scope, key) == scopes.bucket_name(other, other_key)) == one


@QUICK
@given(st.text() | st.text('c["],1', max_size=12))
def test_any_text_is_a_bucket_name_or_a_protocol_error(name: str) -> None:
    """P19."""
    try:
        scopes.bucket_key(name)
    except ProtocolError:
        pass


COLUMNS = ("id", "a", "b", "c", "d")


@st.composite
def forests(draw: st.DrawFn) -> tuple[int, dict[str, list[LinkConfig]], dict[str, set[str]]]:
    """Tables t1 … tn, each linked to some of t0 … before it, and the columns that their filters read."""
    count = draw(st.integers(1, 5))
    column = st.sampled_from(COLUMNS)
    links: dict[str, list[LinkConfig]] = {}
    for number in range(1, count):
        parents = draw(st.lists(st.integers(0, number - 1), min_size=1, max_size=3))
        links[f"t{number}"] = [
            draw(
                st.builds(
                    LinkConfig, parent=st.just(f"t{parent}"), on=st.dictionaries(column, column, min_size=1, max_size=2)
                )
            )
            for parent in parents
        ]
    filters = draw(st.dictionaries(st.sampled_from([f"t{number}" for number in range(count)]), st.sets(column)))
    return count, links, filters


def brute_paths(table: str, links: dict[str, list[LinkConfig]]) -> list[list[tuple[str, str, dict[str, str]]]]:
    """Every walk to t0, as (table, parent, on)."""
    if table == "t0":
        return [[]]
    return [
        [(table, link.parent or "", link.on or {}), *rest]
        for link in links[table]
        for rest in brute_paths(link.parent or "", links)
    ]


@QUICK
@given(forests(), st.permutations(range(1, 5)))
def test_every_walk_to_the_root_is_a_path_and_all_it_joins_on_is_captured(
    forest: tuple[int, dict[str, list[LinkConfig]], dict[str, set[str]]], order: list[int]
) -> None:
    """P8, P9: in whatever order the tables are written down."""
    count, links, filters = forest
    schema = Schema({f"t{n}": Table(f"t{n}", tuple(Column(c, "TEXT") for c in COLUMNS), ("id",)) for n in range(count)})
    tables = {
        f"t{n}": TableConfig(tuple(links[f"t{n}"]), "f" if f"t{n}" in filters else None) for n in order if n < count
    }
    config = ScopeConfig("s", tables, root="t0", grant="…", key=("d",), where="f" if "t0" in filters else None)
    reads = {(table, "f"): QueryReads({table: frozenset(columns)}) for table, columns in filters.items()}
    plan = resolving.resolve(PlanConfig((config,)), schema, {}, reads)

    needed = {f"t{n}": set(filters.get(f"t{n}", ())) for n in range(count)}
    needed["t0"].add("d")
    for table in needed:
        walks = brute_paths(table, links)
        found = {
            tuple(
                (left, step.table, tuple(zip(step.columns, step.references, strict=True)))
                for left, step in zip(path.aliases, path.steps, strict=False)
            )
            for path in plan.tables[table].paths
        }
        assert found == {tuple((left, right, tuple(on.items())) for left, right, on in walk) for walk in walks}
        assert len(found) == len(plan.tables[table].paths)
        for walk in walks:
            for left, right, on in walk:
                needed[left] |= set(on)
                needed[right] |= set(on.values())
    for table, columns in needed.items():
        assert plan.tables[table].captured == tuple(c for c in COLUMNS if c in columns and c != "id")
