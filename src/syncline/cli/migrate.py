"""`syncline migrate`"""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from syncline.cli.options import CONFIG_DEFAULT, Config, OwnerUrl
from syncline.cli.output import print_error, print_line, print_note
from syncline.cli.server_extra import load, server_extra, with_source
from syncline.errors import ConfigError, SynclineError

if TYPE_CHECKING:
    from syncline.source.port import ProvisionReport, Source

NOT_FOUND, NOT_EXECUTABLE, BY_SIGNAL = 127, 126, 128
"""As shells say it."""

Command = Annotated[list[str] | None, typer.Argument(help="The migration, after --.", metavar="-- COMMAND…")]
Before = Annotated[bool, typer.Option("--before", help="Print the SQL to run before a migration, and change nothing.")]
After = Annotated[bool, typer.Option("--after", help="Print the SQL to run after it, and change nothing.")]
Tables = Annotated[
    list[str] | None,
    typer.Option("--table", help="Take capture off this table only; may be repeated.", metavar="NAME"),
]


def migrate(
    command: Command = None,
    config: Config = CONFIG_DEFAULT,
    owner_url: OwnerUrl = None,
    before: Before = False,
    after: After = False,
    table: Tables = None,
) -> None:
    """Run a schema migration with capture taken off.

    Capture is put back whatever becomes of the command, whose exit status this is. A server may go on running: it
    waits. Devices get those tables anew that were changed, rebuilt or written meanwhile.
    """
    if (before or after) == bool(command) or (before and after):
        raise ConfigError(
            "Either a command after --, or --before, or --after.",
            hint="Example: syncline migrate -- alembic upgrade head",
            code="usage",
        )
    tables = frozenset(table) if table else None
    if before or after:
        _print_script(config, owner_url, tables, before=before)
        return
    runner = _Runner(command or [])
    with runner.listening():
        status = with_source(load(config), lambda source: _migrate(source, config, tables, runner), owner_url=owner_url)
    raise typer.Exit(status)


def _print_script(config: Path, owner_url: str | None, tables: frozenset[str] | None, *, before: bool) -> None:
    async def read(source: Source) -> tuple[str, ...]:
        return await (source.suspend_script(tables) if before else source.resume_script())

    for statement in with_source(load(config), read, owner_url=owner_url):
        print_line(f"{statement};")


async def _migrate(source: Source, config: Path, tables: frozenset[str] | None, runner: _Runner) -> int:
    off = await source.suspend(tables)
    print_note(f"Capture is taken off {', '.join(sorted(off)) or 'no table'}.")
    status = 1
    try:
        status = await asyncio.to_thread(runner.run)
    finally:
        try:
            _print_report(await _put_back(source, config))
        except SynclineError as error:
            print_error(error)
            print_note("Capture is NOT back, and nothing syncs. Mend what is named above, then run: syncline provision")
            status = status or error.exit_status
    return status


async def _put_back(source: Source, config: Path) -> ProvisionReport:
    """For the schema and the configuration as they are now: a migration may come with a new configuration."""
    with server_extra():
        from syncline.server.config import load_plan
    return await source.provision(await load_plan(load(config), source))


def _print_report(report: ProvisionReport) -> None:
    print_note("Capture is back.")
    if report.anew:
        print_note(f"Devices get {', '.join(report.anew)} anew.")


class _Runner:
    """The command as a process of its own. What would end us ends it, and we put capture back."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._is_told = False

    def run(self) -> int:
        """Its exit status, as a shell tells it."""
        if self._is_told:
            return BY_SIGNAL + signal.SIGTERM
        try:
            self._process = subprocess.Popen(self._command)
        except OSError as error:
            print_note(f"Error: {self._command[0]} cannot be run: {error.strerror}. [command]")
            return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
        status = self._process.wait()
        return status if status >= 0 else BY_SIGNAL - status

    @contextmanager
    def listening(self) -> Iterator[None]:
        """^C reaches the command by itself, as it is in the same group; SIGTERM is handed on."""
        before = {
            number: signal.signal(number, self._end if number == signal.SIGTERM else _ignore)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._is_told = True
        if self._process is not None:
            self._process.terminate()


def _ignore(number: int, frame: FrameType | None) -> None:
    return
