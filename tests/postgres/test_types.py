"""Every value of every type reaches a replica as docs/types.md says, and comes back as the same value."""

from __future__ import annotations

import asyncio
import json
import math
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.postgres.torture import CASES, Case, features, is_possible, unusual_settings

from syncline.model.schema import Column
from syncline.source.postgres import types
from syncline.source.postgres.connections import Connections
from syncline.source.postgres.introspect import introspect
from syncline.source.postgres.rows_sql import image_json, values_list
from syncline.values import Value, decode_row, decode_value, encode_row, same

T = TypeVar("T")


def with_source(url: str, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    async def run() -> T:
        connections = Connections(url)
        try:
            async with connections.transaction() as db:
                return await work(db)
        finally:
            await connections.close()

    return asyncio.run(run())


def make_tables(host: Any, cases: Iterable[Case]) -> None:
    for case in cases:
        for statement in case.statements:
            host.execute(statement)
        host.execute(f"CREATE TABLE back_{case.name} (LIKE {case.table})")
    for statement in unusual_settings(host.name):
        host.execute(statement)


def on_a_replica(column: Column, value: Value) -> Value:
    with sqlite3.connect(":memory:") as db:
        db.execute(f"CREATE TABLE t (v {column.local_type})")
        db.execute("INSERT INTO t VALUES (?)", (value,))
        (found,) = db.execute("SELECT v FROM t").fetchone()
    db.close()
    return found


async def mistakes_of(db: asyncpg.Connection, case: Case) -> list[str]:
    """What is not as it should be, value by value: source, JSON, replica, and back."""
    column = (await introspect(db)).table(case.table).column("v")
    mend = types.value_of(column) or (lambda value: value)
    rows = await db.fetch(
        f"SELECT id, {types.value_sql(column, 't.v')} AS v, {types.json_sql(column, 't.v')} AS j "
        f"FROM {case.table} AS t ORDER BY id"
    )
    found = [] if len(rows) == len(case.values) + 1 else ["rows are missing"]
    for row in rows:
        value = mend(row["v"])
        kept = on_a_replica(column, value)
        if not same(value, decode_value(json.loads(row["j"]))):
            found.append(f"{case.name}: JSON {row['j'][:80]} is not {value!r:.80}")
        if not isinstance(value, float) and encode_row([value]) != f"[{row['j']}]":
            found.append(f"{case.name}: JSON {row['j'][:80]} is not canonical")
        if not same(value, kept):
            found.append(f"{case.name}: a replica makes {kept!r:.80} of {value!r:.80}")
        foreseen = types.canonical(column, kept)
        if foreseen is not types.UNKNOWN and not same(foreseen, value):
            found.append(f"{case.name}: {foreseen!r:.80} is foreseen, {value!r:.80} comes")
        await db.execute(
            f"INSERT INTO back_{case.name} VALUES ($1, {types.cast_sql(column, '$2')})",
            row["id"],
            types.bind(column, kept),
        )
    changed = await db.fetch(
        f"SELECT id, a.v::text AS was, b.v::text AS now FROM {case.table} a LEFT JOIN back_{case.name} b USING (id) "
        f"WHERE NOT coalesce(record_image_eq(ROW(a.v), ROW(b.v)), false)"
    )
    return found + [
        f"{case.name}: {row['was'][:80]} came back as {row['now']!s:.80}" for row in changed if case.writable
    ]


def test_every_value_of_every_type_goes_to_a_replica_and_back_unchanged(postgres: Any) -> None:
    version = postgres.host.info.server_version // 10_000
    cases = [case for case in CASES if case.needs in ("",) or (case.needs.isdigit() and version >= int(case.needs))]
    make_tables(postgres, cases)

    async def check(db: asyncpg.Connection) -> list[str]:
        return [mistake for case in cases for mistake in await mistakes_of(db, case)]

    assert with_source(postgres.url, check) == []


@pytest.mark.parametrize("case", [case for case in CASES if case.needs], ids=lambda case: case.name)
def test_types_that_not_every_server_has(postgres: Any, case: Case) -> None:
    version = postgres.host.info.server_version // 10_000
    if not is_possible(case, features(postgres), version):
        pytest.skip(f"PostgreSQL {version} here has no {case.needs}")
    make_tables(postgres, [case])
    assert with_source(postgres.url, lambda db: mistakes_of(db, case)) == []


def test_a_database_in_latin1_gives_and_takes_its_characters(make_postgres: Any) -> None:
    host = make_postgres(encoding="LATIN1", locale="C")
    host.execute("CREATE TABLE notes (id integer PRIMARY KEY, v text)")
    host.execute("INSERT INTO notes SELECT 1, string_agg(chr(n), '') FROM generate_series(1, 255) AS n")

    async def check(db: asyncpg.Connection) -> Value:
        table = (await introspect(db)).table("notes")
        column = table.column("v")
        (row,) = await db.fetch(
            f"SELECT {values_list(table, ['v'])} AS v, {image_json(table, ['id', 'v'])} AS j FROM notes"
        )
        assert row["j"] == encode_row([1, row["v"]])
        back = f"SELECT v = {types.cast_sql(column, '$1')} FROM notes"
        assert await db.fetchval(back, types.bind(column, row["v"]))
        return row["v"]

    assert with_source(host.url, check) == "".join(map(chr, range(1, 256)))


def test_a_row_of_1600_columns_is_one_image(postgres: Any) -> None:
    columns = ", ".join(f"c{number} smallint" for number in range(1599))
    postgres.execute(f"CREATE TABLE wide (id integer PRIMARY KEY, {columns})")
    postgres.execute("INSERT INTO wide (id, c0, c1598) VALUES (1, 2, 3)")

    async def check(db: asyncpg.Connection) -> tuple[Value, ...]:
        table = (await introspect(db)).table("wide")
        return decode_row(json.loads(await db.fetchval(f"SELECT {image_json(table, table.column_names)} FROM wide")))

    image = with_source(postgres.url, check)
    assert len(image) == 1600 and (image[0], image[1], image[-1]) == (1, 2, 3)


# ---------------------------------------------------------------- any value
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner)
)
MOMENTS = st.datetimes().map(lambda moment: f"{moment.year:04d}-{moment:%m-%d %H:%M:%S.%f}")
ANY_VALUES: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "bigint": ("bigint", st.integers(-(2**63), 2**63 - 1)),
    "double": ("double precision", st.floats(allow_nan=False).map(lambda number: number + 0.0)),
    "real": ("real", st.floats(width=32, allow_nan=False)),
    "numeric": ("numeric", st.decimals(allow_nan=False, allow_infinity=False, places=8).map(lambda number: f"{number:f}")),
    "text": ("text", TEXT),
    "bytea": ("bytea", st.binary()),
    "timestamp": ("timestamp", MOMENTS),
    "instant": ("timestamptz", MOMENTS),
    "date": ("date", st.dates().map(str)),
    "time": ("time", st.times().map(lambda time: f"{time:%H:%M:%S.%f}")),
    "uuid": ("uuid", st.uuids().map(str)),
    "json": ("json", JSON.map(lambda value: json.dumps(value, ensure_ascii=False))),
    "texts": ("text[]", st.lists(TEXT | st.none()).map(lambda parts: json.dumps(parts, ensure_ascii=False, separators=(",", ":")))),
    "bigints": ("bigint[]", st.lists(st.integers(-(2**63), 2**63 - 1)).map(lambda parts: json.dumps(parts, separators=(",", ":")))),
}  # fmt: skip


