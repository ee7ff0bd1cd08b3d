"""What `check` tells of a scope: counted on the source as it is, whether capture is installed or not."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator

from syncline.errors import AuthError
from syncline.model.identifiers import quote, quote_list
from syncline.model.scopes import Plan, Scope, bucket_name
from syncline.source.port import Claims, ExampleDownload, ScopeReport
from syncline.source.sqlite.affinity import apply_affinity
from syncline.source.sqlite.feed import bind_claims, grant_parameters
from syncline.source.sqlite.paths import snapshot_sql
from syncline.system.database import fetch_all
from syncline.values import Key, Value, encode_row

CANDIDATES_MAX = 100
"""So many values of a column are tried for a user whom the grant gives something."""


def describe_scope(connection: sqlite3.Connection, plan: Plan, name: str, claims: Claims | None) -> ScopeReport:
    """Without `claims` the example is a user who is found among the rows that the grant reads."""
    scope = plan.scopes[name]
    _wish(connection, scope, _all_buckets(connection, scope))
    tables = dict.fromkeys(scope.tables, 0)
    per_bucket: dict[int, int] = {}
    for table in scope.tables:
        query = snapshot_sql(plan, plan.tables[table], frozenset({name}))
        for place, rows in connection.execute(f"SELECT place, count(*) FROM ({query}) GROUP BY place"):
            tables[table] += rows
            per_bucket[place] = per_bucket.get(place, 0) + rows
    (buckets,) = connection.execute("SELECT count(*) FROM temp.syncline_wanted").fetchone()
    largest = max(per_bucket, key=lambda place: per_bucket[place], default=None)
    label = None
    if largest is not None:
        names = ", ".join(_names(scope)) or "NULL"
        key = connection.execute(f"SELECT {names} FROM temp.syncline_wanted WHERE place = ?1", (largest,)).fetchone()
        label = bucket_name(name, tuple(key) if scope.key else ())
    return ScopeReport(
        scope=name,
        tables=tables,
        buckets=buckets,
        largest_bucket=label,
        largest_rows=per_bucket[largest] if largest is not None else 0,
        keyless_rows={table: found for table in scope.tables if (found := _keyless_rows(connection, plan, table))},
        example=_example(connection, plan, scope, claims),
    )


def _names(scope: Scope) -> list[str]:
    return [f"k_{index}" for index in range(1, len(scope.key) + 1)]


def _wish(connection: sqlite3.Connection, scope: Scope, keys: Iterable[Key]) -> None:
    """Fill temp.syncline_wanted, which snapshot queries read."""
    connection.execute("DROP TABLE IF EXISTS temp.syncline_wanted")
    connection.execute(f"CREATE TEMP TABLE syncline_wanted({', '.join(['scope', *_names(scope), 'place'])})")
    connection.executemany(
        f"INSERT INTO temp.syncline_wanted VALUES({', '.join('?' * (len(scope.key) + 2))})",
        ((scope.name, *key, place) for place, key in enumerate(keys)),
    )


def _all_buckets(connection: sqlite3.Connection, scope: Scope) -> list[Key]:
    if scope.root is None:
        return [()]
    columns = quote_list(scope.key)
    whole = " AND ".join(f"{quote(column)} IS NOT NULL" for column in scope.key)
    return fetch_all(connection, f"SELECT DISTINCT {columns} FROM {quote(scope.root)} WHERE {whole}")


def _keyless_rows(connection: sqlite3.Connection, plan: Plan, table: str) -> int:
    """Rows that no device can hold, because their key holds NULL."""
    empty = " OR ".join(f"{quote(column)} IS NULL" for column in plan.schema.table(table).nullable_key)
    if not empty:
        return 0
    return int(connection.execute(f"SELECT count(*) FROM {quote(table)} WHERE {empty}").fetchone()[0])


# ---------------------------------------------------------------- an example
def _example(connection: sqlite3.Connection, plan: Plan, scope: Scope, claims: Claims | None) -> ExampleDownload | None:
    found = claims if claims is not None else _somebody(connection, plan, scope)
    if found is None:
        return None
    try:
        keys = _granted(connection, plan, scope, found)
    except AuthError:  # a claim that the grant needs was not said
        return None
    _wish(connection, scope, keys)
    rows = size = 0
    for table in scope.tables:
        synced = plan.tables[table]
        query = snapshot_sql(plan, synced, frozenset({scope.name}))
        seen: Key | None = None
        for _, *values in fetch_all(connection, query or ""):
            key = tuple(values[: len(synced.key)])
            if key != seen:
                seen, rows, size = key, rows + 1, size + len(encode_row(values[len(synced.key) :]).encode())
    return ExampleDownload(dict(found), len(keys), rows, size)


def _granted(connection: sqlite3.Connection, plan: Plan, scope: Scope, claims: Claims) -> list[Key]:
    if scope.grant is None:
        return [()]
    types = [plan.schema.table(scope.root or "").column(column).type for column in scope.key]
    rows = fetch_all(connection, scope.grant, bind_claims(scope.grant, claims, scope.name))
    keys = [tuple(apply_affinity(value, kind) for value, kind in zip(row, types, strict=True)) for row in rows]
    return list(dict.fromkeys(key for key in keys if None not in key))


def _somebody(connection: sqlite3.Connection, plan: Plan, scope: Scope) -> Claims | None:
    """Claims with which the grant gives something; of those tried the ones with the most. None where it names several
    claims: which of their values belong together cannot be told."""
    if scope.grant is None:
        return {}
    names = grant_parameters(scope.grant)
    if len(names) > 1:
        return None
    if not names:
        return {}
    best: tuple[int, Value] = (0, None)
    for value in _candidates(connection, plan, scope, names[0]):
        held = len(_granted(connection, plan, scope, {names[0]: value}))
        if held > best[0]:
            best = (held, value)
    return {names[0]: best[1]} if best[0] else None


def _candidates(connection: sqlite3.Connection, plan: Plan, scope: Scope, claim: str) -> Iterator[Value]:
    """Values of the columns that the grant compares with the claim, as far as its text shows them; else of all columns
    of the tables that it reads."""
    compared = re.findall(rf"""["`\[]?([^\s"`\]=.(]+)["`\]]?\s*=\s*:{claim}\b""", scope.grant or "")
    compared += re.findall(rf""":{claim}\s*=\s*(?:[\w"]+\.)?["`\[]?([^\s"`\])]+)""", scope.grant or "")
    wanted = {name.lower() for name in compared}
    tables = [plan.schema.table(name) for name in sorted(plan.grant_reads.get(scope.name, ()))]
    columns = [(table.name, column) for table in tables for column in table.column_names]
    for table, column in [pair for pair in columns if pair[1].lower() in wanted] or columns:
        query = f"SELECT DISTINCT {quote(column)} FROM {quote(table)} LIMIT {CANDIDATES_MAX}"
        yield from (row[0] for row in fetch_all(connection, query) if row[0] is not None)
