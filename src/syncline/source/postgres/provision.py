"""Putting capture into a PostgreSQL database, and taking every trace out.

Every table is a transaction of its own, so that no two locks are held, and what was interrupted can be gone on with:
what stands already is left as it is. What was put in is written down with the versions of the catalogue's lines, so
that a trigger that was disabled and enabled again is noticed, too.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import asyncpg
from asyncpg.exceptions import PostgresError

from syncline.errors import SourceBusyError
from syncline.log import logger
from syncline.model.scopes import Plan
from syncline.source.generations import raised_by
from syncline.source.port import ProvisionReport, Removal
from syncline.source.postgres import neighbours, roles
from syncline.source.postgres.belongings import (
    DEAF,
    RECORD,
    base_script,
    is_provisioned,
    missing_tables,
    note_deaf,
    read_meta,
    require_names,
    set_meta,
    triggers_by_relation,
)
from syncline.source.postgres.capture import Capture, captures
from syncline.source.postgres.capture_owner import (
    CAPTURE_ROLE,
    entitle_sql,
    hand_over_sql,
    other_owner,
    require_fit,
    role_of,
)
from syncline.source.postgres.catalogue import queries
from syncline.source.postgres.connections import Connections
from syncline.source.postgres.generations import mark_gaps, read_gaps
from syncline.source.postgres.installed import (
    FUNCTION_OF,
    VERSION,
    Installed,
    describe_tables,
    fingerprint_of,
    layouts,
    not_whole,
    read_installed,
    record_of,
    require_same_schema,
    was_restored,
)
from syncline.source.postgres.locking import SEQUENCER_LOCK, alone, patiently, take_lock
from syncline.source.postgres.names import ours
from syncline.source.postgres.removing import remove_leftovers, remove_schema, take_triggers_off
from syncline.source.postgres.scripts import capture_statements, lock_statement, script
from syncline.source.postgres.signatures import (
    ASIDE_OF,
    drop_aside,
    fold_aside,
    index_aside,
    put_aside,
    read_signatures,
    store_signatures,
)
from syncline.source.postgres.suspending import MIGRATION
from syncline.source.postgres.troubles import is_of_a_table, words_of
from syncline.source.signatures import StoredSignature, layout_text

__all__ = ["deprovision", "pending_changes", "provision", "script"]

Tell = Callable[[str], None]
_log = logger("source")


@dataclass
class _Work:
    """One run. `refused` receives tables that this role may not put capture on; None: that is an error."""

    db: asyncpg.Connection
    plan: Plan
    tell: Tell
    refused: set[str] | None
    capture_role: str
    restored: bool = False
    fresh: list[str] = field(default_factory=list)


async def provision(
    connections: Connections,
    plan: Plan,
    service_role: str,
    tell: Tell,
    refused: set[str] | None = None,
    capture_role: str = "",
) -> ProvisionReport:
    """Idempotent. Tables of which changes may have been missed, and those of which devices are to hold something else,
    get a gap: the next checkpoint raises their generation, and devices get just these tables whole. `refused`
    receives the tables that this role may not change, which are left as they are; without it that is an error.
    `capture_role`: who owns capture; empty: as it was."""
    async with alone(connections) as db:
        await require_names(db)
        await require_same_schema(db, plan)
        await _make_base(db, plan, tell, refused)
        role = await role_of(db, capture_role)
        if refused is None:
            await require_fit(db, role)
        work = _Work(db, plan, tell, refused, role)
        installed = await read_installed(db, captures(plan))
        work.restored = was_restored(installed)
        mute = [name for name, each in installed.items() if each.state.function and not each.state.may_note]
        if mute:
            await patiently(db, "The schema syncline", lambda: note_deaf(db, mute), tell)
            installed = await read_installed(db, captures(plan))
        for each in sorted(installed.values(), key=lambda each: each.name):
            if not each.fits or (refused is None and not each.state.is_owned_by(role)):
                await _put_in_one(work, each)
        removed = () if refused else await remove_leftovers(db, plan, tell)
        await patiently(db, "The schema syncline", lambda: _finish(work, service_role), tell)
        anew = raised_by(plan, await read_gaps(db))
        if refused is None:
            await _identify(db, tell)
            for finding in await neighbours.dumps(db, plan):
                tell(f"{finding.what} {finding.remedy}")
        if refused is None and (other := await other_owner(db, role)):
            tell(f'Capture runs with the rights of "{other}", and not of "{role}"; syncline doctor says what to do')
    same = sorted(set(plan.captured_tables) - set(work.fresh))
    return ProvisionReport(
        tuple(sorted(work.fresh)), tuple(same), removed, script(plan, service_role, role), tuple(sorted(anew))
    )


async def _make_base(db: asyncpg.Connection, plan: Plan, tell: Tell, refused: set[str] | None) -> None:
    """What all capture leans on, where it is not there, or not of this version. What was to be written into a table
    that was gone was missed."""
    is_there = await is_provisioned(db)
    missing = await missing_tables(db) if is_there else []
    if is_there and not missing and await read_meta(db, "version") == VERSION:
        return

    async def make() -> None:
        await db.execute(base_script())
        if missing:
            await note_deaf(db, plan.captured_tables)

    try:
        await patiently(db, "The schema syncline", make, tell)
    except asyncpg.InsufficientPrivilegeError as error:
        if refused is None or not missing:
            raise
        raise not_whole(missing) from error


async def _identify(db: asyncpg.Connection, tell: Tell) -> None:
    """What was put in before publications were thought of: see the end of tables.sql."""
    for (table,) in await db.fetch(queries("belongings.sql")["unidentified"]):
        alter = f"ALTER TABLE {table} REPLICA IDENTITY FULL"
        try:
            await patiently(db, table, partial(_run, db, alter), tell)
        except asyncpg.InsufficientPrivilegeError:
            tell(f"Where a publication is FOR ALL TABLES, have the owner of {table} type: {alter}")


async def _run(db: asyncpg.Connection, statement: str) -> None:
    await db.execute(statement)


# ---------------------------------------------------------------- one table
async def _put_in_one(work: _Work, before: Installed) -> None:
    name = before.name
    try:
        await _finish_aside(work, before.capture)
        await patiently(work.db, f'"{name}"', lambda: _put_in(work, before.capture), work.tell)
        await _finish_aside(work, before.capture)
    except PostgresError as error:
        if work.refused is None or not is_of_a_table(error):
            raise
        _log.info('capture cannot be put on "%s": %s', name, words_of(error))
        work.refused.add(name)
        return
    if not before.has_changelog:
        work.fresh.append(name)


async def _put_in(work: _Work, capture: Capture) -> None:
    """Inside a transaction. The sequencer is kept out first, as it locks in that order, too."""
    db, name = work.db, capture.table.name
    found = (await read_installed(db, {name: capture}))[name]
    is_whole = found.state.is_complete(capture)
    if not is_whole:
        await db.execute(f"LOCK TABLE syncline.checkpoint IN EXCLUSIVE MODE; {lock_statement(capture)}")
        found = (await read_installed(db, {name: capture}))[name]
    is_missed = not found.is_continuous(restored=work.restored)
    if not is_whole:
        is_missed = await _keep_stamps(work, found) or is_missed
        await db.execute(";\n".join(capture_statements(capture)))
    if not is_whole or not found.state.is_owned_by(work.capture_role):
        await db.execute(hand_over_sql(capture, work.capture_role))
        await db.execute(entitle_sql(capture))
        await db.execute("DELETE FROM syncline.meta WHERE name = $1", DEAF + name)
        found = (await read_installed(db, {name: capture}))[name]
    for member in found.new_members:  # what came along with a partition was captured nowhere
        is_missed = is_missed or await db.fetchval(f"SELECT EXISTS (SELECT FROM {member})")
    if is_missed:
        await mark_gaps(db, [name], "provision")
    await set_meta(db, RECORD + name, json.dumps(record_of(found.state), ensure_ascii=False))
    await set_meta(db, FUNCTION_OF + capture.function_name, name)


async def _keep_stamps(work: _Work, found: Installed) -> bool:
    """Where what waits in the changelog would mean something else from now on, keep what counts of it. Whether
    anything waited."""
    db, capture = work.db, found.capture
    if not found.has_changelog:
        return False
    known = (await read_signatures(db)).get(found.name)
    synced = work.plan.tables.get(found.name)
    is_same = found.state.changelog == capture.changelog_mark
    if is_same and (known is None or not known.is_other(synced)):
        return False
    await db.execute(f"LOCK TABLE {capture.changelog} IN ACCESS EXCLUSIVE MODE")
    waited: bool = await db.fetchval(f"SELECT EXISTS (SELECT FROM {capture.changelog})")
    if waited and known is not None and synced is not None and known.key == synced.key:
        await put_aside(db, capture, known)
    return waited


async def _finish_aside(work: _Work, capture: Capture) -> None:
    """Take the stamps of what was put aside, also by a run that was interrupted; until then no checkpoint is taken."""
    db, name = work.db, capture.table.name
    text = await read_meta(db, ASIDE_OF + name)
    if text is None:
        return
    known, synced = StoredSignature.parse(text), work.plan.tables.get(name)
    left = synced is not None and synced.key == known.key

    async def fold() -> None:
        nonlocal left
        left = await fold_aside(db, capture, known)

    if left:
        await patiently(db, "The schema syncline", lambda: index_aside(db, name), work.tell)
    while left:
        await patiently(db, "The schema syncline", fold, work.tell)
    await patiently(db, "The schema syncline", lambda: drop_aside(db, name), work.tell)


# ---------------------------------------------------------------- the whole
async def _finish(work: _Work, service_role: str) -> None:
    """Inside a transaction; changes nobody's schema."""
    db, plan = work.db, work.plan
    known = await layouts(db)
    for name, synced in plan.tables.items():
        newest, columns = known.get(name, (0, ""))
        if columns != layout_text(synced):
            await db.execute("INSERT INTO syncline.layout VALUES ($1, $2, $3)", name, newest + 1, layout_text(synced))
    await mark_gaps(db, await store_signatures(db, plan), "plan")
    for name, value in (
        ("version", VERSION),
        ("capture", fingerprint_of(plan)),
        ("schema", describe_tables(plan)),
        (CAPTURE_ROLE, work.capture_role),
    ):
        await set_meta(db, name, value)
    await db.execute("DELETE FROM syncline.meta WHERE name = $1", MIGRATION)
    await db.execute(
        "INSERT INTO syncline.meta VALUES ('installation', $1) ON CONFLICT DO NOTHING", secrets.token_hex(4)
    )
    if service_role:
        await roles.grant(db, plan, service_role)


