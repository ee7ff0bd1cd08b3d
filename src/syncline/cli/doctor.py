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
        shown = [{"what": each.what, "remedy": each.remedy, "code": each.code} for each in found if not each.is_note]
        notes = [{"what": each.what, "remedy": each.remedy, "code": each.code} for each in found if each.is_note]
        print_json({"ok": not shown, "findings": shown, "notes": notes})
    else:
        _print(found)
    if any(not each.is_note for each in found):
        raise typer.Exit(1)


async def _examine(settings: Settings, source: Source) -> list[Finding]:
    from syncline.server.config import load_plan
    from syncline.server.config_kept import KeptReads
    from syncline.source.port import Finding

    try:
        plan = await load_plan(settings, source, KeptReads(forgives_all=True) if source.stops_single_tables else None)
    except SynclineError as error:
        misfit = Finding(error.message, error.hint or remedy_of(error.error_code), error.error_code)
        return [misfit, *await _others(source, misfit)]
    return await source.diagnose(plan)


async def _others(source: Source, misfit: Finding) -> list[Finding]:
    """What else is wrong, as far as it can be told: a source that cannot be reached says the same twice."""
    try:
        return [each for each in await source.diagnose(None) if each.code != misfit.code]
    except SynclineError:
        return []


def _print(found: list[Finding]) -> None:
    wrong = [each for each in found if not each.is_note]
    notes = [each for each in found if each.is_note]
    _print_findings(wrong)
    if not wrong:
        print_line("Nothing is wrong.")
    if notes:
        print_line("Good to know:")
        _print_findings(notes)


def _print_findings(found: list[Finding]) -> None:
    for finding in found:
        print_line(f"{finding.what} [{finding.code}]")
        if finding.remedy:
            print_line(f"  {finding.remedy}")
