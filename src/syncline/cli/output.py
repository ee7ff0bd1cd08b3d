"""How verbs print: JSON for programs, aligned text for people, errors for both on standard error."""

from __future__ import annotations

import base64
import json
import math
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from syncline.error_catalogue import remedy_of
from syncline.errors import SynclineError

CELL_CHARACTERS_MAX = 60
LINE_CHARACTERS_MIN = 40


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(_safe(as_json(document), sys.stdout.encoding))
    sys.stdout.flush()


def as_json(document: Any) -> str:
    return json.dumps(_plain(document), ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """What JSON cannot carry becomes a pair, as in docs/protocol.md: `["b", base64]`, `["f", "inf"]`."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return ["b", base64.b64encode(value).decode()]
    if isinstance(value, float) and not math.isfinite(value):
        return ["f", repr(value)]
    return value


def print_line(text: str = "") -> None:
    sys.stdout.write(_safe(text, sys.stdout.encoding) + "\n")
    sys.stdout.flush()


def print_note(text: str) -> None:
    """A remark for a person, on standard error: it never gets into what a script reads."""
    sys.stderr.write(_safe(text, sys.stderr.encoding) + "\n")
    sys.stderr.flush()


def print_error(error: SynclineError) -> None:
    """What happened, what to do next (from the catalogue, where the error does not say it), and the stable code."""
    hint = error.hint or remedy_of(error.error_code)
    print_note(f"Error: {' '.join(part for part in (error.message, hint) if part)} [{error.error_code}]")


def _safe(text: str, encoding: str | None) -> str:
    """The text with what the terminal cannot show replaced, rather than an error in the middle of a report."""
    return text.encode(encoding or "utf-8", "replace").decode(encoding or "utf-8", "replace")


def print_table(records: Sequence[Mapping[str, Any]], columns: Sequence[str], nothing: str, below: str = "") -> None:
    """Aligned columns with a heading; `nothing` where there is no record. `below`: what stands whole under each line,
    wrapped where the terminal ends."""
    if not records:
        print_line(nothing)
        return
    rows = [[column.replace("_", " ") for column in columns]]
    rows += [[cell(record.get(column)) for column in columns] for record in records]
    widths = [max(len(row[index]) for row in rows) for index in range(len(columns))]
    for row, record in zip(rows, [{}, *records], strict=True):
        print_line("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
        if text := " ".join(str(record.get(below) or "").split()):
            width = max(shutil.get_terminal_size().columns, LINE_CHARACTERS_MIN)
            print_line(textwrap.fill(text, width, initial_indent="    ", subsequent_indent="    "))


def cell(value: Any) -> str:
    """A value on one line, cut where it is long."""
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        value = ", ".join(f"{key}={item}" for key, item in value.items())
    text = " ".join(str(value).split())
    return text if len(text) <= CELL_CHARACTERS_MAX else text[: CELL_CHARACTERS_MAX - 1] + "…"


def iso_time(time_us: int) -> str:
    """µs since 1970 as `2026-11-22 20:31:05.123456`: UTC, in the form that replicas hold."""
    seconds, micros = divmod(time_us, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S") + f".{micros:06d}"


def count(number: int, noun: str) -> str:
    """`1 row`, `1,200 rows`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
