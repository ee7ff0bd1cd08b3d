"""Values between PostgreSQL and a replica: how SQL reads them exactly, and how they are bound and cast back.

A column's `kind` (from `introspect`) names the form of its values; `"numeric[]"` is an array of them. docs/types.md has
the table. All SQL here expects the session settings of `connections`: ISO dates, UTC, ISO 8601 intervals.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from syncline.model.schema import Column
from syncline.source.postgres import binding
from syncline.source.postgres.binding import UNKNOWN, Unknown
from syncline.source.postgres.binding import canonical as canonical_text
from syncline.values import INTEGER_EXACT_MAX, Value

__all__ = [
    "UNKNOWN",
    "Unknown",
    "bind",
    "canonical",
    "canonical_text",
    "cast_sql",
    "element_kind",
    "json_sql",
    "local_type",
    "value_of",
    "value_sql",
]

_MOMENT = (
    "CASE WHEN {x} >= timestamp '0001-01-01' AND {x} < timestamp '10000-01-01' "
    "THEN to_char({x}, 'YYYY-MM-DD HH24:MI:SS.US') ELSE {x}::text END"
)
_FLOAT_JSON = (
    """CASE {x} WHEN 0 THEN '["f","0.0"]' WHEN 'NaN' THEN '"NaN"' """
    """WHEN 'Infinity' THEN '["f","inf"]' WHEN '-Infinity' THEN '["f","-inf"]' """
    "ELSE CASE WHEN {x} = trunc({x}) THEN '[\"f\",\"' || {x}::text || '\"]' "
    "ELSE {x}::text END END"
)
_BYTES_JSON = "'[\"b\",\"' || replace(encode({x}, 'base64'), E'\\n', '') || '\"]'"
_BIG_JSON = (
    f"CASE WHEN {{x}} BETWEEN -{INTEGER_EXACT_MAX} AND {INTEGER_EXACT_MAX} THEN {{x}}::text "
    "ELSE '[\"i\",\"' || {x}::text || '\"]' END"
)


@dataclass(frozen=True, slots=True)
class _Form:
    """`value` is SQL over `{x}`; `json` SQL over `{x}`, the column, or, where it is None, the value as a JSON string,
    which needs no escapes if it is `plain`."""

    local: str
    value: str
    json: str | None = None
    plain: bool = False


_TEXT = _Form("TEXT", "{x}::text")
_PLAIN = _Form("TEXT", "{x}::text", plain=True)
_FORMS = {
    "smallint": _Form("INTEGER", "{x}", "{x}::text"),
    "integer": _Form("INTEGER", "{x}", "{x}::text"),
    "bigint": _Form("INTEGER", "{x}", _BIG_JSON),
    "oid": _Form("INTEGER", "{x}::int8", "{x}::text"),
    "boolean": _Form("INTEGER", "{x}::int4", "{x}::int4::text"),
    # SQLite's columns have no -0: + 0 makes it 0. Of a float4 the shortest decimal, as everybody is shown it.
    "real": _Form("REAL", "({x}::text::float8 + 0)", _FLOAT_JSON),
    "double": _Form("REAL", "({x} + 0)", _FLOAT_JSON),
    "numeric": _PLAIN,
    "trimmed": _Form("TEXT", "trim_scale({x})::text", plain=True),
    "money": _Form("TEXT", "{x}::numeric::text", plain=True),
    # Not by a cast: the type's owner may have made one, which would run with our rights.
    "enum": _Form("TEXT", "pg_catalog.textin(pg_catalog.enum_out({x}))"),
    "uuid": _PLAIN,
    "date": _PLAIN,
    "time": _Form("TEXT", "to_char({x}, 'HH24:MI:SS.US')", plain=True),
    "timestamp": _Form("TEXT", _MOMENT, plain=True),
    "instant": _Form("TEXT", _MOMENT.replace("{x}", "({x} AT TIME ZONE 'UTC')"), plain=True),
    "interval": _PLAIN,
    "inet": _Form("TEXT", "abbrev({x})", plain=True),
    "network": _PLAIN,
    "bytes": _Form("BLOB", "{x}", _BYTES_JSON),
}
_TEXTUAL_TIMES = {"time", "timestamp", "instant"}
_ARRAYS_AS_THEY_ARE = {"smallint", "integer", "bigint", "oid", "boolean", "real", "double"}
_TYPMOD = re.compile(r"\([0-9,-]+\)(?=(?:\[\])?$)")
_LENGTH_KINDS = {"text", "char", "bits"}


def element_kind(kind: str) -> str | None:
    """Of an array's kind that of its elements; None for what is no array."""
    return kind[:-2] if kind.endswith("[]") else None


