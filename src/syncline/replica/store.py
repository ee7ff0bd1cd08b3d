"""The replica's file as the sync agent sees it: one guarded connection, our state, the program and its statements."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syncline import limits
from syncline.clock import Clock
from syncline.errors import ProtocolError, ReplicaError
from syncline.model.identifiers import quote
from syncline.model.program import SQLITE_MIN, Program, ProgramTable
from syncline.replica.bulk import execute_many
from syncline.replica.guard import Guard
from syncline.replica.storage import file_identity, leave_log_alone, replica_error
from syncline.replica.versions import bring_up_to_date, check_format, check_sqlite, is_ours, read_format
from syncline.system.clock import SYSTEM_CLOCK
from syncline.system.database import Prepare, execute, fetch_all, immediate, open_database, text_or_raw
from syncline.values import RawText, Value

CACHE_KIB = 32 * 1024
"""Pages that the applying connection may hold: a first load spills less. It takes only what it needs."""

LOG_PAGES = 4_000
"""How long the write-ahead log grows before it is folded into the file: 16 MB, a few pages of a long download."""

_COVERED = "coalesce((SELECT frames FROM syncline_job), 0)"
TAIL = f"SELECT n, frame FROM syncline_stage WHERE n > {_COVERED}"
"""Frames of an answer that is still coming in: put aside to save memory, and covered by no token."""

DELETE_TAIL = f"DELETE FROM syncline_stage WHERE n > {_COVERED}"


@dataclass(frozen=True, slots=True)
class State:
    """The one row of `syncline_state` (times in µs). `cursor` None: the next download is everything."""

    seq: int
    included: int
    base: int
    seen: int
    cursor: str | None
    apply_count: int
    epoch: int
    device: str | None
    nonce: str | None
    user: str | None
    synced: bool
    last_synced_us: int | None
    purge_pending: bool
    wiped: str | None

    @property
    def has_pending(self) -> bool:
        return self.seq > self.included


_STATE = (
    "SELECT seq, included, base, seen, cursor, apply_count, epoch, device, nonce, user, synced, last_synced_us, "
    "purge_pending, wiped FROM syncline_state"
)


def read_state(connection: sqlite3.Connection) -> State:
    row = list(connection.execute(_STATE).fetchone())
    row[10], row[12] = bool(row[10]), bool(row[12])
    return State(*row)


class Store:
    """Opens or creates the file. ReplicaError where it is no SQLite file or a later one, or SQLite is too old."""

    def __init__(
        self,
        path: str | Path,
        *,
        clock: Clock = SYSTEM_CLOCK,
        prepare: Prepare | None = None,
        busy_seconds: float = 10.0,
    ) -> None:
        check_sqlite(SQLITE_MIN, "Syncline")
        self.path = Path(path)
        self.clock = clock
        self.prepare = prepare
        self.program: Program | None = None
        self.retired: dict[str, ProgramTable] = {}
        self.schema_checked: int | None = None
        """SQLite's schema_version when the app's own indexes were last looked at (`own_objects.take_unique_off`)."""
        self.capture_checked: int | None = None
        """The same of our own triggers (`own_objects.put_capture_back`)."""
        self.copied_max = limits.LOADED_ROWS_COPIED_MAX
        """The simulator draws another one."""
        self._reader: tuple[sqlite3.Connection, Guard] | None = None
        self._is_closed = False
        self._busy_ms = int(busy_seconds * 1000)
        self._identity: tuple[int, int] | None = None
        self.connection = open_database(self.path, create=True, busy_seconds=busy_seconds, prepare=prepare)
        try:
            self._set_up()
        except sqlite3.DatabaseError as error:
            self.connection.close()
            raise _as_replica_error(error, self.path) from error
        except BaseException:
            self.connection.close()
            raise
        self.guard = Guard(self.connection)
        self._identity = file_identity(self.path)
        try:
            self.load_program()
        except BaseException:
            self.connection.close()
            raise

    def _set_up(self) -> None:
        db = self.connection
        if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'syncline_checkpoint'").fetchone():
            raise ReplicaError(
                f'"{self.path}" is a database that Syncline serves from, not a device\'s file.',
                hint="Name another file; a new one is made.",
                code="not_a_replica",
            )
        if is_ours(db):
            check_format(read_format(db), self.path)  # before anything is done to it
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA secure_delete = ON")
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        # Server rows come in any order, and a child may be rejected before its parent: only the app's own
        # connections enforce foreign keys.
        db.execute("PRAGMA foreign_keys = OFF")
        bring_up_to_date(db, self.path)
        # A loaded table takes the place of an empty one: the app's views and our foreign keys go on naming it.
        db.execute("PRAGMA legacy_alter_table = ON")
        db.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        # Left by a process that died: frames that no token covers, or a marked group that was never ended.
        if db.execute(f"SELECT EXISTS ({TAIL}) OR (SELECT grp FROM syncline_state)").fetchone()[0]:
            with immediate(db):
                db.execute(DELETE_TAIL)
                db.execute("UPDATE syncline_state SET grp = 0")

    # ------------------------------------------------------------ state and program
    def state(self) -> State:
        return read_state(self.connection)

    def load_program(self) -> None:
        """Reads the stored program and makes the connection's temporary tables."""
        self.program, self.retired = None, {}
        for kind, document in self.connection.execute("SELECT kind, document FROM syncline_program").fetchall():
            if kind == "current":
                self.program = Program.load(json.loads(document))
            else:
                (self.retired[kind],) = Program(json.loads(document)).tables.values()
        if self.program is None:
            return
        self.guard.allow(set(self.program.tables))
        self.begin_session(self.program)

    def begin_session(self, program: Program) -> None:
        """Makes the connection's temporary tables, in the place of those of another program."""
        for (name,) in self.connection.execute("SELECT name FROM sqlite_temp_master WHERE type = 'table'").fetchall():
            self.connection.execute(f"DROP TABLE temp.{quote(name)}")
        with self.guard.defining():
            for statement in program.session:
                self.connection.execute(statement)

    @property
    def tables(self) -> dict[str, ProgramTable]:
        return self.program.tables if self.program else {}

    @property
    def outboxes(self) -> list[ProgramTable]:
        """All tables with an outbox, those that no longer sync included."""
        return [*self.tables.values(), *self.retired.values()]

    def table(self, name: Any) -> ProgramTable:
        """ProtocolError where the server names a table that the program does not: the program is out of date."""
        found = self.tables.get(name) if isinstance(name, str) else None
        if found is None:
            raise ProtocolError(f'The server sent rows of "{name}", which the program does not know.', code="layout")
        return found

    # ------------------------------------------------------------ statements of the program
    def run(self, table: ProgramTable, statement: str, parameters: Sequence[Value] = ()) -> sqlite3.Cursor:
        with self.guard.strict():
            return execute(self.connection, table.statements[statement], parameters)

    def run_many(
        self, table: ProgramTable, statement: str, rows: Sequence[Sequence[Value]], is_plain: bool = False
    ) -> None:
        """`is_plain`: there is no text among them that the driver would take for a BLOB."""
        sql = table.statements[statement]
        with self.guard.strict():
            if is_plain or not any(RawText in map(type, row) for row in rows):
                execute_many(self.connection, sql, rows)
            else:
                for row in rows:
                    execute(self.connection, sql, row)

    def fetch(self, table: ProgramTable, statement: str, parameters: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        """All rows; text that is not UTF-8 as RawText."""
        sql = table.statements[statement]
        with self.guard.strict():
            if any(type(value) is RawText for value in parameters):
                return execute(self.connection, sql, parameters).fetchall()
            return fetch_all(self.connection, sql, parameters)

    def number(self, table: ProgramTable, statement: str, parameters: Sequence[Value] = ()) -> int:
        """The one number that a statement answers."""
        return int(self.run(table, statement, parameters).fetchone()[0] or 0)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A transaction on another connection, in which the program's statements may be run: cursors that are half read
        there are in nobody's way, and text that is not UTF-8 comes as RawText. For one at a time."""
        reader, guard = self._reader or self._open_reader()
        self._reader = None
        try:
            guard.allow(set(self.tables))
            reader.execute("BEGIN")
            with guard.strict():
                yield reader
            reader.execute("COMMIT")
        except BaseException:
            self.guard.refused = guard.refused or self.guard.refused
            reader.close()
            raise
        if self._is_closed:
            reader.close()
            return
        self._reader = reader, guard  # to open a file is to read its schema: most of the work of a small upload

    def _open_reader(self) -> tuple[sqlite3.Connection, Guard]:
        reader = open_database(self.path, prepare=self.prepare)
        reader.text_factory = text_or_raw
        return reader, Guard(reader)

    # ------------------------------------------------------------ the machine
    def now_us(self) -> int:
        return self.clock.now_us()

    def truncate_log(self) -> bool:
        """Empties the write-ahead log, where old versions of pages lie; False while a reader still needs them."""
        self.connection.execute("PRAGMA busy_timeout = 50")
        try:
            busy, _, _ = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.OperationalError:
            return False
        finally:
            self.connection.execute(f"PRAGMA busy_timeout = {self._busy_ms}")
        return not busy

    def require_same_file(self) -> None:
        """ReplicaError where the path names another file than the one that is open here, or none any more: what the app
        writes there would never be seen, and what is written here would be gone with the last who has it open."""
        if file_identity(self.path) != self._identity:
            raise ReplicaError(
                f'Another file stands at "{self.path}" than the one that is open, or none.',
                hint="Stop the replica and start it again, if that is the file that is meant.",
                code="replica_replaced",
            )

    def close(self) -> None:
        self._is_closed = True
        is_replaced = file_identity(self.path) != self._identity
        for connection in (*(self._reader or ())[:1], self.connection):
            if is_replaced:
                leave_log_alone(connection)
            connection.set_authorizer(None)
            connection.close()
        self._reader = None


def _as_replica_error(error: sqlite3.DatabaseError, path: Path) -> ReplicaError:
    return replica_error(error, path) or ReplicaError(
        f'"{path}" cannot be opened: {error}.', hint="Is another program holding it?", code="open_failed"
    )
