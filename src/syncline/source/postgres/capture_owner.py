"""Whose rights capture runs with.

Whoever may alter a captured table chooses the types of its columns, and with them the casts, operators and functions
that run when a change is written into the queue, and when the queue is analysed. All of these run with the rights of
the owner, of the function or of the queue, and whoever provisions may be a superuser. So both belong to a role that
nobody signs in as and that may do nothing else. Where it may not be made they stay with whoever provisions, and
`doctor` says so.
"""

from __future__ import annotations

import asyncpg

from syncline.model.identifiers import literal, quote
from syncline.source.port import Finding
from syncline.source.postgres.belongings import NameTakenError, read_meta
from syncline.source.postgres.capture import FUNCTION, Capture
from syncline.source.postgres.names import CAPTURE_ROLE_DEFAULT, SCHEMA, ours
from syncline.source.postgres.trigger_sql import dollar_quoted

CAPTURE_ROLE = "capture_role"
"""The name in `meta` of the role that was asked for."""
MADE = "syncline: owns the functions and queues of capture; dropped by deprovision"
"""The comment on a role that `provision` has made. It is of the whole server: other databases may use it, too."""
_MAY_MORE = (
    "(r.rolcanlogin OR r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls "
    "OR EXISTS (SELECT FROM pg_catalog.pg_auth_members m WHERE m.member = r.oid))"
)
_TRIES = 3


def hand_over_sql(capture: Capture, role: str) -> str:
    """The block that gives the function and the queue of one table to the role, after having made it where it may.
    For the end of the transaction that has made the two; may be run again. Another database's `deprovision` may drop
    the role in the moment between."""
    function, queue = f"{ours(capture.function_name)}()", capture.changelog
    block = f"""
DECLARE
  owner text := {literal(role)}; is_made boolean;
  options text := CASE WHEN current_setting('server_version_num')::int >= 160000
    THEN ' WITH INHERIT TRUE, SET TRUE' ELSE '' END;
  to_set text := CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
BEGIN
  FOR turn IN 1..{_TRIES} LOOP
    BEGIN
      BEGIN
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = owner) THEN
          EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN NOINHERIT', owner);
          EXECUTE pg_catalog.format('COMMENT ON ROLE %I IS %L', owner, {literal(MADE)});
        END IF;
        SELECT {_is_made("r.oid")} INTO is_made FROM pg_catalog.pg_roles r WHERE r.rolname = owner;
        IF is_made AND NOT pg_catalog.pg_has_role(owner::name, to_set) THEN
          EXECUTE pg_catalog.format('GRANT %I TO CURRENT_USER%s', owner, options);
        END IF;
      EXCEPTION
        WHEN insufficient_privilege THEN NULL;
        WHEN duplicate_object OR unique_violation THEN CONTINUE;
      END;
      IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = owner AND NOT {_MAY_MORE}
        AND pg_catalog.pg_has_role(r.oid, to_set) AND pg_catalog.pg_has_role(r.oid, 'USAGE'))
      THEN
        RAISE NOTICE 'Capture runs with the rights of %: it may not make the role %, or not use it.',
          current_user, owner;
        RETURN;
      END IF;
      IF EXISTS (SELECT FROM pg_catalog.pg_proc p, pg_catalog.pg_class c, pg_catalog.pg_roles r
        WHERE p.oid = {literal(function)}::regprocedure AND c.oid = {literal(queue)}::regclass AND r.rolname = owner
          AND p.proowner = r.oid AND c.relowner = r.oid)
      THEN
        RETURN;
      END IF;
      EXECUTE pg_catalog.format('GRANT USAGE, CREATE ON SCHEMA {SCHEMA} TO %I', owner);
      EXECUTE pg_catalog.format('ALTER FUNCTION %s OWNER TO %I', {literal(function)}, owner);
      EXECUTE pg_catalog.format('ALTER TABLE %s OWNER TO %I', {literal(queue)}, owner);
      EXECUTE pg_catalog.format('REVOKE CREATE ON SCHEMA {SCHEMA} FROM %I', owner);
      RETURN;
    EXCEPTION
      WHEN undefined_object THEN
        IF turn = {_TRIES} THEN RAISE; END IF;
      WHEN insufficient_privilege THEN
        RAISE NOTICE 'Capture runs with the rights of who put it in: %', SQLERRM;
        RETURN;
    END;
  END LOOP;
END
"""
    return f"DO {dollar_quoted(block)}"