@pytest.mark.parametrize("name", ANY_VALUES)
def test_any_value_written_is_the_value_read(postgres: Any, name: str) -> None:
    declared, strategy = ANY_VALUES[name]
    postgres.execute(f"CREATE TABLE t (id integer PRIMARY KEY, v {declared})")

    async def check(db: asyncpg.Connection, column: Column, values: list[Value]) -> None:
        await db.execute("TRUNCATE t")
        for number, value in enumerate(values):
            sql = f"INSERT INTO t VALUES ($1, {types.cast_sql(column, '$2')})"
            await db.execute(sql, number, types.bind(column, value))
        rows = await db.fetch(
            f"SELECT {types.value_sql(column, 'v')} AS v, {types.json_sql(column, 'v')} AS j FROM t ORDER BY id"
        )
        for row, value in zip(rows, values, strict=True):
            assert same(decode_value(json.loads(row["j"])), row["v"])
            foreseen = types.canonical(column, value)
            if foreseen is not types.UNKNOWN:
                assert same(foreseen, row["v"])
            if name == "real":
                assert math.isclose(row["v"], value, rel_tol=1e-6, abs_tol=1e-45)
            else:
                assert same(row["v"], value)

    with asyncio.Runner() as runner:
        connections = Connections(postgres.url)

        async def opened(values: list[Value]) -> None:
            async with connections.transaction() as db:
                column = (await introspect(db)).table("t").column("v")
                await check(db, column, values)

        @settings(max_examples=20, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(strategy, max_size=10))
        def run(values: list[Value]) -> None:
            runner.run(opened(values))

        try:
            run()
        finally:
            runner.run(connections.close())
