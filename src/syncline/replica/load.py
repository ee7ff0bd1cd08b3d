"""Rows of a long download for tables that are empty here: they go where they will stay, as they come.

`syncline_load_<table>` is filled page by page, without triggers and indexes and out of the app's sight. At the end it
takes the place of the empty table by a change of name. The loaded rows are copied into it instead, under what is
pending, where they are few (to change a name, SQLite reads the whole schema anew), and where the app has written into
the table meanwhile, or has triggers or columns of its own on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from syncline import limits
from syncline.model.identifiers import PREFIX, quote
from syncline.model.program import ProgramTable
from syncline.protocol import checks
from syncline.replica import records
from syncline.replica.own_objects import app_objects, has_own_columns, put_back
from syncline.replica.rows import buckets_of, keys_of, one_bucket_each, rows_of
from syncline.replica.store import Store
from syncline.values import Key, Row

KINDS = {"load": "", "loadheld": "held"}
"""What we load into, and the kind of table whose place it takes."""


def empty_tables(store: Store) -> list[str]:
    """Those that can be loaded: nothing is in them, and nothing waits in their outboxes."""
    return [
        name
        for name, table in store.tables.items()
        if table.loads and not store.number(table, "any_row") and not store.number(table, "any_pending")
    ]


def drop_loads(store: Store) -> None:
    """Of whatever program they are."""
    for kind in KINDS:
        for name in _named(store, f"{PREFIX}{kind}_"):
            store.connection.execute(f"DROP TABLE {quote(f'{PREFIX}{kind}_{name}')}")


def made_loads(store: Store, loading: frozenset[str]) -> set[str]:
    """The tables of which something was loaded."""
    return set(_named(store, f"{PREFIX}load_")) & loading


def _named(store: Store, beginning: str) -> list[str]:
    """The rest of the names of the tables that begin so."""
    rows = store.connection.execute(
        "SELECT substr(name, ?1) FROM sqlite_schema WHERE type = 'table' AND substr(name, 1, ?1 - 1) = ?2",
        (len(beginning) + 1, beginning),
    )
    return [name for (name,) in rows.fetchall()]


class BucketIds:
    """Numbers of the buckets that staged rows name. Held ones keep theirs; the others get theirs before they are held.

    For one transaction.
    """

    def __init__(self, store: Store) -> None:
        self._db = store.connection
        self._known: dict[str, int] = dict(self._db.execute("SELECT name, id FROM syncline_job_bucket").fetchall())

    def of(self, name: str, *, listed: bool = False) -> int:
        found = self._known.get(name)
        if found is None or listed:
            self._db.execute(
                "INSERT INTO syncline_job_bucket (id, name, listed) VALUES (coalesce("
                "(SELECT id FROM syncline_bucket WHERE name = ?1), 1 + max("
                "coalesce((SELECT max(id) FROM syncline_bucket), 0), "
                "coalesce((SELECT max(id) FROM syncline_job_bucket), 0))), ?1, ?2) "
                "ON CONFLICT (name) DO UPDATE SET listed = max(listed, excluded.listed)",
                (name, int(listed)),
            )
            (found,) = self._db.execute("SELECT id FROM syncline_job_bucket WHERE name = ?", (name,)).fetchone()
            self._known[name] = found
        return int(found)


class Loader:
    """Takes frames for the tables that are loaded, inside the caller's transaction and for it alone. `put`: rows."""

    def __init__(self, store: Store, loading: frozenset[str], buckets: BucketIds) -> None:
        self._store = store
        self._loading = loading
        self._buckets = buckets
        self._made = made_loads(store, loading)
        self.put = 0

    def take(self, frame: dict[str, Any]) -> bool:
        """False where the frame says something of other tables too, and has to be kept."""
        kind, name = frame["t"], frame.get("table")
        if kind == "drop_bucket":
            self.forget(
                [self._buckets.of(name) for name in checks.texts(frame, "buckets", limits.BUCKETS_PER_USER_MAX)]
            )
            return False
        if kind == "outcome" or type(name) is not str or name not in self._loading:
            return False
        table = self._store.table(name)
        if kind == "rows":
            self._rows(table, frame)
        elif table.name in self._made:
            if kind == "remove":
                self._remove(table, frame)
            else:
                named = checks.texts(frame, "buckets", limits.BUCKETS_PER_USER_MAX)
                self._forget(table, [self._buckets.of(bucket) for bucket in named])
        return True

    def _rows(self, table: ProgramTable, frame: dict[str, Any]) -> None:
        store = self._store
        if table.name not in self._made:
            with store.guard.defining():
                for kind in KINDS:
                    store.connection.execute(table.ddl["load"][kind])
            self._made.add(table.name)
        rows, is_plain = rows_of(table, frame)
        ids = [self._buckets.of(name) for name in checks.texts(frame, "buckets", limits.BUCKETS_PER_USER_MAX)]
        last = store.number(table, "load_last")
        store.run_many(table, "load_row", rows, is_plain)
        self.put += len(rows)
        # New rows stand after all others in the order of their numbers: the database itself names their holder.
        is_new = 0 < len(rows) == store.number(table, "load_last") - last
        if is_new and len(ids) == 1 and frame.get("of") is None:
            store.run(table, "load_hold_new", (ids[0], last))
        else:
            store.run_many(table, "load_hold", holders(table, frame, rows, ids), is_plain)

    def _remove(self, table: ProgramTable, frame: dict[str, Any]) -> None:
        keys, bucket = keys_of(table, frame), self._buckets.of(checks.text(frame, "bucket", 2_000))
        self._store.run_many(table, "load_let_go", [(*key, bucket) for key in keys])
        self._store.run_many(table, "load_delete_lost_key", keys)

    def forget(self, buckets: list[int]) -> bool:
        """True where one of them held something."""
        found = [self._forget(self._store.table(name), buckets) for name in sorted(self._made)]
        return any(found)

    def _forget(self, table: ProgramTable, buckets: list[int]) -> bool:
        held = sum(self._store.run(table, "load_let_go_bucket", (bucket,)).rowcount for bucket in buckets)
        if held:
            self._store.run(table, "load_delete_lost")
        return held > 0


