"""What of capture stands in the database, what was written down when it was put in, and what the two say together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from syncline.errors import NotProvisionedError, SchemaChangedError
from syncline.model.scopes import Plan
from syncline.source.postgres.belongings import (
    RECORD,
    TableState,
    is_provisioned,
    missing_tables,
    read_meta,
    read_states,
    set_meta,
)
from syncline.source.postgres.capture import Capture, captures
from syncline.source.postgres.contents import Contents
from syncline.source.postgres.generations import read_gaps_apart
from syncline.source.postgres.introspect import introspect
from syncline.source.postgres.names import SCHEMA
from syncline.source.postgres.signatures import ASIDE_OF
from syncline.source.postgres.suspending import is_watched
from syncline.source.postgres.trigger_sql import function_digest
from syncline.source.postgres.troubles import AGAIN, Trouble, told
from syncline.source.signatures import layout_text

VERSION = "1"
FUNCTION_OF = "function:"
"""Prefix in `meta`: of the table that a function of ours captures."""
_HINT = "Run: syncline provision"
_LOST = Trouble("capture_lost")


@dataclass(frozen=True)
class Installed:
    """Of one captured table: what stands, and the record of what was put in; None where there is none.
    `has_aside`: stamps are still to be taken of an earlier changelog."""

    capture: Capture
    state: TableState
    record: Mapping[str, Any] | None
    has_aside: bool = False

    @property
    def name(self) -> str:
        return self.capture.table.name

    @property
    def fits(self) -> bool:
        """Whether everything stands, nobody has touched it since, and all of it has been written down."""
        if self.record is None or not self.stands or self.has_aside:
            return False
        return self.state.contents.is_within(Contents.parse(self.record["contents"]))

    @property
    def stands(self) -> bool:
        """As `fits`, but for columns and labels that have come since, and for what is put aside."""
        if self.record is None or not self.state.is_complete(self.capture) or self.is_rewritten(restored=False):
            return False
        return {**self.record, "contents": None} == {**record_of(self.state), "contents": None}

    @property
    def is_as_before(self) -> bool:
        """As `fits`, after a restore or an upgrade."""
        return self.state.is_complete(self.capture) and not self.is_rewritten(restored=True)

    @property
    def has_changelog(self) -> bool:
        return self.state.changelog is not None

    @property
    def new_members(self) -> list[str]:
        known = set(self.record["members"]) if self.record else set()
        return sorted(self.state.members.keys() - known)

    @property
    def new_subscribed(self) -> set[str]:
        """What a subscription has filled without anybody noticing."""
        return set(self.state.subscribed) - set(self.record.get("subscribed", ()) if self.record else ())

    def is_rewritten(self, *, restored: bool) -> bool:
        """Whether DDL may have given columns other values, of which no trigger hears."""
        if self.record is None or "contents" not in self.record:
            return True
        known = Contents.parse(self.record["contents"])
        return self.state.contents.differs_in_words(known) if restored else self.state.contents.may_differ(known)

    def is_continuous(self, *, restored: bool) -> bool:
        """Whether no change can have been missed since capture was put in, but for what `new_members` brought along.
        `restored`: the whole database was written anew by a restore or an upgrade."""
        if self.record is None or set(self.record["members"]) - self.state.members.keys() or self.new_subscribed:
            return False
        if self.is_rewritten(restored=restored):
            return False
        if self.state.was_deaf or not self.state.may_note:
            return False
        if is_watched(self.name, self.state):
            return not self.state.subscribed and self.state.function == self.record["function"]
        if restored:
            return self.state.is_complete(self.capture)
        record = self.record
        new = set(self.new_members)
        standing = [_line(trigger) for trigger in self.state.triggers if trigger.relation not in new]
        now = [standing, self.state.capture, self.state.function]
        return now == [record["triggers"], record["capture"], record["function"]]


def _line(trigger: Any) -> list[Any]:
    return [trigger.relation, trigger.name, trigger.oid, trigger.version, trigger.enabled]


def record_of(state: TableState) -> dict[str, Any]:
    return {
        "members": sorted(state.members),
        "subscribed": sorted(state.subscribed),
        "triggers": [_line(trigger) for trigger in state.triggers],
        "capture": state.capture,
        "function": state.function,
        "changelog": state.changelog,
        "contents": state.contents.record(),
    }


async def read_installed(db: asyncpg.Connection, wanted: Mapping[str, Capture]) -> dict[str, Installed]:
    """Of all these tables, whether anything of ours is there or not."""
    rows = await db.fetch("SELECT name, value FROM syncline.meta WHERE starts_with(name, $1)", RECORD)
    records = {name.removeprefix(RECORD): json.loads(text) for name, text in rows}
    rows = await db.fetch("SELECT name FROM syncline.meta WHERE starts_with(name, $1)", ASIDE_OF)
    aside = {row[0].removeprefix(ASIDE_OF) for row in rows}
    states = await read_states(db, wanted)
    return {
        name: Installed(capture, states[name], records.get(name), name in aside) for name, capture in wanted.items()
    }


def was_restored(installed: Mapping[str, Installed]) -> bool:
    """Whether no trigger and no function of ours is one that was put in: the catalogue was written anew, data and
    all. Whoever loads a single table from a dump leaves the functions."""
    put_in = [each for each in installed.values() if each.record is not None]
    recorded = {line[2] for each in put_in if each.record for line in each.record["triggers"]}
    standing = {trigger.oid for each in installed.values() for trigger in each.state.triggers}
    functions = any(each.record and each.record["capture"] == each.state.capture for each in put_in)
    return bool(recorded) and bool(standing) and not recorded & standing and not functions


async def note_restored(db: asyncpg.Connection, plan: Plan) -> None:
    """Inside a transaction that may write: after a restore, write down what stands now as what was put in."""
    installed = await read_installed(db, captures(plan))
    if was_restored(installed):
        for name, each in installed.items():
            if each.is_as_before:
                await set_meta(db, RECORD + name, json.dumps(record_of(each.state), ensure_ascii=False))


# ---------------------------------------------------------------- the whole
async def layouts(db: asyncpg.Connection) -> dict[str, tuple[int, str]]:
    """Table -> number of its newest layout, and its columns."""
    rows = await db.fetch(
        "SELECT DISTINCT ON (table_name) table_name, layout, columns FROM syncline.layout "
        "ORDER BY table_name, layout DESC"
    )
    return {name: (number, columns) for name, number, columns in rows}


def fingerprint_of(plan: Plan) -> str:
    """Of the capture that a plan needs."""
    wanted = {name: [capture.changelog_mark, function_digest(capture)] for name, capture in captures(plan).items()}
    return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()


def hash_of_table(plan: Plan, name: str) -> str:
    table = plan.schema.tables.get(name)
    return hashlib.sha256(repr(table).encode()).hexdigest()[:16]


def describe_tables(plan: Plan) -> str:
    """The captured tables as the plan knows them."""
    return json.dumps({name: hash_of_table(plan, name) for name in plan.captured_tables}, ensure_ascii=False)


async def require_provisioned(db: asyncpg.Connection) -> None:
    if not await is_provisioned(db):
        raise NotProvisionedError("Capture is not installed in this database.", hint=_HINT)


async def require_whole(db: asyncpg.Connection) -> None:
    """SchemaChangedError where somebody has dropped a table that all capture leans on."""
    if missing := await missing_tables(db):
        raise not_whole(missing)


def not_whole(missing: Sequence[str]) -> SchemaChangedError:
    listed = ", ".join(f"{SCHEMA}.{name}" for name in missing)
    are = "is gone, and nothing works without it" if len(missing) == 1 else "are gone, and nothing works without them"
    return SchemaChangedError(f"{listed} {are}.", hint=AGAIN, code="capture_lost")


async def verify(db: asyncpg.Connection, plan: Plan, lost_for_good: frozenset[str] | None = None) -> dict[str, Trouble]:
    """NotProvisionedError or SchemaChangedError where capture is missing or is not what this plan needs. With
    `lost_for_good`, those of these tables of which it is, and tables that cannot be read or whose filter does not work,
    are no error, but the answer."""
    await require_provisioned(db)
    await require_whole(db)
    installed = await read_installed(db, captures(plan))
    restored = was_restored(installed)
    lost = {name: _LOST for name, each in installed.items() if not (each.fits or (restored and each.is_as_before))}
    unread = troubles_in_reading(plan, {name: each.state for name, each in installed.items()})
    if unexpected := lost.keys() - (lost_for_good or frozenset()):
        raise SchemaChangedError(
            f'Capture is not what the configuration needs: that of "{min(unexpected)}" is missing or other.',
            hint=_HINT,
        )
    if unread and lost_for_good is None:
        found = told(plan, unread)[0]
        raise SchemaChangedError(found.what, hint=found.remedy, code=found.code)
    known = await layouts(db)
    for name, synced in plan.tables.items():
        if known.get(name, (0, ""))[1] != layout_text(synced):
            raise SchemaChangedError(f'"{name}" has other columns than when capture was installed.', hint=_HINT)
    if await read_meta(db, "version") != VERSION:
        raise SchemaChangedError("Capture was installed by another version of Syncline.", hint=_HINT)
    await require_same_schema(db, plan)
    return {**lost, **unread}


async def find_troubles(db: asyncpg.Connection, plan: Plan) -> dict[str, Trouble]:
    """Of single tables, for whoever does not serve: as `verify` finds them, and as the sequencer has met them."""
    installed = await read_installed(db, captures(plan))
    restored = was_restored(installed)
    lost = {name: _LOST for name, each in installed.items() if not (each.fits or (restored and each.is_as_before))}
    _, met = await read_gaps_apart(db)
    failed = {name: each for name, each in met.items() if each.code == "table_fails" and name in plan.tables}
    return {**failed, **lost, **troubles_in_reading(plan, {name: each.state for name, each in installed.items()})}


def troubles_in_reading(plan: Plan, states: Mapping[str, TableState]) -> dict[str, Trouble]:
    """Of tables that this role cannot read, or not all of, and of those whose filter does not work."""
    found = {name: Trouble("query_fails", why) for name, why in plan.unfit.items()}
    for name, state in states.items():
        if state.members and not state.is_readable:
            found[name] = Trouble("service_rights")
        elif state.is_hidden:
            found[name] = Trouble("row_security")
    return found


async def require_same_schema(db: asyncpg.Connection, plan: Plan) -> None:
    """The plan was made from the schema a moment ago; a migration may have gone on meanwhile."""
    now = await introspect(db)
    for name in plan.captured_tables:
        if now.tables.get(name) != plan.schema.tables.get(name):
            raise SchemaChangedError(
                f'"{name}" was changed while capture was put in.', hint="Try again.", code="schema_moving"
            )


async def capture_fingerprint(db: asyncpg.Connection) -> str | None:
    """Of the capture that was last put in, by whomever; None where there is none."""
    return await read_meta(db, "capture") if await is_provisioned(db) else None


async def is_other_configuration(db: asyncpg.Connection, plan: Plan) -> bool:
    """Whether capture does not fit `plan` because it was provisioned for another configuration: the tables are as they
    were then, and need other capture now. That is for a person to say; what a migration did is not."""
    described = json.loads(await read_meta(db, "schema") or "{}")
    same_tables = all(hash_of_table(plan, name) == known for name, known in described.items())
    return bool(described) and same_tables and await read_meta(db, "capture") != fingerprint_of(plan)
