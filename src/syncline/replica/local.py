"""The app's side of a replica: all that needs its file and no agent, in any process, with or without a network."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from syncline.errors import ConfigError, ReplicaError
from syncline.replica import app_connection, keys, retry
from syncline.replica import status as reading
from syncline.replica.live_query import Parameters, RowFactory
from syncline.replica.programs import ProgramReader
from syncline.replica.receipt import Receipt
from syncline.replica.records import read_conflicts, read_rejections
from syncline.replica.retry import Rejection
from syncline.replica.watch import Watch, Watches
from syncline.system.database import Prepare, immediate, open_database
from syncline.values import Value


class LocalReplica:
    """What `Replica` inherits."""

    def __init__(self, path: str | Path, prepare: Prepare | None) -> None:
        self.path = checked_path(path)
        self._prepare = prepare
        self._programs = ProgramReader()
        self._watches = Watches(self.path, prepare)
        self._writing: set[int] = set()

    # ------------------------------------------------------------ reading and writing
    def connect(self) -> sqlite3.Connection:
        """An ordinary connection (foreign keys on); any other way of opening the file is as good."""
        return app_connection.connect(self.path, self._prepare)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A group that the server applies or refuses as a unit. Rolled back if the block raises.

        ReplicaError (`transaction_nested`) inside another one of this thread's: there is one writer at a time.
        """
        thread = threading.get_ident()
        if thread in self._writing:
            raise ReplicaError(
                "A transaction of this thread's is under way already, and would wait for itself.",
                hint="Use the connection of the outer block.",
                code="transaction_nested",
            )
        self._writing.add(thread)
        try:
            with self._unguarded_transaction() as connection:
                yield connection
        finally:
            self._writing.discard(thread)

    @contextmanager
    def _unguarded_transaction(self) -> Iterator[sqlite3.Connection]:
        with closing(open_database(self.path, prepare=self._prepare)) as reader:
            tables = self._programs.tables(reader).values()
        with app_connection.transaction(self.path, self._prepare, tables) as connection:
            yield connection
        self._committed()

    def _committed(self) -> None:
        """This process has just written: whoever waits for that need not find out."""
        self._watches.poller.look_now()

    def new_key(self, table: str, column: str | None = None) -> Value:
        """A key for a new row, made without asking anybody, and never made twice: an integer, a UUID as text, or its 16
        bytes, as the key's type is. `column` names the part of a key of several.

        ReplicaError: `unknown_table`, `key_not_generated` where only the app can choose.
        """
        with closing(open_database(self.path, prepare=self._prepare)) as connection:
            return keys.new_key(connection, keys.find_table(self._programs.tables(connection), table), column)

    def watch(self, sql: str, parameters: Parameters = (), *, row_factory: RowFactory | None = None) -> Watch:
        """A live query: an iterator of lists of rows, the first at once, the next when the rows are others, whoever
        changed them. It ends with `close()`, its `with` block, or `stop()`.

        ReplicaError at once: `bad_query`, `query_writes`.
        """
        return self._watches.open(sql, parameters, row_factory)

    # ------------------------------------------------------------ what a person has to see
    def rejections(self) -> list[dict[str, Any]]:
        """`{id, table, key, operation, code, reason, values, group, at}` of what was refused, oldest first."""
        with closing(open_database(self.path, prepare=self._prepare)) as connection:
            return read_rejections(connection)

    def dismiss(self, rejection: Rejection) -> bool:
        """Somebody has seen it: it is forgotten. Takes what `rejections()` gives, or its id; False where it is gone
        already."""
        with closing(open_database(self.path, prepare=self._prepare)) as connection:
            connection.execute("PRAGMA secure_delete = ON")
            gone = retry.dismiss(connection, rejection)
        self._committed()
        return gone

    def retry(
        self,
        rejection: Rejection,
        corrections: Mapping[str, Any] | None = None,
        *,
        within: sqlite3.Connection | None = None,
    ) -> None:
        """Makes a refused change again, with other values for the columns of `corrections`, and forgets the rejection.

        It is a new change of the app's: it waits in the outbox, and is judged anew. `within`: the connection of a
        `transaction()` block, so that several are tried as a unit.
        ReplicaError, and nothing happens: `rejection_gone`, `row_gone`, `row_exists`, `values_gone`, `unknown_column`,
        `retry_failed`.
        """
        if within is not None:
            retry.retry(within, self._programs.tables(within), rejection, corrections or {})
            return
        with closing(open_database(self.path, busy_seconds=10.0, prepare=self._prepare)) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA secure_delete = ON")
            with immediate(connection):
                retry.retry(connection, self._programs.tables(connection), rejection, corrections or {})
        self._committed()

    def conflicts(self) -> list[dict[str, Any]]:
        """`{id, table, key, column, kind, rule, base, server, device, at}`: whose value was left out, and why."""
        with closing(open_database(self.path, prepare=self._prepare)) as connection:
            return read_conflicts(connection)

    @property
    def receipt(self) -> Receipt | None:
        """What became of the changes before the outbox was last empty; None where it never was."""
        return reading.read_counts(self.path, self._prepare).receipt


def checked_path(path: str | Path) -> Path:
    """ConfigError for what names no file of its own."""
    if not isinstance(path, str | os.PathLike) or not str(path) or str(path).startswith((":memory:", "file:")):
        raise ConfigError(
            f"A replica is a file, and {path!r} names none.", hint='Give its path, for example "nurse.db".', code="path"
        )
    return Path(path)
