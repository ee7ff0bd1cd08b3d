"""What SQLite makes of a value that is stored in a column of a declared type (https://sqlite.org/datatype3.html,
3.1)."""

from __future__ import annotations

from syncline.model.program_shape import affinity
from syncline.values import Value


def apply_affinity(value: Value, declared: str) -> Value:
    """The value as a column of that type holds it: so that a grant's '12' names the bucket of patient 12."""
    kind = affinity(declared)
    if isinstance(value, str) and kind in ("INTEGER", "NUMERIC", "REAL"):
        value = _number(value)
    if kind == "TEXT" and isinstance(value, int | float):
        return str(value)
    if kind == "REAL" and isinstance(value, int):
        return float(value)
    if kind in ("INTEGER", "NUMERIC") and isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    return value


def _number(text: str) -> Value:
    stripped = text.strip(" \t\n\r\f\v")
    if not stripped or "_" in stripped or stripped.lower().lstrip("+-") in ("inf", "infinity", "nan"):
        return text
    try:
        whole = int(stripped)
        return whole if -(2**63) <= whole < 2**63 else float(whole)
    except ValueError:
        pass
    try:
        return float(stripped)
    except ValueError:
        return text
