"""Which objects in a SQLite file are ours: those of tables.sql, and those made for a table that was put under capture.

Never by the prefix alone: a company may have a table `syncline_notes` of its own, and it is not ours to skip or drop.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from functools import cache
from importlib import resources

from syncline.errors import SourceError
from syncline.model.identifiers import PREFIX, literal
from syncline.source.sqlite.generations import GAP_PREFIX

CHANGELOG, WAITING = "changelog", "waiting"
_TRIGGER = re.compile("insert|update|delete|rekey|replace[0-9]*")
_ALARM = re.compile("alarm(insert|update|delete)")
Objects = dict[str, str]
"""Name -> statement."""


class NameTakenError(SourceError):
    """The company has something under a name that capture needs."""

    code = "name_taken"


def base_script() -> str:
    """What provisioning adds whatever the plan is."""
    return resources.files("syncline.source.sqlite").joinpath("tables.sql").read_text(encoding="utf-8")


@cache
def base_objects() -> Objects:
    """The tables and indexes of `base_script`, with the statements under which SQLite knows them."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(base_script())
        rows = connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    return dict(rows)


def is_provisioned(connection: sqlite3.Connection) -> bool:
    """Whether capture was ever installed here. A table syncline_meta of the company's is none of ours."""
    found = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'syncline_meta'").fetchone()
    return found is not None and found[0] == base_objects()["syncline_meta"]


def our_objects(connection: sqlite3.Connection) -> Objects:
    """All that provisioning and `migrate` have put into this file, but for what SQLite makes by itself."""
    if not is_provisioned(connection):
        return {}
    captured = _tables_under_capture(connection)
    return {
        name: sql
        for kind, name, sql in _prefixed(connection)
        if base_objects().get(name) == sql or _was_made_for(kind, name, sql, captured)
    }


def our_triggers(connection: sqlite3.Connection) -> dict[str, str]:
    """Trigger -> the table that it is on now, be it renamed or not."""
    ours = our_objects(connection)
    rows = connection.execute(
        "SELECT name, tbl_name FROM sqlite_schema WHERE type = 'trigger' ORDER BY name"
    ).fetchall()
    return {name: table for name, table in rows if name in ours}


def require_names(connection: sqlite3.Connection, wanted: Iterable[str]) -> None:
    """NameTakenError where one of these names, or of `base_objects`, is somebody else's. SQLite takes no notice of
    case."""
    ours = our_objects(connection)
    theirs = {name.lower(): (kind, name) for kind, name, _ in _prefixed(connection) if name not in ours}
    for name in (*base_objects(), *wanted):
        if name.lower() in theirs:
            kind, taken = theirs[name.lower()]
            raise NameTakenError(
                f'The database has a {kind} "{taken}" that is not ours, and capture needs that name.',
                hint=f"Rename the {kind}. Nothing was changed.",
            )


def _prefixed(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    """(type, name, statement) of whatever may be ours by its name in any case."""
    return connection.execute(
        "SELECT type, name, sql FROM sqlite_schema WHERE lower(substr(name, 1, ?1)) = ?2 AND sql IS NOT NULL",
        (len(PREFIX), PREFIX),
    ).fetchall()


def _tables_under_capture(connection: sqlite3.Connection) -> frozenset[str]:
    """Their names when capture was last put in; a migration may have renamed them since, but not what we made."""
    row = connection.execute("SELECT value FROM syncline_meta WHERE name = 'schema'").fetchone()
    return frozenset(json.loads(row[0])) if row else frozenset()


def _was_made_for(kind: str, name: str, sql: str, captured: frozenset[str]) -> bool:
    purpose, _, table = name.removeprefix(PREFIX).partition("_")
    if not name.startswith(PREFIX):
        return False
    if kind == "trigger" and _ALARM.fullmatch(purpose):  # may be on a table that was renamed before, unknown to capture
        return literal(GAP_PREFIX + table) in sql
    made = {"table": purpose == CHANGELOG, "index": purpose == WAITING}
    return table in captured and made.get(kind, kind == "trigger" and _TRIGGER.fullmatch(purpose) is not None)
