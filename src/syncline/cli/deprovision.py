"""`syncline deprovision`"""

from __future__ import annotations

from typing import Annotated

import typer

from syncline.cli.options import CONFIG_DEFAULT, Config, Json, OwnerUrl
from syncline.cli.output import print_json, print_line
from syncline.cli.server_extra import load, with_source
from syncline.errors import ConfigError

Yes = Annotated[bool, typer.Option("--yes", help="Really do it: devices' records and everything waiting go too.")]


def deprovision(
    config: Config = CONFIG_DEFAULT, owner_url: OwnerUrl = None, yes: Yes = False, json: Json = False
) -> None:
    """Remove every trace of Syncline from the source.

    The company's own tables and rows stay as they are.
    """
    settings = load(config)
    if not yes:
        raise ConfigError(
            f"This removes capture, devices, conflicts and rejections from {settings.source_label}.",
            hint="Say so with --yes. Devices download everything anew if you provision again.",
            code="not_confirmed",
        )
    removed = with_source(settings, lambda source: source.deprovision(), owner_url=owner_url)
    if json:
        print_json({"removed": removed.found, "left": list(removed.left)})
    elif not removed:
        print_line("There was no trace of Syncline.")
    elif not removed.left:
        print_line("Every trace of Syncline is removed.")
    else:
        print_line(
            "Syncline is removed. Its role still has rights that a script, or somebody else, has given it. Type:"
        )
        for statement in removed.left:
            print_line(f"  {statement}")