async def pending_changes(db: asyncpg.Connection, plan: Plan) -> list[str]:
    """What `provision` would put in or take out, for `check`; NameTakenError where it would be refused."""
    await require_names(db)
    if not await is_provisioned(db):
        return [f'install capture on "{name}"' for name in plan.captured_tables]
    lacking = [f"put back {ours(name)}" for name in await missing_tables(db)]
    installed = await read_installed(db, captures(plan))
    rows = await db.fetch("SELECT name FROM syncline.meta WHERE starts_with(name, $1) ORDER BY name", RECORD)
    gone = [name for (text,) in rows if (name := text.removeprefix(RECORD)) not in plan.captured_tables]
    changes = [f'install capture on "{name}"' for name in plan.captured_tables if not installed[name].stands]
    return lacking + changes + [f'remove capture from "{name}"' for name in gone]


async def deprovision(connections: Connections, tell: Tell) -> Removal:
    """Remove every trace, and nothing of the company's. One lock at a time, so that it can be interrupted and gone on
    with."""
    async with alone(connections) as db:
        if not await is_provisioned(db):
            return Removal(False)
        service = await read_meta(db, roles.SERVICE)
        if not await take_lock(db, SEQUENCER_LOCK):
            raise SourceBusyError("A server is running on this database.", hint="Stop it first.", code="server_running")
        for relation, names in (await triggers_by_relation(db)).items():
            await take_triggers_off(db, relation, names, tell)
        await patiently(db, "The schema syncline", lambda: remove_schema(db), tell)
        return Removal(True, await roles.rights_left(db, service) if service else ())
