"""What is wrong with an installation in a PostgreSQL database, for `syncline doctor`. Nothing is changed.

What cannot be a source at all (a standby, SQL_ASCII, an old version) is refused before: see `introspect.require_fit`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from typing import Any

import asyncpg

from syncline.errors import SourceError
from syncline.model.identifiers import quote
from syncline.model.scope_checks import index_statement, missing_indexes
from syncline.model.scopes import Plan
from syncline.source.port import Finding
from syncline.source.postgres import adopting, capture_owner, neighbours, suspending
from syncline.source.postgres.belongings import missing_tables, read_meta, read_states
from syncline.source.postgres.capture import captures
from syncline.source.postgres.catalogue import queries
from syncline.source.postgres.checkpoint_sql import LOCK_KEYS
from syncline.source.postgres.connections import Connections
from syncline.source.postgres.generations import read_gaps
from syncline.source.postgres.installed import find_troubles, not_whole
from syncline.source.postgres.names import ours, table_sql
from syncline.source.postgres.registry import require_provisioned
from syncline.source.postgres.roles import SERVICE
from syncline.source.postgres.troubles import AGAIN, Trouble, with_consequences

STATEMENT_TIMEOUT = "5s"
HELD_SECONDS = 1800.0
"""A transaction that is open for longer keeps vacuum from more than a busy day's ordinary work."""
WAITING_SECONDS = 60.0
"""What a working sequencer takes within milliseconds has waited too long then."""
CLOCK_SECONDS = 2.0
DEAD_ROWS_MAX = 1_000_000
COUNTED_MAX = 1_000_000
POOLER_TRIES = 3
_SQL = queries("diagnosis.sql")
_KINDS = ("TABLES", "SEQUENCES")
Row = Mapping[str, Any]


async def diagnose(connections: Connections, plan: Plan | None) -> list[Finding]:
    """In the order in which they are best mended."""
    found = [finding async for finding in _pooler(connections)]
    try:
        async with connections.snapshot(statement_timeout=STATEMENT_TIMEOUT) as db:
            found += [finding async for finding in _in_database(db, plan)]
        if plan is not None and not any(finding.code in _MISFITS for finding in found):
            async with connections.catalogue(statement_timeout=STATEMENT_TIMEOUT) as db:
                await adopting.attach(db, plan)
    except SourceError as error:
        found.insert(0, Finding(error.message, error.hint, error.error_code))
    return found


_MISFITS = frozenset(
    {
        "capture_lost",
        "capture_disabled",
        "partition_uncaptured",
        "service_rights",
        "row_security",
        "query_fails",
        "migration_running",
        "migration_died",
    }
)
"""With one of these it is known already why capture does not fit, or that it cannot be looked at."""


async def _in_database(db: asyncpg.Connection, plan: Plan | None) -> AsyncIterator[Finding]:
    server = await _row(db, "server")
    if not server["may_enter"]:
        grant = f"GRANT USAGE ON SCHEMA syncline TO {quote(server['role'])};"
        yield Finding("The service may not look at what provisioning made.", _typed(grant), "service_rights")
        return
    await require_provisioned(db)
    if missing := await missing_tables(db):
        gone = not_whole(missing)
        yield Finding(gone.message, gone.hint, gone.error_code)
        return
    migrations = await suspending.diagnose(db)
    for finding in migrations:
        yield finding
    troubles: Mapping[str, Trouble] = {}
    if plan is not None:
        troubles = await find_troubles(db, plan)
        if migrations:  # it has taken capture off, and what is missing for that reason is not lost
            troubles = {name: each for name, each in troubles.items() if each.code != "capture_lost"}
        found = [] if migrations else [finding async for finding in _capture(db, plan)]
        found += [finding async for finding in _mute(db, plan)]
        found += [finding async for finding in _rights(db, plan, server["role"])]
        for finding in with_consequences(plan, found, troubles):
            yield finding
    for finding in await capture_owner.diagnose(db):
        yield finding
    for finding in await neighbours.publications(db):
        yield finding
    for finding in await neighbours.dumps(db, plan) if plan is not None else ():
        yield finding
    async for finding in _queue(db, troubles):
        yield finding
    async for finding in _vacuum(db, server):
        yield finding
    for finding in _settings(server):
        yield finding
    for finding in _indexes(plan) if plan is not None else ():
        yield finding


