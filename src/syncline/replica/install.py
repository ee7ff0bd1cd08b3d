"""Putting a program into the file: a first one, or a new one over an old one with work still pending."""

from __future__ import annotations

import json
from typing import TypeAlias

from syncline.errors import ReplicaError
from syncline.log import logger
from syncline.model.identifiers import PREFIX, quote, quote_list
from syncline.model.program import Program, ProgramTable, program_hash
from syncline.model.program_carry import build_set_aside, build_take_back, can_carry, is_same_layout
from syncline.replica.lost_columns import find_lost
from syncline.replica.own_objects import add_columns, app_objects, own_columns, put_back
from syncline.replica.receipt import note_lost
from syncline.replica.records import park_lost
from syncline.replica.sandbox import refused, try_program
from syncline.replica.store import Store
from syncline.replica.versions import check_sqlite

_log = logger("replica.install")


_Own: TypeAlias = "tuple[list[tuple[str, str]], dict[str, str]]"
"""What the app itself put on a synced table: indexes and triggers, columns."""


def install_program(store: Store, program: Program, taken: int = 0) -> int:
    """Inside the caller's write transaction. ReplicaError where SQLite is too old or an app's table is in the way.

    `taken`: the device's last mutation that the server has judged already. Answers how many waiting changes lost what
    they wrote into columns that are not there any more: it is parked.
    """
    check_sqlite(str(program.document["sqlite_min"]), "The server's program")
    old = store.program.tables if store.program else {}
    _check_names(store, program, old)
    store.guard.allow({*program.tables, *old})
    _drop_derived(store)
    own: dict[str, _Own] = {}
    parked = 0
    for table in old.values():
        new = program.tables.get(table.name)
        if new is None or not can_carry(table, new):
            _retire(store, table)
        else:
            own[table.name] = app_objects(store, table.name), own_columns(store, table)
            parked += _part(store, table, new, taken)
    note_lost(store, parked)
    for table in program.tables.values():
        _put(store, old.get(table.name), table, own.get(table.name, ([], {})))
    with store.guard.defining():
        for table in program.tables.values():
            for statement in table.ddl["triggers"]:
                store.connection.execute(statement)
        for statement in program.views:
            store.connection.execute(statement)
    _check_compiled(store, program)
    store.begin_session(program)  # now, and not when the file is opened, where it could not be refused any more
    if any(_loses(table, program.tables.get(table.name)) for table in old.values()):
        store.connection.execute("UPDATE syncline_state SET purge_pending = 1")
    document = json.dumps(program.dump(), ensure_ascii=False)
    store.connection.execute(
        "INSERT OR REPLACE INTO syncline_program (kind, hash, document) VALUES ('current', ?, ?)",
        (program.hash, document),
    )
    # The cursor stays: the server knows since when a table is as it is now, and sends anew those that this cursor is
    # behind. A cut that is under way for the old program is thrown away, because the apply counter moves on.
    store.connection.execute("UPDATE syncline_state SET apply_count = apply_count + 1")
    return parked


def _part(store: Store, old: ProgramTable, new: ProgramTable, taken: int) -> int:
    """What waiting changes wrote into columns that `new` lacks is parked. Answers of how many changes.

    Not where one of them is in a marked group, which is refused whole, or was judged already, and its outcome may want
    all its values: then the outbox stays as it was, as that of a table that syncs no longer, and the rows that it is
    about come with the next download.
    """
    lost = find_lost(store, old, new)
    if any(mine.group or mine.number <= taken for mine, _ in lost):
        _begin_outbox_anew(store, old)
        return 0
    for mine, values in lost:
        park_lost(store, mine, values)
    return len(lost)


def _loses(old: ProgramTable, new: ProgramTable | None) -> bool:
    """Whether values that the file held are to leave it: those of the whole table, or of a column."""
    return new is None or not can_carry(old, new) or not set(old.columns) <= set(new.columns)


def _check_names(store: Store, program: Program, old: dict[str, ProgramTable]) -> None:
    """An app's own table, view or index is never taken for a synced one."""
    known = {name.lower() for name in old}
    for name in program.tables:
        if name.lower().startswith((PREFIX, "sqlite_")):
            raise refused(f'a table "{name}"')
        if name.lower() in known:
            continue
        row = store.connection.execute(
            "SELECT type FROM sqlite_schema WHERE lower(name) = lower(?) AND type IN ('table', 'view')", (name,)
        ).fetchone()
        if row:
            raise ReplicaError(
                f'The file already has a {row[0]} "{name}" of the app\'s own, and the server syncs one of that name.',
                hint="Rename the app's own, or use another file.",
                code="table_exists",
            )


def _drop_derived(store: Store) -> None:
    """Our triggers, views and copies of indexes hold nothing: they are made anew."""
    rows = store.connection.execute(
        "SELECT type, name FROM sqlite_schema WHERE (type IN ('trigger', 'view') AND substr(name, 1, 9) = ?1) "
        "OR (type = 'index' AND substr(name, 1, 15) = 'syncline_index_')",
        (PREFIX,),
    ).fetchall()
    kept = ("syncline_rejections", "syncline_conflicts")
    for kind, name in rows:
        if name not in kept:
            store.connection.execute(f"DROP {kind} {quote(name)}")


