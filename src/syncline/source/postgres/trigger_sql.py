"""The function and the triggers that notice every change of one table.

Triggers fire once per statement and read its rows from transition tables. One function serves the table and all its
partitions: a statement fires the triggers of the relation that it names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from syncline.model.identifiers import literal, quote
from syncline.model.schema import Column
from syncline.source.postgres.capture import MASK_BITS, Capture, column_type
from syncline.source.postgres.names import ours, table_sql

DOORBELL = "syncline"
"""The channel that a sequencer listens to while it sleeps."""
_OLD, _NEW = "OLD TABLE AS old_rows", "NEW TABLE AS new_rows"
_EVENTS = {
    "syncline_insert": ("AFTER INSERT", f"REFERENCING {_NEW}", 4),
    "syncline_update": ("AFTER UPDATE", f"REFERENCING {_OLD} {_NEW}", 16),
    "syncline_delete": ("AFTER DELETE", f"REFERENCING {_OLD}", 8),
    "syncline_truncate": ("BEFORE TRUNCATE", "", 34),
}
"""Name -> event, what it reads, and its tgtype in the catalogue."""
TRIGGERS = tuple(_EVENTS)
_EXACT = frozenset(
    f'"pg_catalog"."{name}"'
    for name in [
        "int2",
        "int4",
        "int8",
        "bool",
        "oid",
        "text",
        "varchar",
        "bpchar",
        "bytea",
        "uuid",
        "date",
        "time",
        "timestamp",
        "timestamptz",
    ]
)
"""Types of which two values are equal only where their texts are the same, if their collation compares bytes."""


def function_sql(capture: Capture) -> tuple[str, ...]:
    name = f"{ours(capture.function_name)}()"
    return (
        f"CREATE OR REPLACE FUNCTION {name} RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
        f"SET search_path = pg_catalog, pg_temp AS {dollar_quoted(function_body(capture))}",
        f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC",
    )


def function_digest(capture: Capture) -> str:
    """As the catalogue query `state` has it of the function that stands."""
    return hashlib.md5(function_body(capture).encode(), usedforsecurity=False).hexdigest()


def function_body(capture: Capture) -> str:
    """Whatever fails in it, the host's statement passes: the table gets a gap. A cancelled statement is cancelled.
    Where not even the gap can be written, only a full or failing disk may fail the host, for then its change would be
    lost; everything else the fingerprint notices.
    """
    gap = f"INSERT INTO {ours('gap')}(table_name, mark) VALUES ({literal(capture.table.name)}, "
    return f"""
#variable_conflict use_variable
DECLARE
  stamp_us bigint; writer_number bigint; is_asleep boolean;
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    {gap}'truncated');
    RETURN NULL;
  END IF;
  SELECT coalesce(nullif(current_setting('syncline.stamp', true), '')::bigint,
                  greatest({ours("now_us")}(), p.floor_us + 1)),
         coalesce(nullif(current_setting('syncline.writer', true), '')::bigint, 0), p.asleep
    INTO STRICT stamp_us, writer_number, is_asleep FROM {ours("pulse")} p;
  IF TG_OP = 'UPDATE' THEN
    {_update_sql(capture)};
  ELSIF TG_OP = 'INSERT' THEN
    {_insert_sql(capture)};
  ELSE
    {_delete_sql(capture)};
  END IF;
  IF FOUND AND is_asleep THEN
    PERFORM pg_notify({literal(DOORBELL)}, '');
  END IF;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  RAISE LOG 'syncline: a change of % was not captured: % (%)', TG_RELID::regclass, SQLERRM, SQLSTATE;
  BEGIN
    {gap}SQLSTATE);
  EXCEPTION WHEN insufficient_resources OR system_error THEN
    RAISE;
  WHEN OTHERS THEN
    RAISE LOG 'syncline: nor was the gap: % (%)', SQLERRM, SQLSTATE;
  END;
  RETURN NULL;
