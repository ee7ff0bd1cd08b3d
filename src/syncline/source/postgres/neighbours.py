"""What programs of the company's meet of ours: its dumps, and its publications."""

from __future__ import annotations

import asyncpg

from syncline.model.identifiers import quote
from syncline.model.scopes import Plan
from syncline.source.port import Finding
from syncline.source.postgres.catalogue import queries
from syncline.source.postgres.names import table_sql


async def dumps(db: asyncpg.Connection, plan: Plan) -> list[Finding]:
    """A note of each owner of captured tables who may not read ours, so that its pg_dump of the database fails."""
    tables = [table_sql(plan.schema.table(name)) for name in plan.captured_tables]
    return [
        Finding(
            f"A pg_dump of the whole database by {quote(owner)}, who owns captured tables, fails: it may not read the "
            "schema syncline.",
            f"Where it makes your backups, type: GRANT pg_read_all_data TO {quote(owner)}; (PostgreSQL 14 and newer). "
            "Or have another role make them, or add --exclude-schema=syncline.",
            "backup_rights",
            is_note=True,
        )
        for (owner,) in await db.fetch(queries("neighbours.sql")["owners"], tables)
    ]


async def publications(db: asyncpg.Connection) -> list[Finding]:
    """Those that ship our tables: a note, unless what is deleted from one of them cannot be told."""
    rows = await db.fetch(queries("neighbours.sql")["publications"])
    names = ", ".join(quote(row["name"]) for row in rows)
    if any(row["is_stuck"] for row in rows):
        what = f"The publication {names} takes in tables of ours that have no replica identity: no checkpoint is taken."
        remedy = "Run: syncline provision, with --owner-url where the service may not."
        return [Finding(what, remedy, "schema_published")]
    if not rows:
        return []
    what = f"The publication {names} takes the schema syncline in: all that we write is shipped to its subscribers."
    remedy = "Nothing, if that is meant; else publish FOR TABLES IN SCHEMA (PostgreSQL 15 and newer) or FOR TABLE …"
    return [Finding(what, remedy, "schema_published", is_note=True)]
