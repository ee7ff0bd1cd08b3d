"""What kind of trouble a PostgreSQL database is in, told from the error's number and not from its words.

Nothing here is the data's fault: what a constraint, a rule or a cast says of a row is passed on as it is, for whoever
wrote that row to tell.
"""

from __future__ import annotations

import asyncio
import errno
import re

import asyncpg
from asyncpg.exceptions import (
    InterfaceError,
    InternalClientError,
    InvalidCachedStatementError,
    OutdatedSchemaCacheError,
    PostgresError,
)

from syncline.errors import SourceBusyError, SourceError

_DATA_CLASSES = ("21", "22", "23", "27", "44", "P0")
"""Cardinality, data, integrity, triggered change, WITH CHECK OPTION, PL/pgSQL's RAISE."""
_BUSY = {
    "40001": "it was written to at the same time",
    "40P01": "two transactions waited for each other",
    "55P03": "a lock is held by another session",
    "55006": "an object is in use by another session",
    "57014": "the statement took too long, or was cancelled",
    "53200": "its memory is exhausted",
    "53400": "a limit of its configuration is reached",
}
_STALE = (InvalidCachedStatementError, OutdatedSchemaCacheError)
"""What is prepared is prepared anew after it."""
_GONE_CODES = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25P04"})
_AGAIN = "It is tried again."
_ABSENT = "Check host and port in [source] url; a running server tries again by itself."
_QUOTED = re.compile(r"^permission denied for (?P<kind>[a-z ]+) (?P<name>\S+)$")
_RIGHTS = {"table": "SELECT ON TABLE", "schema": "USAGE ON SCHEMA", "function": "EXECUTE ON FUNCTION"}


def is_connection_lost(error: BaseException) -> bool:
    """Whether no session could be had, or the one there was is gone."""
    if isinstance(error, PostgresError):
        state = _state(error)
        return state.startswith("08") or state in _GONE_CODES
    if isinstance(error, InterfaceError):
        return not isinstance(error, asyncpg.DataError)
    return isinstance(error, OSError | asyncio.TimeoutError | InternalClientError)


def is_data_fault(error: BaseException) -> bool:
    """Whether the database says something of a row or a value, and not of itself."""
    if isinstance(error, PostgresError):
        return (_state(error)).startswith(_DATA_CLASSES)
    return isinstance(error, asyncpg.DataError)


def is_trouble(error: BaseException) -> bool:
    """Whether `source_error` has something to say of it."""
    if isinstance(error, PostgresError):
        return not is_data_fault(error)
    return is_connection_lost(error)


def source_error(error: BaseException) -> SourceError:
    """What it means for whoever waits: only what may pass by itself, or once it is mended, is a SourceBusyError."""
    if isinstance(error, SourceError):
        return error
    if isinstance(error, _STALE):
        return SourceBusyError(f"A table or type has changed since a statement was prepared: {error}", hint=_AGAIN)
    if not isinstance(error, PostgresError):
        return _without_a_session(error)
    state, words = _state(error), _words(error)
    if "unsupported startup parameter" in words or state == "26000":
        return SourceError(
            f"A pooler stands between that does not keep sessions: {words}.",
            hint="Name the database itself in [source] direct_url.",
            code="source_pooler",
        )
    if state == "57P03":
        return SourceBusyError(f"The source database is only starting: {words}.", hint=_AGAIN, code="source_starting")
    if state.startswith("08") or state in _GONE_CODES:
        return SourceBusyError(f"The source database is not there: {words}.", hint=_ABSENT, code="source_unreachable")
    if state in _BUSY:
        return SourceBusyError(f"The source database cannot do it now: {_BUSY[state]} ({words}).", hint=_AGAIN)
    return _mended_by_a_person(state, words)


def _mended_by_a_person(state: str, words: str) -> SourceError:
    if state == "53300":
        return SourceBusyError(
            f"The source database has no connection left: {words}.",
            hint="Raise max_connections, or give this role fewer other sessions; it is tried again.",
            code="source_connections",
        )
    if state == "53100":
        return SourceBusyError("The disk of the source database is full.", hint="Make room.", code="source_disk_full")
    if state == "25006":
        return SourceBusyError(
            f"The source database cannot be written: {words}.",
            hint="A standby answers in its place, or default_transaction_read_only is on. It is tried again.",
            code="source_read_only",
        )
    if state == "42501":
        return SourceError(
            f"The source database does not let this role do it: {words}.", hint=_grant(words), code="source_rights"
        )
    if state in ("28P01", "28000"):
        return SourceError(
            f"The source database lets nobody in: {words}.", hint="Check [source] url.", code="source_login"
        )
    if state == "3D000":
        return SourceError(f"There is no such database: {words}.", hint="Check [source] url.", code="source_missing")
    if state in ("XX001", "XX002"):
        return SourceError(
            f"The source database is damaged: {words}.",
            hint="Stop the server, and look at the database's own log.",
            code="source_corrupt",
        )
    return SourceError(f"The source database refused a statement: {words} (SQLSTATE {state}).")


def _grant(words: str) -> str:
    found = _QUOTED.match(words)
    if found and found["kind"] in _RIGHTS:
        return f"GRANT {_RIGHTS[found['kind']]} {found['name']} to the role of [source] url."
    if "row-level security" in words:
        return "Give the role of [source] url BYPASSRLS, or make it the table's owner."
    return (
        "Run the command with --owner-url, the login of the tables' owner; syncline doctor names what the role lacks."
    )


def _without_a_session(error: BaseException) -> SourceError:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return SourceBusyError("The disk of this machine is full.", hint="Make room.", code="source_disk_full")
    what = str(error) or "it did not answer in time"
    return SourceBusyError(f"The source database is not there: {what}.", hint=_ABSENT, code="source_unreachable")


def _state(error: PostgresError) -> str:
    return getattr(error, "sqlstate", None) or ""


def _words(error: PostgresError) -> str:
    return str(error.args[0] if error.args else error).splitlines()[0].rstrip(".")
