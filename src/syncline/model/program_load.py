"""Loading a table that is empty on the device: its rows wait in `syncline_load_<table>`, and those who hold them in
`syncline_loadheld_<table>`, until both take the places of the empty ones: decision 18.

These tables have no triggers, no indexes but the key, and are invisible to the app.
"""

from __future__ import annotations

from syncline.model.identifiers import quote, quote_list
from syncline.model.program_shape import Shape
from syncline.model.program_tables import held_table, synced_table
from syncline.model.scopes import Plan, SyncedTable


def load_tables(plan: Plan, synced: SyncedTable, shape: Shape) -> dict[str, str]:
    """kind -> CREATE TABLE. The first has exactly the columns, key and foreign keys of the synced table."""
    return {
        "load": synced_table(plan, synced, shape, shape.ours("load")),
        "loadheld": held_table(shape, "loadheld"),
    }


def load_statements(shape: Shape) -> dict[str, str]:
    """name -> SQL. ?1 of `load_hold_new` is the bucket, ?2 the last row number before the rows that it holds."""
    load, held, ours = shape.ours("load"), shape.ours("loadheld"), ", ".join(shape.key_names)
    columns, key = quote_list(shape.columns), quote_list(shape.key)
    sets = ", ".join(f"{quote(column)} = excluded.{quote(column)}" for column in shape.values)
    upsert = f"ON CONFLICT ({key}) " + (f"DO UPDATE SET {sets}" if sets else "DO NOTHING")
    marks = ", ".join(f"?{number}" for number in range(1, len(shape.columns) + 1))
    hold = f"INSERT OR IGNORE INTO {held} ({ours}, bucket)"
    bucket = len(shape.key) + 1
    held_marks = ", ".join(f"?{number}" for number in range(1, bucket + 1))
    own_key = " AND ".join(f"{name} = ?{number}" for number, name in enumerate(shape.key_names, 1))
    lost = f"NOT EXISTS (SELECT 1 FROM {held} AS h WHERE {shape.same_key(f'{load}.', 'h.')})"
    load_key = " AND ".join(f"{quote(column)} = ?{number}" for number, column in enumerate(shape.key, 1))
    return {
        "load_row": f"INSERT INTO {load} ({columns}) VALUES ({marks}) {upsert}",
        "load_last": "SELECT 0" if shape.rowid_key else f"SELECT coalesce(max(rowid), 0) FROM {load}",
        "load_hold": f"{hold} VALUES ({held_marks})",
        "load_hold_new": f"{hold} SELECT {key}, ?1 FROM {load} WHERE rowid > ?2",
        "load_let_go": f"DELETE FROM {held} WHERE {own_key} AND bucket = ?{bucket}",
        "load_let_go_bucket": f"DELETE FROM {held} WHERE bucket = ?1",
        "load_delete_lost_key": f"DELETE FROM {load} WHERE {load_key} AND {lost}",
        "load_delete_lost": f"DELETE FROM {load} WHERE {lost}",
        "load_into": f"INSERT INTO {shape.table} ({columns}) SELECT {columns} FROM {load} WHERE true {upsert}",
        "load_held_into": f"INSERT OR IGNORE INTO {shape.ours('held')} ({ours}, bucket) "
        f"SELECT {ours}, bucket FROM {held}",
        "load_pending": f"SELECT DISTINCT {ours} FROM {shape.ours('outbox')} AS o WHERE seq > ?1 "
        f"AND EXISTS (SELECT 1 FROM {load} AS t WHERE {shape.same_key('t.', 'o.')})",
    }
