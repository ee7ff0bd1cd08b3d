"""The office's records as they are printed: keys as objects, times as text."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syncline.cli.output import iso_time
from syncline.cli.server_extra import load, with_source

if TYPE_CHECKING:
    from syncline.source.port import Source

OPERATIONS = {"I": "insert", "U": "update", "D": "delete"}

Records = list[dict[str, Any]]


def read_records(config: Path, read: Callable[[Source], Awaitable[Records]]) -> Records:
    """What `read` gets from the source: `key` becomes an object column -> value, `x_us` `x_at`, and `at_us` `at`."""

    async def work(source: Source) -> Records:
        records = await read(source)
        schema = await source.introspect()
        keys = {name: table.key for name, table in schema.tables.items()}
        return [shape_record(record, keys) for record in records]

    return with_source(load(config), work)


def shape_record(record: dict[str, Any], keys: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """One record. A key of a table that is gone, or has another key now, is numbered: `{"1": …}`."""
    shaped: dict[str, Any] = {}
    for name, value in record.items():
        if name.endswith("_us"):
            shaped["at" if name == "at_us" else f"{name.removesuffix('_us')}_at"] = iso_time(value) if value else None
        elif name == "key" and isinstance(value, list | tuple):
            columns = keys.get(record.get("table", ""), ())
            if len(columns) != len(value):
                columns = tuple(str(number) for number in range(1, len(value) + 1))
            shaped["key"] = dict(zip(columns, value, strict=True))
        elif name == "operation":
            shaped[name] = OPERATIONS.get(value, value)
        else:
            shaped[name] = value
    return shaped
