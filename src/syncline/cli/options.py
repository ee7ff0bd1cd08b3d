"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Option("--config", help="The configuration file.", metavar="FILE")]
CONFIG_DEFAULT = Path("syncline.toml")

OwnerUrl = Annotated[
    str | None,
    typer.Option("--owner-url", help="PostgreSQL: sign in as this role, which may change the schema.", metavar="URL"),
]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]

ReplicaFile = Annotated[Path, typer.Option("--db", help="The replica: an SQLite file.", metavar="FILE")]
ServerUrl = Annotated[str, typer.Option("--server", help="Where the server is.", metavar="URL")]
Token = Annotated[str, typer.Option("--token", help="The user's token, or @FILE, or '$VARIABLE'.", metavar="TOKEN")]

User = Annotated[str | None, typer.Option("--user", help="Only those of this user.", metavar="USER")]
Device = Annotated[str | None, typer.Option("--device", help="Only those of this device.", metavar="ID")]
Limit = Annotated[int, typer.Option("--limit", help="At most so many, newest first.", min=1, max=1_000_000)]
LIMIT_DEFAULT = 1000
