"""P12 by a reference of its own: of all who wrote a cell, the last one by true time, whoever arrived first."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from syncline.testing.simulation.devices import SimulatedDevice
from syncline.testing.simulation.oracle import BrokenPromiseError, Done
from syncline.testing.simulation.report import Report
from syncline.testing.simulation.server import SimulatedServer
from syncline.testing.world import VirtualClock

LATEST = {"visits": ("status", "note"), "lines": ("label",)}
"""The columns whose merge policy is `latest`, without those that decide the bucket."""
COUNTED = ("visits", "n")
"""The column whose merge policy is `add`; it begins with 0."""
MARGIN_US = 5_000
"""A device knows the server's clock by half the way of its hello, and SQLite's clock ticks in milliseconds."""

Cell = tuple[str, str, str]


@dataclass(frozen=True)
class _Write:
    at_us: int
    value: Any
    done: Done | None
    """None: the office's."""


class Winners:
    """Cells are looked at as long as nothing has happened to their row that makes the time of a write doubtful: no
    delete, no insert, and no clock that was set between a write and its upload. `clock` is the true one."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._writes: dict[Cell, list[_Write]] = {}
        self._doubtful: set[tuple[str, str]] = set()
        self._remade: list[tuple[tuple[str, str], bytes]] = []
        """Rows that somebody inserted or deleted, and by which mutation; the office's have none."""
        self._unclear: dict[str, int] = {}
        """Device -> the number of its last mutation that waited when it became doubtful."""
        self._is_over = False

    # ------------------------------------------------------------ what happens
    def office_wrote(self, table: str, key: str, column: str, value: Any) -> None:
        """Without a column: it made or took away the row."""
        if not column:
            self._remade.append(((table, key), b""))
            return
        self._note((table, key, column), value, None)

    def app_wrote(self, device: SimulatedDevice, done: Done) -> None:
        """A stamp is after the one before it: what is written while something doubtful waits is as doubtful."""
        if device.included < self._unclear.get(device.name, 0):
            self.doubt([(done.table, done.key)])
        if done.operation != "U":
            self._remade.append(((done.table, done.key), done.id))
            return
        for column, value in done.new.items():
            self._note((done.table, done.key, column), value, done)

    def _note(self, cell: Cell, value: Any, done: Done | None) -> None:
        if cell[2] in (*LATEST.get(cell[0], ()), COUNTED[1]):
            self._writes.setdefault(cell, []).append(_Write(self._clock.now_us(), value, done))

    def doubt(self, rows: Iterable[tuple[str, str]]) -> None:
        self._doubtful.update(rows)

    def doubt_waiting(self, device: SimulatedDevice) -> None:
        """Nobody can say any more when what waits was written."""
        included = device.included
        waiting = [done for done in device.journal if done.number > included]
        self.doubt((done.table, done.key) for done in waiting)
        if waiting:
            self._unclear[device.name] = waiting[-1].number

    def give_up(self) -> None:
        """Stamps were lost, or the server's clock was set: this history is not looked at."""
        self._is_over = True

    # ------------------------------------------------------------ at the end
    def check(self, server: SimulatedServer, devices: Iterable[SimulatedDevice], report: Report) -> None:
        """P12: each cell holds what the last of its writers wrote, and what lost is in the office's records."""
        if self._is_over:
            return
        company = server.company
        columns = {table: ("id", *names) for table, names in LATEST.items()}
        columns[COUNTED[0]] += (COUNTED[1],)
        rows = company.rows(columns)
        ids = [(bytes(each), kind, code) for each, kind, code in company.ours("outcome", "id", "kind", "code") if each]
        taken = {each for each, kind, code in ids if kind in ("applied", "merged") and code is None}
        known = {each for each, _, _ in ids}
        refused = {each for each, kind, _ in ids if kind == "rejected"}
        remade = {row for row, each in self._remade if each not in refused}
        waited = {done.id for device in devices for done in (*device.past, *device.journal)}
        if not waited <= known:  # forgotten by the retention
            return
        for (table, key, column), writes in self._writes.items():
            if (table, key) in remade or (table, key) not in rows:
                continue
            value = rows[table, key][column]
            if column == COUNTED[1]:
                self._check_count((table, key, column), writes, taken, value, report)
            elif (table, key) not in self._doubtful:
                self._check_cell((table, key, column), writes, taken, value)
                report.look("P12")
        self._check_losers(server, devices, report)

    @staticmethod
    def _check_cell(cell: Cell, writes: list[_Write], taken: set[bytes], value: Any) -> None:
        counted = [write for write in writes if write.done is None or write.done.id in taken]
        if not counted:
            return
        last = max(write.at_us for write in counted)
        winners = [write.value for write in counted if write.at_us >= last - MARGIN_US]
        if value not in winners:
            raise BrokenPromiseError("P12 the last one did not win", cell, value, winners)

    @staticmethod
    def _check_count(cell: Cell, writes: list[_Write], taken: set[bytes], value: Any, report: Report) -> None:
        """P5: where the office has not set it, a count is the sum of what all have added, each once."""
        if any(write.done is None for write in writes):
            return
        added = {write.done.id: write.value - (write.done.old["n"] or 0) for write in writes if write.done}
        if value != sum(difference for each, difference in added.items() if each in taken):
            raise BrokenPromiseError("P5 not every change was counted once", cell, value, added)
        report.look("P5")

    @staticmethod
    def _check_losers(server: SimulatedServer, devices: Iterable[SimulatedDevice], report: Report) -> None:
        """Whoever has lost, the device or the other one: what was written is in the office's records."""
        company = server.company
        outcomes = company.ours("outcome", "device", "number", "kind", "code")
        merged = {(name, number) for name, number, kind, code in outcomes if kind == "merged" and code is None}
        records = {
            (name, number, column): json.loads(value)[0]
            for name, number, column, value in company.ours(
                "conflict", "device", "number", "column_name", "device_value"
            )
        }
        for device in devices:
            for done in device.journal:
                if (device.identity, done.number) not in merged or done.operation != "U":
                    continue
                kept = {at[2]: value for at, value in records.items() if at[:2] == (device.identity, done.number)}
                if not kept.keys() & done.new.keys():
                    raise BrokenPromiseError("P12 what lost was not kept", device.name, done)
                for column in kept.keys() & done.new.keys():
                    if isinstance(done.new[column], str) and kept[column] != done.new[column]:
                        raise BrokenPromiseError("P12 something else was kept", device.name, done, kept)
                report.look("P12")