END
"""


def dollar_quoted(body: str) -> str:
    """As a string constant; no name in it can end it."""
    tag = "$syncline$"
    while tag in body:
        tag = f"{tag[:-1]}_$"
    return f"{tag}{body}{tag}"


def members_sql(table: str) -> str:
    """A query of the relation `table` (SQL of a regclass) and all that inherits from it, as `member`."""
    return (
        f"WITH RECURSIVE m(oid) AS (SELECT {table}::oid UNION "
        "SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN m ON m.oid = i.inhparent) "
        "SELECT m.oid::regclass AS member FROM m ORDER BY m.oid"
    )


def trigger_sql(capture: Capture) -> str:
    """The block that puts the triggers on the table and all its partitions, and takes off those of ours that do not
    belong there. They fire whatever session_replication_role says. What stands already is left as it is."""
    function = f"{ours(capture.function_name)}()"
    wanted = ", ".join(
        f"({literal(name)}, {literal(event)}, {literal(reads)}, {kind})"
        for name, (event, reads, kind) in _EVENTS.items()
    )
    members = members_sql(f"{literal(table_sql(capture.table))}::regclass")
    block = f"""
DECLARE
  relation regclass; found record; wanted record; function oid := {literal(function)}::regprocedure;
BEGIN
  FOR relation IN {members} LOOP
    FOR found IN
      SELECT t.tgname FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
      WHERE t.tgrelid = relation AND p.pronamespace = 'syncline'::regnamespace AND NOT EXISTS (
        SELECT FROM (VALUES {wanted}) AS w(name, event, reads, kind)
        WHERE w.name = t.tgname AND w.kind = t.tgtype AND t.tgfoid = function)
    LOOP
      EXECUTE pg_catalog.format('DROP TRIGGER %I ON %s', found.tgname, relation);
    END LOOP;
    FOR wanted IN
      SELECT w.*, t.tgenabled FROM (VALUES {wanted}) AS w(name, event, reads, kind)
      LEFT JOIN pg_catalog.pg_trigger t ON t.tgrelid = relation AND t.tgname = w.name
    LOOP
      IF wanted.tgenabled IS NULL THEN
        EXECUTE pg_catalog.format('CREATE TRIGGER %I %s ON %s %s FOR EACH STATEMENT EXECUTE FUNCTION %s',
          wanted.name, wanted.event, relation, wanted.reads, {literal(function)});
      END IF;
      IF wanted.tgenabled IS DISTINCT FROM 'A' THEN
        EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', relation, wanted.name);
      END IF;
    END LOOP;
  END LOOP;
