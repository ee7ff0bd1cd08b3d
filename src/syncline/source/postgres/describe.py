"""What `check` tells of a scope: counted on the source as it is, whether capture is installed or not.

It looks at a database that others use, of any size: every statement has a short time, a table of many millions is not
counted at all, and what was not counted is PostgreSQL's own estimate of the whole table, and said to be one.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import asyncpg

from syncline.errors import AuthError, SourceError
from syncline.model.identifiers import quote, quote_list
from syncline.model.scopes import Plan, Scope, SyncedTable, bucket_key
from syncline.source.claims import GrantFailsError
from syncline.source.port import Claims, ExampleDownload, ScopeReport
from syncline.source.postgres.catalogue import queries
from syncline.source.postgres.claims import grant_parameters, granted_in
from syncline.source.postgres.connections import Connections, milliseconds
from syncline.source.postgres.layout import PlanSql, build_plan_sql
from syncline.source.postgres.names import table_sql
from syncline.source.postgres.paths import PathSql, membership_sql
from syncline.source.postgres.rows_sql import image_json
from syncline.source.postgres.types import bind, cast_sql, value_sql
from syncline.values import Value

T = TypeVar("T")
STATEMENT_SECONDS = 5.0
CHECK_SECONDS = 30.0
"""Of all scopes together; what comes later is estimated."""
ROWS_COUNTED_MAX = 3_000_000
"""A scope with a table of more rows is estimated."""
CANDIDATES_MAX = 100
"""So many values of a column are tried for a user whom the grant gives something."""
CANDIDATE_ROWS_MAX = 10_000


async def describe_scopes(connections: Connections, plan: Plan, claims: Claims | None) -> list[ScopeReport]:
    """Without `claims` the example is a user who is found among the rows that the grant reads."""
    describing = _Describing(connections, plan)
    return [await describing.describe(plan.scopes[name], claims) for name in plan.scopes]


class _TooLongError(Exception):
    """A statement's time, or that of all of them, ran out."""


