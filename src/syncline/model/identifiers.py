"""Names of the company's things inside our SQL."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

PREFIX = "syncline_"


def quote(name: str) -> str:
    """An SQL identifier, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def quote_list(names: Iterable[str], prefix: str = "") -> str:
    """`prefix."a", prefix."b"`; the prefix, if any, is written as it is (for example `t0.`)."""
    return ", ".join(prefix + quote(name) for name in names)


def literal(text: str) -> str:
    """An SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def nearest(name: str, known: Iterable[str]) -> str:
    """` Did you mean "visits"?` for the closest known name, or nothing."""
    names = list(known)
    lowered = {candidate.lower(): candidate for candidate in names}
    found = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)
    return f' Did you mean "{lowered[found[0]]}"?' if found else ""
