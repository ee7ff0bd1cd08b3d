"""What every replica file has, whatever it syncs: our state, and the views that an app's screens read."""

from __future__ import annotations

from collections.abc import Sequence

from syncline.model.identifiers import literal
from syncline.model.program_shape import Shape

FILE_FORMAT = 2
"""Of the tables below. Whoever changes them writes a step in `replica/versions.py`, which says how."""

BOOTSTRAP = (
    # `seq`, `grp` and `applying` are read and written by the capture triggers: the row is kept small.
    """CREATE TABLE IF NOT EXISTS syncline_state (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        format INTEGER NOT NULL,
        applying INTEGER NOT NULL DEFAULT 0,
        seq INTEGER NOT NULL DEFAULT 0,
        grp INTEGER NOT NULL DEFAULT 0,
        included INTEGER NOT NULL DEFAULT 0,
        base INTEGER NOT NULL DEFAULT 0,
        seen INTEGER NOT NULL DEFAULT 0,
        cursor TEXT,
        apply_count INTEGER NOT NULL DEFAULT 0,
        epoch INTEGER NOT NULL DEFAULT 0,
        device TEXT,
        nonce TEXT,
        user TEXT,
        synced INTEGER NOT NULL DEFAULT 0,
        last_synced_us INTEGER,
        purge_pending INTEGER NOT NULL DEFAULT 0,
        wiped TEXT,
        agent TEXT NOT NULL DEFAULT 'stopped'
    )""",
    f"INSERT OR IGNORE INTO syncline_state (id, format) VALUES (1, {FILE_FORMAT})",
    "CREATE TABLE IF NOT EXISTS syncline_program (kind TEXT PRIMARY KEY, hash TEXT NOT NULL, document TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS syncline_bucket (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE IF NOT EXISTS syncline_stage (n INTEGER PRIMARY KEY, frame BLOB NOT NULL)",
    # What is staged of a long download. `frames`: the last one of `syncline_stage` that `token` covers; `put`: rows in
    # the tables that are loaded; `loading`: their names, as JSON; `rows`, `bytes` and `total_rows`: as the server says.
    """CREATE TABLE IF NOT EXISTS syncline_job (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        token TEXT NOT NULL,
        reset INTEGER NOT NULL,
        frames INTEGER NOT NULL,
        put INTEGER NOT NULL,
        loading TEXT NOT NULL,
        rows INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        total_rows INTEGER
    )""",
    # Buckets that staged rows name and that are not held yet; `listed`: by the frame that opened the download.
    """CREATE TABLE IF NOT EXISTS syncline_job_bucket (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        listed INTEGER NOT NULL
    )""",
    """CREATE TABLE IF NOT EXISTS syncline_parked (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        n INTEGER NOT NULL,
        table_name TEXT NOT NULL,
        key TEXT NOT NULL,
        key_values TEXT NOT NULL,
        operation TEXT NOT NULL,
        code TEXT NOT NULL,
        reason TEXT NOT NULL,
        row_values TEXT,
        grp INTEGER,
        at TEXT NOT NULL,
        increments TEXT
    )""",
    """CREATE TABLE IF NOT EXISTS syncline_conflict (
        id INTEGER PRIMARY KEY,
        n INTEGER NOT NULL,
        table_name TEXT NOT NULL,
        key TEXT NOT NULL,
        key_values TEXT NOT NULL,
        column_name TEXT NOT NULL,
        kind TEXT NOT NULL,
        rule TEXT NOT NULL,
        base TEXT,
        server TEXT,
        device TEXT,
        at TEXT NOT NULL
    )""",
    # `reached` and `refused` count since the outbox was last empty; what begins with `last_` is the receipt of then.
    """CREATE TABLE IF NOT EXISTS syncline_receipt (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        reached INTEGER NOT NULL DEFAULT 0,
        refused INTEGER NOT NULL DEFAULT 0,
        last_reached INTEGER NOT NULL DEFAULT 0,
        last_refused INTEGER NOT NULL DEFAULT 0,
        last_at_us INTEGER
    )""",
    "INSERT OR IGNORE INTO syncline_receipt (id) VALUES (1)",
    # Which cut last touched a table: live queries of every process run again for their own tables only.
    "CREATE TABLE IF NOT EXISTS syncline_changed (table_name TEXT PRIMARY KEY, apply_count INTEGER NOT NULL)",
    # When the file was last compared with the source.
    "CREATE TABLE IF NOT EXISTS syncline_verified (id INTEGER PRIMARY KEY CHECK (id = 1), at_us INTEGER NOT NULL)",
    """CREATE VIEW IF NOT EXISTS syncline_rejections AS
        SELECT id, table_name, key, operation, code, reason, row_values, at FROM syncline_parked""",
    """CREATE VIEW IF NOT EXISTS syncline_conflicts AS
        SELECT id, table_name, key, column_name, kind, rule, base, server, device, at FROM syncline_conflict""",
    """CREATE VIEW IF NOT EXISTS syncline_pending AS
        SELECT '' AS table_name, '' AS key, '' AS operation, '' AS since WHERE 0""",
)

OPERATION_WORDS = {"I": "insert", "U": "update", "D": "delete"}

_PART_TERMS = 100
"""SELECTs that one view joins; SQLite allows 500."""


def pending_views(shapes: Sequence[Shape]) -> list[str]:
    """`syncline_pending(table_name, key, operation, since)`: what has not reached the office yet."""
    selects = [_pending_of(shape) for shape in shapes] or [
        "SELECT '' AS table_name, '' AS key, '' AS operation, '' AS since WHERE 0"
    ]
    if len(selects) <= _PART_TERMS:
        return ["CREATE VIEW syncline_pending AS " + " UNION ALL ".join(selects)]
    views = []
    for number, start in enumerate(range(0, len(selects), _PART_TERMS)):
        part = " UNION ALL ".join(selects[start : start + _PART_TERMS])
        views.append(f"CREATE VIEW syncline_pending_part_{number} AS {part}")
    whole = " UNION ALL ".join(f"SELECT * FROM syncline_pending_part_{number}" for number in range(len(views)))
    return [*views, f"CREATE VIEW syncline_pending AS {whole}"]


def _pending_of(shape: Shape) -> str:
    members = []
    for name, column in zip(shape.key_names, shape.key, strict=True):
        # JSON functions refuse BLOBs and round floats: a BLOB is shown in hex, everything else as it prints.
        members.append(f"{literal(column)}, iif(typeof({name}) = 'blob', hex({name}), {name})")
    words = " ".join(f"WHEN '{letter}' THEN '{word}'" for letter, word in OPERATION_WORDS.items())
    return (
        f"SELECT {literal(shape.name)} AS table_name, json_object({', '.join(members)}) AS key, "
        f"CASE op {words} END AS operation, "
        "strftime('%Y-%m-%d %H:%M:%f', wall / 1000000.0, 'unixepoch') || '000' AS since "
        f"FROM {shape.ours('outbox')}"
    )
