"""The end of a day: one line per nurse, and whether everything is as it should be."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from examples.homecare.configuration import CONFIG
from examples.homecare.demo import Demo
from examples.homecare.nurse import Nurse
from examples.homecare.proof import (
    DIFFERENCES_SHOWN,
    Comparison,
    compare_rows,
    find_missing_notes,
    search_bytes,
)
from examples.homecare.server import run_command
from examples.homecare.texts import counted

OFFICE_LISTS = ("rejections", "conflicts", "devices")
CONVERGENCE_SECONDS_MAX = 25.0
NARROW_COLUMNS = 130
HEADINGS = (
    "rows on\ndevice",
    "rows in\nscope",
    "all\nequal",
    "changes\nuploaded",
    "still\npending",
    "con-\nflicts",
    "re-\nfused",
    "patients\nlost",
    "and\ngained",
    "ssn in\nthe bytes",
    "lost ones\nin there",
)


@dataclass(frozen=True)
class Report:
    """The whole day. `conflicts` and `rejections` are what the office has in its lists, for a person to look at."""

    lines: tuple[Line, ...]
    conflicts: int
    rejections: int


@dataclass(frozen=True)
class Line:
    """One nurse's day. `uploaded` counts the changes that the clinic has taken in; no `problems`: it is proved."""

    nurse: Nurse
    comparison: Comparison
    uploaded: int
    pending: int
    conflicts: int
    problems: tuple[str, ...]


def close_the_day(demo: Demo) -> Report:
    """Wait until all are in step, then compare, count and search."""
    demo.board.heading("the proof: every device against the same SELECT on the clinic's database")
    demo.wait_until(lambda: _is_converged(demo), CONVERGENCE_SECONDS_MAX, "devices in step with the clinic")
    with ThreadPoolExecutor() as pool:
        rejections, conflicts, devices = pool.map(lambda noun: _office_list(demo, noun), OFFICE_LISTS)
    refused = {str(value) for rejection in rejections for value in rejection["key"].values()}
    uploaded = {str(device["user"]): int(device["included"]) for device in devices}
    lines = tuple(_examine(demo, nurse, uploaded.get(nurse.key, 0), refused) for nurse in demo.nurses)
    return Report(lines, len(conflicts), len(rejections))


def _is_converged(demo: Demo) -> bool:
    return all(nurse.is_quiet and compare_rows(demo.source, nurse.file, nurse.key).is_equal for nurse in demo.nurses)


def _office_list(demo: Demo, noun: str) -> list[dict[str, Any]]:
    """The office's own list; it keeps also what concerns patients whom a device had to forget."""
    found: list[dict[str, Any]] = json.loads(run_command(demo.options.folder, noun, "--json", "--config", CONFIG))
    return found


def _examine(demo: Demo, nurse: Nurse, uploaded: int, refused: set[str]) -> Line:
    comparison = compare_rows(demo.source, nurse.file, nurse.key)
    search_bytes(demo.source, nurse.file, nurse.key, comparison)
    status = nurse.replica.status
    problems = list(comparison.differences)
    lost_notes = find_missing_notes(demo.source, nurse.notes_written) - refused
    if status.pending:
        problems.append(f"{status.pending} changes wait in the outbox, the device is {nurse.state}")
    if lost_notes:
        problems.append(f"{len(lost_notes)} notes are neither in the clinic nor refused, one is {min(lost_notes)}")
    if comparison.secrets:
        problems.append(f"{comparison.secrets} hidden social security numbers are in the file")
    if comparison.leftovers:
        problems.append(f"{comparison.leftovers} patients who went to a colleague can still be read in the file")
    return Line(nurse, comparison, uploaded, status.pending, nurse.conflict_count, tuple(problems))


def print_summary(console: Console, report: Report, seconds: float) -> bool:
    """The table, then what is wrong; True when nothing is."""
    if console.width < NARROW_COLUMNS:
        for line in report.lines:
            headings = (heading.replace("-\n", "").replace("\n", " ") for heading in HEADINGS)
            said = ", ".join(f"{heading}: {cell}" for heading, cell in zip(headings, _cells(line), strict=True))
            console.print(f"{line.nurse.key}  {said}", highlight=False)
    else:
        console.print(_table(report, seconds))
    for line in report.lines:
        for problem in line.problems[:DIFFERENCES_SHOWN]:
            console.print(f"{line.nurse.key}: {problem}", style="bold red", markup=False, highlight=False)
        if len(line.problems) > DIFFERENCES_SHOWN:
            console.print(f"{line.nurse.key}: and {len(line.problems) - DIFFERENCES_SHOWN} more", style="red")
    console.print(
        f"The office's lists keep {counted(report.conflicts, 'conflict')} and {counted(report.rejections, 'refusal')}.",
        highlight=False,
    )
    proved = not any(line.problems for line in report.lines)
    if proved:
        console.print("Every device holds exactly its scope, every outbox is empty, nothing hidden left the clinic.")
    else:
        console.print("The devices and the clinic differ.", style="bold red")
    return proved


def _table(report: Report, seconds: float) -> Table:
    table = Table(title="One working day", title_style="bold", caption=f"{seconds:.0f} seconds")
    table.add_column("nurse", no_wrap=True)
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for line in report.lines:
        table.add_row(f"{line.nurse.key} {line.nurse.name}", *_cells(line))
    return table


def _cells(line: Line) -> list[str]:
    tally, comparison = line.nurse.tally, line.comparison
    return [
        f"{comparison.device_rows:,}",
        f"{comparison.source_rows:,}",
        "[green]yes[/]" if comparison.is_equal else "[bold red]no[/]",
        str(line.uploaded),
        str(line.pending),
        str(line.conflicts),
        str(tally.refused),
        str(tally.lost),
        str(tally.gained),
        f"[bold red]{comparison.secrets}[/]" if comparison.secrets else "[green]no[/]",
        f"[bold red]{comparison.leftovers}[/]" if comparison.leftovers else "[green]no[/]",
    ]
