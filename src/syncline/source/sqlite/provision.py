"""Putting capture into a SQLite file, telling whether it is still what was put in, and taking every trace out."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import suppress
from importlib import resources

from syncline.errors import NotProvisionedError, SchemaChangedError
from syncline.model.identifiers import PREFIX, quote
from syncline.model.schema import Schema
from syncline.model.scopes import Plan
from syncline.source.port import ProvisionReport
from syncline.source.sqlite.capture import captures, changelog_index_sql, changelog_sql, trigger_sql
from syncline.source.sqlite.introspect import introspect
from syncline.system.database import immediate

VERSION = 1
_OURS = r"name LIKE 'syncline\_%' ESCAPE '\'"


def wanted_objects(plan: Plan) -> tuple[dict[str, str], dict[str, str]]:
    """(changelog tables and their indexes, triggers), each name -> statement."""
    tables, triggers = {}, {}
    for name, capture in captures(plan).items():
        tables[f"{PREFIX}changelog_{name}"] = changelog_sql(capture)
        if capture.key:
            tables[f"{PREFIX}waiting_{name}"] = changelog_index_sql(capture)
        triggers.update(trigger_sql(capture))
    return tables, triggers


def fingerprint(schema: Schema, plan: Plan) -> str:
    """Of the captured tables' columns and keys: what a migration of the company's may change under us."""
    described = [
        (name, [(column.name, column.type, column.generated) for column in table.columns], table.key)
        for name in plan.captured_tables
        if (table := schema.tables.get(name)) is not None
    ]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()


def script(plan: Plan) -> tuple[str, ...]:
    """All statements that provisioning an untouched file runs."""
    tables, triggers = wanted_objects(plan)
    base = resources.files("syncline.source.sqlite").joinpath("tables.sql").read_text(encoding="utf-8")
    return (base, *tables.values(), *triggers.values())


def provision(connection: sqlite3.Connection, plan: Plan, journal: str) -> ProvisionReport:
    """Idempotent. Where a changelog has to be replaced, or captured columns have changed, changes may have been missed:
    then the next term forgets all cursors, and every device downloads anew (and keeps its outbox)."""
    before = connection.execute("PRAGMA journal_mode").fetchone()[0]
    if journal == "wal" and before != "wal":
        connection.execute("PRAGMA journal_mode = WAL")
    tables, triggers = wanted_objects(plan)
    wanted = {**tables, **triggers}
    with immediate(connection):
        _run_script(connection)
        existing = _existing(connection)
        stale = {name for name in existing if _is_capture(name) and existing[name] != wanted.get(name)}
        stale |= {name for name in existing if _is_capture(name) and _changelog_of(name) in stale}
        _drop(connection, sorted(stale), existing)
        created = [name for name in wanted if name not in existing or name in stale]
        for name in created:
            connection.execute(wanted[name])
        _write_layouts(connection, plan)
        _set_meta(connection, "version", VERSION)
        schema = fingerprint(introspect(connection), plan)
        had_capture = any(_is_capture(name) for name in existing)
        if stale or (created and had_capture) or _meta(connection, "fingerprint") != schema:
            _set_meta(connection, "plan", None)
        _set_meta(connection, "fingerprint", schema)
        if _meta(connection, "journal_before") is None:
            _set_meta(connection, "journal_before", before)
        if _meta(connection, "installation") is None:
            connection.execute("INSERT INTO syncline_meta SELECT 'installation', lower(hex(randomblob(4)))")
    prefix = f"{PREFIX}changelog_"
    fresh = sorted(name for name in plan.captured_tables if prefix + name in created)
    removed = sorted(name.removeprefix(prefix) for name in stale if name.startswith(prefix) and name not in tables)
    same = sorted(set(plan.captured_tables) - set(fresh))
    return ProvisionReport(tuple(fresh), tuple(same), tuple(removed), script(plan))


def _changelog_of(name: str) -> str:
    """The changelog that an index of ours lies on."""
    waiting = f"{PREFIX}waiting_"
    return f"{PREFIX}changelog_{name.removeprefix(waiting)}" if name.startswith(waiting) else ""


def plan_fingerprint(plan: Plan) -> str:
    """Of what decides which rows and columns a device holds, besides grants, which are asked anew anyway."""
    scopes = [(scope.name, scope.root, scope.key, sorted(scope.filters.items())) for scope in plan.scopes.values()]
    tables = [
        (name, table.columns, [repr(path) for path in table.paths]) for name, table in sorted(plan.tables.items())
    ]
    return hashlib.sha256(json.dumps([scopes, tables]).encode()).hexdigest()


def _run_script(connection: sqlite3.Connection) -> None:
    """`executescript` would commit first; so statement by statement."""
    text = resources.files("syncline.source.sqlite").joinpath("tables.sql").read_text(encoding="utf-8")
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""


def _existing(connection: sqlite3.Connection) -> dict[str, str]:
    return dict(connection.execute(f"SELECT name, sql FROM sqlite_schema WHERE {_OURS} AND sql IS NOT NULL").fetchall())


def _is_capture(name: str) -> bool:
    kinds = ("changelog", "waiting", "insert", "update", "delete", "rekey", "replace")
    return name.removeprefix(PREFIX).partition("_")[0].rstrip("0123456789") in kinds


def _drop(connection: sqlite3.Connection, names: list[str], existing: dict[str, str]) -> None:
    """Triggers first, then indexes, then tables."""
    for kind in ("TRIGGER", "INDEX", "TABLE"):
        for name in names:
            if existing[name].upper().startswith(f"CREATE {kind}"):
                connection.execute(f"DROP {kind} {quote(name)}")


def _write_layouts(connection: sqlite3.Connection, plan: Plan) -> None:
    for name, synced in plan.tables.items():
        columns = json.dumps(synced.columns, ensure_ascii=False)
        known = connection.execute(
            "SELECT layout, columns FROM syncline_layout WHERE table_name = ?1 ORDER BY layout DESC LIMIT 1", (name,)
        ).fetchone()
        if known is None or known[1] != columns:
            connection.execute(
                "INSERT INTO syncline_layout VALUES(?1, ?2, ?3)", (name, (known[0] if known else 0) + 1, columns)
            )


def layouts(connection: sqlite3.Connection) -> dict[str, int]:
    """Table -> number of its newest layout."""
    return dict(
        connection.execute("SELECT table_name, max(layout) FROM syncline_layout GROUP BY table_name").fetchall()
    )


def _set_meta(connection: sqlite3.Connection, name: str, value: object) -> None:
    connection.execute(
        "INSERT INTO syncline_meta VALUES(?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value", (name, value)
    )


def _meta(connection: sqlite3.Connection, name: str) -> object:
    row = connection.execute("SELECT value FROM syncline_meta WHERE name = ?1", (name,)).fetchone()
    return row[0] if row else None


def is_provisioned(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'syncline_meta'").fetchone() is not None


def verify(connection: sqlite3.Connection, plan: Plan) -> None:
    """NotProvisionedError or SchemaChangedError where capture is missing or is not what this plan needs."""
    hint = "Run: syncline provision"
    if not is_provisioned(connection):
        raise NotProvisionedError("Capture is not installed in this database.", hint=hint)
    tables, triggers = wanted_objects(plan)
    existing = _existing(connection)
    missing = [name for name, sql in {**tables, **triggers}.items() if existing.get(name) != sql]
    if missing:
        raise SchemaChangedError(
            f'Capture is not what the configuration needs: "{missing[0]}" is missing or other.', hint=hint
        )
    if _meta(connection, "fingerprint") != fingerprint(introspect(connection), plan):
        raise SchemaChangedError("A captured table has other columns than when capture was installed.", hint=hint)


def pending_changes(connection: sqlite3.Connection, plan: Plan) -> list[str]:
    """What `provision` would put in or take out, for `check`."""
    existing = _existing(connection) if is_provisioned(connection) else {}
    changes = []
    prefix = f"{PREFIX}changelog_"
    for name, capture in captures(plan).items():
        wanted = {f"{prefix}{name}": changelog_sql(capture), **trigger_sql(capture)}
        if any(existing.get(object_name) != sql for object_name, sql in wanted.items()):
            changes.append(f'install capture on "{name}"')
    gone = [name.removeprefix(prefix) for name in existing if name.startswith(prefix)]
    return changes + [f'remove capture from "{name}"' for name in gone if name not in plan.captured_tables]


def deprovision(connection: sqlite3.Connection, journal: str) -> bool:
    """Remove every trace; the journal mode goes back to what it was."""
    if not is_provisioned(connection):
        return False
    before = _meta(connection, "journal_before") or "wal"
    with immediate(connection):
        existing = connection.execute(f"SELECT type, name FROM sqlite_schema WHERE {_OURS}").fetchall()
        for kind in ("trigger", "view", "table"):
            for found, name in existing:
                if found == kind:
                    connection.execute(f"DROP {kind.upper()} {quote(name)}")
    if journal == "wal" and before != "wal":
        with suppress(
            sqlite3.OperationalError
        ):  # another program has the file open: it stays in WAL, which is no trace
            connection.execute(f"PRAGMA journal_mode = {before}")
    return True
