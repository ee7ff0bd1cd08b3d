"""Convergence, proved: what a device holds against the same SELECT on the clinic's database, value for value.

Nothing of Syncline is used here: two SQLite files, opened with sqlite3, and the bytes of one of them.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from examples.homecare.configuration import GRANT, HIDDEN

VISITS = f"SELECT id FROM visits WHERE patient_id IN ({GRANT})"
SCOPE = {
    "patients": f"id IN ({GRANT})",
    "visits": f"patient_id IN ({GRANT})",
    "notes": f"visit_id IN ({VISITS})",
    "prescriptions": f"patient_id IN ({GRANT})",
    "facilities": f"id IN (SELECT facility_id FROM patients WHERE id IN ({GRANT}))",
    "medications": "1 = 1",
}
"""Per table the rows that a nurse should hold, in the source's own words."""

SECURITY_NUMBER = re.compile(rb"9\d\d-\d\d-\d{4}")
DIFFERENCES_SHOWN = 6


@dataclass
class Comparison:
    """One device against the source. Empty `differences` and `secrets` are the proof."""

    device_rows: int = 0
    source_rows: int = 0
    differences: list[str] = field(default_factory=list)
    secrets: int = 0
    leftovers: int = 0

    @property
    def is_equal(self) -> bool:
        return not self.differences


def compare_rows(source: Path, device: Path, nurse: str) -> Comparison:
    """Every table that the nurse's scope names, in one read transaction on each side."""
    result = Comparison()
    with closing(sqlite3.connect(source, timeout=15)) as office, closing(sqlite3.connect(device, timeout=15)) as phone:
        office.execute("BEGIN")
        phone.execute("BEGIN")
        for table, condition in SCOPE.items():
            columns = [name for name in _columns(office, table) if name not in HIDDEN.get(table, ())]
            if _columns(phone, table) != columns:
                result.differences.append(f"{table}: columns {_columns(phone, table)} instead of {columns}")
                continue
            query = f"SELECT {', '.join(columns)} FROM {table}"
            expected = _rows(office, f"{query} WHERE {condition}", {"sub": nurse})
            found = _rows(phone, query, {})
            result.source_rows += len(expected)
            result.device_rows += len(found)
            result.differences += [f"{table}: {line}" for line in _differences(columns, expected, found)]
    return result


def search_bytes(source: Path, device: Path, nurse: str, comparison: Comparison) -> None:
    """Look for what must not be in the file at all: anybody's social security number, and patients who left.

    `secrets` counts the numbers, `leftovers` the telephone numbers of patients whom the nurse no longer has.
    """
    bytes_ = b"".join(file.read_bytes() for file in sorted(device.parent.glob(device.name + "*")))
    with closing(sqlite3.connect(source, timeout=15)) as office:
        numbers = {str(row[0]).encode() for row in office.execute("SELECT ssn FROM patients")}
        gone = office.execute(
            "SELECT phone FROM patients WHERE id IN (SELECT patient_id FROM assignments WHERE nurse_id = :sub)"
            f" AND id NOT IN ({GRANT})",
            {"sub": nurse},
        ).fetchall()
    comparison.secrets = len(numbers & set(SECURITY_NUMBER.findall(bytes_)))
    comparison.leftovers = sum(str(row[0]).encode() in bytes_ for row in gone)


def find_missing_notes(source: Path, keys: list[str]) -> set[str]:
    """The notes that a device wrote and the clinic does not have; that it has one twice, its primary key excludes."""
    with closing(sqlite3.connect(source, timeout=15)) as office:
        return set(keys) - {str(row[0]) for row in office.execute("SELECT id FROM notes")}


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})")]


def _rows(connection: sqlite3.Connection, query: str, values: dict[str, str]) -> dict[object, tuple[object, ...]]:
    """By key; each value with its type, because to Python 1 and 1.0 are the same and to a column they are not."""
    return {row[0]: tuple((type(value), value) for value in row) for row in connection.execute(query, values)}


def _differences(
    columns: list[str], expected: dict[object, tuple[object, ...]], found: dict[object, tuple[object, ...]]
) -> list[str]:
    lines = [f"{key} is missing on the device" for key in expected.keys() - found.keys()]
    lines += [f"{key} should not be on the device" for key in found.keys() - expected.keys()]
    for key in expected.keys() & found.keys():
        for column, theirs, ours in zip(columns, expected[key], found[key], strict=True):
            if theirs != ours:
                lines.append(f"{key}.{column} is {_value(ours)!r}, in the source {_value(theirs)!r}")
    return sorted(lines)


def _value(typed: object) -> object:
    return typed[1] if isinstance(typed, tuple) else typed
