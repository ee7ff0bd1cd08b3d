"""What a stored query calls, read from its tree: built-in functions stand in no other list of PostgreSQL's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]

_FUNCTIONS = re.compile(r":(?:funcid|opfuncid|aggfnoid|winfnoid|hashfuncid|negfuncid) (\d+)")
_OPERATORS = re.compile(r":opno (\d+)")
_OPERATOR_LISTS = re.compile(r":opnos \(o([ \d]+)\)")
_RELATIONS = re.compile(r":relid (\d+)")
_VALUE_FUNCTIONS = re.compile(r"\{SQLVALUEFUNCTION :op (\d+)")
_CONSTANT_TYPES = re.compile(r"\{CONST :consttype (\d+)")
_RESULT_TYPES = re.compile(r" :resulttype (\d+)")
_CATALOGUE_OID_MAX = 16_383
_CLOCK_TYPES = {1082, 1083, 1114, 1184, 1266}
"""date, time, timestamp, timestamptz, timetz"""
_TEXT_TYPES = {25, 1042, 1043}
_VALUE_FUNCTION_CLOCKS_MAX = 8
"""current_date to localtimestamp; what follows are roles and the current schema."""
_CLOCK_WORDS = re.compile(r"'(\s*(?:now|today|tomorrow|yesterday)\b[^']*)'", re.IGNORECASE)

_CLOCKS = {"now", "transaction_timestamp", "statement_timestamp", "age", "getdatabaseencoding"}
_STATE_PREFIXES = ("pg_", "has_", "txid_", "inet_client", "inet_server", "current_", "session_", "row_security")
SAFE_IN_FILTERS = frozenset(
    {"lower", "upper", "length", "char_length", "character_length", "octet_length", "btrim", "ltrim", "rtrim"}
    | {"starts_with", "strpos", "replace", "reverse", "concat", "concat_ws", "textcat", "text", "bpchar", "name"}
    | {"textlike", "textnlike", "texticlike", "texticnlike", "bpcharlike", "bpcharnlike", "like_escape"}
    | {"textregexeq", "textregexne", "texticregexeq", "texticregexne", "varchar", "int8", "float8"}
    | {"numeric_eq", "numeric_ne", "numeric_lt", "numeric_le", "numeric_gt", "numeric_ge", "enum_eq", "enum_ne"}
    | {"enum_lt", "enum_le", "enum_gt", "enum_ge", "byteaeq", "bytea_eq", "network_eq", "interval_eq", "interval_lt"}
    | {"interval_gt", "array_eq", "array_ne", "arraycontains", "arraycontained", "arrayoverlap", "cardinality"}
    | {"array_position", "json_object_field", "json_object_field_text", "jsonb_object_field"}
    | {"jsonb_object_field_text", "jsonb_array_element", "jsonb_array_element_text", "jsonb_exists"}
    | {"jsonb_exists_any", "jsonb_exists_all", "jsonb_contains", "jsonb_contained", "jsonb_eq", "jsonb_ne"}
    | {"jsonb_typeof", "json_typeof", "jsonb_extract_path_text", "range_contains_elem", "elem_contained_by_range"}
    | {"range_overlaps", "isempty", "isfinite", "booltext", "citext_eq", "citext_ne"}
)
"""Built-in functions that answer something for every value, beside those that PostgreSQL itself marks as never failing.
One that can fail would, for one row, stop all checkpoints."""
_PATTERNS = re.compile(r"(?:\blike|\bsimilar\s+to|!?~~?\*?)(?!\s*[eE]?'')", re.IGNORECASE)


@dataclass(frozen=True)
class Tree:
    """One or more stored queries."""

    text: str

    @property
    def functions(self) -> list[int]:
        return [int(found) for found in dict.fromkeys(_FUNCTIONS.findall(self.text))]

    @property
    def operators(self) -> list[int]:
        listed = [number for numbers in _OPERATOR_LISTS.findall(self.text) for number in numbers.split()]
        return [int(found) for found in dict.fromkeys([*_OPERATORS.findall(self.text), *listed])]

    @property
    def reads_catalogue(self) -> bool:
        return any(0 < int(found) <= _CATALOGUE_OID_MAX for found in _RELATIONS.findall(self.text))

    @property
    def has_query_inside(self) -> bool:
        return ":hasSubLinks true" in self.text

    @property
    def locks_rows(self) -> bool:
        return ":hasForUpdate true" in self.text

    @property
    def reads_whole_rows(self) -> bool:
        return re.search(r":varattno 0 ", self.text) is not None

    def volatile(self, functions: list[Row], query: str) -> tuple[str, ...]:
        """What it calls whose answer changes while the rows do not: also what may read tables that nobody sees."""
        found = [row["name"] for row in functions if _is_volatile(row)]
        if any(int(number) <= _VALUE_FUNCTION_CLOCKS_MAX for number in _VALUE_FUNCTIONS.findall(self.text)):
            found.append("current_timestamp")
        found += self._clock_words(query)
        if re.search(r":tablesample \{", self.text):
            found.append("tablesample")
        return tuple(dict.fromkeys(found))

    def _clock_words(self, query: str) -> list[str]:
        """'now' and the like where they became a time when the query was parsed, and did not stay a text."""
        if not _CLOCK_TYPES & {int(number) for number in _CONSTANT_TYPES.findall(self.text)}:
            return []
        words = _CLOCK_WORDS.findall(query)
        stayed = {word: self.text.count(f" {' '.join(str(byte) for byte in word.encode())} ]") for word in words}
        return [word.strip().lower() for word in stayed if words.count(word) > stayed[word]]

    def can_fail(self, functions: list[Row], bare: str) -> str:
        """What of a filter can fail on a value, in words; empty if nothing. `bare`: the filter, its texts emptied."""
        for row in functions:
            if not _is_volatile(row) and not row["leakproof"] and not _is_safe(row):
                return f'"{row["operator"]}"' if row["operator"] else f"{row['name']}()"
        if "{COERCETODOMAIN" in self.text:
            return "a cast to a domain"
        results = {int(number) for number in _RESULT_TYPES.findall(self.text)}
        if "{COERCEVIAIO" in self.text and not results <= _TEXT_TYPES:
            return "a cast from text"
        return "a pattern that is not written out" if _PATTERNS.search(bare) else ""


def _is_volatile(row: Row) -> bool:
    if row["volatility"] == "v":
        return True
    if row["volatility"] != "s":
        return False
    if row["builtin"]:
        return row["name"] in _CLOCKS or row["name"].startswith(_STATE_PREFIXES)
    return not row["compiled"]


_NUMERIC_OF_WHOLE = (1740, 1781, 1782)
"""numeric(int4), numeric(int8) and numeric(int2): PostgreSQL 13 and 14 do not say that they cannot fail. Others of the
name can."""


def _is_safe(row: Row) -> bool:
    return row["builtin"] and (row["name"] in SAFE_IN_FILTERS or row["oid"] in _NUMERIC_OF_WHOLE)
