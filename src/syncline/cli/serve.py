"""`syncline serve`"""

from __future__ import annotations

from typing import Annotated

import typer

from syncline.cli.options import CONFIG_DEFAULT, Config
from syncline.cli.output import print_line
from syncline.cli.server_extra import load, server_extra
from syncline.errors import ConfigError

Host = Annotated[
    str, typer.Option("--host", help="The address to listen on; 0.0.0.0 for every one.", metavar="ADDRESS")
]
Port = Annotated[int, typer.Option("--port", help="The port; 0 takes a free one.", min=0, max=65535)]
Workers = Annotated[int, typer.Option("--workers", help="How many processes; this version runs one.", min=1)]
LogLevel = Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.", metavar="LEVEL")]


def serve(
    config: Config = CONFIG_DEFAULT,
    host: Host = "127.0.0.1",
    port: Port = 8787,
    workers: Workers = 1,
    log_level: LogLevel = "info",
) -> None:
    """Run the server.

    Prints "listening on http://HOST:PORT" when it is ready; SIGTERM or ^C ends it cleanly.
    """
    if workers != 1:
        raise ConfigError(
            "More than one worker is not in this version yet.", hint="Leave --workers away.", code="not_yet"
        )
    settings = load(config)
    with server_extra():
        from syncline.cli.serving import run_server
        from syncline.server.app import create_app
        from syncline.server.auth import require_secret
    require_secret(settings.auth)
    run_server(create_app(settings), host, port, log_level, announce=lambda url: print_line(f"listening on {url}"))
