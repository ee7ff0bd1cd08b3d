"""What a SQLite file says of its tables."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import replace
from typing import Any

from syncline.errors import ConfigError
from syncline.model.identifiers import PREFIX, nearest, quote
from syncline.model.schema import Column, ForeignKey, Index, Schema, Table
from syncline.model.scopes import QueryReads
from syncline.source.sqlite.belongings import our_objects
from syncline.source.sqlite.uniques import read_uniques

VOLATILE = frozenset(
    {"random", "randomblob", "changes", "total_changes", "last_insert_rowid"}
    | {"date", "time", "datetime", "julianday", "strftime", "unixepoch", "timediff"}
    | {"current_date", "current_time", "current_timestamp"}
)
"""Functions whose answer changes while the rows do not. The date functions do so only for 'now', which the database
does not tell apart when it names what a query calls."""


def introspect(connection: sqlite3.Connection) -> Schema:
    """All tables but SQLite's and ours, with the reason for each that cannot sync."""
    ours = our_objects(connection)
    tables: dict[str, Table] = {}
    views: set[str] = set()
    listed = connection.execute(
        "SELECT name, type, wr, strict FROM pragma_table_list WHERE schema = 'main' ORDER BY name"
    )
    for name, kind, without_rowid, strict in listed.fetchall():
        if name.startswith("sqlite_") or name in ours:
            continue
        if kind == "view":
            views.add(name)
        elif kind == "table":
            tables[name] = _table(connection, name, bool(without_rowid), bool(strict))
        elif kind == "virtual":
            tables[name] = Table(
                name, (), (), refusal="it is a virtual table.", remedy="Sync the tables that its content comes from."
            )
    return Schema(_with_parent_keys(tables), frozenset(views))


def _table(connection: sqlite3.Connection, name: str, without_rowid: bool, strict: bool) -> Table:
    rows = connection.execute(
        "SELECT name, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo(?, 'main') WHERE hidden <> 1",
        (name,),
    ).fetchall()
    collations = _collations(connection, name, [row[0] for row in rows])
    columns = tuple(
        Column(
            name=column,
            type="" if strict and kind.upper() == "ANY" else kind,
            not_null=bool(not_null),
            default=default,
            generated=hidden in (2, 3),
            collation=collations.get(column, ""),
        )
        for column, kind, not_null, default, _, hidden in rows
    )
    indexes = _indexes(connection, name)
    key = tuple(row[0] for row in sorted((row for row in rows if row[4]), key=lambda row: row[4]))
    not_null_columns = {column.name for column in columns if column.not_null}
    if not key:
        unique = [index.columns for index in indexes if index.unique and set(index.columns) <= not_null_columns]
        key = min(unique, key=len, default=())
    types = {column.name: column.type.upper() for column in columns}
    refusal, remedy = _refusal(name, key, collations, [column.name for column in columns if column.generated])
    has_primary_index = connection.execute(
        "SELECT 1 FROM pragma_index_list(?, 'main') WHERE origin = 'pk'", (name,)
    ).fetchone()  # INTEGER PRIMARY KEY DESC has one: it is not the rowid
    has_integer_key = len(key) == 1 and types[key[0]] == "INTEGER" and any(row[4] for row in rows)
    rowid_alias = has_integer_key and not without_rowid and not has_primary_index
    return Table(
        name=name,
        columns=columns,
        key=key,
        foreign_keys=_foreign_keys(connection, name),
        indexes=indexes,
        generated_key=rowid_alias,
        refusal=refusal,
        remedy=remedy,
        uniques=read_uniques(connection, name),
        row_number="" if without_rowid or rowid_alias else _row_number(types),
    )


def _row_number(columns: dict[str, str]) -> str:
    """The name by which a statement can give the rowid; empty where columns have taken all three."""
    taken = {column.lower() for column in columns}
    return next((name for name in ("rowid", "_rowid_", "oid") if name not in taken), "")


def _refusal(name: str, key: tuple[str, ...], collations: dict[str, str], generated: list[str]) -> tuple[str, str]:
    """Why a table with this key cannot sync, and what to do; empty if it can."""
    leave = "or leave it out of the scope."
    if name.lower().startswith(PREFIX):
        return f"names that begin with {PREFIX} are ours on a device.", f"Rename it, {leave}"
    if not key:
        why = "it has no primary key, and no unique columns that are NOT NULL."
        return why, f"Give it a primary key (duplicates have to go first), {leave}"
    for column in key:
        if column in collations:
            why = f'its key "{column}" has the collation {collations[column]}: two texts may be one key.'
            return why, f"Give it a key that compares byte by byte, {leave}"
        if column in generated:
            return f'its key "{column}" is computed by the database.', f"Give it a key that is stored, {leave}"
    return "", ""