def local_type(kind: str) -> str:
    """What a replica declares: INTEGER, REAL, TEXT or BLOB."""
    return _FORMS.get(kind, _TEXT).local


def value_sql(column: Column, expression: str) -> str:
    """SQL whose result, as asyncpg gives it, is the value, but for what `value_of` mends."""
    element = element_kind(column.kind)
    if element is not None:
        return _array_sql(element, expression)
    if column.kind == "enum" and column.base:  # enum_out knows no domains
        expression = f"({expression})::{column.base}"
    return _FORMS.get(column.kind, _TEXT).value.replace("{x}", expression)


def value_of(column: Column) -> Callable[[Any], Value] | None:
    """What makes a Value of what asyncpg gives for `value_sql`; None where it is one."""
    return _without_nan if column.kind in ("real", "double") else None


def _without_nan(number: float | None) -> Value:
    return "NaN" if number is not None and math.isnan(number) else number


def json_sql(column: Column, expression: str) -> str:
    """SQL text: the JSON of the value as `values.encode_value` writes it; 'null' for NULL. Floats may be spelled as
    PostgreSQL does, and are read back as exactly the same."""
    form = _FORMS.get(column.kind, _TEXT)
    if form.json is not None:
        text = form.json.replace("{x}", expression)
    elif form.plain:
        text = f"""'"' || {value_sql(column, expression)} || '"'"""
    else:
        text = f"to_json({value_sql(column, expression)})::text"
    return f"coalesce({text}, 'null')"


def _array_sql(element: str, expression: str) -> str:
    """JSON text. Elements that JSON does not carry exactly are strings, in the form that a column of them has."""
    if element in _ARRAYS_AS_THEY_ARE:
        return f"to_json({expression})::text"
    if element == "money":
        return f"to_json({expression}::numeric[]::text[])::text"
    text = f"to_json({expression}::text[])::text"
    if element == "inet":  # a cast, unlike PostgreSQL's own text, names the mask of a single address
        text = f"""regexp_replace({text}, '"([0-9.]+)/32"', '"\\1"', 'g')"""
        return f"""regexp_replace({text}, '"([0-9a-f.]*:[0-9a-f.:]*)/128"', '"\\1"', 'g')"""
    if element not in _TEXTUAL_TIMES:
        return text
    # Six digits and no zone, as a column has it.
    text = f"""regexp_replace({text}, '\\+00(?= BC"|")', '', 'g')"""
    years = "" if element == "time" else r"\d{4}-\d\d-\d\d "
    for pattern, becomes in (
        (rf'"({years}\d\d:\d\d:\d\d)(?:\.(\d+))?"', r'"\1.\2000000"'),
        (rf'"({years}\d\d:\d\d:\d\d\.\d{{6}})\d*"', r'"\1"'),
    ):
        text = f"regexp_replace({text}, '{pattern}', '{becomes}', 'g')"
    return text


def cast_sql(column: Column, place: str) -> str:
    """From a parameter, always bound as text (bytea as bytea), to the column's type, domains resolved.

    Without a length: a cast to `varchar(5)` cuts off silently what an assignment refuses.
    """
    if column.kind == "bytes":
        return f"CAST({place}::bytea AS {column.base})"
    element = element_kind(column.kind)
    base = _TYPMOD.sub("", column.base) if (element or column.kind) in _LENGTH_KINDS else column.base
    if column.kind in ("money", "money[]"):
        numeric = "numeric[]" if element else "numeric"
        return f"CAST(CAST({place}::text AS {numeric}) AS {base})"
    return f"CAST({place}::text AS {base})"


def bind(column: Column, value: Value) -> str | bytes | None:
    """What to pass for the parameter of `cast_sql`; ValueError where the value cannot be of the type."""
    return binding.bind(column.kind, value)


def canonical(column: Column, value: Value) -> Value | Unknown:
    """The form in which the source would give the value back; UNKNOWN where only the database can tell, also whether
    it takes it at all."""
    return binding.canonical(column.kind, column.base, value)
