"""`syncline serve`"""

from __future__ import annotations

from typing import Annotated

import typer

from syncline.cli.options import CONFIG_DEFAULT, Config
from syncline.cli.output import print_line
from syncline.cli.server_extra import load, server_extra

WORKERS_MAX = 256

Host = Annotated[
    str, typer.Option("--host", help="The address to listen on; 0.0.0.0 for every one.", metavar="ADDRESS")
]
Port = Annotated[int, typer.Option("--port", help="The port; 0 takes a free one.", min=0, max=65535)]
Workers = Annotated[int, typer.Option("--workers", help="How many processes.", min=1, max=WORKERS_MAX)]
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
    settings = load(config)
    with server_extra():
        from syncline.cli.serving import run_server
        from syncline.cli.workers import run_workers
        from syncline.server.app import create_app

    def announce(url: str) -> None:
        print_line(f"listening on {url}")

    app = create_app(settings)  # refuses what is wrong with the settings alone, before a process is started for it
    if workers == 1:
        run_server(app, host, port, log_level, announce)
    else:
        run_workers(settings, host, port, workers, log_level, announce)
