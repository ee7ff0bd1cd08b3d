"""`syncline program`"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from syncline.cli.options import CONFIG_DEFAULT, Config
from syncline.cli.output import as_json, print_note
from syncline.cli.server_extra import load, server_extra, with_source

if TYPE_CHECKING:
    from syncline.source.port import Source

Out = Annotated[Path | None, typer.Option("--out", help="Write to this file instead.", metavar="FILE")]


def program(config: Config = CONFIG_DEFAULT, out: Out = None) -> None:
    """Print the program that devices get, as one JSON document.

    An app that ships it, Replica(…, program="program.json"), has its tables at the very first start, without a network.
    """
    settings = load(config)
    with server_extra():
        from syncline.model.program import build_program
        from syncline.server.config import load_plan

    async def build(source: Source) -> dict[str, Any]:
        return build_program(await load_plan(settings, source)).dump()

    document = with_source(settings, build)
    if out is None:
        sys.stdout.write(as_json(document))
        sys.stdout.flush()
        return
    out.write_text(as_json(document), encoding="utf-8")
    print_note(f"{out}: {len(document['tables'])} tables. Ship it with the app: Replica(…, program=…).")
