"""What an upload writes down of itself: outcomes, conflicts, rejections, the device's line; each kind at once."""

from __future__ import annotations

import json
from typing import Any

import asyncpg
from asyncpg.exceptions import UniqueViolationError

from syncline.clock import Clock
from syncline.errors import SourceBusyError
from syncline.source.port import DeviceRow, StoredOutcome
from syncline.source.recording import Line, conflict_lines, outcome_line, rejection_line

_OUTCOMES = """
INSERT INTO syncline.outcome(device, number, id, kind, code, reason, table_name, op, key, conflicts, at_us)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
  $9::text[], $10::text[], $11::bigint[])"""
_CONFLICTS = """
INSERT INTO syncline.conflict(device, number, owner, table_name, key, column_name, kind, rule, base, server,
  device_value, row_values, at_us)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
  $9::text[], $10::text[], $11::text[], $12::text[], $13::bigint[])"""
_REJECTIONS = """
INSERT INTO syncline.rejection(device, number, owner, table_name, key, op, code, reason, row_values, at_us)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
  $9::text[], $10::bigint[])"""
_DEVICE = """
WITH noticed AS (INSERT INTO syncline.upload(device) VALUES($1))
UPDATE syncline.device SET last = $2, last_stamp = $3, floor = greatest(floor, $4), seen_us = $5 WHERE device = $1"""


class Records:
    """Of one transaction. What is `put` is written by `flush`."""

    def __init__(self, connection: asyncpg.Connection, clock: Clock) -> None:
        self._db = connection
        self._clock = clock
        self._encoding = str(connection.get_settings().server_encoding)
        self._lines: dict[str, list[Line]] = {_OUTCOMES: [], _CONFLICTS: [], _REJECTIONS: []}

    def put(self, device: DeviceRow, outcome: StoredOutcome) -> None:
        now = self._clock.now_us()
        self._lines[_OUTCOMES].append(self._storable_line(outcome_line(device, outcome, now)))
        self._lines[_CONFLICTS] += map(self._storable_line, conflict_lines(device, outcome, now))
        if outcome.kind == "rejected":
            self._lines[_REJECTIONS].append(self._storable_line(rejection_line(device, outcome, now)))

    def _storable_line(self, line: Line) -> Line:
        return tuple(self.storable(each) if isinstance(each, str) else each for each in line)

    def storable(self, text: str) -> str:
        """In characters that this database can hold. JSON stays JSON of the same value."""
        if text.isascii() and "\0" not in text:
            return text
        encoding: Any = "utf-8" if self._encoding in ("UTF8", "SQL_ASCII") else self._encoding
        try:
            text.replace("\0", "�").encode(encoding)
        except (UnicodeEncodeError, LookupError):
            try:
                return json.dumps(json.loads(text))
            except ValueError:
                return text.encode("ascii", "backslashreplace").decode().replace("\0", "")
        return text.replace("\0", "�")

    async def flush(self) -> None:
        for statement, lines in self._lines.items():
            if lines:
                try:
                    await self._db.execute(statement, *map(list, zip(*lines, strict=True)))
                except UniqueViolationError as error:
                    if getattr(error, "constraint_name", None) != "outcome_by_id":
                        raise
                    raise SourceBusyError("Another device sent the same change at the same time.") from error
                lines.clear()

    async def finish_device(self, device: DeviceRow, last: int, last_stamp_us: int, floor: int) -> None:
        await self.flush()
        await self._db.execute(_DEVICE, device.device, last, last_stamp_us, floor, self._clock.now_us())
