"""Putting capture into a SQLite file, telling whether it is still what was put in, and taking every trace out."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import suppress

from syncline.errors import NotProvisionedError, SchemaChangedError
from syncline.model.identifiers import PREFIX, quote
from syncline.model.scopes import Plan
from syncline.source.generations import raised_by
from syncline.source.port import ProvisionReport
from syncline.source.signatures import layout_text
from syncline.source.sqlite.belongings import base_objects, base_script, is_provisioned, our_objects, require_names
from syncline.source.sqlite.capture import captures, changelog_index_sql, changelog_sql, trigger_sql
from syncline.source.sqlite.generations import mark_gaps, read_gaps
from syncline.source.sqlite.introspect import introspect
from syncline.source.sqlite.signatures import fold_waiting, read_signatures, store_signatures
from syncline.source.sqlite.suspending import MIGRATION, note_triggers, watched_tables
from syncline.system.database import immediate

VERSION = 3
SEAL = "seal"
"""The name in syncline_meta of the key that downloads' tokens are sealed with."""


def wanted_objects(plan: Plan) -> tuple[dict[str, str], dict[str, str]]:
    """(changelog tables and their indexes, triggers), each name -> statement."""
    tables, triggers = {}, {}
    for name, capture in captures(plan).items():
        tables[f"{PREFIX}changelog_{name}"] = changelog_sql(capture)
        if capture.key:
            tables[f"{PREFIX}waiting_{name}"] = changelog_index_sql(capture)
        triggers.update(trigger_sql(capture))
    return tables, triggers


def script(plan: Plan) -> tuple[str, ...]:
    """All statements that provisioning an untouched file runs."""
    tables, triggers = wanted_objects(plan)
    return (base_script(), *tables.values(), *triggers.values())


def provision(connection: sqlite3.Connection, plan: Plan, journal: str) -> ProvisionReport:
    """Idempotent. Tables of which changes may have been missed, and those of which devices are to hold something else,
    get a gap: the next checkpoint raises their generation, and devices get just these tables whole."""
    before = connection.execute("PRAGMA journal_mode").fetchone()[0]
    if journal == "wal" and before != "wal":
        connection.execute("PRAGMA journal_mode = WAL")
    with immediate(connection):
        _require_same_schema(connection, plan)
        report = _install(connection, plan)
        if _meta(connection, "journal_before") is None:
            _set_meta(connection, "journal_before", before)
    return report


def _install(connection: sqlite3.Connection, plan: Plan) -> ProvisionReport:
    """Inside a write transaction."""
    tables, triggers = wanted_objects(plan)
    wanted = {**tables, **triggers}
    existing = our_objects(connection)
    require_names(connection, wanted)
    _run_script(connection)
    logs = {name for name in plan.captured_tables if f"{PREFIX}changelog_{name}" in existing}
    replaced = {name for name in logs if existing[log := f"{PREFIX}changelog_{name}"] != wanted[log]}
    for name, known in read_signatures(connection).items():
        if name in replaced or (name in logs and known.is_other(plan.tables.get(name))):
            fold_waiting(connection, name, known)
    stale = {name for name in existing.keys() - base_objects().keys() if existing[name] != wanted.get(name)}
    stale |= {name for name in existing if _changelog_of(name) in stale}
    _drop(connection, sorted(stale), existing)
    created = [name for name in wanted if name not in existing or name in stale]
    for name in created:
        connection.execute(wanted[name])
    note_triggers(connection, plan.captured_tables)
    _write_layouts(connection, plan)
    incomplete = {table for table in plan.captured_tables if _is_incomplete(plan, table, existing)}
    missed = replaced | incomplete - watched_tables(existing)
    mark_gaps(connection, missed | store_signatures(connection, plan))
    for name, value in (("version", VERSION), ("capture", _fingerprint_of(wanted)), ("schema", _describe_tables(plan))):
        _set_meta(connection, name, value)
    connection.execute("DELETE FROM syncline_meta WHERE name = ?1", (MIGRATION,))
    if _meta(connection, "installation") is None:
        connection.execute("INSERT INTO syncline_meta SELECT 'installation', lower(hex(randomblob(4)))")
    draw_seal_key(connection)
    anew = raised_by(plan, read_gaps(connection))
    return _report(plan, created, stale, anew)


