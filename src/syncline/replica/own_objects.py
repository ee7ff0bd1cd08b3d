"""What the app itself puts on a synced table: its indexes, triggers and columns are kept; only UNIQUE is taken off.

The office's rows come in an order that only the office's database knows: two rows that swap a unique value would stop
the device for good. And `INSERT OR REPLACE` removes whatever an app's UNIQUE index puts in its way without a word.
"""

from __future__ import annotations

import sqlite3

from syncline.log import logger
from syncline.model.identifiers import PREFIX, quote
from syncline.model.program import ProgramTable
from syncline.replica.records import name_of_definition
from syncline.replica.store import Store

_log = logger("replica.own_objects")


def app_objects(store: Store, table: str) -> list[tuple[str, str]]:
    """Name and SQL of the indexes and triggers that the app put on a synced table: they go when it is made anew."""
    return store.connection.execute(
        "SELECT name, sql FROM sqlite_schema WHERE tbl_name = ?1 AND type IN ('index', 'trigger') "
        "AND sql IS NOT NULL AND substr(name, 1, 9) <> ?2",
        (table, PREFIX),
    ).fetchall()


def put_back(store: Store, objects: list[tuple[str, str]]) -> None:
    for name, sql in objects:
        try:
            store.connection.execute(sql)
        except sqlite3.Error as error:
            _log.warning("The app's own %s does not fit the new table: %s", name, error)


def own_columns(store: Store, table: ProgramTable) -> dict[str, str]:
    """name -> definition of the columns that the app added to a synced table, but for computed ones."""
    known = {column.lower() for column in table.columns}
    rows = store.connection.execute(
        'SELECT name, type, "notnull", dflt_value FROM pragma_table_xinfo(?) WHERE hidden = 0', (table.name,)
    )
    found = {}
    for name, kind, not_null, default in rows.fetchall():
        if name.lower() not in known:
            required = " NOT NULL" if not_null else ""
            preset = f" DEFAULT {default}" if default is not None else ""
            found[name] = f"{quote(name)} {kind}{required}{preset}"
    return found


def has_own_columns(store: Store, table: ProgramTable) -> bool:
    """Computed ones, too."""
    known = {column.lower() for column in table.columns}
    rows = store.connection.execute("SELECT name FROM pragma_table_xinfo(?) WHERE hidden <> 1", (table.name,))
    return any(name.lower() not in known for (name,) in rows.fetchall())


def add_columns(store: Store, table: ProgramTable, columns: dict[str, str]) -> list[str]:
    """Puts them on a table that was made anew, and answers their names. One whose name the office uses now is gone."""
    known = {column.lower() for column in table.columns}
    added = []
    for name, definition in columns.items():
        if name.lower() in known:
            _log.warning('The app\'s own column "%s" of %s is gone: the office has one of that name.', name, table.name)
            continue
        store.connection.execute(f"ALTER TABLE {quote(table.name)} ADD COLUMN {definition}")
        added.append(name)
    return added


def take_unique_off(store: Store) -> bool:
    """Makes ordinary indexes of the app's UNIQUE ones on synced tables, inside the caller's write transaction.

    True where one has cost a row of the office's already: the cursor is gone, so that everything comes anew, and the
    cut that is under way is stale.
    """
    (version,) = store.connection.execute("PRAGMA schema_version").fetchone()
    if version == store.schema_checked:
        return False
    loosened = set()
    for name, table, sql in store.connection.execute(
        "SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = 'index' AND sql LIKE 'CREATE UNIQUE INDEX %'"
    ).fetchall():
        if table in store.tables and not name.startswith(PREFIX):
            store.connection.execute(f"DROP INDEX {quote(name)}")
            store.connection.execute(sql.replace("CREATE UNIQUE INDEX", "CREATE INDEX", 1))
            _log.warning('The index "%s" on %s is not UNIQUE any more: only the office can ask for that.', name, table)
            loosened.add(table)
    (store.schema_checked,) = store.connection.execute("PRAGMA schema_version").fetchone()
    if not any(_lacks_rows(store, store.table(name)) for name in loosened):
        return False
    store.connection.execute("UPDATE syncline_state SET cursor = NULL, apply_count = apply_count + 1")
    return True


def put_capture_back(store: Store) -> None:
    """Inside the caller's write transaction: our triggers that somebody dropped, or a tool that made a table anew."""
    (version,) = store.connection.execute("PRAGMA schema_version").fetchone()
    if version == store.capture_checked:
        return
    rows = store.connection.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'trigger')")
    there = {quote(name) for (name,) in rows.fetchall()}
    for table in store.tables.values():
        lost = [sql for sql in table.ddl["triggers"] if name_of_definition(sql)[1] not in there]
        if lost and quote(table.name) in there:
            with store.guard.defining():
                for statement in lost:
                    store.connection.execute(statement)
            _log.warning(
                "%s: changes of %s were not recorded, because triggers were missing. They are back; what was written "
                "without them is not sent, and `syncline verify` finds it.",
                store.path,
                table.name,
            )
    (store.capture_checked,) = store.connection.execute("PRAGMA schema_version").fetchone()


def _lacks_rows(store: Store, table: ProgramTable) -> bool:
    """A row that a bucket holds is not there, and the app did not write so. (Older programs cannot tell.)"""
    return "any_missing" in table.statements and bool(store.number(table, "any_missing"))