def _put(store: Store, old: ProgramTable | None, new: ProgramTable, own: _Own) -> None:
    """The tables of one synced table, with what they held before."""
    objects, columns = own
    if old is None or not _is_there(store, new.name):
        _create(store, new)
        add_columns(store, new, columns)
        put_back(store, objects)
    elif not is_same_layout(old, new):
        for statement in build_set_aside(old):
            store.connection.execute(statement)
        _create(store, new)
        for statement in build_take_back(old, new, add_columns(store, new, columns)):
            store.connection.execute(statement)
        put_back(store, objects)
    with store.guard.defining():
        for statement in new.ddl["indexes"]:
            store.connection.execute(statement)


def _is_there(store: Store, name: str) -> bool:
    """Not for a table that was retired."""
    found = store.connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (name,))
    return found.fetchone() is not None


def _create(store: Store, table: ProgramTable) -> None:
    with store.guard.defining():
        for statement in (table.ddl["table"], *table.ddl["ours"].values(), *table.ddl["our_indexes"]):
            store.connection.execute(statement)


def _retire(store: Store, table: ProgramTable) -> None:
    """The table syncs no longer: its rows go. Its pending changes keep their numbers until the server has answered."""
    pending = store.number(table, "any_pending")
    for name in (table.name, *(f"{PREFIX}{kind}_{table.name}" for kind in ("held", "sent", "replaced"))):
        store.connection.execute(f"DROP TABLE {quote(name)}")
    if pending:
        _put_outbox_aside(store, table)
    else:
        store.connection.execute(f"DROP TABLE {_outbox_of(table)}")


def _begin_outbox_anew(store: Store, table: ProgramTable) -> None:
    """The rows that it is about go, for nobody can tell what they are without it; all others stay in sight."""
    keys = ", ".join(f"k{index}" for index in range(len(table.key)))
    about = f"IN (SELECT {keys} FROM {_outbox_of(table)})"
    store.connection.execute(f"DELETE FROM {quote(table.name)} WHERE ({quote_list(table.key)}) {about}")
    store.connection.execute(f"DELETE FROM {quote(f'{PREFIX}held_{table.name}')} WHERE ({keys}) {about}")
    _put_outbox_aside(store, table)
    with store.guard.defining():
        for statement in (table.ddl["ours"]["outbox"], *table.ddl["our_indexes"]):
            store.connection.execute(statement)


def _outbox_of(table: ProgramTable) -> str:
    return quote(f"{PREFIX}outbox_{table.name}")


def _put_outbox_aside(store: Store, table: ProgramTable) -> None:
    """Until the server has answered all that is in it. It is noted with the statements that read it."""
    outbox = _outbox_of(table)
    store.connection.execute(f"DROP INDEX {quote(f'{PREFIX}key_{table.name}')}")
    kind = f"retired_{store.state().apply_count}_{table.name}"
    place = quote(PREFIX + kind)
    store.connection.execute(f"ALTER TABLE {outbox} RENAME TO {place}")
    (document,) = store.connection.execute("SELECT document FROM syncline_program WHERE kind = 'current'").fetchone()
    spec = json.loads(document)["tables"][table.name]
    spec["statements"] = {name: sql.replace(outbox, place) for name, sql in spec["statements"].items()}
    spec["ddl"] = {"place": place, "kind": kind}
    kept = {"tables": {table.name: spec}}
    store.connection.execute(
        "INSERT INTO syncline_program (kind, hash, document) VALUES (?, ?, ?)",
        (kind, program_hash(kept), json.dumps(kept, ensure_ascii=False)),
    )


def forget_retired(store: Store) -> None:
    """Inside a write transaction: outboxes of tables that sync no longer go when they are empty."""
    for name, table in list(store.retired.items()):
        if not store.number(table, "any_pending"):
            store.connection.execute(f"DROP TABLE {table.ddl['place']}")
            store.connection.execute("DELETE FROM syncline_program WHERE kind = ?", (table.ddl["kind"],))
            del store.retired[name]


def _check_compiled(store: Store, program: Program) -> None:
    """A trigger's body is compiled when it would fire, also on the app's own columns, and a table to load into is made
    when it is needed: do the one and try the other now, so that the guard sees them."""
    for table in program.tables.values():
        rows = store.connection.execute("SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0", (table.name,))
        changes = ", ".join(f"{quote(column)} = NULL" for (column,) in rows.fetchall())
        with store.guard.strict():
            store.connection.execute(f"EXPLAIN INSERT INTO {quote(table.name)} DEFAULT VALUES")
            store.connection.execute(f"EXPLAIN UPDATE {quote(table.name)} SET {changes}")
            store.connection.execute(f"EXPLAIN DELETE FROM {quote(table.name)}")
        with store.guard.defining():
            for statement in table.ddl.get("load", {}).values():
                store.connection.execute(f"EXPLAIN {statement}")
    with store.guard.strict():
        store.connection.execute("EXPLAIN SELECT * FROM syncline_pending")
    try_program(program)
