"""The rights that serving needs, and no more: of whom `provision` is told, and of the role that docs advise.

What is granted on things of the company's is written down, so that `deprovision` takes back just that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from syncline.model.identifiers import literal, quote
from syncline.model.scopes import Plan
from syncline.source.postgres.belongings import read_meta, set_meta
from syncline.source.postgres.names import SCHEMA, table_sql
from syncline.source.postgres.trigger_sql import dollar_quoted

GRANTED = "granted"
"""The name in `meta` of what was granted: a list of [role, privilege, on what, where], for which see `_WHERE`."""
SERVICE = "service"
"""The name in `meta` of the role that serves, where it is not the owner."""
_WRITES = ("INSERT", "UPDATE", "DELETE")


@dataclass(frozen=True, slots=True)
class _Right:
    """`kind` as in GRANT … ON kind object; `object` is quoted."""

    privilege: str
    kind: str
    object: str

    def grant(self, role: str) -> str:
        return f"GRANT {self.privilege} ON {self.kind} {self.object} TO {quote(role)}"


def _rights(plan: Plan) -> Iterator[_Right]:
    """On things of the company's."""
    tables = [plan.schema.table(name) for name in plan.captured_tables]
    for schema in sorted({table.place[0] for table in tables}):
        yield _Right("USAGE", "SCHEMA", quote(schema))
    writable = {name for scope in plan.scopes.values() for name in scope.writable}
    for table in tables:
        for privilege in ("SELECT", *(_WRITES if table.name in writable else ())):
            yield _Right(privilege, "TABLE", table_sql(table))
    for view in sorted({view for views in plan.grant_views.values() for view in views}):
        schema, _, name = view.rpartition(".")
        yield _Right("SELECT", "TABLE", f"{quote(schema or _home(plan))}.{quote(name)}")


def _home(plan: Plan) -> str:
    """The schema whose tables are called by their bare names."""
    return next((t.place[0] for t in plan.schema.tables.values() if t.place and t.place[1] == t.name), "public")


