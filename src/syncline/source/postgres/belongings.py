"""What the catalogue says of captured tables and of all that is ours: whatever is in the schema `syncline`, and every
trigger whose function is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

import asyncpg

from syncline.errors import SourceError
from syncline.model.scopes import Plan
from syncline.source.postgres.capture import Capture
from syncline.source.postgres.catalogue import queries
from syncline.source.postgres.contents import NOTHING, Contents
from syncline.source.postgres.trigger_sql import ROW_TRIGGER, TRIGGERS, function_digest

Arguments = tuple[list[str], list[str], list[str], list[str], list[str]]
ENABLED_ALWAYS = "A"
RECORD = "capture:"
"""Prefix in `meta`, of tables: what was put in."""
DEAF = "deaf:"
"""Prefix in `meta`, of tables: see `TableState.was_deaf`."""


class NameTakenError(SourceError):
    """The company has something under a name that capture needs."""

    code = "name_taken"


@dataclass(frozen=True, slots=True)
class Trigger:
    """One of ours as it stands. `version` changes whenever anybody alters, disables or enables it."""

    relation: str
    name: str
    oid: int
    version: str
    enabled: str
    function: str
    kind: int


@dataclass(frozen=True)
class TableState:
    """`host` and `capture` are texts to compare; `members`: the table and all its partitions, quoted -> oid, empty
    where there is no such table; `subscribed`: those of them that a subscription fills; `is_hidden`: policies would
    hide rows from this role; `is_readable`: it may lock and read all of it; `changelog` is the mark on our table,
    `function` a digest of its body: None where there is none; `ours` the oids of the two, `owners` their owners;
    `may_note`: the function's owner may write down what it hears of; `was_deaf`: that was found to be otherwise, or a
    table of ours to be gone, and nobody has put capture in since.
    `contents` is compared by its own ways."""

    host: str
    members: Mapping[str, int]
    triggers: tuple[Trigger, ...]
    capture: str
    changelog: str | None
    function: str | None
    ours: tuple[int | None, int | None]
    is_hidden: bool = False
    is_readable: bool = True
    subscribed: tuple[str, ...] = ()
    contents: Contents = field(default=NOTHING, compare=False)
    owners: tuple[str | None, str | None] = (None, None)
    may_note: bool = True
    was_deaf: bool = False

    def is_owned_by(self, role: str) -> bool:
        """Whether capture runs with the rights of this role, and its queue is analysed with them."""
        return self.owners == (role, role)

    def is_complete(self, capture: Capture) -> bool:
        """Whether all that `capture` needs stands, whoever put it there."""
        wanted = {(member, name) for member in self.members for name in TRIGGERS}
        wanted |= {(member, ROW_TRIGGER) for member in self.subscribed}
        standing = {
            (trigger.relation, trigger.name)
            for trigger in self.triggers
            if trigger.enabled == ENABLED_ALWAYS and trigger.function == capture.function_name
        }
        return (
            bool(self.members)
            and self.may_note
            and not self.was_deaf
            and wanted == standing == {(trigger.relation, trigger.name) for trigger in self.triggers}
            and self.changelog == capture.changelog_mark
            and self.function == function_digest(capture)
        )


def base_script() -> str:
    """What provisioning adds whatever the plan is."""
    return _text("tables.sql") + only_ours()


@cache
def base_tables() -> tuple[str, ...]:
    """The names of the tables that `base_script` makes."""
    return tuple(re.findall(r"CREATE TABLE IF NOT EXISTS syncline\.(\w+)", _text("tables.sql")))


async def missing_tables(db: asyncpg.Connection) -> list[str]:
    """Those of them that somebody has dropped."""
    rows = await db.fetch(
        "SELECT name FROM unnest($1::text[]) AS name WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c "
        "WHERE c.relnamespace = to_regnamespace('syncline') AND c.relkind = 'r' AND c.relname = name) ORDER BY name",
        list(base_tables()),
    )
    return [row[0] for row in rows]


def only_ours() -> str:
    """What ends a transaction that has made something of ours."""
    return _text("only_ours.sql")


def _text(file: str) -> str:
    return resources.files("syncline.source.postgres").joinpath(file).read_text(encoding="utf-8")


async def read_states(db: asyncpg.Connection, captures: Mapping[str, Capture]) -> dict[str, TableState]:
    """Of every captured table. Where nothing of ours is there the answer is empty."""
    arguments = state_arguments(captures)
    rows = await db.fetch(queries("belongings.sql")["state"], *arguments)
    contents = dict(await db.fetch(queries("contents.sql")["contents"], *arguments[:3]))
    deaf = await _read_deaf(db) if rows else set()
    found = {}
    for row in rows:
        triggers = [
            Trigger(relation, name, oid, version, enabled, function, kind)
            for relation, name, oid, version, enabled, kind, function in json.loads(row["triggers"])
        ]
        found[row["name"]] = TableState(
            row["host"],
            json.loads(row["members"] or "{}"),
            tuple(triggers),
            row["capture"],
            row["changelog"],
            row["function"],
            (row["changelog_oid"], row["function_oid"]),
            row["is_hidden"],
            row["is_readable"],
            tuple(json.loads(row["subscribed"])),
            Contents.parse(json.loads(contents.get(row["name"], "{}"))),
            (row["queue_owner"], row["function_owner"]),
            row["may_note"],
            row["name"] in deaf,
        )
    return found


async def _read_deaf(db: asyncpg.Connection) -> set[str]:
    rows = await db.fetch("SELECT name FROM syncline.meta WHERE starts_with(name, $1)", DEAF)
    return {row[0].removeprefix(DEAF) for row in rows}


async def note_deaf(db: asyncpg.Connection, tables: Iterable[str]) -> None:
    """Inside a transaction, before what these tables lack is put back: until capture is put in under a lock, a
    transaction of the host's may be under way of which nothing is written down."""
    for name in tables:
        await set_meta(db, DEAF + name, "")