# ---------------------------------------------------------------- capture
async def _capture(db: asyncpg.Connection, plan: Plan) -> AsyncIterator[Finding]:
    names = [table_sql(plan.schema.table(name)) for name in plan.captured_tables]
    rows = await db.fetch(_SQL["triggers"], names)
    lost = _parts(rows, is_missing=True, is_partition=False)
    if lost:
        yield Finding(f"Nothing notices changes of {lost}: triggers of ours are gone.", AGAIN, "capture_lost")
    parts = _parts(rows, is_missing=True, is_partition=True)
    if parts:
        what = f"Nothing notices changes that are written to {parts} directly: a partition without capture."
        yield Finding(what, AGAIN, "partition_uncaptured")
    disabled = [row for row in rows if not row["is_missing"]]
    if disabled:
        alter = f"ALTER TABLE ONLY {disabled[0]['part']} ENABLE ALWAYS TRIGGER {disabled[0]['trigger']};"
        yield Finding(
            f"Capture is switched off, or not always on, on {_listed({row['part'] for row in disabled})}.",
            f"{_typed(alter)} Or run: syncline provision",
            "capture_disabled",
        )


async def _mute(db: asyncpg.Connection, plan: Plan) -> AsyncIterator[Finding]:
    """Capture that stands and hears, and may not write down what it hears."""
    states = await read_states(db, captures(plan))
    mute = {name: state for name, state in states.items() if state.function is not None and not state.may_note}
    if mute:
        owner = next(iter(mute.values())).owners[1] or ""
        what = (
            f"Changes of {_listed(mute)} cannot be written down: {quote(owner)}, with whose rights capture runs, lacks "
            "some on the schema syncline. A REVOKE took them, or a dump was restored without rights."
        )
        yield Finding(what, AGAIN, "capture_lost")


def _parts(rows: list[Any], **wanted: bool) -> str:
    return _listed({row["part"] for row in rows if all(row[name] == value for name, value in wanted.items())})


