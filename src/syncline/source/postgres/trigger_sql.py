"""The function and the triggers that notice every change of one table.

Triggers fire once per statement and read its rows from transition tables. One function serves the table and all its
partitions: a statement fires the triggers of the relation that it names. The worker that applies a subscription's
changes has no statements and fires the triggers of rows only, so relations that a subscription fills have one more.
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
STAMP_SETTING = "syncline.stamp"
"""`stamp:writer:seal` of an upload's changes. A seal is good in one transaction, and for nobody without the secret."""
_TOLD_STAMP, _TOLD_WRITER = (f"split_part(told, ':', {part})" for part in (1, 2))
_OLD, _NEW = "OLD TABLE AS old_rows", "NEW TABLE AS new_rows"
_EVENTS = {
    "syncline_insert": ("AFTER INSERT", f"REFERENCING {_NEW}", 4),
    "syncline_update": ("AFTER UPDATE", f"REFERENCING {_OLD} {_NEW}", 16),
    "syncline_delete": ("AFTER DELETE", f"REFERENCING {_OLD}", 8),
    "syncline_truncate": ("BEFORE TRUNCATE", "", 34),
}
"""Name -> event, what it reads, and its tgtype in the catalogue."""
TRIGGERS = tuple(_EVENTS)
ROW_TRIGGER = "syncline_row"
_ROW_KIND = 29
_ROW_EVENT = "AFTER INSERT OR UPDATE OR DELETE"
_REPLICATES = "pg_catalog.current_setting('session_replication_role') = 'replica'"
"""So are the workers of subscriptions; everybody else's statements are captured once, by the triggers above."""
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
  stamp_us bigint; writer_number bigint := 0; is_asleep boolean; secret uuid;
  told text := current_setting({literal(STAMP_SETTING)}, true);
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    {gap}'truncated');
    RETURN NULL;
  END IF;
  SELECT greatest({ours("now_us")}(), p.floor_us + 1), p.secret,
         p.asleep_until > clock_timestamp() AND current_setting('max_prepared_transactions') = '0'
    INTO STRICT stamp_us, secret, is_asleep FROM {ours("pulse")} p;
  IF told <> '' AND split_part(told, ':', 3) = {seal_sql("secret", _TOLD_STAMP, _TOLD_WRITER)} THEN
    stamp_us := {_TOLD_STAMP}::bigint;
    writer_number := {_TOLD_WRITER}::bigint;
  END IF;
  IF TG_LEVEL = 'ROW' THEN
    {_operations_sql(capture, "(SELECT OLD.*)", "(SELECT NEW.*)")}
  ELSE
    {_operations_sql(capture, "old_rows", "new_rows")}
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


def seal_sql(secret: str, stamp: str, writer: str) -> str:
    """Of texts; the transaction gets its number by it, if it has none yet."""
    sealed = f"pg_catalog.concat_ws(':', {secret}, pg_catalog.pg_current_xact_id(), {stamp}, {writer})"
    return f"pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to({sealed}, 'UTF8')), 'hex')"


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


def _subscribed_sql(relation: str) -> str:
    """Whether a subscription fills the relation of this oid, by its own name or by that of a table it is a part of."""
    return (
        f"EXISTS (SELECT FROM pg_catalog.pg_subscription_rel s WHERE s.srrelid = {relation} "
        f"OR s.srrelid IN (SELECT relid FROM pg_catalog.pg_partition_ancestors({relation})))"
    )


def trigger_sql(capture: Capture) -> str:
    """The block that puts the triggers on the table and all its partitions, and takes off those of ours that do not
    belong there. They fire whatever session_replication_role says. What stands already is left as it is."""
    function = f"{ours(capture.function_name)}()"
    values = ", ".join(
        f"({literal(name)}, {literal(event)}, {literal(f'{reads} FOR EACH STATEMENT')}, {kind})"
        for name, (event, reads, kind) in _EVENTS.items()
    )
    rows = literal(f"FOR EACH ROW WHEN ({_REPLICATES})")
    wanted = (
        f"VALUES {values} UNION ALL SELECT {literal(ROW_TRIGGER)}, {literal(_ROW_EVENT)}, {rows}, {_ROW_KIND} "
        f"FROM pg_catalog.pg_class c WHERE c.oid = relation AND c.relkind = 'r' AND {_subscribed_sql('c.oid')}"
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
        SELECT FROM ({wanted}) AS w(name, event, reads, kind)
        WHERE w.name = t.tgname AND w.kind = t.tgtype AND t.tgfoid = function)
    LOOP
      EXECUTE pg_catalog.format('DROP TRIGGER %I ON %s', found.tgname, relation);
    END LOOP;
    FOR wanted IN
      SELECT w.*, t.tgenabled FROM ({wanted}) AS w(name, event, reads, kind)
      LEFT JOIN pg_catalog.pg_trigger t ON t.tgrelid = relation AND t.tgname = w.name
    LOOP
      IF wanted.tgenabled IS NULL THEN
        EXECUTE pg_catalog.format('CREATE TRIGGER %I %s ON %s %s EXECUTE FUNCTION %s',
          wanted.name, wanted.event, relation, wanted.reads, {literal(function)});
      END IF;
      IF wanted.tgenabled IS DISTINCT FROM 'A' THEN
        EXECUTE pg_catalog.format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %I', relation, wanted.name);
      END IF;
    END LOOP;
  END LOOP;