def _report(plan: Plan, created: list[str], stale: set[str], anew: frozenset[str]) -> ProvisionReport:
    prefix = f"{PREFIX}changelog_"
    fresh = sorted(name for name in plan.captured_tables if prefix + name in created)
    removed = sorted(name.removeprefix(prefix) for name in stale if name.startswith(prefix) and name not in created)
    same = sorted(set(plan.captured_tables) - set(fresh))
    return ProvisionReport(tuple(fresh), tuple(same), tuple(removed), script(plan), tuple(sorted(anew)))


def _require_same_schema(connection: sqlite3.Connection, plan: Plan) -> None:
    """The plan was made from the schema a moment ago; a migration may have gone on meanwhile."""
    now = introspect(connection)
    for name in plan.captured_tables:
        if now.tables.get(name) != plan.schema.tables.get(name):
            raise SchemaChangedError(
                f'"{name}" was changed while capture was put in.', hint="Try again.", code="schema_moving"
            )


def _is_incomplete(plan: Plan, table: str, existing: dict[str, str]) -> bool:
    """Whether a trigger or the changelog of a captured table is not there, or is another: then changes were missed."""
    capture = captures(plan)[table]
    wanted = {f"{PREFIX}changelog_{table}": changelog_sql(capture), **trigger_sql(capture)}
    return any(existing.get(name) != sql for name, sql in wanted.items())