class _Describing:
    def __init__(self, connections: Connections, plan: Plan) -> None:
        self._connections = connections
        self._plan = plan
        self._sql: PlanSql = build_plan_sql(plan, dict.fromkeys(plan.tables, 1))
        self._ends = time.monotonic() + CHECK_SECONDS

    async def describe(self, scope: Scope, claims: Claims | None) -> ScopeReport:
        if unread := await self._unread(scope):
            return ScopeReport(scope.name, dict.fromkeys(scope.tables, 0), 0, unread=unread)
        sizes = {name: await self._estimate(name) for name in scope.tables}
        tables, buckets, largest = dict(sizes), sizes.get(scope.root or "", 1), None
        warnings: list[str] = []
        estimated: tuple[str, ...] = ()
        try:
            if max(sizes.values(), default=0) > ROWS_COUNTED_MAX:
                raise _TooLongError
            buckets = await self._read(lambda db: _count_buckets(db, self._plan, scope))
            counts, largest = await self._read(lambda db: self._count(db, scope))
            tables = {name: counts.get(index, 0) for index, name in enumerate(scope.tables)}
        except _TooLongError:
            estimated = scope.tables
        except SourceError as error:
            estimated = scope.tables
            warnings.append(f"[scope.{scope.name}] {error}")
        example = None
        if not warnings:
            try:
                example = await self._example(scope, claims)
            except SourceError as error:  # a right that only the grant needs
                warnings.append(f"[scope.{scope.name}] {error}")
        return ScopeReport(
            scope=scope.name,
            tables=tables,
            buckets=buckets,
            largest_bucket=largest[0] if largest else None,
            largest_rows=largest[1] if largest else 0,
            example=example,
            estimated=estimated,
            warnings=tuple(warnings),
        )

    async def _unread(self, scope: Scope) -> tuple[str, ...]:
        names = sorted({*scope.tables, *self._plan.grant_reads.get(scope.name, ())})
        places = [table_sql(self._plan.schema.table(name)) for name in names]
        async with self._connections.snapshot() as db:
            rows = await db.fetch(queries("diagnosis.sql")["rights"], places, ["SELECT"] * len(places))
        lacking = {row["table"] for row in rows}
        return tuple(name for name, place in zip(names, places, strict=True) if place in lacking)

    async def _read(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        seconds = min(STATEMENT_SECONDS, self._ends - time.monotonic())
        if seconds <= 0:
            raise _TooLongError
        try:
            async with self._connections.snapshot(statement_timeout=milliseconds(max(seconds, 0.001))) as db:
                return await work(db)
        except SourceError as error:
            if isinstance(error.__cause__, asyncpg.QueryCanceledError):
                raise _TooLongError from error
            raise

    async def _estimate(self, name: str) -> int:
        """How many rows a table has, as PostgreSQL's statistics say; partitions included. Of a table that was never
        analysed, what fits into its pages."""
        query = (
            "SELECT coalesce(sum(CASE WHEN c.reltuples >= 0 THEN c.reltuples::float8 ELSE "
            "pg_relation_size(c.oid) / 40.0 END), 0)::bigint "
            "FROM pg_class c WHERE c.relkind = 'r' AND (c.oid = to_regclass($1) "
            "OR c.oid IN (SELECT relid FROM pg_partition_tree(to_regclass($1))))"
        )
        place = table_sql(self._plan.schema.table(name))
        async with self._connections.snapshot() as db:
            found = await db.fetchval(query, place)
        return int(found)

    # ------------------------------------------------------------ counting
    async def _count(self, db: asyncpg.Connection, scope: Scope) -> tuple[dict[int, int], tuple[str, int] | None]:
        """Rows per table, by its index, and the largest bucket with its rows."""
        parts = [
            f"SELECT {index} AS number, bucket, count(*) AS n FROM ({self._pairs(scope, name)}) AS p GROUP BY bucket"
            for index, name in enumerate(scope.tables)
        ]
        rows = await db.fetch(
            f"WITH counts AS MATERIALIZED ({' UNION ALL '.join(parts)}) "
            "SELECT number, NULL AS bucket, sum(n)::bigint AS n FROM counts GROUP BY number UNION ALL "
            "(SELECT NULL, bucket, sum(n)::bigint FROM counts GROUP BY bucket ORDER BY 3 DESC, 2 LIMIT 1)"
        )
        largest = next(((row["bucket"], row["n"]) for row in rows if row["number"] is None), None)
        return {row["number"]: row["n"] for row in rows if row["number"] is not None}, largest

    def _paths(self, scope: Scope, name: str) -> list[PathSql]:
        return [path for path in self._sql.tables[name].paths if path.path.scope == scope.name]

    def _pairs(self, scope: Scope, name: str) -> str:
        """Every (key, bucket) of the scope, once."""
        table = self._plan.schema.table(name)
        keys = ", ".join(f"{quote(column)} AS k_{index}" for index, column in enumerate(table.key, 1))
        every = f"(SELECT {keys} FROM {table_sql(table)} AS own)"
        return " UNION ".join(f"({membership_sql(path, every)})" for path in self._paths(scope, name))

    # ------------------------------------------------------------ an example
    async def _example(self, scope: Scope, claims: Claims | None) -> ExampleDownload | None:
        try:
            found = claims if claims is not None else await self._somebody(scope)
            if found is None:
                return None
            held = sorted(await self._granted(scope, found))
            rows = size = 0
            for name in scope.tables if held else ():
                counted, length = await self._read(partial(self._measure, scope, name, held))
                rows, size = rows + counted, size + length
        except (_TooLongError, AuthError):  # or a claim that the grant needs was not said
            return None
        return ExampleDownload(dict(found), len(held), rows, size)

    async def _granted(self, scope: Scope, claims: Claims) -> frozenset[str]:
        return await self._read(lambda db: granted_in(db, self._sql, scope, claims))

    async def _measure(self, scope: Scope, name: str, held: Sequence[str], db: asyncpg.Connection) -> tuple[int, int]:
        """How many rows of a table these buckets hold, and how long their images are."""
        synced = self._plan.tables[name]
        keys, arguments = self._keys_of(scope, synced, held)
        same = " AND ".join(f"t.{quote(column)} = held.k_{index}" for index, column in enumerate(synced.key, 1))
        row = await db.fetchrow(
            f"SELECT count(*), coalesce(sum(octet_length({image_json(synced.table, synced.columns, 't.')})), 0) "
            f"FROM ({keys}) AS held JOIN {table_sql(synced.table)} AS t ON {same}",
            *arguments,
        )
        return int(row[0]), int(row[1])

    def _keys_of(self, scope: Scope, synced: SyncedTable, held: Sequence[str]) -> tuple[str, list[object]]:
        """The keys of the rows that these buckets hold, found from the buckets outward."""
        names = ", ".join(f"k_{index}" for index in range(1, len(synced.key) + 1))
        wanted, arguments = self._roots(scope, synced, held)
        branches = []
        for path in self._paths(scope, synced.name):
            near = f"({path.through(len(path.path.steps), wanted, {})})" if path.path.steps else wanted
            branches.append(f"SELECT {names} FROM ({membership_sql(path, near)}) AS m WHERE bucket = ANY($1::text[])")
        return " UNION ".join(branches), [list(held), *arguments]

    def _roots(self, scope: Scope, synced: SyncedTable, held: Sequence[str]) -> tuple[str, list[object]]:
        """A subquery with the keys of the root's rows that these buckets are of; parameters from $2 on. Without a root
        the keys of all rows of the table."""
        table = self._plan.schema.table(scope.root or synced.name)
        keys = ", ".join(f"own.{quote(column)} AS k_{index}" for index, column in enumerate(table.key, 1))
        if not scope.key:
            return f"(SELECT {keys} FROM {table_sql(table)} AS own)", []
        columns = [table.column(name) for name in scope.key]
        values = list(zip(*(bucket_key(bucket) for bucket in held), strict=True))
        arrays: list[object] = [
            [bind(column, value) for value in each] for column, each in zip(columns, values, strict=True)
        ]
        kinds = ["bytea" if column.kind == "bytes" else "text" for column in columns]
        places = ", ".join(f"${index}::{kind}[]" for index, kind in enumerate(kinds, 2))
        names = ", ".join(f"w_{index}" for index in range(1, len(columns) + 1))
        on = " AND ".join(
            f"own.{quote(column.name)} = {cast_sql(column, f'wanted.w_{index}')}"
            for index, column in enumerate(columns, 1)
        )
        return (
            f"(SELECT {keys} FROM unnest({places}) AS wanted({names}) JOIN {table_sql(table)} AS own ON {on})",
            arrays,
        )

    async def _somebody(self, scope: Scope) -> Claims | None:
        """Claims with which the grant gives something; of those tried the ones with the most. None where it names
        several claims: which of their values belong together cannot be told."""
        if scope.grant is None:
            return {}
        names = list(grant_parameters(scope.grant))
        if len(names) > 1:
            return None
        if not names:
            return {}
        best: tuple[int, Value] = (0, None)
        async for value in self._candidates(scope, names[0]):
            try:
                held = len(await self._granted(scope, {names[0]: value}))
            except (AuthError, GrantFailsError):  # no claim can be like this
                continue
            except _TooLongError:
                break
            if held > best[0]:
                best = (held, value)
        return {names[0]: best[1]} if best[0] else None

    async def _candidates(self, scope: Scope, claim: str) -> AsyncIterator[Value]:
        """Values of the columns that the grant compares with the claim, as far as its text shows them; else of all
        columns of the tables that it reads."""
        compared = re.findall(rf"""["]?([^\s"=.(]+)["]?\s*=\s*:{claim}\b""", scope.grant or "")
        compared += re.findall(rf""":{claim}(?:::[\w ]+)?\s*=\s*(?:[\w"]+\.)?["]?([^\s"()]+)""", scope.grant or "")
        wanted = {name.lower() for name in compared}
        tables = [self._plan.schema.table(name) for name in sorted(self._plan.grant_reads.get(scope.name, ()))]
        columns = [(table, column) for table in tables for column in table.columns]
        for table, column in [pair for pair in columns if pair[1].name.lower() in wanted] or columns:
            query = (
                f"SELECT DISTINCT v FROM (SELECT {value_sql(column, quote(column.name))} AS v FROM {table_sql(table)} "
                f"AS own WHERE {quote(column.name)} IS NOT NULL LIMIT {CANDIDATE_ROWS_MAX}) AS tried "
                f"ORDER BY v LIMIT {CANDIDATES_MAX}"
            )
            for row in await self._read(partial(_fetch, query)):
                yield row[0]


async def _fetch(query: str, db: asyncpg.Connection) -> list[asyncpg.Record]:
    return list(await db.fetch(query))


async def _count_buckets(db: asyncpg.Connection, plan: Plan, scope: Scope) -> int:
    if scope.root is None:
        return 1
    whole = " AND ".join(f"{quote(column)} IS NOT NULL" for column in scope.key)
    keys = quote_list(scope.key)
    table = table_sql(plan.schema.table(scope.root))
    return int(
        await db.fetchval(f"SELECT count(*) FROM (SELECT DISTINCT {keys} FROM {table} AS own WHERE {whole}) AS k")
    )
