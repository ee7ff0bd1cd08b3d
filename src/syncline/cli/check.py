"""`syncline check`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from syncline.cli.options import CONFIG_DEFAULT, Config, Json, OwnerUrl
from syncline.cli.output import count, print_error, print_json, print_line
from syncline.cli.server_extra import load, server_extra, with_source
from syncline.cli.token import Claim, claim_of
from syncline.errors import SynclineError

if TYPE_CHECKING:
    from syncline.server.config_report import CheckReport

Sub = Annotated[str | None, typer.Option("--sub", help="Whose download to show, as the user claim.", metavar="USER")]


def check(
    sub: Sub = None,
    claim: Claim = None,
    owner_url: OwnerUrl = None,
    config: Config = CONFIG_DEFAULT,
    json: Json = False,
) -> None:
    """Check the configuration against the database.

    Shows per scope its tables, joins, rows and buckets, what a user downloads, and what provisioning would change. It
    changes nothing.
    """
    with server_extra():
        from syncline.server.config_report import CheckReport, check_source
    claims = dict(claim_of(text) for text in claim or ())
    report = CheckReport()
    try:
        settings = load(config)
        if sub is not None:
            claims[settings.auth.user_claim] = sub
        report = with_source(
            settings, lambda source: check_source(settings, source, claims or None), owner_url=owner_url
        )
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
    if unread := sorted({name for scope in report.scopes for name in scope["unread"]}):
        print_line(
            f"The role of [source] url may not read {', '.join(unread)}: what it would have to read is not counted. "
            "Look with --owner-url URL; syncline provision --owner-url URL gives the role what serving needs."
        )
    for scope in report.scopes:
        _print_scope(scope)
    _print_list("Warnings:", report.warnings)
    refused = [f"{item['table']}: {item['reason']} {item['remedy']}".rstrip() for item in report.refused_tables]
    _print_list("Tables that cannot sync:", refused)
    _print_list("Tables in no scope:", report.unsynced_tables)
    _print_list("Good to know:", report.notes)
    print_line()
    if report.changes:
        print_line("Capture is not as this configuration needs it. syncline provision would:")
        for change in report.changes:
            print_line(f"  {change}")
    else:
        print_line("Capture is installed. Next: syncline serve")


def _print_scope(scope: dict[str, Any]) -> None:
    print_line()
    kind = f"one bucket per row of {scope['root']}" if scope["root"] else "one bucket, everybody's"
    if scope["unread"]:
        print_line(f"Scope {scope['scope']}: {kind}; not counted: {', '.join(scope['tables'])}")
        return
    about = "about " if scope["estimated"] else ""
    rows = f"{about}{count(scope['buckets'], 'bucket')}, {about}{count(scope['rows'], 'row')}"
    print_line(f"Scope {scope['scope']}: {kind}; {rows}")
    paths: dict[str, list[str]] = {}
    for join in scope["joins"]:
        paths.setdefault(join["table"], []).append(", ".join(join["path"]))
    for table, rows in scope["tables"].items():
        note = "  read-only" if table in scope["read_only"] else ""
        size = f"about {count(rows, 'row')} in all" if table in scope["estimated"] else count(rows, "row")
        print_line(f"  {table}: {size}{note}")
        for path in paths.get(table, ()):
            print_line(f"    by {path}")
    if scope["grant_reads"]:
        views = f" (through the view {', '.join(scope['grant_views'])})" if scope["grant_views"] else ""
        print_line(f"  the grant reads {', '.join(scope['grant_reads'])}{views}")
    if scope["root"] and scope["largest_bucket"]:
        print_line(f"  the largest bucket is {scope['largest_bucket']}: {count(scope['largest_rows'], 'row')}")
    _print_example(scope)


def _print_example(scope: dict[str, Any]) -> None:
    found = scope["example"]
    if found is None:
        if scope["root"]:
            print_line("  no user was found whom the grant gives something: name one with --sub and --claim")
        return
    who = ", ".join(f"{name} {value}" for name, value in found["claims"].items()) or "everybody"
    what = f"{count(found['buckets'], 'bucket')}, {count(found['rows'], 'row')}, {count(found['bytes'], 'byte')}"
    print_line(f"  for example {who} downloads {what} before compression")


def _print_list(heading: str, lines: list[str]) -> None:
    if lines:
        print_line()
        print_line(heading)
        for line in lines:
            print_line(f"  {line}")