async def _rights(db: asyncpg.Connection, plan: Plan, role: str) -> AsyncIterator[Finding]:
    needed = list(_needed(plan))
    rows = await db.fetch(_SQL["rights"], [name for name, _ in needed], [right for _, right in needed])
    schemas = sorted({row["schema"] for row in rows if not row["may_enter"]})
    grants = [f"GRANT USAGE ON SCHEMA {quote(schema)} TO {quote(role)};" for schema in schemas]
    by_table: dict[str, list[str]] = {}
    for row in rows:
        by_table.setdefault(row["table"], []).append(row["privilege"])
    grants += [f"GRANT {', '.join(rights)} ON {name} TO {quote(role)};" for name, rights in by_table.items()]
    missing = [row["name"] for row in await db.fetch(_SQL["our_rights"])]
    if missing:
        grants.append(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA syncline TO {quote(role)};")
    if grants:
        tables = [*by_table, *(ours(name) for name in missing)]
        what = f"The role {quote(role)} lacks rights on {_listed(tables)}."
        yield Finding(what, _typed(*grants), "service_rights")
    strangers = [row["role"] for row in await db.fetch(_SQL["strangers"], await _known_roles(db))]
    if strangers:
        what = f"Others have rights on what capture has noted of everybody's rows: {', '.join(strangers)}."
        revoke = (f"REVOKE ALL ON ALL {kind} IN SCHEMA syncline FROM {', '.join(strangers)};" for kind in _KINDS)
        yield Finding(what, _typed(*revoke), "foreign_rights")
    names = [table_sql(plan.schema.table(name)) for name in plan.captured_tables]
    hidden = [row["table"] for row in await db.fetch(_SQL["row_security"], names)]
    if hidden:
        what = (
            f"Row security would hide rows of {_listed(hidden)} from the service, so that it cannot read them at all."
        )
        alter = _typed(f"ALTER ROLE {quote(role)} BYPASSRLS;")
        yield Finding(what, f"{alter} Or make it a member of the owner's role.", "row_security")


async def _known_roles(db: asyncpg.Connection) -> list[str]:
    """Whom provisioning has given rights on what is ours."""
    return [await read_meta(db, SERVICE) or "", await capture_owner.role_of(db, "")]


def _needed(plan: Plan) -> Iterator[tuple[str, str]]:
    """(table, privilege) that reading needs. What writing needs is for `write_role`, or refused one by one."""
    for name in plan.captured_tables:
        yield table_sql(plan.schema.table(name)), "SELECT"


# ---------------------------------------------------------------- the queue
async def _queue(db: asyncpg.Connection, troubles: Collection[str]) -> AsyncIterator[Finding]:
    total, oldest, most = 0, None, ("", 0)
    for row in await db.fetch(_SQL["changelogs"]):
        counted, stamp = await db.fetchrow(
            f"SELECT count(*), min(stamp) FROM (SELECT stamp FROM {ours(row['name'])} LIMIT {COUNTED_MAX}) AS waiting"
        )
        total += counted
        most = max(most, (row["name"].removeprefix("changelog_"), counted), key=lambda pair: pair[1])
        oldest = min(filter(None, (oldest, stamp)), default=None)
    is_served = await is_sequencer_alive(db)
    if total and not is_served:
        what = f"No server takes checkpoints, and {total:,} captured changes wait, most of them of {most[0]}."
        yield Finding(what, "Run: syncline serve", "not_served")
    elif oldest is not None:
        seconds = await db.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8") - oldest / 1e6
        if seconds > WAITING_SECONDS:
            what = f"{total:,} captured changes wait, the oldest for {_duration(seconds)}, though a server is there."
            remedy = "Its /readyz and log say why no checkpoint is taken."
            yield Finding(what, remedy, "queue_waits")
    if gaps := sorted((await read_gaps(db, troubles)).keys()):
        what = f"Changes of {', '.join(gaps)} may have been missed."
        remedy = "The next checkpoint has devices fetch these tables anew" + ("." if is_served else ": syncline serve")
        yield Finding(what, remedy, "capture_gap")


async def is_sequencer_alive(db: asyncpg.Connection) -> bool:
    """Whether some session in this database holds what only the active sequencer holds."""
    return bool(await db.fetchval(_SQL["sequencer"], *LOCK_KEYS))


async def _vacuum(db: asyncpg.Connection, server: Row) -> AsyncIterator[Finding]:
    rows = await db.fetch(_SQL["vacuum"])
    off = [ours(row["name"]) for row in rows if row["is_off"]]
    if not (server["autovacuum"] and server["track_counts"]):
        what = "Autovacuum is switched off for the whole server: our queues, and all else, grow without end."
        yield Finding(what, "Set autovacuum = on and track_counts = on in postgresql.conf.", "autovacuum_off")
    elif off:
        statements = [f"ALTER TABLE {name} RESET (autovacuum_enabled);" for name in off]
        yield Finding(f"Autovacuum is switched off for {_listed(off)}.", _typed(*statements), "autovacuum_off")
    dead = [ours(row["name"]) for row in rows if (row["dead"] or 0) > DEAD_ROWS_MAX]
    if dead:
        what = f"{_listed(dead)} holds more than {DEAD_ROWS_MAX:,} dead rows, which vacuum has not removed."
        statements = [f"VACUUM {name};" for name in dead]
        yield Finding(what, f"See whether something below holds it back; then {_typed(*statements)}", "queue_bloated")
    for row in await db.fetch(_SQL["holders"], HELD_SECONDS):
        yield _holder(row)


def _holder(row: Row) -> Finding:
    held = "so vacuum cannot remove what was deleted since, neither the company's rows nor ours"
    if row["kind"] == "slot":
        statement = _typed(f"SELECT pg_drop_replication_slot('{row['name']}');")
        what = f"Nobody reads the replication slot {row['name']} ({row['application']}), {held}."
        return Finding(what, f"Start who reads it; or, if nobody will: {statement}", "slot_holds_rows")
    since = _duration(row["seconds"])
    if row["kind"] == "prepared":
        what = f"The prepared transaction '{row['name']}' of {row['owner']} waits for {since}, {held}."
        statement = _typed(f"ROLLBACK PREPARED '{row['name']}';")
        return Finding(
            what, f"Ask its owner whether to COMMIT PREPARED it; if not: {statement}", "prepared_transaction"
        )
    who = f"of {row['owner']}" + (f" ({row['application']})" if row["application"] else "")
    what = f"A transaction {who} is open for {since}, {held}."
    end = _typed(f"SELECT pg_terminate_backend({row['name']});")
    return Finding(what, f"Have it end. If nobody will: {end}", "long_transaction")


# ---------------------------------------------------------------- the server, and the way to it
def _settings(server: Row) -> Iterator[Finding]:
    if not server["fsync"] or server["synchronous_commit"] == "off":
        name = "fsync" if not server["fsync"] else "synchronous_commit"
        what = f"{name} is off: after a crash of the database, changes that were acknowledged to devices may be gone."
        remedy = f"Set {name} = on. Devices offer what they sent in the last 7 days again if a cursor was lost."
        yield Finding(what, remedy, "commits_not_durable")
    apart = server["now_us"] / 1e6 - time.time()
    if abs(apart) > CLOCK_SECONDS:
        which = "ahead of" if apart > 0 else "behind"
        what = f"The database's clock is {abs(apart):.0f} s {which} this machine's: who wrote last is told by both."
        yield Finding(what, "Have both follow a time server (NTP).", "clock_apart")
    if server["prepared_max"]:
        what = "max_prepared_transactions is not 0: a database at rest is looked at four times a second."
        yield Finding(what, "Set it to 0 if nobody uses PREPARE TRANSACTION.", "doorbell_off", is_note=True)


def _indexes(plan: Plan) -> Iterator[Finding]:
    for name, columns in missing_indexes(plan.schema, plan.tables):
        what = f'"{name}" is joined on {", ".join(columns)} without an index: checkpoints scan it.'
        yield Finding(what, _typed(index_statement(plan.schema.table(name), columns)), "index_missing", is_note=True)


async def _pooler(connections: Connections) -> AsyncIterator[Finding]:
    """Two sessions at once that are one backend: somebody hands backends out by the transaction."""
    try:
        if not await _shares_backends(connections):
            return
    except SourceError as error:
        if error.error_code != "source_pooler":
            raise
    what = "A pooler in transaction mode stands where the sequencer needs a session of its own."
    yield Finding(what, "Name the database itself in [source] direct_url.", "source_pooler")


async def _shares_backends(connections: Connections) -> bool:
    opened = []
    try:
        for _ in range(2):
            opened.append(await connections.direct())
        for _ in range(POOLER_TRIES):
            pids = [await each.fetchval("SELECT pg_backend_pid()") for each in opened]
            if pids[0] == pids[1]:
                return True
        return False
    finally:
        await asyncio.gather(*(each.close() for each in opened), return_exceptions=True)


# ---------------------------------------------------------------- words
async def _row(db: asyncpg.Connection, name: str) -> Row:
    row = await db.fetchrow(_SQL[name])
    assert row is not None
    return dict(row)


def _listed(names: Any) -> str:
    found = sorted(names)
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return ", ".join(found[:5]) + more


def _typed(*statements: str) -> str:
    return f"Type: {' '.join(statements)}"


def _duration(seconds: float) -> str:
    for name, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            number = int(seconds // length)
            return f"{number} {name}{'' if number == 1 else 's'}"
    return f"{seconds:.0f} s"
