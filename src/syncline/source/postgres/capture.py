"""The changelog, the function and the triggers that notice every change of one table.

Triggers fire once per statement and read its rows from transition tables. A changelog row holds typed columns, never
JSON: `k_i` the key, `o_i` the old values of what scopes join and filter on, `m_i` the mask of changed columns, on
tables that some scope may write. No column of it can refuse a value: types stand without length and without domain.

op: I inserted · U updated · D deleted · T touched by an upload. A change of key is D of the old and I of the new.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from syncline.model.identifiers import literal, quote
from syncline.model.schema import Column, Table
from syncline.model.scopes import Plan
from syncline.source.postgres.names import object_name, ours

MASK_BITS = 60
CHANGELOG, FUNCTION = "changelog", "capture"
DOORBELL = "syncline"
"""The channel that a sequencer listens to while it sleeps."""
_OLD, _NEW = "OLD TABLE AS old_rows", "NEW TABLE AS new_rows"
_EVENTS = {
    "syncline_insert": ("INSERT", "AFTER", _NEW),
    "syncline_update": ("UPDATE", "AFTER", f"{_OLD} {_NEW}"),
    "syncline_delete": ("DELETE", "AFTER", _OLD),
    "syncline_truncate": ("TRUNCATE", "BEFORE", ""),
}
TRIGGERS = tuple(_EVENTS)
_LENGTH = re.compile(r"\([0-9,-]+\)(?=(?:\[\])?$)")
_EXACT = frozenset(
    f'"pg_catalog"."{name}"'
    for name in "int2 int4 int8 bool oid text varchar bpchar bytea uuid date time timestamp timestamptz".split()
)
"""Types of which two values are equal only where their texts are the same, if their collation compares bytes."""


@dataclass(frozen=True)
class Capture:
    """Names and columns of one table's capture. `watched`: the columns whose change devices must hear of; masks are
    kept of `writable` tables only."""

    table: Table
    key: tuple[str, ...]
    captured: tuple[str, ...]
    watched: tuple[str, ...]
    writable: bool = False

    @property
    def changelog_name(self) -> str:
        """As the catalogue has it, in the schema `syncline`."""
        return object_name(CHANGELOG, self.table)

    @property
    def changelog(self) -> str:
        return ours(self.changelog_name)

    @property
    def function_name(self) -> str:
        return object_name(FUNCTION, self.table)

    @property
    def key_columns(self) -> list[str]:
        return [f"k_{index}" for index in range(1, len(self.key) + 1)]

    @property
    def old_columns(self) -> list[str]:
        return [f"o_{index}" for index in range(1, len(self.captured) + 1)]

    @property
    def mask_columns(self) -> list[str]:
        """Empty where no scope may write the table."""
        words = (len(self.watched) + MASK_BITS - 1) // MASK_BITS if self.writable else 0
        return [f"m_{index}" for index in range(words)]

    def old_column(self, column: str) -> str:
        """The changelog's column that holds the key column or old value `column`."""
        if column in self.key:
            return f"k_{self.key.index(column) + 1}"
        return f"o_{self.captured.index(column) + 1}"

    def changed_columns(self, masks: tuple[int, ...]) -> list[str]:
        if not self.writable:
            return []
        return [
            column for index, column in enumerate(self.watched) if masks[index // MASK_BITS] >> (index % MASK_BITS) & 1
        ]

    def mask_of(self, columns: set[str]) -> list[int]:
        masks = [0] * len(self.mask_columns)
        for index, column in enumerate(self.watched):
            if masks and column in columns:
                masks[index // MASK_BITS] |= 1 << (index % MASK_BITS)
        return masks


def captures(plan: Plan) -> dict[str, Capture]:
    """One per captured table; for tables that only grants read it holds neither key nor values."""
    writable = {table for scope in plan.scopes.values() for table in scope.writable}
    found = {}
    for name, synced in plan.tables.items():
        found[name] = Capture(synced.table, synced.key, synced.captured, synced.values, name in writable)
    for name in plan.grant_only_tables:
        found[name] = Capture(plan.schema.table(name), (), (), ())
    return found


def column_type(column: Column) -> str:
    """The column's type without length, domain or collation."""
    return _LENGTH.sub("", column.base)


def changelog_sql(capture: Capture) -> str:
    """It fills and empties all day: it is vacuumed early, and never cut short, for that takes a lock that hosts wait
    for."""

    def column(name: str, of: str) -> str:
        described = capture.table.column(of)
        return f"{name} {column_type(described)}{f' COLLATE {described.collate}' if described.collate else ''}"

    columns = ["id bigint GENERATED ALWAYS AS IDENTITY", 'op "char" NOT NULL']
    columns += [column(name, of) for name, of in zip(capture.key_columns, capture.key, strict=True)]
    columns += [column(name, of) for name, of in zip(capture.old_columns, capture.captured, strict=True)]
    columns += [f"{name} bigint" for name in capture.mask_columns]
    columns += ["stamp bigint", "writer bigint", "txid xid8 NOT NULL DEFAULT pg_current_xact_id()"]
    settings = "vacuum_truncate = false, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000"
    return f"CREATE TABLE {capture.changelog}({', '.join(columns)}) WITH ({settings})"


def changelog_index_sql(capture: Capture) -> str:
    """By transaction: where the sequencer's poll begins."""
    return f"CREATE INDEX ON {capture.changelog}(txid)"


def function_sql(capture: Capture) -> str:
    """CREATE OR REPLACE of the function that the triggers of the table and of all its partitions call.

    Whatever fails in it, the host's statement passes: the table gets a gap. A cancelled statement is cancelled. Where
    not even the gap can be written, only a full or failing disk may fail the host, for then its change would be lost;
    everything else the fingerprint notices.
    """
    gap = f"INSERT INTO {ours('gap')}(table_name, mark) VALUES ({literal(capture.table.name)}, "
    return f"""CREATE OR REPLACE FUNCTION {ours(capture.function_name)}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS {
        dollar_quoted(f'''
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
''')
    }"""


def dollar_quoted(body: str) -> str:
    """As a string constant; no name in it can end it."""
    tag = "$syncline$"
    while tag in body:
        tag = f"{tag[:-1]}_$"
    return f"{tag}{body}{tag}"


def trigger_sql(capture: Capture, relation: str, triggers: Collection[str] = TRIGGERS) -> tuple[str, ...]:
    """The statements that put these triggers on one relation: the table (`table_sql`), or a partition of it. They fire
    whatever session_replication_role says."""
    statements = []
    for name in triggers:
        event, when, reads = _EVENTS[name]
        statements.append(
            f"CREATE TRIGGER {name} {when} {event} ON {relation}{f' REFERENCING {reads}' if reads else ''} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {ours(capture.function_name)}()"
        )
    enabled = ", ".join(f"ENABLE ALWAYS TRIGGER {name}" for name in triggers)
    return (*statements, f"ALTER TABLE {relation} {enabled}")


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
    moved = f", {_differ(others)} AS moved" if others else ""
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


def _differ(names: Sequence[str]) -> str:
    """Whether one of these columns really changed: also 1.0 to 1.00, and in types that know no equality."""
    return f"ROW({', '.join(_columns(names, 'o'))})::record *<> ROW({', '.join(_columns(names, 'n'))})::record"


def _mask(capture: Capture, columns: Mapping[str, Column], word: int) -> str:
    bits = []
    for index, name in enumerate(_words(capture, word)):
        plain = column_type(columns[name]) in _EXACT and not columns[name].collation
        differs = f"o.{quote(name)} IS DISTINCT FROM n.{quote(name)}" if plain else _differ([name])
        bits.append(f"CASE WHEN {differs} THEN {1 << index}::bigint ELSE 0 END")
    return " | ".join(bits)


def _words(capture: Capture, word: int) -> tuple[str, ...]:
    return capture.watched[word * MASK_BITS : (word + 1) * MASK_BITS]


def _full_mask(capture: Capture, word: int) -> int:
    return (1 << len(_words(capture, word))) - 1
