"""What a grant or a filter reads, as PostgreSQL itself sees it: of a temporary view that is rolled back."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from asyncpg.exceptions import InsufficientPrivilegeError, PostgresError

from syncline.errors import ConfigError
from syncline.model.identifiers import nearest, quote
from syncline.model.scopes import QueryReads
from syncline.source.port import ReadsUnseenError
from syncline.source.postgres import parameters
from syncline.source.postgres.catalogue import queries
from syncline.source.postgres.introspect import local_name
from syncline.source.postgres.names import SCHEMA
from syncline.source.postgres.trees import Tree

_VIEW = ".syncline_reads"
_QUERYS_FAULT = ("0A", "22", "3F", "42", "54", "P0")
"""Classes of SQLSTATE: what is wrong with the query, and not with the database. P0 is what event triggers raise."""
_REFUSED = ("42501", "P0001")
"""Of a CREATE: the role may not, or an event trigger of the company's says no."""
_MISSING = re.compile(r'(relation|column) (?:"([^"]+)"|(\S+)) does not exist')
_UNWATCHED = {"m": "a materialized view", "f": "a foreign table"}
_TABLES = ("r", "p")


async def reads_of_query(db: asyncpg.Connection, query: str, _parameters: object = None) -> QueryReads:
    """Tables, columns, views, volatile functions and the number of columns that it answers; the caller is in a
    transaction. ConfigError if it does not work on this database, would write, or reads what no trigger can watch.
    `:names` are its parameters."""
    inner = query.strip().rstrip(";").rstrip()
    async with _rolled_back(db, query):
        width = await _define_view(db, inner)
        return await _reads(db, inner, width)


async def reads_of_filter(db: asyncpg.Connection, table: str, where: str) -> QueryReads:
    """What a filter reads, also tried in the form in which it will run. ConfigError where it holds a query of its own,
    or what can fail on a value."""
    place = await db.fetchrow(queries("reads.sql")["table_place"], table)
    if place is None:
        raise ConfigError(f'The database has no table "{table}".', code="unknown_table")
    if any(name for _, name in parameters.split(where)):
        raise _failure(where, "a filter has no parameters", "A filter may look at the row alone.")
    source = f"{quote(place['schema'])}.{quote(place['name'])}"
    async with _rolled_back(db, where):
        await _width(db, f"SELECT 1 FROM (SELECT * FROM (SELECT * FROM {source}) AS own) AS own WHERE (\n{where}\n)")
        query = f"SELECT 1 FROM {source} AS own WHERE (\n{where}\n)"
        reads = await _reads(db, query, await _define_view(db, query))
        tree, _ = await _tree(db)
        if tree.has_query_inside:
            raise ConfigError(
                f'The filter of "{table}" holds a query of its own.',
                hint="A filter may look at the row alone.",
                code="filter_query",
            )
        failing = tree.can_fail(await _functions(db, tree), parameters.bare(where))
        read = set().union(*reads.tables.values())
        virtual = [row[0] for row in await db.fetch(queries("reads.sql")["virtual"], source) if row[0] in read]
    if virtual:
        raise ConfigError(
            f'The filter of "{table}" reads "{virtual[0]}", which is not stored, but computed whenever it is read.',
            hint="Compare the columns that it is made from, or have the database store it.",
            code="filter_function",
        )
    if failing:
        raise ConfigError(
            f'The filter of "{table}" uses {failing}, which can fail on a value.',
            hint="Compare columns, or have the database keep the result in a column.",
            code="filter_function",
        )
    return reads


# ---------------------------------------------------------------- the view
@asynccontextmanager
async def _rolled_back(db: asyncpg.Connection, query: str) -> AsyncIterator[None]:
    """What is done inside leaves no trace with the caller; what is wrong with the query is a ConfigError."""
    await db.execute("SAVEPOINT syncline_reads")
    error: PostgresError | None = None
    try:
        yield
    except PostgresError as raised:
        if str(getattr(raised, "sqlstate", ""))[:2] not in _QUERYS_FAULT:
            raise
        error = raised
    finally:
        if not db.is_closed():
            await db.execute("ROLLBACK TO SAVEPOINT syncline_reads; RELEASE SAVEPOINT syncline_reads")
    if error is not None:
        raise _failure(query, *await _explained(db, error)) from error


async def _explained(db: asyncpg.Connection, error: PostgresError) -> tuple[str, str]:
    """(reason, what to do)."""
    reason = str(error.args[0])
    if "multiple commands" in reason:
        return "it can be one statement only", "Leave out what follows the first one."
    if isinstance(error, InsufficientPrivilegeError) and "temporary" in reason:
        return reason, "Grant the service's role TEMPORARY on the database."
    return reason, await _meant(db, reason) or "Try it in the database's own shell."


def _failure(query: str, reason: str, hint: str) -> ConfigError:
    message = f"The query does not work on this database: {reason}. Query: {query}"
    return ConfigError(message, hint=hint, code="query_fails")


