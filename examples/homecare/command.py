"""The command line of the demonstration: its options, how it runs and how it ends."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from examples.homecare.board import open_board
from examples.homecare.company import Size, nurse_id
from examples.homecare.configuration import FolderError
from examples.homecare.day import work_one_day
from examples.homecare.demo import Demo, DemoError, Options
from examples.homecare.life import live_on
from examples.homecare.server import ServerFailedError
from examples.homecare.summary import close_the_day, print_summary
from syncline import SynclineError

PIPE_COLUMNS = 140
TITLE = "Syncline: a home-care company at work (^C ends it)"
BY_HAND = "UPDATE visits SET summary = 'by hand' WHERE id = (SELECT min(id) FROM visits)"


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m examples.homecare",
        description="A sample home-care company on an embedded SQLite source: server, office and nurses with replicas.",
        epilog="Example: make run ARGS='--once --pace 2'",
    )
    standard = Options()
    add = parser.add_argument
    add("--once", action="store_true", help="run one working day, compare every device with the clinic, and end")
    add("--devices", type=int, default=standard.devices, metavar="N", help="nurses with a device (%(default)s)")
    add("--pace", type=float, default=standard.pace, metavar="X", help="2 is twice as fast (%(default)s)")
    add("--folder", type=Path, default=standard.folder, metavar="DIR", help="where the files go (%(default)s)")
    add("--keep", action="store_true", help="go on with the files of the last run")
    add("--port", type=int, default=standard.port, help="the server's port; 0 takes a free one (%(default)s)")
    add("--nurses", type=int, default=standard.size.nurses, metavar="N", help="nurses in the company (%(default)s)")
    add("--patients", type=int, default=standard.size.patients, metavar="N", help="patients (%(default)s)")
    add("--visits", type=int, default=standard.size.visits, metavar="N", help="visits (%(default)s)")
    add("--seed", type=int, default=standard.size.seed, metavar="N", help="another seed, another company (%(default)s)")
    found = parser.parse_args(arguments)
    if min(found.devices, found.nurses, found.patients, found.visits) < 1 or found.pace <= 0:
        parser.error("--devices, --nurses, --patients, --visits and --pace must be larger than 0")
    return Options(
        folder=found.folder.resolve(),
        size=Size(found.nurses, found.patients, found.visits, found.seed),
        devices=min(found.devices, found.nurses),
        pace=found.pace,
        port=found.port,
        once=found.once,
        keep=found.keep,
    )


def run(options: Options, console: Console) -> int:
    """0 when all is as it should be, 1 when something differs; KeyboardInterrupt when ^C ended an unfinished day."""
    started = time.monotonic()
    try:
        with open_board(console, TITLE, hint_of(options)) as board, Demo(options, board) as demo:
            if not options.once:
                live_on(demo)
            work_one_day(demo)
            report = close_the_day(demo)
    except KeyboardInterrupt:
        console.print(f"Ended. The files are in {shown(options.folder)}; go on with --keep.", highlight=False)
        if options.once:
            raise
        return 0
    except (DemoError, FolderError, ServerFailedError, SynclineError) as error:
        print(f"The demonstration failed: {error}", file=sys.stderr)
        return 1
    proved = print_summary(console, report, time.monotonic() - started)
    file = f"{shown(options.folder)}/{report.lines[0].nurse.key}.db"
    console.print(f"See for yourself: sqlite3 {file} 'SELECT * FROM visits'", highlight=False, markup=False)
    return 0 if proved else 1


def hint_of(options: Options) -> str:
    """How to be one of the nurses: any program may write to her file while the demonstration runs."""
    number = min(3, options.devices)
    return f'Change a row yourself: sqlite3 {shown(options.folder)}/{nurse_id(number)}.db "{BY_HAND}"'


def shown(folder: Path) -> str:
    """As one would type it from here."""
    here = Path.cwd()
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)


def run_command_line() -> int:
    options = parse_options()
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_COLUMNS)
    return run(options, console)
