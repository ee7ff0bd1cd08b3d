"""`syncline token`"""

from __future__ import annotations

import time
from typing import Annotated

import typer

from syncline.cli.options import CONFIG_DEFAULT, Config, Json
from syncline.cli.output import print_json, print_line
from syncline.cli.server_extra import load, server_extra
from syncline.errors import ConfigError

Sub = Annotated[str, typer.Option("--sub", help="The user, as the claim sub.", metavar="USER")]
Claim = Annotated[
    list[str] | None, typer.Option("--claim", help="Another claim; may be repeated.", metavar="NAME=VALUE")
]
Ttl = Annotated[str, typer.Option("--ttl", help="How long it is valid: 60s, 90m, 8h, 7d.", metavar="TIME")]


def token(sub: Sub, claim: Claim = None, ttl: Ttl = "8h", config: Config = CONFIG_DEFAULT, json: Json = False) -> None:
    """Print a development token, signed with [auth] secret."""
    settings = load(config)
    with server_extra():
        from syncline.server.auth import issue_token
        from syncline.server.config_values import duration_seconds
    claims = dict(claim_of(text) for text in claim or ())
    seconds = duration_seconds(ttl)
    if not seconds or seconds < 1:
        raise ConfigError(f'--ttl "{ttl}" is not a time.', hint="Write 60s, 90m, 8h or 7d.", code="usage")
    text = issue_token(settings, sub, claims, seconds)
    if json:
        print_json({"token": text, "claims": {"sub": sub, **claims}, "expires_at": int(time.time() + seconds)})
    else:
        print_line(text)


def claim_of(text: str) -> tuple[str, str]:
    """`NAME=VALUE` as typed after --claim; ConfigError for anything else."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ConfigError(f'--claim "{text}" is not NAME=VALUE.', hint="For example --claim tenant=acme.", code="usage")
    if name in ("sub", "exp", "iat"):
        hint = "Use --sub." if name == "sub" else "Use --ttl."
        raise ConfigError(f"--claim cannot set {name}.", hint=hint, code="usage")
    return name, value