END
"""
    return f"DO {dollar_quoted(block)}"


# ---------------------------------------------------------------- the bodies
def _insert_sql(capture: Capture) -> str:
    if not capture.key:
        return _note_sql(capture, "I", "new_rows")
    masks = [str(_full_mask(capture, word)) for word in range(len(capture.mask_columns))]
    columns = ["op", *capture.key_columns, *capture.mask_columns]
    values = ["'I'", *_columns(capture.key, "n"), *masks]
    return _into(capture, columns, values, f"new_rows n{_where(_present(capture, 'n'))}")


def _delete_sql(capture: Capture) -> str:
    if not capture.key:
        return _note_sql(capture, "D", "old_rows")
    columns = ["op", *capture.key_columns, *capture.old_columns]
    values = ["'D'", *_columns(capture.key, "o"), *_columns(capture.captured, "o")]
    return _into(capture, columns, values, f"old_rows o{_where(_present(capture, 'o'))}")


def _update_sql(capture: Capture) -> str:
    """Old and new rows are paired by their key in a full join, which is never a loop in a loop, however few rows there
    were when it was planned; what finds no partner has lost, or got, its key."""
    if not capture.key:
        return _note_sql(capture, "U", "old_rows")
    columns = {column.name: column for column in capture.table.columns}
    pairs = " AND ".join(_equal(columns[name]) for name in capture.key)
    sure = next((name for name in capture.key if columns[name].not_null), capture.key[0])
    op = f"CASE WHEN o.{quote(sure)} IS NULL THEN 'I' WHEN n.{quote(sure)} IS NULL THEN 'D' ELSE 'U' END"
    keys = [f"coalesce(o.{quote(name)}, n.{quote(name)})" for name in capture.key]
    others = [name for name in capture.captured if not capture.writable or name not in capture.watched]
    if not capture.writable:
        others = list(dict.fromkeys((*capture.watched, *others)))
    names = ["op", *capture.key_columns, *capture.old_columns, *capture.mask_columns]
    values = [f'({op})::"char"', *keys, *_columns(capture.captured, "o")]
    values += [_mask(capture, columns, word) for word in range(len(capture.mask_columns))]
    listed = ", ".join(f"{value} AS {name}" for value, name in zip(values, names, strict=True))
    changed = [f"r.{mask} <> 0" for mask in capture.mask_columns] + (["r.moved"] if others else [])
    moved = f", ({_differ(columns, others)}) AS moved" if others else ""
    # OFFSET 0: a mask is computed once, and not again for the condition on it
    rows = f"(SELECT {listed}{moved} FROM old_rows o FULL JOIN new_rows n ON {pairs} OFFSET 0) r"
    wanted = [f"({' OR '.join(['r.op <> ' + literal('U'), *changed])})"]
    wanted += [f"r.k_{index} IS NOT NULL" for index in _nullable(capture)]
    return _into(capture, names, [f"r.{name}" for name in names], rows + _where(wanted))


def _note_sql(capture: Capture, op: str, rows: str) -> str:
    """Of a table that only grants read: that it changed, once for all rows of a statement."""
    return _into(capture, ["op"], [literal(op)], f"(SELECT FROM {rows} LIMIT 1) r")


def _into(capture: Capture, columns: Sequence[str], values: Sequence[str], rows: str) -> str:
    return (
        f"INSERT INTO {capture.changelog}({', '.join(columns)}, stamp, writer)\n"
        f"    SELECT {', '.join(values)}, stamp_us, writer_number FROM {rows}"
    )


def _columns(names: Iterable[str], alias: str) -> list[str]:
    return [f"{alias}.{quote(name)}" for name in names]


def _where(conditions: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _nullable(capture: Capture) -> list[int]:
    """Which parts of the key, counted from 1, may be NULL: a row in which one is syncs to nobody."""
    return [index for index, name in enumerate(capture.key, 1) if not capture.table.column(name).not_null]


def _present(capture: Capture, alias: str) -> list[str]:
    return [f"{alias}.{quote(capture.key[index - 1])} IS NOT NULL" for index in _nullable(capture)]


def _equal(column: Column) -> str:
    """A type of an extension has its operators in a schema that is not looked at; as keys such types equal each other
    where their texts do."""
    name, cast = quote(column.name), "" if column.base.startswith('"pg_catalog".') else "::text"
    return f"o.{name}{cast} = n.{name}{cast}"


def _differ(columns: Mapping[str, Column], names: Sequence[str]) -> str:
    """Whether one of these columns really changed: also 1.0 to 1.00, and in types that know no equality. Comparing
    images costs more than the type's own equality, and is left for where the two differ."""
    exact = [name for name in names if column_type(columns[name]) in _EXACT and not columns[name].collation]
    found = [f"o.{quote(name)} IS DISTINCT FROM n.{quote(name)}" for name in exact]
    if others := [name for name in names if name not in exact]:
        old, new = ", ".join(_columns(others, "o")), ", ".join(_columns(others, "n"))
        found.append(f"ROW({old})::record *<> ROW({new})::record")
    return " OR ".join(found)


def _mask(capture: Capture, columns: Mapping[str, Column], word: int) -> str:
    bits = [
        f"CASE WHEN {_differ(columns, [name])} THEN {1 << index}::bigint ELSE 0 END"
        for index, name in enumerate(_words(capture, word))
    ]
    return " | ".join(bits)


def _words(capture: Capture, word: int) -> tuple[str, ...]:
    return capture.watched[word * MASK_BITS : (word + 1) * MASK_BITS]


def _full_mask(capture: Capture, word: int) -> int:
    return (1 << len(_words(capture, word))) - 1
