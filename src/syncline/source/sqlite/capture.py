"""The changelog table and the capture triggers of one table.

A changelog row holds typed columns, never JSON: `k_i` the key, `o_i` the old values of what scopes join and filter
on, `m_i` the mask of changed columns. Old columns carry the declared types, so that a filter means the same on them as
on the table.

op: I inserted · U updated · D deleted · R may have been replaced (see `replaced`) · T touched by an upload.
"""

from __future__ import annotations

from dataclasses import dataclass

from syncline.clock import NOW_US_SQL
from syncline.model.identifiers import literal, quote, quote_list
from syncline.model.program_shape import affinity, joined
from syncline.model.schema import Column, Table
from syncline.model.scopes import Plan
from syncline.source.sqlite.replaced import probes_of

MASK_BITS = 60


@dataclass(frozen=True)
class Capture:
    """Names and columns of one table's capture. `watched`: the columns whose change devices must hear of."""

    table: Table
    key: tuple[str, ...]
    captured: tuple[str, ...]
    watched: tuple[str, ...]

    @property
    def changelog(self) -> str:
        return quote(f"syncline_changelog_{self.table.name}")

    @property
    def key_columns(self) -> list[str]:
        return [f"k_{index}" for index in range(1, len(self.key) + 1)]

    @property
    def old_columns(self) -> list[str]:
        return [f"o_{index}" for index in range(1, len(self.captured) + 1)]

    @property
    def mask_columns(self) -> list[str]:
        return [f"m_{index}" for index in range((len(self.watched) + MASK_BITS - 1) // MASK_BITS)]

    def old_column(self, column: str) -> str:
        """The changelog's column that holds the key column or old value `column`."""
        if column in self.key:
            return f"k_{self.key.index(column) + 1}"
        return f"o_{self.captured.index(column) + 1}"

    def changed_columns(self, masks: tuple[int, ...]) -> list[str]:
        return [
            column for index, column in enumerate(self.watched) if masks[index // MASK_BITS] >> (index % MASK_BITS) & 1
        ]

    def mask_of(self, columns: set[str]) -> list[int]:
        masks = [0] * len(self.mask_columns)
        for index, column in enumerate(self.watched):
            if column in columns:
                masks[index // MASK_BITS] |= 1 << (index % MASK_BITS)
        return masks


def captures(plan: Plan) -> dict[str, Capture]:
    """One per captured table; for tables that only grants read it holds neither key nor values."""
    found = {}
    for name, synced in plan.tables.items():
        found[name] = Capture(synced.table, synced.key, synced.captured, synced.values)
    for name in plan.grant_only_tables:
        found[name] = Capture(plan.schema.table(name), (), (), ())
    return found


def changelog_sql(capture: Capture) -> str:
    types = {column.name: _type(column) for column in capture.table.columns}
    columns = ["id INTEGER PRIMARY KEY", "op TEXT NOT NULL"]
    columns += [f"{name} {types[column]}" for name, column in zip(capture.key_columns, capture.key, strict=True)]
    columns += [f"{name} {types[column]}" for name, column in zip(capture.old_columns, capture.captured, strict=True)]
    columns += [f"{name} INTEGER" for name in capture.mask_columns]
    columns += ["stamp INTEGER", "writer INTEGER"]
    return f"CREATE TABLE {capture.changelog}({', '.join(column.strip() for column in columns)})"


def changelog_index_sql(capture: Capture) -> str:
    """By key: an upload looks for changes of its row that still wait."""
    name = quote(f"syncline_waiting_{capture.table.name}")
    return f"CREATE INDEX {name} ON {capture.changelog}({', '.join(capture.key_columns)})"


def _type(column: Column) -> str:
    """Type and collation as they may stand in a column definition: any text is legal once quoted."""
    collation = f" COLLATE {quote(column.collation)}" if column.collation else ""
    return (quote(column.type) if column.type else "") + collation


def trigger_sql(capture: Capture) -> dict[str, str]:
    """Trigger name -> statement."""
    table = quote(capture.table.name)
    found: dict[str, str] = {}

    def trigger(kind: str, event: str, when: str, *inserts: str) -> None:
        name = f"syncline_{kind}_{capture.table.name}"
        condition = f" WHEN {when}" if when else ""
        found[name] = f"CREATE TRIGGER {quote(name)} {event} ON {table}{condition} BEGIN {'; '.join(inserts)}; END"

    if not capture.key:
        for kind, event in (("insert", "AFTER INSERT"), ("update", "AFTER UPDATE"), ("delete", "AFTER DELETE")):
            trigger(kind, event, "", _entry(capture, kind[0].upper(), None, None))
        return found
    same_key = " AND ".join(f"NOT ({_differs(capture.table, column)})" for column in capture.key)
    news = dict.fromkeys((*capture.watched, *capture.captured))
    changed = joined("OR", [_differs(capture.table, column) for column in news])
    trigger("insert", "AFTER INSERT", "", _entry(capture, "I", "new", None, full_mask=True))
    trigger("delete", "AFTER DELETE", "", _entry(capture, "D", "old", "old"))
    if changed:
        trigger("update", "AFTER UPDATE", f"{same_key} AND ({changed})", _entry(capture, "U", "old", "old", mask=True))
    trigger(
        "rekey",
        "AFTER UPDATE",
        f"NOT ({same_key})",
        _entry(capture, "D", "old", "old"),
        _entry(capture, "I", "new", None, full_mask=True),
    )
    probes = probes_of(capture.table, capture.key)
    trigger("replace", "BEFORE INSERT", "", *[_note(capture, probe.rows, probe.where) for probe in probes])
    standing = " AND ".join(f"t.{quote(column)} IS old.{quote(column)}" for column in capture.key)
    for index, probe in enumerate(probes, 1):
        moves = joined("OR", [_differs(capture.table, column) for column in probe.columns])
        trigger(
            f"replace{index}",
            "BEFORE UPDATE",
            moves or f"old.{capture.table.row_number} IS NOT new.{capture.table.row_number}",
            _note(capture, probe.rows, f"{probe.where} AND NOT ({standing})"),
        )
    return found


def _note(capture: Capture, rows: str, where: str) -> str:
    return _entry(capture, "R", "t", "t", rows=rows, where=where)


def _entry(
    capture: Capture,
    op: str,
    key_from: str | None,
    old_from: str | None,
    *,
    mask: bool = False,
    full_mask: bool = False,
    rows: str = "",
    where: str = "",
) -> str:
    columns = ["op", *capture.key_columns, *capture.old_columns, *capture.mask_columns, "stamp", "writer"]
    values = [literal(op)]
    values += [f"{key_from}.{quote(column)}" for column in capture.key]
    values += [f"{old_from}.{quote(column)}" if old_from else "NULL" for column in capture.captured]
    values += _masks(capture, mask, full_mask)
    values += [f"coalesce(c.stamp, max({NOW_US_SQL}, c.floor + 1))", "coalesce(c.writer, 0)"]
    source = f"syncline_context c{', ' + rows if rows else ''}{' WHERE ' + where if where else ''}"
    return f"INSERT INTO {capture.changelog}({', '.join(columns)}) SELECT {', '.join(values)} FROM {source}"


def _masks(capture: Capture, mask: bool, full: bool) -> list[str]:
    words = []
    for start in range(0, len(capture.watched), MASK_BITS):
        columns = capture.watched[start : start + MASK_BITS]
        if mask:
            bits = [f"({_differs(capture.table, column)}) * {1 << index}" for index, column in enumerate(columns)]
            words.append(" + ".join(bits))
        else:
            words.append(str((1 << len(columns)) - 1) if full else "0")
    return words


def _differs(table: Table, column: str) -> str:
    """Whether a column really changed: also 'anna' to 'Anna' where a collation calls them equal, and 1 to 1.0 where
    the column's type keeps the two apart."""
    name = quote(column)
    differs = f"old.{name} IS NOT new.{name} COLLATE BINARY"
    if affinity(table.column(column).type) == "BLOB":
        differs = f"({differs} OR typeof(old.{name}) <> typeof(new.{name}))"
    return differs


def key_list(capture: Capture, prefix: str = "") -> str:
    """The table's key columns, for a SELECT."""
    return quote_list(capture.key, prefix)
