"""What is wrong with an installation in a SQLite file, for `syncline doctor`. Nothing is changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from syncline.errors import SourceError
from syncline.model.identifiers import PREFIX, quote
from syncline.model.scopes import Plan
from syncline.source.port import Finding
from syncline.source.sqlite import provision as provisioning
from syncline.source.sqlite.belongings import CHANGELOG, is_provisioned, our_objects
from syncline.source.sqlite.generations import read_gaps
from syncline.source.sqlite.suspending import SCRIPT
from syncline.system.lock import FileLock


def diagnose(
    connection: sqlite3.Connection, plan: Plan | None, serving: FileLock, migrating: FileLock
) -> list[Finding]:
    """`serving`, `migrating`: the locks of a server and of `syncline migrate`. All of one snapshot."""
    connection.execute("BEGIN")
    try:
        return list(_findings(connection, plan, is_served=_is_held(serving), is_migrating=_is_held(migrating)))
    finally:
        connection.execute("COMMIT")


def _is_held(lock: FileLock) -> bool:
    if not lock.owner():  # nobody ever held it, and looking must not make its files
        return False
    if not lock.acquire():
        return True
    lock.release()
    return False


def _findings(
    connection: sqlite3.Connection, plan: Plan | None, *, is_served: bool, is_migrating: bool
) -> Iterator[Finding]:
    if not is_provisioned(connection):
        yield Finding("Capture is not installed in this database.", "Run: syncline provision", "not_provisioned")
        return
    kind = provisioning.migration(connection)
    if kind is not None and is_migrating:
        yield Finding("A migration is running.", "Wait until it has ended.", "migration_running")
    elif kind == SCRIPT:
        what = "A migration has begun with the script of --before, and has not ended: nothing syncs."
        yield Finding(what, "Run the script of --after, or: syncline provision", "migration_running")
    elif kind is not None:
        what = "A migration ended before it could put capture back: nothing syncs."
        remedy = "A running server mends it once the configuration fits. Without one, run: syncline provision"
        yield Finding(what, remedy, "migration_died")
    elif plan is not None:
        try:
            provisioning.verify(connection, plan)
        except SourceError as error:
            yield Finding(error.message, error.hint, error.error_code)
    yield from _waiting(connection, is_served=is_served)


def _waiting(connection: sqlite3.Connection, *, is_served: bool) -> Iterator[Finding]:
    if not is_served:
        counts = {name: _count(connection, name) for name in _changelogs(connection)}
        total = sum(counts.values())
        if total:
            what = f"{total:,} captured changes wait, most of them of {max(counts, key=lambda name: counts[name])}."
            yield Finding(f"No server takes checkpoints, and {what}", "Run: syncline serve", "not_served")
    gaps = read_gaps(connection)
    if gaps:
        what = f"Changes of {', '.join(sorted(gaps))} may have been missed."
        remedy = "The next checkpoint has devices fetch these tables anew" + ("." if is_served else ": syncline serve")
        yield Finding(what, remedy, "capture_gap")


def _changelogs(connection: sqlite3.Connection) -> list[str]:
    prefix = f"{PREFIX}{CHANGELOG}_"
    return [name.removeprefix(prefix) for name in our_objects(connection) if name.startswith(prefix)]


def _count(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {quote(f'{PREFIX}changelog_{table}')}").fetchone()[0])
