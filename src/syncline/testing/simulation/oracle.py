"""What must be so, found by hand: which rows a device has to hold at a cut, and what its own changes make of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from syncline.testing.simulation.report import Report

Rows = dict[tuple[str, str], dict[str, Any]]
"""Table and key -> column -> value."""
SHOWN_MAX = 40
HIDDEN_N = 3
"""Visits with this `n` are left out while the configuration filters."""


class BrokenPromiseError(AssertionError):
    """A checker found a promise broken: which one, on which device, and what differed."""

    report: Report | None = None
    """Of the history until then, with its story; set by who plays it."""

    @property
    def checker(self) -> str:
        """Which one, without what differed: a shorter history fails in the same way if this is the same."""
        return str(self.args[0])


@dataclass(frozen=True)
class Truth:
    """One cut: all visible rows of the source, each device's last included mutation, and whether visits are
    filtered."""

    rows: Rows
    included: dict[str, int]
    is_filtered: bool

    def held_by(self, patients: set[str]) -> Rows:
        """The rows of these patients."""
        found: Rows = {}
        for (table, key), row in self.rows.items():
            patient = self._patient(table, key, row)
            if patient in patients and ("patients", str(patient)) in self.rows:
                found[table, key] = row
        return found

    def _patient(self, table: str, key: str, row: dict[str, Any]) -> Any:
        if table == "patients":
            return key
        visit = self.rows.get(("visits", row["visit_id"])) if table == "lines" else row
        if visit is None or (self.is_filtered and visit["n"] == HIDDEN_N):
            return None
        return visit["patient_id"]


@dataclass
class Cuts:
    """What each checkpoint meant, by the term in which it was taken and its number."""

    truths: dict[tuple[str, int], Truth] = field(default_factory=dict)
    granted: dict[tuple[str, int], dict[str, set[str]]] = field(default_factory=dict)
    """The patients of each user, at any time while this was the newest one."""


@dataclass(frozen=True)
class Done:
    """One mutation that a device's app committed. `marked`: the number of its group's first, or 0."""

    number: int
    operation: str
    table: str
    key: str
    new: dict[str, Any]
    old: dict[str, Any]
    marked: int
    id: bytes = b""

    def in_words(self) -> str:
        verb = {"I": "inserts", "U": "updates", "D": "deletes"}[self.operation]
        values = ", ".join(f"{column}={shown(value)}" for column, value in self.new.items())
        return f"{verb} {self.table} {self.key}" + (f" ({values})" if values else "")


def shown(value: Any) -> str:
    """As a story tells it: of what is long the beginning."""
    text = repr(value)
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"


BLANK: dict[str, dict[str, Any]] = {
    "visits": {"patient_id": None, "status": None, "note": None, "n": 0, "updated_at": None},
    "lines": {"visit_id": None, "label": None},
}
"""What an insert leaves unsaid."""


def replay(want: Rows, pending: list[Done]) -> Rows:
    """Makes pending mutations over a cut, in order. The answer: rows that no bucket holds and that were only updated;
    they stay until the outcome comes, and of them only the own values are known."""
    loose: Rows = {}
    for done in pending:
        at = done.table, done.key
        base = want.get(at)
        if done.operation == "D":
            want.pop(at, None)
            loose.pop(at, None)
        elif done.operation == "I":
            want[at] = {**BLANK[done.table], "id": done.key, **(base or {}), **done.new}
            loose.pop(at, None)
        elif base is None or at in loose:
            loose.setdefault(at, {}).update({column: value for column, value in done.new.items() if column != "n"})
        else:
            for column, value in done.new.items():
                base[column] = base[column] + value - done.old[column] if column == "n" else value
    return loose
