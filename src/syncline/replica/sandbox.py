"""A program is tried where nothing of the app's is, before it is kept: each of its statements has to compile there.

In the app's file the guard cannot do that alone. SQLite tells it for whom it asks by a name only: of a trigger, a view
or a part of a query; and what a trigger of the app's may do, a part of the program's query that has its name may not.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing

from syncline.errors import ProtocolError
from syncline.model.identifiers import PREFIX, quote
from syncline.model.program import Program, ProgramTable
from syncline.model.program_base import BOOTSTRAP
from syncline.replica.guard import Guard

_NAME = r'"(?:[^"]|"")*"'
_TRIGGER = re.compile(
    rf"CREATE TRIGGER {_NAME} (?:BEFORE|AFTER) (?:INSERT|DELETE|UPDATE(?: OF ({_NAME}(?:, {_NAME})*))?) ON {_NAME} "
)


_QUOTED = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?(?:\*/|$)|" + '"(?P<name>(?:[^"]|"")*)"', re.DOTALL)
_OURS = re.compile(rf"{PREFIX}[a-z]+_(?P<table>.+)", re.DOTALL)

_passed: set[str] = set()
"""Hashes of programs that were tried in this process: each is tried once, for however many files."""

PASSED_MAX = 1_000
RENUMBER = f"{PREFIX}renumber"
"""The one table of a session that is of no table."""


def try_program(program: Program) -> None:
    """sqlite3.Error, or the ProtocolError `program_refused`, where it wants anything but its own tables and ours.

    Its hash is that of its content: `Program.load` has compared them.
    """
    if program.hash in _passed:
        return
    _try(program)
    if len(_passed) >= PASSED_MAX:
        _passed.clear()
    _passed.add(program.hash)


def _try(program: Program) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        for statement in (*BOOTSTRAP, "DROP VIEW syncline_pending"):  # which the program makes anew
            db.execute(statement)
        guard = Guard(db, is_alone=True)
        guard.allow(set(program.tables))
        try:
            with guard.defining():
                for statement in _definitions(program):
                    db.execute(_exact(statement))
            views = _views(db)
            with guard.strict():
                for statement in (*_statements(program), *views):
                    _compile(db, statement)
        except sqlite3.Error as error:
            if not guard.refused:
                raise
            raise refused(guard.refused) from error
        _require_names(db, program)
        for table in program.tables.values():
            _require_own_parents(db, program, table.name)
            _require_columns(db, table)
        _require_triggers(db, program)


def refused(what: str) -> ProtocolError:
    said = f"The server's program wants what no program may: {what}."
    return ProtocolError(said, hint="Do not trust this server.", code="program_refused")


def _definitions(program: Program) -> Iterator[str]:
    """Tables first; then what stands on them."""
    tables = program.tables.values()
    for table in tables:
        ddl = table.ddl
        yield from (ddl["table"], *ddl["ours"].values(), *ddl["our_indexes"], *ddl.get("load", {}).values())
    yield from program.session
    for table in tables:
        yield from (*table.ddl["indexes"], *table.ddl["triggers"])
    yield from program.views


def _statements(program: Program) -> Iterator[str]:
    for table in program.tables.values():
        yield from _writes(table)
        yield from table.statements.values()


def _views(db: sqlite3.Connection) -> list[str]:
    found = db.execute("SELECT name FROM sqlite_schema WHERE type = 'view'").fetchall()
    return [f"SELECT * FROM {quote(name)}" for (name,) in found]


def _writes(table: ProgramTable) -> Iterator[str]:
    """What compiles every trigger on the table, as an app's statements would."""
    name = quote(table.name)
    yield f"INSERT INTO {name} DEFAULT VALUES"
    yield f"UPDATE {name} SET {', '.join(f'{quote(column)} = NULL' for column in table.columns)}"
    yield f"DELETE FROM {name} WHERE {quote(table.key[0])} IS NULL"


def _compile(db: sqlite3.Connection, statement: str) -> None:
    """Parameters are looked at after the guard was asked, and nobody has them yet."""
    try:
        db.execute(f"EXPLAIN {_exact(statement)}")
    except sqlite3.ProgrammingError as error:
        if "number of bindings" not in str(error):
            raise


def _exact(statement: str) -> str:
    """The same with names between backticks. Between quotation marks SQLite takes a name that it does not know for a
    text: here it would be one, and in the file, one day, a column of the app's own."""

    def quoted(found: re.Match[str]) -> str:
        name = found["name"]
        return found[0] if name is None else "`" + name.replace('""', '"').replace("`", "``") + "`"

    return _QUOTED.sub(quoted, statement)


def _require_names(db: sqlite3.Connection, program: Program) -> None:
    """Each table and index has the name of a table that the program syncs: one of another name would be in the way of a
    later program, or would hide what is ours."""
    known = {*program.tables, *_names(BOOTSTRAP)}
    found = db.execute("SELECT name, tbl_name FROM sqlite_schema WHERE type IN ('table', 'index') AND sql IS NOT NULL")
    for name, table in found.fetchall():
        if name not in known and not _is_of(name, program) and not _is_copied_index(name, table, program):
            raise refused(f'something of the name "{name}"')
    for (name,) in db.execute("SELECT name FROM sqlite_temp_schema WHERE sql IS NOT NULL").fetchall():
        if name.lower() != RENUMBER.lower() and (name in known or not _is_of(name, program)):
            raise refused(f'something temporary of the name "{name}"')
    both = db.execute(
        "SELECT t.name FROM sqlite_temp_schema AS t JOIN sqlite_schema AS m ON m.name = t.name COLLATE NOCASE"
    )
    for (name,) in both.fetchall():
        raise refused(f'something temporary of the name "{name}"')


def _is_of(name: str, program: Program) -> bool:
    form = _OURS.fullmatch(name)
    return form is not None and form["table"] in program.tables


def _is_copied_index(name: str, table: str, program: Program) -> bool:
    """Those are made anew with every program."""
    return name.startswith(f"{PREFIX}index_") and table in program.tables


def _names(statements: Iterable[str]) -> Iterator[str]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)
        for (name,) in db.execute("SELECT name FROM sqlite_schema").fetchall():
            yield name


def _require_own_parents(db: sqlite3.Connection, program: Program, name: str) -> None:
    """A foreign key to a table of the app's own would forbid the app to delete there."""
    known = {table.lower() for table in program.tables}
    for (parent,) in db.execute('SELECT "table" FROM pragma_foreign_key_list(?)', (name,)).fetchall():
        if parent.lower() not in known:
            raise refused(f'a foreign key of "{name}" to "{parent}"')


def _require_columns(db: sqlite3.Connection, table: ProgramTable) -> None:
    found = db.execute("SELECT name FROM pragma_table_xinfo(?)", (table.name,)).fetchall()
    if {column for (column,) in found} != set(table.columns):
        raise refused(f'a table "{table.name}" with other columns than it says')


def _require_triggers(db: sqlite3.Connection, program: Program) -> None:
    """Each fires on what was tried here. One on a column that is not there would be compiled for the first time when
    the app has a column of that name."""
    count = 0
    for table in program.tables.values():
        for statement in table.ddl["triggers"]:
            count += 1
            form = _TRIGGER.match(statement)
            named = re.findall(_NAME, form[1] or "") if form else ['""']
            if not {name[1:-1].replace('""', '"') for name in named} <= set(table.columns):
                raise refused(f'a trigger on "{table.name}" of another form')
    if db.execute("SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'").fetchone() != (count,):
        raise refused("a trigger where none stands")
