"""`syncline provision`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from syncline.cli.options import CONFIG_DEFAULT, Config, Json, OwnerUrl
from syncline.cli.output import print_json, print_line
from syncline.cli.server_extra import load, server_extra, with_source

if TYPE_CHECKING:
    from syncline.source.port import ProvisionReport, Source

Sql = Annotated[bool, typer.Option("--sql", help="Print the script for the DBA instead, and change nothing.")]


def provision(
    config: Config = CONFIG_DEFAULT, owner_url: OwnerUrl = None, sql: Sql = False, json: Json = False
) -> None:
    """Install capture in the source.

    It may be run again at any time, and takes seconds whatever the size of the database.
    """
    settings = load(config)
    with server_extra():
        from syncline.server.config import load_plan

    async def read_script(source: Source) -> tuple[str, ...]:
        return await source.provision_script(await load_plan(settings, source))

    async def install(source: Source) -> ProvisionReport:
        return await source.provision(await load_plan(settings, source))

    if sql:
        statements = with_source(settings, read_script, owner_url=owner_url, for_owner=True)
        if json:
            print_json({"statements": list(statements)})
        else:
            print_line("\n\n".join(statement.strip().rstrip(";") + ";" for statement in statements))
        return
    report = with_source(settings, install, owner_url=owner_url)
    anew = [table for table in report.anew if table not in report.created]
    if json:
        changed = {"created": report.created, "unchanged": report.unchanged, "removed": report.removed, "anew": anew}
        print_json({name: list(tables) for name, tables in changed.items()})
        return
    for what, tables in (
        ("Capture installed on", report.created),
        ("Capture already on", report.unchanged),
        ("Capture taken off", report.removed),
    ):
        if tables:
            print_line(f"{what} {', '.join(tables)}.")
    if anew:
        print_line(f"Mended, or other than before: devices get {', '.join(anew)} anew, with all that was missed.")
    print_line("Next: syncline serve")
