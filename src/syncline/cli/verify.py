"""`syncline verify`"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from syncline.cli.options import Json, ServerUrl, Token
from syncline.cli.output import count, print_json, print_line
from syncline.cli.token_source import token_source

if TYPE_CHECKING:
    from syncline.replica.verify_goal import TableDifference, VerifyReport

DeviceFile = Annotated[Path, typer.Option("--device-db", help="The replica: an SQLite file.", metavar="FILE")]
Repair = Annotated[bool, typer.Option("--repair", help="Download anew what differs.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Give up after so many seconds.", min=0.1)]

SHOWN_MAX = 50
"""Differences that are printed for a person."""


def verify(
    device_db: DeviceFile,
    server: ServerUrl,
    token: Token,
    repair: Repair = False,
    timeout: Timeout = 600.0,
    json: Json = False,
) -> None:
    """Compare a replica with its scope in the source.

    It syncs first. Exits 1 where something differs and was not repaired, or a table could not be compared.
    """
    from syncline.replica.api import Replica
    from syncline.replica.status import read_status

    read_status(device_db)  # there has to be one: to make it would compare nothing with everything
    replica = Replica(device_db, server, token=token_source(token))
    try:
        report = replica.verify(repair=repair, timeout=timeout)
    finally:
        replica.stop()
    if json:
        print_json({"ok": _is_ok(report), **asdict(report)})
    else:
        _print(report)
    if not _is_ok(report):
        raise typer.Exit(1)


def _is_ok(report: VerifyReport) -> bool:
    return report.is_whole and not report.not_compared


def _print(report: VerifyReport) -> None:
    print_line(f"{count(report.tables, 'table')} compared, {count(report.rows, 'row')} on the device.")
    if report.pending:
        print_line(f"{count(report.pending, 'row')} left out: their changes have not reached the server.")
    if report.changed:
        print_line(f"{count(report.changed, 'table')} of buckets left out: the office changed them meanwhile.")
    for table in report.not_compared:
        print_line(f"{table}: could not be compared now. Try again.")
    for each in report.differences[:SHOWN_MAX]:
        print_line(_line(each))
    if len(report.differences) > SHOWN_MAX:
        print_line(f"… and {len(report.differences) - SHOWN_MAX:,} more: see --json.")
    if not report.differences:
        print_line("Nothing differs.")
    elif not report.is_whole:
        print_line("Download anew what differs: the same command with --repair.")


def _line(each: TableDifference) -> str:
    return f"{each.in_words()}, repaired." if each.repaired else f"{each.in_words()}."
