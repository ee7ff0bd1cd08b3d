"""Files of named queries."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def queries(file: str) -> dict[str, str]:
    """Name -> SQL of a file in which `-- name: x` heads each query."""
    text = files("syncline.source.postgres").joinpath(file).read_text(encoding="utf-8")
    parts = [part.partition("\n") for part in text.split("-- name: ")[1:]]
    return {name.strip(): query.strip().rstrip(";") for name, _, query in parts}
