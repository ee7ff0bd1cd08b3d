"""`syncline device sync`"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from syncline.cli.options import Json, ReplicaFile, ServerUrl, Token
from syncline.cli.output import count, print_error, print_json, print_line, print_note
from syncline.cli.token_source import token_source
from syncline.errors import SyncTimeoutError

if TYPE_CHECKING:
    from syncline.replica.api import SyncReport
    from syncline.replica.status import Status

PATIENT_FAILURES = 3
"""After so many tries without an answer it is said what one waits for: about two seconds."""

Timeout = Annotated[float, typer.Option("--timeout", help="Give up after so many seconds.", min=0.1)]


def sync(db: ReplicaFile, server: ServerUrl, token: Token, timeout: Timeout = 60.0, json: Json = False) -> None:
    """Sync once, until both sides are quiet.

    That is: nothing is pending, and the newest checkpoint is reached.
    It makes the file if there is none. When the time runs out it exits 1 and still prints its report.
    """
    from syncline.replica.api import Replica  # only here: it costs every other command its start

    get_token = token_source(token)
    replica = Replica(db, server, token=get_token)
    replica.on("status", _Patience(server, timeout))
    failure: SyncTimeoutError | None = None
    try:
        report: SyncReport = replica.sync(timeout=timeout)
    except SyncTimeoutError as error:
        failure, report = error, error.report
    finally:
        replica.stop()
    if json:
        print_json(asdict(report))
    else:
        _print_report(report)
    if failure is not None:
        print_error(failure)
    if failure is not None or report.pending:
        raise typer.Exit(1)


class _Patience:
    """Says once, on standard error, what one is waiting for."""

    def __init__(self, server: str, timeout: float) -> None:
        self._note = f"{server} does not answer yet; trying for {timeout:.0f} s in all."
        self._failures = 0

    def __call__(self, status: Status) -> None:
        if status.state in ("waiting", "offline"):
            self._failures += 1
            if self._failures == PATIENT_FAILURES:
                print_note(self._note)


def _print_report(report: SyncReport) -> None:
    first = "first sync, " if report.first_sync else ""
    print_line(
        f"Checkpoint {report.checkpoint} ({first}{report.seconds:.1f} s): "
        f"{count(report.downloaded_rows, 'row')} downloaded, {report.removed_rows:,} removed, "
        f"{count(report.uploaded_mutations, 'change')} uploaded, {report.pending:,} pending."
    )
    if report.rejected:
        print_line(f"{count(report.rejected, 'change')} refused: see syncline device rejections.")
    if report.conflicts:
        print_line(f"{count(report.conflicts, 'conflict')}: somebody else had changed the same thing.")