def state_arguments(captures: Mapping[str, Capture]) -> Arguments:
    """For the query `state`."""
    places = [capture.table.place for capture in captures.values()]
    return (
        list(captures),
        [place[0] for place in places],
        [place[1] for place in places],
        [capture.changelog_name for capture in captures.values()],
        [capture.function_name for capture in captures.values()],
    )


async def view_oids(db: asyncpg.Connection, plan: Plan) -> list[int]:
    """Of the views that grants read through."""
    names = sorted({view for views in plan.grant_views.values() for view in views})
    if not names:
        return []
    rows = await db.fetch(
        "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind IN ('v', 'm') AND CASE WHEN n.nspname = "
        "coalesce(nullif(current_setting('syncline.home', true), ''), current_schema()) THEN c.relname::text "
        "ELSE n.nspname || '.' || c.relname END = ANY($1::text[]) ORDER BY c.oid",
        names,
    )
    return [row[0] for row in rows]


async def is_provisioned(db: asyncpg.Connection) -> bool:
    """Whether capture was ever installed here."""
    return await db.fetchval("SELECT to_regclass('syncline.meta') IS NOT NULL") is True


async def require_names(db: asyncpg.Connection) -> None:
    """NameTakenError where the schema that capture needs is somebody else's."""
    if await is_provisioned(db):
        return
    if await db.fetchval("SELECT to_regnamespace('syncline') IS NOT NULL"):
        raise NameTakenError(
            'The database has a schema "syncline" that is not ours, and capture needs that name.',
            hint="Rename the schema. Nothing was changed.",
        )


async def triggers_by_relation(db: asyncpg.Connection, function: str | None = None) -> dict[str, list[str]]:
    """Relation, quoted -> names of our triggers on it; of those that call `function`, if one is named."""
    found: dict[str, list[str]] = {}
    for relation, name in await db.fetch(queries("belongings.sql")["ours"], function):
        found.setdefault(relation, []).append(name)
    return found


async def set_meta(db: asyncpg.Connection, name: str, value: str) -> None:
    await db.execute(
        "INSERT INTO syncline.meta VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", name, value
    )


async def read_meta(db: asyncpg.Connection, name: str) -> str | None:
    value: str | None = await db.fetchval("SELECT value FROM syncline.meta WHERE name = $1", name)
    return value