async def _define_view(db: asyncpg.Connection, query: str) -> int:
    """The number of columns that it answers."""
    sql, _ = parameters.positional(query)
    prepared = await db.prepare(sql)
    try:
        width = await _width(db, f"SELECT * FROM (\n{sql}\n) AS q")
    except PostgresError as error:
        shows = re.match(r"\W*(show|explain|fetch)\b", query, re.IGNORECASE)
        reason = "it is no SELECT" if shows else "it would write"
        raise _failure(query, reason, "Write a SELECT.") from error
    oids = [kind.oid for kind in prepared.get_parameters()]
    types = [row[0] for row in await db.fetch(queries("reads.sql")["parameter_types"], oids)]
    numbers: dict[str, int] = {}
    nothing = "".join(
        text if name is None else f"CAST(NULL AS {types[numbers.setdefault(name, len(numbers))]})"
        for text, name in parameters.split(query)
    )
    columns = ", ".join(f"c{number}" for number in range(width))
    try:
        await db.execute(
            f"CREATE TEMP VIEW syncline_reads ({columns}) AS SELECT * FROM (\n{nothing}\n) AS q({columns})"
        )
    except PostgresError as error:
        if str(getattr(error, "sqlstate", "")) not in _REFUSED:
            raise
        raise ReadsUnseenError(
            f"What the query reads cannot be seen: no temporary view may be made: {error.args[0]}. Query: {query}",
            hint="Grant the service's role TEMPORARY on the database, or have the event trigger let it pass.",
        ) from error
    return width


async def _width(db: asyncpg.Connection, query: str) -> int:
    return len((await db.prepare(query)).get_attributes())


async def _tree(db: asyncpg.Connection) -> tuple[Tree, dict[int, str]]:
    """The trees of the view and of all views under it, and what those are called."""
    rules = await db.fetch(queries("reads.sql")["rules"])
    names = {rule["oid"]: local_name(rule["schema"], rule["name"], rule["home"]) for rule in rules}
    own = next(oid for oid, name in names.items() if name.endswith(_VIEW) and name.startswith("pg_temp"))
    return Tree(" ".join(rule["tree"] for rule in rules)), {own: "", **{o: n for o, n in names.items() if o != own}}


async def _functions(db: asyncpg.Connection, tree: Tree) -> list[Any]:
    return await db.fetch(queries("reads.sql")["functions"], tree.functions, tree.operators)


async def _reads(db: asyncpg.Connection, query: str, width: int) -> QueryReads:
    tree, views = await _tree(db)
    if tree.locks_rows:
        raise _failure(query, "it would lock rows", "Take FOR UPDATE or FOR SHARE away.")
    if tree.reads_catalogue:
        raise _unknown("the catalogue or what extensions bring")
    columns: dict[int, set[str]] = {}
    for row in await db.fetch(queries("reads.sql")["columns"], list(views)):
        columns.setdefault(row["relation"], set()).update([row["name"]] if row["name"] else [])
    if tree.reads_whole_rows:
        for row in await db.fetch(queries("reads.sql")["every_column"], list(columns)):
            columns[row["relation"]].add(row["name"])
    tables: dict[str, frozenset[str]] = {}
    for row in await db.fetch(queries("reads.sql")["relations"], [oid for oid in columns if oid not in views]):
        if row["kind"] == "S" and not columns[row["oid"]]:
            continue  # what nextval() names
        name = _table_name(row)
        tables[name] = tables.get(name, frozenset()) | columns[row["oid"]]
    volatile = tree.volatile(await _functions(db, tree), query)
    return QueryReads(tables, volatile, tuple(sorted(filter(None, views.values()))), width)


def _table_name(row: Any) -> str:
    """The local name of the table that is captured for it. ConfigError for what no trigger can watch."""
    name = local_name(row["schema"], row["name"], row["home"] or "")
    if row["kind"] in _UNWATCHED:
        raise ConfigError(
            f'The query reads "{name}", {_UNWATCHED[row["kind"]]}: its changes cannot be noticed.',
            hint="Read the tables that its content comes from.",
            code="virtual_table",
        )
    if row["has_children"]:
        raise ConfigError(
            f'The query reads "{name}", from which other tables inherit: their changes cannot be noticed.',
            hint="Read the tables that hold the rows.",
            code="virtual_table",
        )
    if row["kind"] not in _TABLES or row["persistence"] == "t" or row["schema"] == SCHEMA:
        raise _unknown(f'"{name}"')
    return local_name(row["root_schema"], row["root"], row["home"] or "") if row["root"] else name


def _unknown(what: str) -> ConfigError:
    return ConfigError(
        f"The query reads {what}, which is not a table of this database.",
        hint="Read tables of the database alone.",
        code="unknown_table",
    )


async def _meant(db: asyncpg.Connection, message: str) -> str:
    """The nearest name of what a query names and the database does not have."""
    found = _MISSING.search(message)
    if not found:
        return ""
    rows = await db.fetch(queries("reads.sql")["names"])
    missing = found[2] or found[3]
    if found[1] == "column":
        missing = missing.rpartition(".")[2]
    names = {row["relation" if found[1] == "relation" else "name"] for row in rows} - {None, missing}
    return nearest(missing, names).strip()
