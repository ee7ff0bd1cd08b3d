"""`syncline check`"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from syncline.cli.options import CONFIG_DEFAULT, Config, Json
from syncline.cli.output import count, print_error, print_json, print_line
from syncline.cli.server_extra import load, server_extra, with_source
from syncline.errors import ConfigError, SynclineError

if TYPE_CHECKING:
    from syncline.server.config_report import CheckReport


def check(config: Config = CONFIG_DEFAULT, json: Json = False) -> None:
    """Check the configuration against the database.

    Shows per scope its tables, rows and buckets, and what provisioning would change. It changes nothing.
    """
    with server_extra():
        from syncline.server.config_report import CheckReport, check_source
    report = CheckReport()
    try:
        settings = load(config)
        report = with_source(settings, lambda source: check_source(settings, source))
    except ConfigError as error:
        report.error = error
    except SynclineError as error:
        report.error = error
    if json:
        print_json(report.as_json())
    elif report.error is None:
        _print_report(report)
    if report.error is not None:
        print_error(report.error)
        raise typer.Exit(report.error.exit_status)


def _print_report(report: CheckReport) -> None:
    print_line(f"The configuration fits {report.source}.")
    for scope in report.scopes:
        print_line()
        kind = f"one bucket per row of {scope['root']}" if scope["root"] else "one bucket, everybody's"
        print_line(
            f"Scope {scope['scope']}: {kind}; {count(scope['buckets'], 'bucket')}, {count(scope['rows'], 'row')}"
        )
        for table, rows in scope["tables"].items():
            note = "  read-only" if table in scope["read_only"] else ""
            print_line(f"  {table}: {count(rows, 'row')}{note}")
        if scope["root"] and scope["largest_bucket"]:
            print_line(f"  the largest bucket is {scope['largest_bucket']}: {count(scope['largest_rows'], 'row')}")
    _print_list("Warnings:", report.warnings)
    refused = [f"{item['table']}: {item['reason']} {item['remedy']}".rstrip() for item in report.refused_tables]
    _print_list("Tables that cannot sync:", refused)
    _print_list("Tables in no scope:", report.unsynced_tables)
    print_line()
    if report.changes:
        print_line("Capture is not as this configuration needs it. syncline provision would:")
        for change in report.changes:
            print_line(f"  {change}")
    else:
        print_line("Capture is installed. Next: syncline serve")


def _print_list(heading: str, lines: list[str]) -> None:
    if lines:
        print_line()
        print_line(heading)
        for line in lines:
            print_line(f"  {line}")
