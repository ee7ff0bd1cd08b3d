"""What an app writes through: an ordinary connection to the file, and a transaction that the office takes whole."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from syncline import limits
from syncline.errors import LimitError, ReplicaError
from syncline.model.program import ProgramTable
from syncline.system.database import Prepare, open_database

MARKED_GROUP_BYTES_MAX = limits.REQUEST_BYTES_MAX // 2
"""Old and new values of one marked group: it travels in one request, where base64 makes it larger."""


def connect(path: str | Path, prepare: Prepare | None = None) -> sqlite3.Connection:
    """An ordinary connection for the app: WAL, foreign keys on."""
    connection = sqlite3.connect(str(path), timeout=10.0)
    connection.execute("PRAGMA temp_store = MEMORY")
    if prepare:
        prepare(connection)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")
    return connection


@contextmanager
def transaction(
    path: str | Path, prepare: Prepare | None = None, tables: Iterable[ProgramTable] = ()
) -> Iterator[sqlite3.Connection]:
    """A marked group (rule 5): the server applies or refuses it as a whole. Rolled back if the block raises.

    LimitError, and nothing is written, where the group is larger than one request may be.
    """
    connection = open_database(path, busy_seconds=10.0, prepare=prepare)
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("BEGIN IMMEDIATE")
        (before,) = connection.execute("SELECT seq FROM syncline_state").fetchone()
        connection.execute("UPDATE syncline_state SET grp = seq + 1")
        yield connection
        if not connection.in_transaction:
            connection.execute("UPDATE syncline_state SET grp = 0")
            raise ReplicaError(
                "The transaction was ended inside the block.",
                hint="Leave COMMIT and ROLLBACK to `with replica.transaction()`.",
                code="transaction_ended",
            )
        _check_size(connection, before, tables)
        connection.execute("UPDATE syncline_state SET grp = 0")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.close()


def _check_size(connection: sqlite3.Connection, before: int, tables: Iterable[ProgramTable]) -> None:
    (after,) = connection.execute("SELECT seq FROM syncline_state").fetchone()
    if after - before > limits.MARKED_GROUP_MUTATIONS_MAX:
        raise LimitError(
            f"A transaction of {after - before} changes is above the limit of {limits.MARKED_GROUP_MUTATIONS_MAX}.",
            hint="Write in several transactions, or without replica.transaction().",
        )
    size = sum(connection.execute(table.statements["group_size"], (before,)).fetchone()[1] for table in tables)
    if size > MARKED_GROUP_BYTES_MAX:
        raise LimitError(
            f"A transaction of {size} bytes is above the limit of {MARKED_GROUP_BYTES_MAX}.",
            hint="Write in several transactions, or without replica.transaction().",
        )
