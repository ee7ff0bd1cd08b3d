"""`syncline device`: a replica on this machine. Nothing here needs the server part."""

from __future__ import annotations

import typer

from syncline.cli import device_rejections, device_run, device_status, device_sync

app = typer.Typer(
    help="Sync a replica on this machine, or look at it.",
    epilog="Example: syncline device sync --db nurse.db --server http://127.0.0.1:8787 --token @token.txt",
    rich_markup_mode=None,
    no_args_is_help=True,
)
_SERVER = "--db nurse.db --server http://127.0.0.1:8787 --token @token.txt"
app.command("sync", epilog=f"Example: syncline device sync {_SERVER} --json")(device_sync.sync)
app.command("run", epilog=f"Example: syncline device run {_SERVER}")(device_run.run)
app.command("status", epilog="Example: syncline device status --db nurse.db --json")(device_status.status)
app.command("rejections", epilog="Example: syncline device rejections --db nurse.db")(device_rejections.rejections)
