"""`syncline init`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from syncline.cli.options import CONFIG_DEFAULT, Config, Json
from syncline.cli.output import count, print_json, print_line, print_note
from syncline.cli.server_extra import server_extra, with_source

SourceUrl = Annotated[
    str,
    typer.Argument(help="The database: sqlite:///clinic.db or postgresql://user@host/database.", metavar="SOURCE_URL"),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the file if it is there already.")]


def init(source_url: SourceUrl, config: Config = CONFIG_DEFAULT, force: Force = False, json: Json = False) -> None:
    """Write a commented configuration for a database.

    It reads tables, keys and foreign keys and changes nothing. Tables that cannot sync are named on standard
    error, with the reason and the remedy.
    """
    with server_extra():
        from syncline.server.postgres_url import has_password
        from syncline.server.starter import refusals
        from syncline.server.starter_file import settings_of_url, write_starter
    settings = settings_of_url(source_url, Path.cwd())
    schema = with_source(settings, lambda source: source.introspect())
    write_starter(schema, source_url, config, force=force)
    if has_password(source_url):
        print_note(f"Note: {config} holds the database's password; it is readable by you alone.")
    refused = refusals(schema)
    for refusal in refused:
        print_note(f'Warning: table "{refusal["table"]}" cannot sync: {refusal["reason"]} {refusal["remedy"]}'.rstrip())
    if json:
        document = {"config": str(config), "source": settings.source_label, "tables": sorted(schema.tables)}
        print_json({**document, "refused_tables": refused})
        return
    print_line(f"Wrote {config}: {count(len(schema.tables), 'table')} read, {len(refused)} of them cannot sync.")
    print_line("Next: look at the lines marked CHECK, above all the grant; then run: syncline check")