def entitle_sql(capture: Capture) -> str:
    """The block that gives the owner of a table's function what the function needs, where it lacks it; after
    `hand_over_sql`. A GRANT of somebody who may not give that right may be a mere warning: here it is an error."""
    function, queue = literal(f"{ours(capture.function_name)}()"), literal(capture.changelog)
    block = f"""
DECLARE
  owner name := (SELECT pg_catalog.pg_get_userbyid(p.proowner) FROM pg_catalog.pg_proc p
    WHERE p.oid = {function}::regprocedure);
  wanted record;
BEGIN
  FOR wanted IN VALUES
    ('SCHEMA', {literal(SCHEMA)}, 'USAGE'), ('TABLE', {literal(ours("gap"))}, 'INSERT'),
    ('TABLE', {literal(ours("pulse"))}, 'SELECT'), ('FUNCTION', {literal(f"{ours('now_us')}()")}, 'EXECUTE'),
    ('TABLE', {queue}, 'INSERT')
  LOOP
    FOR turn IN 1..2 LOOP
      EXIT WHEN CASE wanted.column1
        WHEN 'SCHEMA' THEN pg_catalog.has_schema_privilege(owner, wanted.column2, wanted.column3)
        WHEN 'TABLE' THEN pg_catalog.has_table_privilege(owner, wanted.column2, wanted.column3)
        ELSE pg_catalog.has_function_privilege(owner, wanted.column2, wanted.column3) END;
      IF turn = 2 THEN
        RAISE insufficient_privilege USING MESSAGE = pg_catalog.format(
          '%s may not give %s the right %s on %s, which capture needs',
          current_user, owner, wanted.column3, wanted.column2);
      END IF;
      EXECUTE pg_catalog.format('GRANT %s ON %s %s TO %I', wanted.column3, wanted.column1, wanted.column2, owner);
    END LOOP;
  END LOOP;
END
"""
    return f"DO {dollar_quoted(block)}"


def _is_made(role: str) -> str:
    return f"pg_catalog.shobj_description({role}, 'pg_authid') IS NOT DISTINCT FROM {literal(MADE)}"


async def role_of(db: asyncpg.Connection, wanted: str) -> str:
    """The one that is wanted, else the one of last time."""
    return wanted or await read_meta(db, CAPTURE_ROLE) or CAPTURE_ROLE_DEFAULT


async def require_fit(db: asyncpg.Connection, role: str) -> None:
    """NameTakenError where the role may do more than own capture."""
    if await db.fetchval(f"SELECT {_MAY_MORE} FROM pg_catalog.pg_roles r WHERE r.rolname = $1", role):
        raise NameTakenError(
            f'The role "{role}", which is to own capture, may sign in or has rights of its own.',
            hint="Name another one in [source] capture_role. Nothing was changed.",
        )


async def other_owner(db: asyncpg.Connection, role: str) -> str | None:
    """Somebody else whose rights capture runs with."""
    owner: str | None = await db.fetchval(
        "SELECT min(pg_catalog.pg_get_userbyid(p.proowner)::text) FROM pg_catalog.pg_proc p "
        "WHERE p.pronamespace = 'syncline'::regnamespace AND pg_catalog.starts_with(p.proname, $2) "
        "AND pg_catalog.pg_get_userbyid(p.proowner) <> $1",
        role,
        f"{FUNCTION}_",
    )
    return owner


async def diagnose(db: asyncpg.Connection) -> list[Finding]:
    """Capture that runs with the rights of a role that may do more."""
    rows = await db.fetch(
        "SELECT r.rolname::text, r.rolsuper OR r.rolcreaterole OR r.rolbypassrls AS is_mighty "
        "FROM pg_catalog.pg_roles r WHERE r.oid IN (SELECT p.proowner FROM pg_catalog.pg_proc p "
        "WHERE p.pronamespace = to_regnamespace('syncline') AND pg_catalog.starts_with(p.proname, $1)) "
        f"AND {_MAY_MORE} ORDER BY 1",
        f"{FUNCTION}_",
    )
    wanted = quote(await role_of(db, ""))
    return [_finding(owner, wanted, is_mighty=is_mighty) for owner, is_mighty in rows]


def _finding(owner: str, wanted: str, *, is_mighty: bool) -> Finding:
    what = f"Capture runs with the rights of {quote(owner)}"
    if is_mighty:
        what += ", and who may alter a captured column's type chooses functions that run with them."
        return Finding(
            what, "Run: syncline provision, as that role, which gives it to one of its own.", "capture_owner"
        )
    what += ", and not of a role of its own: that role may not make one."
    made = f"CREATE ROLE {wanted} NOLOGIN; GRANT {wanted} TO {quote(owner)};"
    remedy = f"If others may alter captured tables, have who may create roles type: {made} Then: syncline provision"
    return Finding(what, remedy, "capture_owner", is_note=True)


async def take_away(db: asyncpg.Connection, role: str) -> None:
    """Inside a transaction, after all that it owned here: drop the role if `provision` made it, unless another database
    of the server still uses it."""
    made = f"SELECT {_is_made('r.oid')} FROM pg_catalog.pg_roles r WHERE r.rolname = $1"
    if not await db.fetchval(made, role):
        return
    try:
        async with db.transaction():
            await db.execute(f"DROP ROLE {quote(role)}")
    except (
        asyncpg.DependentObjectsStillExistError,
        asyncpg.InsufficientPrivilegeError,
        asyncpg.LockNotAvailableError,
        asyncpg.UndefinedObjectError,
        asyncpg.SerializationError,
        asyncpg.ObjectInUseError,
    ):
        pass