def our_grants(role: str) -> tuple[str, ...]:
    """On what is ours: gone with it."""
    name = quote(role)
    return (
        f"GRANT USAGE ON SCHEMA {SCHEMA} TO {name}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {SCHEMA} TO {name}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {SCHEMA} TO {name}",
        f"GRANT EXECUTE ON FUNCTION {SCHEMA}.now_us() TO {name}",
        f"INSERT INTO {SCHEMA}.meta VALUES ({literal(SERVICE)}, {literal(role)}) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )


def service_grants(plan: Plan, role: str) -> tuple[str, ...]:
    """For a role that exists. What is granted on things of the company's stays when capture is taken out."""
    block = f"BEGIN EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO %I', current_database(), {literal(role)}); END"
    sequences = _sequence_block(plan, role)
    return (
        f"DO {dollar_quoted(block)}",
        *(right.grant(role) for right in _rights(plan)),
        *([sequences] if sequences else []),
        *our_grants(role),
    )


def create_role(role: str) -> tuple[str, ...]:
    """A role that may sign in and has no other right. BYPASSRLS only where `rls_findings` names a table."""
    return (f"CREATE ROLE {quote(role)} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE",)


def _sequence_block(plan: Plan, role: str) -> str:
    """What draws the values of serial columns has to be allowed by itself; identity columns need nothing."""
    writable = sorted({name for scope in plan.scopes.values() for name in scope.writable})
    if not writable:
        return ""
    tables = ", ".join(f"{literal(table_sql(plan.schema.table(name)))}::regclass" for name in writable)
    block = f"""
DECLARE sequence regclass;
BEGIN
  FOR sequence IN
    SELECT DISTINCT d.refobjid::regclass FROM pg_catalog.pg_attrdef a
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = a.oid
      AND d.refclassid = 'pg_class'::regclass
    JOIN pg_catalog.pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
    WHERE a.adrelid IN ({tables})
  LOOP
    EXECUTE format('GRANT USAGE ON SEQUENCE %s TO %I', sequence, {literal(role)});
  END LOOP;
END
"""
    return f"DO {dollar_quoted(block)}"


async def grant(db: asyncpg.Connection, plan: Plan, role: str) -> None:
    """Inside a transaction: give what the role does not have yet, and write down what was given."""
    given = json.loads(await read_meta(db, GRANTED) or "[]")
    if await db.fetchval("SELECT has_database_privilege($1, current_database(), 'TEMPORARY')", role) is False:
        database = quote(await db.fetchval("SELECT current_database()"))
        given.append(await _grant(db, role, _Right("TEMPORARY", "DATABASE", database)))
    for right in _rights(plan):
        question = "has_schema_privilege" if right.kind == "SCHEMA" else "has_table_privilege"
        name = right.object if right.kind == "TABLE" else right.object[1:-1].replace('""', '"')
        if not await db.fetchval(f"SELECT {question}($1::name, $2::text, $3::text)", role, name, right.privilege):
            given.append(await _grant(db, role, right))
    writable = sorted({name for scope in plan.scopes.values() for name in scope.writable})
    tables = [table_sql(plan.schema.table(name)) for name in writable]
    for (sequence,) in await db.fetch(_SEQUENCES, tables, role):
        given.append(await _grant(db, role, _Right("USAGE", "SEQUENCE", sequence)))
    for statement in our_grants(role):
        await db.execute(statement)
    await set_meta(db, GRANTED, json.dumps(given, ensure_ascii=False))


_SEQUENCES = """
SELECT DISTINCT quote_ident(n.nspname) || '.' || quote_ident(s.relname) FROM pg_catalog.pg_attrdef a
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = a.oid
  AND d.refclassid = 'pg_class'::regclass
JOIN pg_catalog.pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace
WHERE a.adrelid = ANY(SELECT t::regclass::oid FROM unnest($1::text[]) AS t)
  AND CASE s.relkind WHEN 'S' THEN NOT has_sequence_privilege($2::name, s.oid, 'USAGE') END
"""
"""CASE: asked of a table, to which every default belongs too, that function fails, and the planner may ask first."""


_WHERE = """
SELECT d.oid::int8 AS database, CASE $1::text WHEN 'SCHEMA' THEN to_regnamespace($2)::oid::int8
  WHEN 'DATABASE' THEN NULL ELSE to_regclass($2)::oid::int8 END AS object
FROM pg_catalog.pg_database d WHERE d.datname = current_database()
"""
"""The oids of the database and of the thing, which a RENAME leaves as they are, and a restore does not."""
_NAMED_NOW = """
SELECT CASE $1::text
  WHEN 'SCHEMA' THEN (SELECT quote_ident(n.nspname) FROM pg_catalog.pg_namespace n WHERE n.oid = $3::int8::oid)
  WHEN 'DATABASE' THEN quote_ident(d.datname)
  ELSE (SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $3::int8::oid
      AND (c.relkind = 'S') = ($1::text = 'SEQUENCE')) END
FROM pg_catalog.pg_database d WHERE d.datname = current_database() AND d.oid = $2::int8::oid
"""


async def _grant(db: asyncpg.Connection, role: str, right: _Right) -> list[Any]:
    await db.execute(right.grant(role))
    where = await db.fetchrow(_WHERE, right.kind, right.object)
    return [role, right.privilege, f"{right.kind} {right.object}", list(where or ())]


async def _named_now(db: asyncpg.Connection, what: str, where: Sequence[int | None]) -> str:
    """`what` was granted on, by the name that it has today; by its old one after a restore."""
    kind, _, name = what.partition(" ")
    found = await db.fetchval(_NAMED_NOW, kind, *where) if where else None
    return f"{kind} {found or name}"


async def take_back(db: asyncpg.Connection) -> None:
    """Inside a transaction: what `grant` gave, as far as it is there."""
    for role, privilege, what, *where in json.loads(await read_meta(db, GRANTED) or "[]"):
        what = await _named_now(db, what, where[0] if where else ())
        try:
            async with db.transaction():
                await db.execute(f"REVOKE {privilege} ON {what} FROM {quote(role)}")
        except (asyncpg.UndefinedObjectError, asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
            pass  # the role or the table is gone, and the right with it


async def rights_left(db: asyncpg.Connection, role: str) -> tuple[str, ...]:
    """REVOKE statements for what the role itself may do with things of the company's, whoever gave it that."""
    return tuple(row[0] for row in await db.fetch(_LEFT, role))


_LEFT = """
SELECT format('REVOKE %s ON %s %s FROM %I;', string_agg(privilege, ', ' ORDER BY privilege), kind, place, $1::text)
FROM (
  SELECT 'DATABASE' AS kind, quote_ident(d.datname) AS place, a.privilege_type AS privilege, a.grantee
  FROM pg_catalog.pg_database d CROSS JOIN LATERAL aclexplode(d.datacl) a
  WHERE d.datname = current_database() AND a.privilege_type = 'TEMPORARY'
  UNION ALL
  SELECT 'SCHEMA', quote_ident(n.nspname), a.privilege_type, a.grantee
  FROM pg_catalog.pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) a
  UNION ALL
  SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
    quote_ident(n.nspname) || '.' || quote_ident(c.relname), a.privilege_type, a.grantee
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  CROSS JOIN LATERAL aclexplode(c.relacl) a WHERE c.relowner <> a.grantee
) AS r WHERE grantee = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1::text)
GROUP BY kind, place ORDER BY kind, place
"""


async def rls_findings(db: asyncpg.Connection, plan: Plan) -> tuple[str, ...]:
    """The captured tables of which policies would hide rows from the current role: it can read nothing of them without
    BYPASSRLS or ownership."""
    tables = {name: table_sql(plan.schema.table(name)) for name in plan.captured_tables}
    rows = await db.fetch(
        "SELECT name FROM unnest($1::text[], $2::text[]) AS t(name, relation) "
        "WHERE row_security_active(relation) ORDER BY name",
        list(tables),
        list(tables.values()),
    )
    return tuple(row[0] for row in rows)