def _collations(connection: sqlite3.Connection, table: str, columns: list[str]) -> dict[str, str]:
    """Column -> its collation, where that is not BINARY. SQLite names it nowhere but in the program of a comparison."""
    (definition,) = connection.execute(
        "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?", (table,)
    ).fetchone()
    if "collate" not in (definition or "").lower():
        return {}
    found = {}
    for column in columns:
        program = connection.execute(
            f"EXPLAIN SELECT 1 FROM {quote(table)} NOT INDEXED WHERE {quote(column)} = ?", (None,)
        )
        named = {str(row[5]).rpartition("-")[0] for row in program if row[1] in ("Ne", "Eq", "Lt", "Gt")}
        other = named - {"", "BINARY"}
        if other:
            found[column] = min(other)
    return found


def _indexes(connection: sqlite3.Connection, table: str) -> tuple[Index, ...]:
    found = []
    for name, unique, partial in connection.execute(
        "SELECT name, \"unique\", partial FROM pragma_index_list(?, 'main') ORDER BY seq", (table,)
    ).fetchall():
        columns = [
            row[0]
            for row in connection.execute("SELECT name FROM pragma_index_info(?, 'main') ORDER BY seqno", (name,))
        ]
        if not partial and columns and None not in columns:
            found.append(Index(name, tuple(columns), bool(unique)))
    return tuple(found)


def _foreign_keys(connection: sqlite3.Connection, table: str) -> tuple[ForeignKey, ...]:
    by_id: dict[int, list[tuple[Any, ...]]] = {}
    for row in connection.execute(
        'SELECT id, seq, "table", "from", "to" FROM pragma_foreign_key_list(?, \'main\') ORDER BY id, seq', (table,)
    ):
        by_id.setdefault(row[0], []).append(row)
    return tuple(
        ForeignKey(tuple(row[3] for row in rows), rows[0][2], tuple(row[4] or "" for row in rows))
        for rows in by_id.values()
    )


def _with_parent_keys(tables: dict[str, Table]) -> dict[str, Table]:
    """A foreign key that names no columns means the parent's key; names in any case become the declared ones. One that
    names what is not there, which SQLite takes, is none."""
    by_lower = {name.lower(): table for name, table in tables.items()}
    finished = {}
    for name, table in tables.items():
        keys = []
        for key in table.foreign_keys:
            parent = by_lower.get(key.table.lower())
            if parent is None:
                continue
            references = tuple(to or own for to, own in zip(key.references, parent.key or key.references, strict=False))
            known = {column.lower() for column in parent.column_names}
            if len(references) == len(key.columns) and all(column.lower() in known for column in references):
                own = tuple(table.column(column).name for column in key.columns)
                keys.append(ForeignKey(own, parent.name, tuple(parent.column(column).name for column in references)))
        finished[name] = replace(table, foreign_keys=tuple(keys))
    return finished


def reads_of(
    connection: sqlite3.Connection, query: str, parameters: dict[str, None], called: list[str] | None = None
) -> QueryReads:
    """Tables, columns and volatile functions of a query, as SQLite's own authorizer reports them, views resolved.
    `called` receives the names of all functions."""
    tables: dict[str, set[str]] = {}
    volatile: dict[str, None] = {}
    is_refused = False

    def authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        nonlocal is_refused
        if action == sqlite3.SQLITE_READ and first:
            tables.setdefault(first, set()).update([second] if second else [])
        elif action == sqlite3.SQLITE_FUNCTION and second:
            if called is not None:
                called.append(second.lower())
            if second.lower() in VOLATILE:
                volatile[second.lower()] = None
        elif action not in _READING and (first or "").lower() not in ("sqlite_master", "sqlite_schema"):
            is_refused = True  # sqlite_schema: what declaring json_each looks like. A query cannot write to it anyway.
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    kinds = _kinds(connection)
    connection.set_authorizer(authorize)
    try:
        connection.execute(f"EXPLAIN {query}", parameters).fetchall()
        columns = _width(connection, query, parameters)
    except (sqlite3.Error, sqlite3.Warning) as error:
        reason = "it would write" if is_refused else str(error)
        raise ConfigError(
            f"The query does not work on this database: {reason}. Query: {query}",
            hint=_meant(connection, str(error)) or "Try it in the database's own shell.",
            code="query_fails",
        ) from error
    finally:
        connection.set_authorizer(None)
    views = tuple(sorted(name for name in tables if kinds.get(name) == "view"))
    return QueryReads(_real_tables(tables, kinds), tuple(volatile), views, columns)


