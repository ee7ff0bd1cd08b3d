"""One synced table as the program sees it: our names beside it, its columns in our SQL, masks of changed ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from syncline.errors import ConfigError
from syncline.model import merge
from syncline.model.identifiers import PREFIX, quote
from syncline.model.schema import Column
from syncline.model.scopes import Plan, SyncedTable

MASK_BITS = 60
"""Columns per mask word: a word stays a positive 64-bit integer, whatever is added to it."""

VALUES_MAX = 900
"""An outbox row holds old and new values and must stay below SQLite's 2,000 columns a table."""

_TYPE_WORD = re.compile(r"[^\W\d]\w*")
_TYPE = re.compile(r"((?:[^\W\d]\w*\s*)+?)\s*(\(\s*[+-]?[\d.]+(?:\s*,\s*[+-]?[\d.]+)?\s*\))?")
_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_LITERAL = re.compile(
    rf"{_NUMBER}|0[xX][0-9a-fA-F]+|'(?:[^']|'')*'|[xX]'(?:[0-9a-fA-F]{{2}})*'|NULL|TRUE|FALSE"
    r"|CURRENT_(?:TIMESTAMP|DATE|TIME)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Shape:
    """`types` maps column -> type as our DDL writes it. `partial`: left out of an insert that leaves them NULL, because
    the source fills them in by itself."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    values: tuple[str, ...]
    types: dict[str, str]
    defaults: dict[str, str]
    generated: frozenset[str]
    adds: frozenset[str]
    partial: frozenset[str]
    rowid_key: bool

    @property
    def table(self) -> str:
        return quote(self.name)

    def ours(self, kind: str) -> str:
        """The quoted name of one of our tables for it, for example `"syncline_outbox_visits"`."""
        return quote(f"{PREFIX}{kind}_{self.name}")

    @property
    def words(self) -> int:
        """How many mask words cover the values; at least one."""
        return max(1, -(-len(self.values) // MASK_BITS))

    @property
    def key_names(self) -> tuple[str, ...]:
        return tuple(f"k{i}" for i in range(len(self.key)))

    @property
    def mask_names(self) -> tuple[str, ...]:
        return tuple(f"m{i}" for i in range(self.words))

    def shadow(self, letter: str) -> tuple[str, ...]:
        """`o0, o1, …` (old) or `n0, n1, …` (new), in the order of `values`."""
        return tuple(f"{letter}{i}" for i in range(len(self.values)))

    def has_bit(self, index: int, prefix: str = "") -> str:
        """SQL: the mask names value `index`."""
        return f"({prefix}m{index // MASK_BITS} & {1 << index % MASK_BITS})"

    def masks(self, term: Callable[[int, str], str | None]) -> tuple[str, ...]:
        """One SQL expression per word: the sum of the bits whose term, a 0-or-1 expression, holds. None: never."""
        words: list[list[str]] = [[] for _ in range(self.words)]
        for index, column in enumerate(self.values):
            condition = term(index, column)
            if condition is not None:
                bit = 1 << index % MASK_BITS
                words[index // MASK_BITS].append(str(bit) if condition == "1" else f"({condition}) * {bit}")
        return tuple(joined("+", word) or "0" for word in words)

    def same_key(self, left: str, right: str, names: Iterable[str] | None = None) -> str:
        """`left` and `right` are prefixes; the left names are columns of the synced table unless `names` says else."""
        left_names = tuple(names) if names else tuple(quote(column) for column in self.key)
        pairs = zip(left_names, self.key_names, strict=True)
        return " AND ".join(f"{left}{own} = {right}{ours}" for own, ours in pairs)

    def key_from(self, prefix: str) -> str:
        """The key columns of a synced row: `NEW."a", NEW."b"`."""
        return ", ".join(prefix + quote(column) for column in self.key)

    def differs(self, column: str, left: str, right: str) -> str:
        """SQL: two values of the column are not the same value. 1 and 1.0 are equal for SQLite and not for us."""
        test = f"{left} IS NOT {right} COLLATE BINARY"
        if affinity(self.types[column]) in ("TEXT", "REAL"):
            return test
        return f"{test} OR typeof({left}) <> typeof({right})"


def joined(operator: str, terms: Sequence[str]) -> str:
    """`(a OR b) OR (c OR d)`: as a tree, since SQLite's parser allows a depth of 1,000 and tables have 900 columns."""
    if len(terms) <= 8:
        return f" {operator} ".join(terms)
    middle = len(terms) // 2
    return f"({joined(operator, terms[:middle])}) {operator} ({joined(operator, terms[middle:])})"


def build_shape(plan: Plan, synced: SyncedTable) -> Shape:
    """ConfigError for a table that no replica can hold."""
    if synced.name.lower().startswith(PREFIX):
        raise ConfigError(
            f'Table "{synced.name}" cannot sync: names that begin with {PREFIX} are ours on a replica.',
            hint="Leave it out of the scope.",
            code="reserved_name",
        )
    if len(synced.values) > VALUES_MAX:
        raise ConfigError(
            f'Table "{synced.name}" cannot sync: it has more than {VALUES_MAX} columns.',
            hint="Name those that devices need in [columns] keep.",
            code="too_many_columns",
        )
    columns = {name: synced.table.column(name) for name in synced.columns}
    types = {name: column.local_type or type_name(column.type) for name, column in columns.items()}
    rowid_key = len(synced.key) == 1 and synced.table.generated_key and types[synced.key[0]].upper() == "INTEGER"
    if len(synced.key) == 1 and types[synced.key[0]].upper() == "INTEGER" and not rowid_key:
        types[synced.key[0]] = "INT"  # a key of the type INTEGER becomes the rowid, and refuses what is no integer
    defaults = {name: text for name, column in columns.items() if (text := _default(column))}
    return Shape(
        name=synced.name,
        columns=synced.columns,
        key=synced.key,
        values=synced.values,
        types=types,
        defaults=defaults,
        generated=synced.generated & set(synced.values),
        adds=frozenset(name for name in synced.values if merge.policy(synced.policy(name)).rebase == "add"),
        partial=frozenset(name for name in synced.values if _fills_in(columns[name], synced.policy(name), defaults)),
        rowid_key=rowid_key,
    )


def _fills_in(column: Column, policy: str, defaults: dict[str, str]) -> bool:
    unknown_default = column.default is not None and column.name not in defaults
    return policy == "server" or unknown_default


def affinity(declared: str) -> str:
    """INTEGER, TEXT, BLOB, REAL or NUMERIC (https://sqlite.org/datatype3.html, 3.1)."""
    name = declared.upper()
    if "INT" in name:
        return "INTEGER"
    if any(part in name for part in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if not name or "BLOB" in name:
        return "BLOB"
    if any(part in name for part in ("REAL", "FLOA", "DOUB")):
        return "REAL"
    return "NUMERIC"


_ORDINARY = {
    *("INT", "INTEGER", "TINYINT", "SMALLINT", "MEDIUMINT", "BIGINT", "UNSIGNED", "BIG", "INT2", "INT8", "CHARACTER"),
    *("VARCHAR", "VARYING", "NCHAR", "NATIVE", "NVARCHAR", "CHAR", "TEXT", "CLOB", "BLOB", "REAL", "DOUBLE", "FLOAT"),
    *("PRECISION", "NUMERIC", "DECIMAL", "BOOLEAN", "DATE", "DATETIME", "TIME", "TIMESTAMP", "UUID", "JSON"),
}


def type_name(declared: str) -> str:
    """The declared type as DDL may name it: verbatim where that is safe, else quoted, else by its affinity."""
    text = declared.strip()
    found = _TYPE.fullmatch(text)
    if not found:
        return "" if affinity(text) == "BLOB" else affinity(text)
    words = [word for word in _TYPE_WORD.findall(found[1]) if word.upper() not in ("GENERATED", "ALWAYS")]
    if not words:
        return "NUMERIC"
    if all(word.upper() in _ORDINARY for word in words):
        return " ".join(words) + (found[2] or "")
    return quote(" ".join(words)) + (found[2] or "")


def _default(column: Column) -> str | None:
    """The default where it is a literal; anything else is the source's to compute."""
    text = (column.default or "").strip()
    while text.startswith("(") and text.endswith(")"):
        text = text[1:-1].strip()
    if column.generated or not _LITERAL.fullmatch(text) or text.upper() == "NULL":
        return None
    return text
