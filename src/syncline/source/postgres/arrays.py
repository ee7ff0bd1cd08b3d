"""Arrays: JSON on a replica, `{a,"b"}` in PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from syncline.values import Value

DIMENSIONS_MAX = 6
"""PostgreSQL's own."""


def array_literal(text: str, bind_element: Callable[[Value], str]) -> str:
    """JSON text as PostgreSQL writes an array; ValueError where it is none, or not as wide everywhere."""
    try:
        found = json.loads(text, parse_float=_Number, parse_int=_Number, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("an array is nested too deep") from error
    if not isinstance(found, list):
        raise ValueError("a JSON array is due")
    shape = _shape(found)
    if len(shape) > DIMENSIONS_MAX:
        raise ValueError(f"an array has at most {DIMENSIONS_MAX} dimensions")
    if 0 in shape:
        return "{}"
    return _literal(found, bind_element)


class _Number(str):
    """A number as it is written: 1.10 keeps its zero and 2^70 its digits."""

    __slots__ = ()


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON; write it as text")


def _shape(found: Any) -> tuple[int, ...]:
    """How long it is in each dimension; () for an element."""
    if not isinstance(found, list):
        return ()
    shapes = {_shape(part) for part in found}
    if len(shapes) > 1:
        raise ValueError("the parts of an array are not all of one length")
    return (len(found), *shapes.pop()) if shapes else (0,)


def _literal(found: Any, bind_element: Callable[[Value], str]) -> str:
    if isinstance(found, list):
        return "{" + ",".join([_literal(part, bind_element) for part in found]) + "}"
    if found is None:
        return "NULL"
    if isinstance(found, dict):
        raise ValueError("an array holds a JSON object; write it as text")
    text = bind_element(str(found).lower() if isinstance(found, bool) else found)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
