"""What goes wrong with SQL and answers that came from the server, told as the server's fault: the file is as it was.

A program is SQL that somebody else wrote, and what it answers has whatever shape. Texts of errors name tables and
columns; what Python says of a value is not repeated, since the value may be a patient's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from syncline.errors import ProtocolError, ReplicaError
from syncline.log import logger
from syncline.replica.store import Store
from syncline.system.trouble import Trouble, trouble_of

_log = logger("replica.distrust")

_SHAPE = (TypeError, ValueError, LookupError, AttributeError, OverflowError, RecursionError, sqlite3.Warning)
"""`sqlite3.Warning`: two statements in one text, before Python 3.12."""


@contextmanager
def of_the_server(store: Store, code: str = "bad_program") -> Iterator[None]:
    """Around what runs the program or reads its answers. ProtocolError (`program_refused`, or `code`), ReplicaError
    (`row_refused`); what is wrong with the disk or the file goes through as it is."""
    store.guard.refused = ""
    try:
        yield
    except sqlite3.Error as error:
        told = _told(store, error, code)
        if told is None:
            raise
        raise told from error
    except _SHAPE as error:
        kind = type(error).__name__
        _log.debug("what the server's program gave is of another shape: %s", kind)
        raise ProtocolError(
            f"The program does not fit the file ({kind}).",
            hint="Update the app; else do not trust this server.",
            code=code,
        ) from None


def _told(store: Store, error: sqlite3.Error, code: str) -> Exception | None:
    """None where neither the program nor a row is to blame."""
    refused, store.guard.refused = store.guard.refused, ""
    is_of_a_statement = trouble_of(error) is Trouble.OTHER
    if refused and is_of_a_statement:
        return ProtocolError(
            f"The server's program wants what no program may: {refused}.",
            hint="Do not trust this server.",
            code="program_refused",
        )
    if isinstance(error, sqlite3.IntegrityError):
        return ReplicaError(
            f"The file does not take a row that the server sent: {error}.",
            hint="Does a trigger or an index of the app's own on a synced table refuse it?",
            code="row_refused",
        )
    if is_of_a_statement:
        return ProtocolError(
            f"The program does not run here: {error}.",
            hint="Update the app; else do not trust this server.",
            code=code,
        )
    return None