def _meant(connection: sqlite3.Connection, message: str) -> str:
    """The nearest name of what a query names and the database does not have."""
    connection.set_authorizer(None)
    found = re.search(r"no such (table|column): (?:.*\.)?(.+)", message)
    if not found:
        return ""
    listed = "SELECT t.name FROM pragma_table_list t WHERE t.schema = 'main'"
    if found[1] == "column":
        listed = f"SELECT DISTINCT c.name FROM ({listed}) AS t, pragma_table_xinfo(t.name, 'main') AS c"
    return nearest(found[2], [row[0] for row in connection.execute(listed)]).strip()


def _width(connection: sqlite3.Connection, query: str, parameters: dict[str, None]) -> int:
    """How many columns the query answers; it must be one that can stand in another."""
    inner = query.strip().rstrip(";")
    described = connection.execute(f"SELECT * FROM (\n{inner}\n) LIMIT 0", parameters).description
    return len(described)


_READING = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE)
_TABLE_FUNCTIONS = frozenset({"json_each", "json_tree", "generate_series"})
"""Table-valued functions whose rows follow from their arguments alone."""


def _kinds(connection: sqlite3.Connection) -> dict[str, str]:
    """Every name in the schema -> table, view, virtual or shadow."""
    return dict(connection.execute("SELECT name, type FROM pragma_table_list WHERE schema = 'main'").fetchall())


def _real_tables(tables: dict[str, set[str]], kinds: dict[str, str]) -> dict[str, frozenset[str]]:
    """The tables among what a query reads. ConfigError for what no trigger can watch: its changes would go unseen."""
    found = {}
    for name, columns in tables.items():
        kind = kinds.get(name)
        if kind == "table" and not name.startswith("sqlite_"):
            found[name] = frozenset(columns)
        elif kind in ("virtual", "shadow"):
            raise ConfigError(
                f'The query reads "{name}", a virtual table: its changes cannot be noticed.',
                hint="Read the tables that its content comes from.",
                code="virtual_table",
            )
        elif kind is None and name.lower() not in _TABLE_FUNCTIONS and not name.startswith("sqlite_"):
            raise ConfigError(
                f'The query reads "{name}", which is not a table of this database.',
                hint="Read tables of the database alone.",
                code="unknown_table",
            )
    return found


SAFE_IN_FILTERS = frozenset(
    {"coalesce", "ifnull", "nullif", "iif", "lower", "upper", "length", "substr", "substring", "trim", "ltrim", "rtrim"}
    | {"instr", "like", "glob", "typeof", "min", "max", "round", "replace", "hex", "unicode", "sign"}
)
"""Functions that answer something for every value. One that can fail would, for one row, stop all checkpoints."""
_STRINGS = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\[[^\]]*\]|`[^`]*`""")


def reads_of_filter(connection: sqlite3.Connection, table: str, where: str) -> QueryReads:
    """What a filter reads, tried in the form in which it will run. ConfigError where it holds a query of its own, or a
    function that can fail."""
    if re.search(r"\bselect\b", _STRINGS.sub("", where), re.IGNORECASE):
        raise ConfigError(
            f'The filter of "{table}" holds a query of its own.',
            hint="A filter may look at the row alone.",
            code="filter_query",
        )
    called: list[str] = []
    query = f"SELECT 1 FROM (SELECT * FROM (SELECT * FROM {quote(table)}) WHERE ({where}))"
    reads = reads_of(connection, query, {}, called)
    unsafe = [name for name in called if name not in SAFE_IN_FILTERS and name not in VOLATILE]
    if unsafe:
        raise ConfigError(
            f'The filter of "{table}" calls {unsafe[0]}(), which can fail on a value.',
            hint="Compare columns, or have the database keep the result in a column.",
            code="filter_function",
        )
    return reads
