"""`syncline device run`"""

from __future__ import annotations

import signal
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from syncline.cli.options import ReplicaFile, ServerUrl, Token
from syncline.cli.output import print_line
from syncline.cli.receipt_text import receipt_line
from syncline.cli.token_source import token_source

if TYPE_CHECKING:
    from syncline.replica.api import Replica
    from syncline.replica.status import Status

REFRESH_SECONDS = 0.25


def run(db: ReplicaFile, server: ServerUrl, token: Token) -> None:
    """Stay in step until interrupted.

    Shows a status line on a terminal, otherwise a line per change; ^C or SIGTERM ends it.
    """
    from syncline.replica.api import Replica  # only here: it costs every other command its start

    replica = Replica(db, server, token=token_source(token))
    told_to_end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told_to_end.set())
    replica.start()
    try:
        if sys.stdout.isatty():
            _show_live(replica, told_to_end)
        else:
            _show_lines(replica, told_to_end)
    finally:
        replica.stop()


def status_line(status: Status) -> str:
    """`live · checkpoint 12 · 0 pending · 0 refused · last sync 17:42:05`, and the receipt where nothing is pending."""
    parts = [
        status.state.replace("_", " "),
        f"checkpoint {status.checkpoint}",
    ]
    if status.progress is not None:
        of = f" of {status.progress.total_rows:,}" if status.progress.total_rows else ""
        parts.append(f"{status.progress.rows:,}{of} rows")
    parts += [
        f"{status.pending:,} pending",
        f"{status.rejected:,} refused",
        f"last sync {_local(status.last_synced_at) if status.last_synced_at else 'never'}",
    ]
    if status.receipt is not None and not status.pending:
        parts.append(receipt_line(status.receipt))
    return " · ".join(parts)


def _local(utc: str) -> str:
    """`2026-11-22 17:42:05`, in the zone of whoever looks."""
    return datetime.fromisoformat(utc).replace(tzinfo=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _show_live(replica: Replica, told_to_end: threading.Event) -> None:
    from rich.live import Live
    from rich.text import Text

    with Live(Text(status_line(replica.status)), refresh_per_second=4) as live:
        while not told_to_end.wait(REFRESH_SECONDS):
            live.update(Text(status_line(replica.status)))


def _show_lines(replica: Replica, told_to_end: threading.Event) -> None:
    """A line whenever it changed: for logs."""
    shown, ending = "", False
    while True:
        line = status_line(replica.status)
        if line != shown:
            print_line(line)
            shown = line
        if ending:
            return
        ending = told_to_end.wait(REFRESH_SECONDS)  # once more then: the last line tells how it was left
