"""`syncline doctor`"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from syncline.cli.options import CONFIG_DEFAULT, Config, Json
from syncline.cli.output import print_json, print_line
from syncline.cli.server_extra import load, server_extra, with_source
from syncline.error_catalogue import remedy_of
from syncline.errors import SynclineError

if TYPE_CHECKING:
    from syncline.server.config import Settings
    from syncline.source.port import Finding, Source


def doctor(config: Config = CONFIG_DEFAULT, json: Json = False) -> None:
    """Say what is wrong with this installation, and the remedy.

    Looks at the configuration, the database, capture, and what waits in it. It changes nothing.
    """
    with server_extra():
        from syncline.source.port import Finding
    try:
        settings = load(config)
        found = with_source(settings, lambda source: _examine(settings, source))
    except SynclineError as error:
        found = [Finding(error.message, error.hint or remedy_of(error.error_code), error.error_code)]
    if json:
        findings = [{"what": each.what, "remedy": each.remedy, "code": each.code} for each in found]
        print_json({"ok": not found, "findings": findings})
    else:
        _print(found)
    if found:
        raise typer.Exit(1)


async def _examine(settings: Settings, source: Source) -> list[Finding]:
    from syncline.server.config import load_plan
    from syncline.source.port import Finding

    try:
        plan = await load_plan(settings, source)
    except SynclineError as error:
        misfit = Finding(error.message, error.hint or remedy_of(error.error_code), error.error_code)
        return [misfit, *await source.diagnose(None)]
    return await source.diagnose(plan)


def _print(found: list[Finding]) -> None:
    if not found:
        print_line("Nothing is wrong.")
    for finding in found:
        print_line(f"{finding.what} [{finding.code}]")
        if finding.remedy:
            print_line(f"  {finding.remedy}")
