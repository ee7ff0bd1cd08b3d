"""The `syncline` command.

Exit statuses: 0 done, 1 the work failed, 2 wrong use or configuration, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from syncline.cli import (
    check,
    conflicts,
    deprovision,
    device,
    devices,
    doctor,
    init,
    migrate,
    program,
    provision,
    rejections,
    serve,
    simulate,
    token,
    verify,
)
from syncline.cli.output import print_error, print_line, print_note
from syncline.errors import SynclineError

INTERRUPTED = 130

app = typer.Typer(
    name="syncline",
    help="Keeps a local SQLite database on every device in step with the database a company already has.",
    epilog="Example: syncline check --help. Environment variables such as SYNCLINE_SOURCE_URL override the "
    "configuration: docs/cli.md names them all.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init", epilog="Example: syncline init sqlite:///clinic.db")(init.init)
app.command("check", epilog="Example: syncline check --json")(check.check)
app.command("provision", epilog="Example: syncline provision --sql > capture.sql")(provision.provision)
app.command("deprovision", epilog="Example: syncline deprovision --yes")(deprovision.deprovision)
app.command("migrate", epilog="Example: syncline migrate -- alembic upgrade head")(migrate.migrate)
app.command("doctor", epilog="Example: syncline doctor --json")(doctor.doctor)
app.command("program", epilog="Example: syncline program > program.json")(program.program)
app.command("serve", epilog="Example: syncline serve --host 0.0.0.0 --port 8787")(serve.serve)
app.command("token", epilog="Example: syncline token --sub nurse-17 --claim tenant=acme --ttl 8h")(token.token)
app.command("simulate", epilog="Example: syncline simulate --seeds 500 --processes 2")(simulate.simulate)
app.add_typer(device.app, name="device")
app.command(
    "verify", epilog="Example: syncline verify --device-db nurse.db --server http://127.0.0.1:8787 --token @token.txt"
)(verify.verify)
app.command("devices", epilog="Example: syncline devices --json")(devices.devices)
app.add_typer(conflicts.app, name="conflicts")
app.add_typer(rejections.app, name="rejections")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print_line(f"syncline {version('syncline')}")
        except PackageNotFoundError:
            print_line("syncline (not installed: run from a checkout)")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Options before the verb."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit status."""
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: list[str]) -> int:
    """Run a command line; the exit status. Errors have been told on standard error, without a traceback."""
    try:
        status = app(args=arguments or ["--help"], prog_name="syncline", standalone_mode=False)
    except SynclineError as error:
        print_error(error)
        return error.exit_status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except Exception as error:
        return _status_of_usage_error(error, arguments)
    return status if isinstance(status, int) else 0


def _status_of_usage_error(error: Exception, arguments: list[str]) -> int:
    """typer's own errors are known by their shape: it carries click inside, at a place that moves between versions."""
    if type(error).__name__ == "Abort":
        return INTERRUPTED
    explain = getattr(error, "format_message", None)
    if explain is None:
        raise error
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "syncline"
    if type(error).__name__ == "NoArgsIsHelpError":
        print_note(explain())
    else:
        print_note(f"Error: {str(explain()).rstrip('.')}. See: {command} --help [usage]")
    return 2
