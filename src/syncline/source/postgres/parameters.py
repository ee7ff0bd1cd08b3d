"""The parameters of a query that a person wrote: `:sub` where SQL may have a value, and nowhere else.

Not in text, `E'…'` and `$tag$…$tag$` included, nor in comments, which nest, nor in quoted names; and neither `::text`
nor the colon of an array's slice (`a[1:2]`, `a[lower:upper]`) nor `:=` is one. In brackets a colon at the head of an
item is a parameter: `ARRAY[:a, :b]`, `a[:n]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_PIECES = re.compile(
    r"""(?P<line>--[^\n]*)"""
    r"""|(?P<block>/\*)"""
    r"""|(?P<escapes>(?<![\w$])[eE]'(?:[^'\\]|\\.|'')*(?:'|$))"""
    r"""|(?P<text>'(?:[^']|'')*(?:'|$))"""
    r"""|(?P<quoted>"(?:[^"]|"")*(?:"|$))"""
    r"""|(?P<dollar>(?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$)"""
    r"""|(?P<cast>::|:=)"""
    r"""|:(?P<name>[^\W\d]\w*)"""
    r"""|(?P<open>[\[(])|(?P<close>[\])])|(?P<comma>,)"""
    r"""|(?P<space>\s+)"""
    r"""|(?P<word>[\w$]+)"""
    r"""|(?P<other>.)""",
    re.DOTALL,
)
_COMMENT_ENDS = re.compile(r"/\*|\*/")
_NO_OPERANDS = frozenset(
    {"all", "and", "any", "as", "between", "by", "case", "distinct", "else", "from", "ilike", "in", "is", "like", "not"}
    | {"on", "or", "returning", "select", "similar", "some", "then", "when", "where"}
)
"""Words after which a value stands, and which end none."""
_SILENT = frozenset({"line", "block", "space"})


def split(query: str) -> list[tuple[str, str | None]]:
    """The query in pieces: (text, None), or (`:name`, name). Together they are the query."""
    found: list[tuple[str, str | None]] = []
    plain: list[str] = []
    brackets: list[str] = []
    ends_value = False
    """Whether an array's lower bound may end with the last piece that is neither space nor comment."""
    for kind, text in _pieces(query):
        if kind == "open":
            brackets.append(text)
        elif kind == "close" and brackets:
            brackets.pop()
        if kind == "name" and not (ends_value and brackets[-1:] == ["["]):
            found += [("".join(plain), None)] if plain else []
            found.append((text, text[1:]))
            plain = []
        else:
            plain.append(text)
        if kind not in _SILENT:
            ends_value = kind not in ("open", "comma", "other") and text.lower() not in _NO_OPERANDS
    return [*found, ("".join(plain), None)] if plain else found


def _pieces(query: str) -> Iterator[tuple[str, str]]:
    """(kind, text): the groups of `_PIECES`, whole comments and whole texts."""
    place = 0
    while place < len(query):
        found = _PIECES.match(query, place)
        assert found is not None  # `other` takes anything
        kind, end = found.lastgroup or "", found.end()
        if kind == "block":
            end = _end_of_comment(query, end)
        elif kind in ("dollar", "tag"):
            kind, close = "dollar", query.find(found[0], end)
            end = len(query) if close < 0 else close + len(found[0])
        yield kind, query[place:end]
        place = end


def bare(query: str) -> str:
    """The query with its texts and quoted names emptied, and without comments."""
    found: list[str] = []
    for kind, text in _pieces(query):
        if kind in ("text", "escapes", "dollar"):
            found.append("''")
        elif kind == "quoted":
            found.append('""')
        else:
            found.append(" " if kind in _SILENT else text)
    return "".join(found)


def _end_of_comment(query: str, place: int) -> int:
    depth = 1
    while depth:
        found = _COMMENT_ENDS.search(query, place)
        if found is None:
            return len(query)
        depth += 1 if found[0] == "/*" else -1
        place = found.end()
    return place


def positional(query: str) -> tuple[str, tuple[str, ...]]:
    """The query with `$1`, `$2`, … and the names that they stand for, each once, in order."""
    numbers: dict[str, int] = {}
    sql = "".join(
        text if name is None else f"${numbers.setdefault(name, len(numbers) + 1)}" for text, name in split(query)
    )
    return sql, tuple(numbers)
