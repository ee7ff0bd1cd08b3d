"""What the catalogue says of a column's type: its form on a replica, and how SQL names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from syncline.model.identifiers import literal, quote
from syncline.source.postgres.types import UNKNOWN, canonical_text, element_kind

Row = Mapping[str, Any]

_NAMES = {
    "smallint": "int2",
    "integer": "int4",
    "bigint": "int8",
    "oid": "oid",
    "boolean": "bool",
    "real": "float4",
    "double": "float8",
    "numeric": "numeric",
    "money": "money",
    "text": "text varchar name char",
    "char": "bpchar",
    "uuid": "uuid",
    "date": "date",
    "time": "time",
    "timestamp": "timestamp",
    "instant": "timestamptz",
    "interval": "interval",
    "json": "json",
    "jsonb": "jsonb",
    "bytes": "bytea",
    "bits": "bit varbit",
    "inet": "inet",
    "network": "cidr macaddr macaddr8",
}
_KINDS = {name: kind for kind, names in _NAMES.items() for name in names.split()}
OTHER = "other"
"""Shown in PostgreSQL's own text."""

_EXACT = (
    {"smallint", "integer", "bigint", "oid", "boolean", "numeric", "trimmed", "money", "text", "char", "enum", "uuid"}
    | {"date", "time", "timestamp", "instant", "bytes", "bits", "inet", "network"}
)  # fmt: skip
"""Kinds of which equal values are written alike, so that they can name a row or a bucket."""
_CHARACTERS = {"varchar", "bpchar"}
_PRECISE = {"time", "timestamp", "timestamptz"}
_VARLENA_HEADER = 4


class Types:
    """The types of the columns, by oid."""

    def __init__(self, rows: list[Row]) -> None:
        self._types = {row["oid"]: row for row in rows}

    def type(self, oid: int) -> Row:
        return self._types[oid]

    def base(self, oid: int, modifier: int) -> tuple[Row, int]:
        """The type under all domains, and its length or scale."""
        found = self._types[oid]
        while found["sort"] == "d":
            modifier = found["modifier"] if modifier < 0 else modifier
            found = self._types[found["base"]]
        return found, modifier

    def kind(self, oid: int) -> str:
        """`numeric`, `numeric[]`, …; `other` for what has no form of its own."""
        base, _ = self.base(oid, -1)
        element = self._element(base)
        if element is not None:
            inner = self.kind(element["oid"])
            return f"{OTHER}[]" if element_kind(inner) is not None else f"{inner}[]"
        if base["sort"] == "e":
            return "enum"
        return _KINDS.get(base["name"], OTHER) if base["schema"] == "pg_catalog" else OTHER

    def sql(self, oid: int, modifier: int) -> str:
        """`"pg_catalog"."numeric"(10,2)`, domains resolved: quoted, so that no setting changes what it means."""
        base, modifier = self.base(oid, modifier)
        element = self._element(base)
        if element is None:
            return _named(base) + _modifier(base, modifier)
        return f"{_named(element)}{_modifier(element, modifier)}[]"

    def domains(self, oid: int) -> list[Row]:
        """The outermost first."""
        found = [self._types[oid]]
        while found[-1]["sort"] == "d":
            found.append(self._types[found[-1]["base"]])
        return found[:-1]

    def _element(self, base: Row) -> Row | None:
        """Of a true array: int2vector and the like only look like one."""
        element = self._types.get(base["element"])
        return element if element is not None and element["array_id"] == base["oid"] else None


def _named(row: Row) -> str:
    return f"{quote(row['schema'])}.{quote(row['name'])}"


def _modifier(row: Row, modifier: int) -> str:
    """Of the types whose values it changes; for all others it is the column that insists on it."""
    if modifier < 0 or row["schema"] != "pg_catalog":
        return ""
    if row["name"] == "numeric":
        packed = modifier - _VARLENA_HEADER
        scale = ((packed & 0x7FF) ^ 1024) - 1024  # eleven bits, signed
        return f"({packed >> 16 & 0xFFFF},{scale})"
    if row["name"] in _CHARACTERS:
        return f"({modifier - _VARLENA_HEADER})"
    if row["name"] in _PRECISE or row["name"] in ("bit", "varbit"):
        return f"({modifier})"
    return ""


def inexact(kind: str, base: str, is_loose: bool, collation: str) -> str:
    """Why equal values may be written in several ways; empty where they are not."""
    if is_loose:
        return f"the collation {collation}, which calls different texts equal"
    if kind == "numeric" and not base.endswith(")"):
        return "the type numeric without a scale, in which 1.5 and 1.50 are equal"
    return "" if kind in _EXACT else "a type in which equal values may be written in several ways"


def local_default(kind: str, base: str, text: str | None) -> str | None:
    """The default as SQL that SQLite reads, where it is a literal; else an expression that it does not take for one."""
    if text is None or text.startswith("NULL"):
        return None
    constant = _constant(text)
    if constant is not None:
        value = "[]" if kind.endswith("[]") and constant == "{}" else canonical_text(kind, base, constant)
        if isinstance(value, str):
            return literal(value)
        if isinstance(value, int | float):
            return repr(value)
    return f"CAST({text} AS {base})"


def _constant(text: str) -> str | None:
    """What a literal says, as `pg_get_expr` writes it: `'new'::text`, `'-1'::integer`, `0`, `1.5`, `true`."""
    if text in ("true", "false") or text.replace(".", "", 1).isdigit():
        return text
    if not text.startswith("'"):
        return None
    end = 1
    while (end := text.find("'", end)) >= 0 and text[end + 1 : end + 2] == "'":
        end += 2
    rest = text[end + 1 :]
    is_cast = rest == "" or (rest.startswith("::") and "(" not in rest.replace("(", "", 1) and "'" not in rest)
    return text[1:end].replace("''", "'") if end > 0 and is_cast else None


__all__ = ["OTHER", "UNKNOWN", "Types", "inexact", "local_default"]