END
"""
    return f"DO {dollar_quoted(block)}"


# ---------------------------------------------------------------- the bodies
def _operations_sql(capture: Capture, old: str, new: str) -> str:
    """`old` and `new`: where the rows are."""
    return f"""IF TG_OP = 'UPDATE' THEN
      {_update_sql(capture, old, new)};
    ELSIF TG_OP = 'INSERT' THEN
      {_insert_sql(capture, new)};
    ELSE
      {_delete_sql(capture, old)};
    END IF;"""


def _insert_sql(capture: Capture, new: str) -> str:
    if not capture.key:
        return _note_sql(capture, "I", new)
    masks = [str(_full_mask(capture, word)) for word in range(len(capture.mask_columns))]
    columns = ["op", *capture.key_columns, *capture.mask_columns]
    values = ["'I'", *_columns(capture.key, "n"), *masks]
    return _into(capture, columns, values, f"{new} n{_where(_present(capture, 'n'))}")


def _delete_sql(capture: Capture, old: str) -> str:
    if not capture.key:
        return _note_sql(capture, "D", old)
    columns = ["op", *capture.key_columns, *capture.old_columns]
    values = ["'D'", *_columns(capture.key, "o"), *_columns(capture.captured, "o")]
    return _into(capture, columns, values, f"{old} o{_where(_present(capture, 'o'))}")


def _update_sql(capture: Capture, old: str, new: str) -> str:
    """Old and new rows are paired by their key in a full join, which is never a loop in a loop, however few rows there
    were when it was planned; what finds no partner has lost, or got, its key."""
    if not capture.key:
        return _note_sql(capture, "U", old)
    columns = {column.name: column for column in capture.table.columns}
    pairs = " AND ".join(_equal(columns[name]) for name in capture.key)
    sure = next((name for name in capture.key if columns[name].not_null), capture.key[0])
    is_new, is_gone = f"o.{quote(sure)} IS NULL", f"n.{quote(sure)} IS NULL"
    keys = {name: f"coalesce(o.{quote(name)}, n.{quote(name)})" for name in capture.key}
    names = ["op", *capture.key_columns, *capture.old_columns, *capture.mask_columns]
    values = [f"(CASE WHEN {is_new} THEN 'I' WHEN {is_gone} THEN 'D' ELSE 'U' END)::\"char\"", *keys.values()]
    values += _columns(capture.captured, "o")
    values += [_mask(capture, columns, word) for word in range(len(capture.mask_columns))]
    looked_at = list(dict.fromkeys((*capture.watched, *capture.captured)))
    changed = [is_new, is_gone, *([_differ(columns, looked_at)] if looked_at else [])]
    wanted = [f"({' OR '.join(changed)})"]
    wanted += [f"{keys[capture.key[index - 1]]} IS NOT NULL" for index in _nullable(capture)]
    return _into(capture, names, values, f"{old} o FULL JOIN {new} n ON {pairs}{_where(wanted)}")


def _note_sql(capture: Capture, op: str, rows: str) -> str:
    """Of a table that only grants read: that it changed, once for all rows of a statement."""
    return _into(capture, ["op"], [literal(op)], f"(SELECT FROM {rows} AS n LIMIT 1) r")


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
    where their texts do. A cast could be one that the type's owner has made, and would run with our rights; `format`
    asks the type's output function."""
    name = quote(column.name)
    if column.base.startswith('"pg_catalog".'):
        return f"o.{name} = n.{name}"
    return f"format('%L', o.{name}) = format('%L', n.{name})"


def _differ(columns: Mapping[str, Column], names: Sequence[str]) -> str:
    """Whether one of these columns really changed: also 1.0 to 1.00, and in types that know no equality. Comparing
    images costs more than the type's own equality, and is left for where the two differ. What is computed when it is
    read is in no transition table: it changes with the columns that it is made from."""
    names = list(dict.fromkeys(part for name in names for part in _stored(columns[name])))
    exact = [name for name in names if column_type(columns[name]) in _EXACT and not columns[name].collation]
    found = [f"o.{quote(name)} IS DISTINCT FROM n.{quote(name)}" for name in exact]
    if others := [name for name in names if name not in exact]:
        old, new = ", ".join(_columns(others, "o")), ", ".join(_columns(others, "n"))
        found.append(f"ROW({old})::record *<> ROW({new})::record")
    return " OR ".join(found) or "false"


def _stored(column: Column) -> tuple[str, ...]:
    return (column.name,) if column.computed_from is None else column.computed_from


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
