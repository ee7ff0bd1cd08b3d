"""What an upload writes down of a mutation, as lines of the tables `outcome`, `conflict` and `rejection`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from syncline.source.port import DeviceRow, StoredOutcome
from syncline.values import Value, encode_row, encode_value, key_text

Line = tuple[Any, ...]
"""In the order of the table's columns."""


def outcome_line(device: DeviceRow, outcome: StoredOutcome, now_us: int) -> Line:
    told = [
        {
            "column": conflict.column,
            "kind": conflict.kind,
            "rule": conflict.rule,
            "base": encode_value(conflict.base),
            "server": encode_value(conflict.server),
            "device": encode_value(conflict.device),
        }
        for conflict in outcome.conflicts
    ]
    conflicts = json.dumps(told, ensure_ascii=False) if told else None
    return (
        *(device.device, outcome.number, outcome.id, outcome.kind, outcome.code or None, outcome.reason or None),
        *(outcome.table, outcome.operation, key_text(outcome.key), conflicts, now_us),
    )


def conflict_lines(device: DeviceRow, outcome: StoredOutcome, now_us: int) -> Iterator[Line]:
    """Without the id that the table gives."""
    for conflict in outcome.conflicts:
        yield (
            *(device.device, outcome.number, device.user, outcome.table, key_text(outcome.key)),
            *(conflict.column, conflict.kind, conflict.rule, encode_row([conflict.base])),
            *(encode_row([conflict.server]), encode_row([conflict.device]), _object(conflict.row), now_us),
        )


def rejection_line(device: DeviceRow, outcome: StoredOutcome, now_us: int) -> Line:
    return (
        *(device.device, outcome.number, device.user, outcome.table, key_text(outcome.key), outcome.operation),
        *(outcome.code, outcome.reason, _object(outcome.values), now_us),
    )


def _object(values: Mapping[str, Value] | None) -> str | None:
    if values is None:
        return None
    return json.dumps({column: encode_value(value) for column, value in values.items()}, ensure_ascii=False)
