"""What makes two rows of a table impossible beside one another: whatever INSERT OR REPLACE may remove a row for.

SQLite tells which columns an index has, but neither its expressions nor its WHERE: those are read from its statement.
"""

from __future__ import annotations

import re
import sqlite3

from syncline.model.identifiers import quote
from syncline.model.schema import Unique

_TOKEN = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|--[^\n]*|/\*.*?(?:\*/|\Z)|\s+|[^\W\d][\w$]*|.""",
    re.DOTALL,
)


def read_uniques(connection: sqlite3.Connection, table: str) -> tuple[Unique, ...]:
    """All unique constraints and indexes of the table, also partial ones and those on expressions. The number of the
    row, which INTEGER PRIMARY KEY is another name for, is not among them."""
    listed = connection.execute(
        "SELECT l.name, l.partial, s.sql FROM pragma_index_list(?1, 'main') l "
        "LEFT JOIN sqlite_schema s ON s.type = 'index' AND s.name = l.name WHERE l.\"unique\" ORDER BY l.seq",
        (table,),
    )
    return tuple(_unique(connection, table, *row) for row in listed.fetchall())


def _unique(connection: sqlite3.Connection, table: str, name: str, partial: int, sql: str | None) -> Unique:
    columns = connection.execute(
        "SELECT name, coll FROM pragma_index_xinfo(?1, 'main') WHERE key ORDER BY seqno", (name,)
    ).fetchall()
    collations = tuple(collation.upper() for _, collation in columns)
    terms, where = index_parts(sql) if sql else ((), "")
    if not partial and all(column is not None for column, _ in columns):
        return Unique(tuple(quote(column) for column, _ in columns), collations, "", tuple(c for c, _ in columns))
    written = tuple(
        quote(column) if column is not None else term for (column, _), term in zip(columns, terms, strict=True)
    )
    return Unique(written, collations, where, _reads(connection, table, (*written, where or "1")))


def _reads(connection: sqlite3.Connection, table: str, expressions: tuple[str, ...]) -> tuple[str, ...]:
    """The columns that the expressions read."""
    found: dict[str, None] = {}

    def authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_READ and second:
            found[second] = None
        return sqlite3.SQLITE_OK

    connection.set_authorizer(authorize)
    try:
        connection.execute(f"EXPLAIN SELECT {', '.join(expressions)} FROM main.{quote(table)}").fetchall()
    finally:
        connection.set_authorizer(None)
    return tuple(found)


def index_parts(sql: str) -> tuple[tuple[str, ...], str]:
    """(what is indexed, without ASC and DESC; the WHERE, or nothing) of a CREATE INDEX statement."""
    terms: list[list[str]] = [[]]
    where: list[str] = []
    depth, is_over = 0, False
    for token in _TOKEN.findall(sql):
        if token.startswith(("--", "/*")):
            token = " "
        if is_over:
            where.append(token)
            continue
        if token == ")":
            depth -= 1
            is_over = depth == 0
        if depth == 1 and token == ",":
            terms.append([])
        elif depth and not is_over:
            terms[-1].append(token)
        if token == "(":
            depth += 1
    condition = "".join(where).strip()
    return tuple(_without_order(term) for term in terms), re.sub(r"(?is)\Awhere\b", "", condition).strip()


def _without_order(tokens: list[str]) -> str:
    while tokens and (tokens[-1].isspace() or tokens[-1].upper() in ("ASC", "DESC")):
        tokens.pop()
    return "".join(tokens).strip()
