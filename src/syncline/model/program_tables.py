"""The tables and indexes of a replica: the synced ones, and ours beside each."""

from __future__ import annotations

from syncline.model.identifiers import PREFIX, quote, quote_list
from syncline.model.program_shape import Shape
from syncline.model.schema import ForeignKey
from syncline.model.scopes import Plan, SyncedTable, declared_parent


def synced_table(plan: Plan, synced: SyncedTable, shape: Shape, name: str = "") -> str:
    """Not STRICT, nothing UNIQUE, NOT NULL or CHECK: the source's rules are the source's to enforce.

    `name`: quoted, where it is not the table's own.
    """
    parts = []
    for column in shape.columns:
        default = f" DEFAULT {shape.defaults[column]}" if column in shape.defaults else ""
        parts.append(f"{quote(column)} {shape.types[column]}{default}".rstrip())
    parts.append(f"PRIMARY KEY ({quote_list(shape.key)})")
    for key in brought_along(plan, synced):
        own, theirs = quote_list(key.columns), quote_list(key.references)
        parts.append(f"FOREIGN KEY ({own}) REFERENCES {quote(key.table)} ({theirs}) DEFERRABLE INITIALLY DEFERRED")
    return f"CREATE TABLE {name or shape.table} ({', '.join(parts)})"


def brought_along(plan: Plan, synced: SyncedTable) -> list[ForeignKey]:
    """The foreign key that every path begins with: wherever the row goes, the row it points at goes too."""
    found: list[ForeignKey] = []
    for path in synced.paths:
        key = declared_parent(synced.table, path.steps[0]) if path.steps else None
        if key is None:
            return []
        found.append(key)
    keys = list(dict.fromkeys(found))
    if len(keys) != 1 or keys[0].table not in plan.tables:
        return []
    # SQLite wants the referenced columns unique on the replica, and there only the key is.
    parent = plan.tables[keys[0].table]
    visible = set(keys[0].columns) <= set(synced.columns)
    return keys if visible and set(keys[0].references) == set(parent.key) else []


def our_tables(shape: Shape) -> dict[str, str]:
    """kind -> CREATE TABLE, in the main file."""
    keys = _key_columns(shape)
    old, new = _typed(shape, "o"), _typed(shape, "n")
    masks = [f"{name} INTEGER NOT NULL" for name in shape.mask_names]
    record = [
        "id BLOB NOT NULL DEFAULT (randomblob(16))",
        "op TEXT NOT NULL",
        "wall INTEGER NOT NULL",
        "seen INTEGER NOT NULL",
        "base INTEGER NOT NULL",
        "included_then INTEGER NOT NULL",
        "grp INTEGER NOT NULL",
        "ins INTEGER NOT NULL",
    ]
    shadow = [*masks, *keys, *old, *new]
    sent = ["n INTEGER PRIMARY KEY", "epoch INTEGER NOT NULL", "seq INTEGER NOT NULL", "sent_at INTEGER NOT NULL"]
    return {
        "held": held_table(shape, "held"),
        "outbox": f"CREATE TABLE {shape.ours('outbox')} ({', '.join(['seq INTEGER PRIMARY KEY', *record, *shadow])})",
        "sent": f"CREATE TABLE {shape.ours('sent')} ({', '.join([*sent, *record, *shadow])})",
        "replaced": f"CREATE TABLE {shape.ours('replaced')} ({', '.join([*keys, *old])})",
    }


def held_table(shape: Shape, kind: str) -> str:
    """Which buckets hold which rows."""
    columns, key = [*_key_columns(shape), "bucket INTEGER"], ", ".join(shape.key_names)
    return f"CREATE TABLE {shape.ours(kind)} ({', '.join(columns)}, PRIMARY KEY ({key}, bucket)) WITHOUT ROWID"


def _key_columns(shape: Shape) -> list[str]:
    return [f"{name} {shape.types[column]}".rstrip() for name, column in zip(shape.key_names, shape.key, strict=True)]


def _typed(shape: Shape, letter: str) -> list[str]:
    names = zip(shape.shadow(letter), shape.values, strict=True)
    return [f"{name} {shape.types[column]}".rstrip() for name, column in names]


def our_indexes(shape: Shape) -> list[str]:
    """Capture asks for own inserts by key; what apply asks, it asks of all that waits at once."""
    columns = ", ".join(shape.key_names)
    return [f"CREATE INDEX {shape.ours('key')} ON {shape.ours('outbox')} ({columns}) WHERE op = 'I'"]


def scratch_table(shape: Shape) -> str:
    """Keys that one apply has to look at; temporary, per connection."""
    keys = [f"{name} {shape.types[column]}".rstrip() for name, column in zip(shape.key_names, shape.key, strict=True)]
    key_list = ", ".join(shape.key_names)
    return f"CREATE TEMP TABLE {shape.ours('look')} ({', '.join(keys)}, PRIMARY KEY ({key_list})) WITHOUT ROWID"


def source_indexes(synced: SyncedTable, shape: Shape) -> list[str]:
    """Copies of the source's indexes, none of them unique: two rows may swap a unique value on the way."""
    found: list[str] = []
    for index in synced.table.indexes:
        if set(index.columns) <= set(shape.columns) and index.columns != shape.key[: len(index.columns)]:
            name = quote(f"{PREFIX}index_{shape.name}_{len(found)}")
            found.append(f"CREATE INDEX {name} ON {shape.table} ({quote_list(index.columns)})")
    return found