def _fingerprint_of(wanted: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()


def _describe_tables(plan: Plan) -> str:
    """The captured tables as the plan knows them."""
    return json.dumps({name: _hash_of_table(plan, name) for name in plan.captured_tables}, ensure_ascii=False)


def _hash_of_table(plan: Plan, name: str) -> str:
    return hashlib.sha256(repr(plan.schema.tables.get(name)).encode()).hexdigest()


def _changelog_of(name: str) -> str:
    """The changelog that an index of ours lies on."""
    waiting = f"{PREFIX}waiting_"
    return f"{PREFIX}changelog_{name.removeprefix(waiting)}" if name.startswith(waiting) else ""


def _run_script(connection: sqlite3.Connection) -> None:
    """`executescript` would commit first; so statement by statement."""
    text = base_script()
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""


def _drop(connection: sqlite3.Connection, names: list[str], existing: dict[str, str]) -> None:
    """Triggers first, then indexes, then tables."""
    for kind in ("TRIGGER", "INDEX", "TABLE"):
        for name in names:
            if existing[name].upper().startswith(f"CREATE {kind}"):
                connection.execute(f"DROP {kind} {quote(name)}")


def _write_layouts(connection: sqlite3.Connection, plan: Plan) -> None:
    for name, synced in plan.tables.items():
        newest, columns = _newest_layout(connection, name)
        if columns != layout_text(synced):
            connection.execute(
                "INSERT INTO syncline_layout VALUES(?1, ?2, ?3)", (name, newest + 1, layout_text(synced))
            )


def _newest_layout(connection: sqlite3.Connection, table: str) -> tuple[int, str]:
    row = connection.execute(
        "SELECT layout, columns FROM syncline_layout WHERE table_name = ?1 ORDER BY layout DESC LIMIT 1", (table,)
    ).fetchone()
    return row or (0, "")


def layouts(connection: sqlite3.Connection) -> dict[str, int]:
    """Table -> number of its newest layout."""
    return dict(
        connection.execute("SELECT table_name, max(layout) FROM syncline_layout GROUP BY table_name").fetchall()
    )


def seal_key(connection: sqlite3.Connection) -> bytes | None:
    """None where capture was installed by a Syncline that drew none."""
    key = _meta(connection, SEAL)
    return None if key is None else bytes.fromhex(str(key))


def draw_seal_key(connection: sqlite3.Connection) -> None:
    """Inside a write transaction. The one that is there stays."""
    if _meta(connection, SEAL) is None:
        connection.execute("INSERT INTO syncline_meta SELECT ?1, lower(hex(randomblob(64)))", (SEAL,))


def _set_meta(connection: sqlite3.Connection, name: str, value: object) -> None:
    connection.execute(
        "INSERT INTO syncline_meta VALUES(?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value", (name, value)
    )


def _meta(connection: sqlite3.Connection, name: str) -> object:
    row = connection.execute("SELECT value FROM syncline_meta WHERE name = ?1", (name,)).fetchone()
    return row[0] if row else None


def verify(connection: sqlite3.Connection, plan: Plan) -> None:
    """NotProvisionedError or SchemaChangedError where capture is missing or is not what this plan needs."""
    hint = "Run: syncline provision"
    if not is_provisioned(connection):
        raise NotProvisionedError("Capture is not installed in this database.", hint=hint)
    wanted = {name: sql for objects in wanted_objects(plan) for name, sql in objects.items()}
    existing = our_objects(connection)
    missing = [name for name, sql in wanted.items() if existing.get(name) != sql]
    if missing:
        raise SchemaChangedError(
            f'Capture is not what the configuration needs: "{missing[0]}" is missing or other.', hint=hint
        )
    for name, synced in plan.tables.items():
        if _newest_layout(connection, name)[1] != layout_text(synced):
            raise SchemaChangedError(f'"{name}" has other columns than when capture was installed.', hint=hint)
    if _meta(connection, "version") != VERSION:
        raise SchemaChangedError("Capture was installed by another version of Syncline.", hint=hint)
    _require_same_schema(connection, plan)


def capture_fingerprint(connection: sqlite3.Connection) -> object:
    """Of the capture that was last put in, by whomever; None where there is none."""
    return _meta(connection, "capture") if is_provisioned(connection) else None


def is_other_configuration(connection: sqlite3.Connection, plan: Plan) -> bool:
    """Whether capture does not fit `plan` because it was provisioned for another configuration: the tables are as they
    were then, and need other capture now. That is for a person to say; what a migration did is not."""
    described = json.loads(str(_meta(connection, "schema") or "{}"))
    same_tables = all(_hash_of_table(plan, name) == known for name, known in described.items())
    return same_tables and _meta(connection, "capture") != wanted_fingerprint(plan)


def wanted_fingerprint(plan: Plan) -> str:
    """Of the capture that `plan` needs."""
    return _fingerprint_of({name: sql for objects in wanted_objects(plan) for name, sql in objects.items()})


def migration(connection: sqlite3.Connection) -> object:
    """COMMAND or SCRIPT while a migration has taken capture off; else None."""
    return _meta(connection, MIGRATION)


def pending_changes(connection: sqlite3.Connection, plan: Plan) -> list[str]:
    """What `provision` would put in or take out, for `check`; NameTakenError where it would be refused."""
    existing = our_objects(connection)
    require_names(connection, [name for objects in wanted_objects(plan) for name in objects])
    changes = []
    prefix = f"{PREFIX}changelog_"
    for name, capture in captures(plan).items():
        wanted = {f"{prefix}{name}": changelog_sql(capture), **trigger_sql(capture)}
        if any(existing.get(object_name) != sql for object_name, sql in wanted.items()):
            changes.append(f'install capture on "{name}"')
    gone = [name.removeprefix(prefix) for name in existing if name.startswith(prefix)]
    return changes + [f'remove capture from "{name}"' for name in gone if name not in plan.captured_tables]


def deprovision(connection: sqlite3.Connection, journal: str) -> bool:
    """Remove every trace, and nothing of the company's; the journal mode goes back to what it was."""
    if not is_provisioned(connection):
        return False
    before = _meta(connection, "journal_before") or "wal"
    with immediate(connection):
        ours = our_objects(connection)
        _drop(connection, list(ours), ours)
    if journal == "wal" and before != "wal":
        with suppress(
            sqlite3.OperationalError
        ):  # another program has the file open: it stays in WAL, which is no trace
            connection.execute(f"PRAGMA journal_mode = {before}")
    return True