def holders(table: ProgramTable, frame: dict[str, Any], rows: Sequence[Row], ids: list[int]) -> list[tuple[Any, ...]]:
    """(key…, bucket) of each row and each bucket that holds it."""
    keys = map(itemgetter(*table.key_places), rows)
    single, alone = one_bucket_each(frame, len(rows), ids), len(table.key_places) == 1
    if single is not None:
        return (
            list(zip(keys, single, strict=True))
            if alone
            else [(*key, of) for key, of in zip(keys, single, strict=True)]
        )
    several = zip(keys, buckets_of(frame, len(rows), ids), strict=True)
    return [(key, of) if alone else (*key, of) for key, listed in several for of in listed]


# ---------------------------------------------------------------- at the end
def place_load(store: Store, table: ProgramTable, included: int, *, is_untouched: bool) -> set[Key]:
    """Makes the loaded rows those of the table. Answers the keys among them that have mutations beyond `included`.

    `is_untouched`: the app has written nothing into the table.
    """
    if _are_few(store, table):
        return _copy(store, table, included)
    own = app_objects(store, table.name)
    has_triggers = any(sql.upper().startswith("CREATE TRIGGER") for _, sql in own)
    if is_untouched and not has_triggers and not has_own_columns(store, table):
        for kind, place in KINDS.items():
            taken = quote(f"{PREFIX}{place}_{table.name}" if place else table.name)
            store.connection.execute(f"DROP TABLE {taken}")
            store.connection.execute(f"ALTER TABLE {quote(f'{PREFIX}{kind}_{table.name}')} RENAME TO {taken}")
        _add_derived(store, table)
        put_back(store, own)
        return set()
    _drop_derived(store, table)
    pending = _copy(store, table, included)
    _add_derived(store, table)
    return pending


def _are_few(store: Store, table: ProgramTable) -> bool:
    loaded = quote(f"{PREFIX}load_{table.name}")
    some = store.connection.execute(f"SELECT 1 FROM {loaded} LIMIT ?", (store.copied_max + 1,)).fetchall()
    return len(some) <= store.copied_max


def _copy(store: Store, table: ProgramTable, included: int) -> set[Key]:
    store.run(table, "load_into")
    store.run(table, "load_held_into")
    pending = set(store.fetch(table, "load_pending", (included,)))
    for kind in KINDS:
        store.connection.execute(f"DROP TABLE {quote(f'{PREFIX}{kind}_{table.name}')}")
    return pending


def _drop_derived(store: Store, table: ProgramTable) -> None:
    """Our triggers and indexes: to write many rows without them and make them anew is faster."""
    for statement in (*table.ddl["triggers"], *table.ddl["indexes"]):
        kind, name = records.name_of_definition(statement)
        store.connection.execute(f"DROP {kind} {name}")


def _add_derived(store: Store, table: ProgramTable) -> None:
    with store.guard.defining():
        for statement in (*table.ddl["indexes"], *table.ddl["triggers"]):
            store.connection.execute(statement)
