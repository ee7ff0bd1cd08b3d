"""The synchronous core of a replica: messages in, messages out, one SQLite file between. No threads, no network.

The engine drives it in production, the simulator in tests. `position` and the clock samples are all that is not in the
file: after a crash they begin anew, and nothing is lost by it.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from syncline import limits
from syncline.clock import Clock, evaluate_sample
from syncline.errors import OtherUserError, ProtocolError, ReplicaError, ServerError
from syncline.log import logger
from syncline.model.program import Program
from syncline.protocol import checks, frames
from syncline.protocol.cursor import digest_of, parse_cursor
from syncline.protocol.messages import Download, Hello, HelloAnswer, UploadAnswer
from syncline.protocol.verify import CAPABILITY
from syncline.protocol.version import PROTOCOL_VERSION
from syncline.replica import app_connection
from syncline.replica.apply import AppliedCut, apply_cut
from syncline.replica.cut import Collector
from syncline.replica.distrust import of_the_server
from syncline.replica.identity import CopiedFileError, forget_nonce, refuse_another_copy, renumber
from syncline.replica.install import install_program
from syncline.replica.offset import OffsetSamples
from syncline.replica.outbox import build_upload, count_pending
from syncline.replica.own_objects import put_capture_back
from syncline.replica.stage import Stage
from syncline.replica.store import State, Store
from syncline.replica.wipe import wipe_file
from syncline.system.clock import SYSTEM_CLOCK
from syncline.system.database import Prepare, immediate

_log = logger("replica.file")

PURGE_SENT_SECONDS = 6 * 3600.0

ENGINE = f"python {sys.version_info.major}.{sys.version_info.minor}"


class WipedError(ReplicaError):
    """The server had this replica deleted: the file is empty now."""

    code = "wiped"


class ReplicaFile:
    """One replica's file. Not for two threads at once, and one per file (`system.lock.FileLock` sees to that).

    `prepare` is called with every connection; `clock` is the machine's where none is given; `schema_version` is what
    the app declares at `hello`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        clock: Clock = SYSTEM_CLOCK,
        prepare: Prepare | None = None,
        schema_version: int | None = None,
    ) -> None:
        self.store = Store(path, clock=clock, prepare=prepare)
        self._schema_version = schema_version
        self.path = self.store.path
        self._collector = Collector(self.store)
        self._stage = Stage(self.store)
        self._offset = OffsetSamples()
        self._position = 0
        self._purge_at = 0.0
        self._untold_rejections = 0
        self.head = 0
        """The newest checkpoint that the server named, by `hello`, a cut or a heartbeat."""
        self.verify_keys_max = 0
        """How many keys a verification may leave out; 0 where the server knows of no verification."""

    # ------------------------------------------------------------ hello
    def hello_request(self) -> dict[str, Any]:
        state = self.store.state()
        self._refuse_wiped(state)
        hello = Hello(
            protocol=PROTOCOL_VERSION,
            device=state.device,
            nonce=state.nonce,
            engine=ENGINE,
            sqlite=sqlite3.sqlite_version,
            packings=tuple(frames.PACKINGS),
            clock_us=self.store.now_us(),
            program=self.store.program.hash if self.store.program else None,
            schema_version=self._schema_version,
            included=state.included,
            cursor=state.cursor,
        )
        return hello.dump()

    def accept_hello(self, answer: dict[str, Any], sent_us: int, arrived_us: int) -> HelloAnswer:
        """`sent_us` and `arrived_us` are the device's raw clock. OtherUserError, ProtocolError, ReplicaError."""
        told = HelloAnswer.load(answer)
        state = self.store.state()
        if state.user is not None and told.user != state.user:
            raise OtherUserError(
                "This file belongs to somebody else.",
                hint="Use another file, or replace_user=True once nothing is pending.",
            )
        program = Program.load(told.program) if told.program is not None else None
        if program is None and self.store.program is None:
            raise ProtocolError("The server sent no program, and this file has none.", code="no_program")
        self._collector.abandon()
        if told.identity == "known":
            try:
                refuse_another_copy(self.store, state, told.last, told.last_id)
            except CopiedFileError:
                forget_nonce(self.store)
                raise
        if program is not None and (self.store.program is None or program.hash != self.store.program.hash):
            self._install(program, told.last if told.identity == "known" else 0)
        with immediate(self.store.connection):
            put_capture_back(self.store)
            if told.identity == "new":
                renumber(self.store, told.device, reoffer_sent=told.reoffer_sent)
            self.store.connection.execute(
                "UPDATE syncline_state SET device = ?, nonce = ?, user = ?", (told.device, told.nonce, told.user)
            )
        sample = evaluate_sample(sent_us, told.received_us, told.answered_us, arrived_us)
        self._offset.add(sample, self.store.clock)
        self.head = told.head
        self.verify_keys_max = min(told.limits.get(CAPABILITY, 0), limits.VERIFY_KEYS_MAX)
        state = self.store.state()
        self._position = min(max(state.included, told.last if told.identity == "known" else 0), state.seq)
        return told

    def install_bundled(self, program: Program) -> None:
        """A program that the app brings along, where the file has none yet: the first start needs no network then. What
        the app writes is carried over to the server's program, whichever that is."""
        if self.store.program is None and self.store.state().wiped is None:
            self._install(program, code="bundled_program")

    def _install(self, program: Program, taken: int = 0, code: str = "bad_program") -> None:
        try:
            with of_the_server(self.store, code), immediate(self.store.connection):
                self._stage.discard()
                parked = install_program(self.store, program, taken)
            self._untold_rejections += parked
        finally:
            self.store.load_program()
        self.purge()

    # ------------------------------------------------------------ upload
    def upload_request(self) -> dict[str, Any] | None:
        """The next groups beyond the volatile position, or None when everything was offered."""
        offset = self._offset.best(self.store.clock)
        with of_the_server(self.store):
            upload = build_upload(self.store, self._position, self.store.now_us(), offset)
        return upload.dump() if upload else None

    def accept_upload(self, answer: dict[str, Any]) -> UploadAnswer:
        """A hint only: it moves the position, nothing that lasts (rule 8)."""
        told = UploadAnswer.load(answer)
        self._position = told.last if told.gap else max(self._position, told.last)
        return told

    def offer_again(self) -> None:
        """After a time-out or an error: from the first mutation that no applied cut includes."""
        self._position = 0

    @property
    def has_unoffered(self) -> bool:
        state = self.store.state()
        return state.device is not None and state.seq > max(self._position, state.included)

    # ------------------------------------------------------------ download
    def download_request(self, with_buckets: bool = False, wait: float = 0) -> dict[str, Any]:
        """What the file has, staged and applied, for `/v1/download` and `/v1/live`."""
        state = self.store.state()
        self._refuse_wiped(state)
        names = [name for (name,) in self.store.connection.execute("SELECT name FROM syncline_bucket").fetchall()]
        asked = Download(
            device=state.device or "",
            cursor=state.cursor,
            included=state.included,
            apply_count=state.apply_count,
            digest=digest_of(names),
            buckets=tuple(names) if with_buckets else None,
            wait_seconds=wait,
            stage=self._stage.request(with_buckets),
        )
        return asked.dump()

    def receive(self, frame: dict[str, Any]) -> AppliedCut | None:
        """Takes the next frame; a `commit` applies the cut and answers what that did, or None if it was a stale one.

        A `progress` makes what came before it durable, and the next request goes on there whatever happens. After a
        `pause` the server has more at once.
        ProtocolError (code "layout": ask `hello` for a new program), ServerError for an `error` frame, WipedError.
        """
        kind = checks.text(frame, "t")
        if kind == "heartbeat":
            self._heartbeat(frame)
            return None
        if kind == "error":
            self.abandon()
            raise server_error(frame)
        if kind == "wipe":
            self.wipe(checks.said(frame, "reason", ""))
            raise WipedError("The server had this replica deleted.", hint="Ask the office.")
        cut = self._collector.cut
        try:
            with of_the_server(self.store):
                finished = self._collector.take(frame)
                if finished is None:
                    if kind == "progress":
                        self.purge()
                    return None
                cut, commit = finished
                due = self.store.clock.monotonic_seconds() >= self._purge_at
                applied = apply_cut(self.store, cut, commit, purge_sent=due)
        except CopiedFileError:
            self.abandon()
            forget_nonce(self.store)
            raise
        except ProtocolError:
            self.abandon()
            if cut is not None and cut.is_paged and not cut.is_stale:
                self._throw_away()  # it would be refused again and again
            raise
        except (ReplicaError, sqlite3.Error):
            self.abandon()
            raise
        if applied is None:
            self.abandon()
            return None
        self._collector.done()
        applied = replace(applied, rejected=applied.rejected + self._untold_rejections)
        self._untold_rejections = 0
        if due:
            self._purge_at = self.store.clock.monotonic_seconds() + PURGE_SENT_SECONDS
        self.head = max(self.head, applied.checkpoint)
        self.purge()
        return applied

    def _heartbeat(self, frame: dict[str, Any]) -> None:
        """Nothing new: what the device has is the state at `head`. The cursor moves along only where the server says
        which state of ours it speaks of: an old heartbeat would skip what came in between."""
        self.head = max(self.head, checks.integer(frame, "head"))
        told, state = parse_cursor(checks.optional_text(frame, "cursor")), self.store.state()
        mine = parse_cursor(state.cursor)
        if frame.get("apply_count") != state.apply_count or told is None or mine is None or told[0] != mine[0]:
            return
        if told[1] > mine[1]:
            self.store.connection.execute(
                "UPDATE syncline_state SET cursor = ?, base = ?, seen = max(seen, ?) WHERE apply_count = ?",
                (frame["cursor"], told[1], checks.integer(frame, "time"), state.apply_count),
            )

    def abandon(self) -> None:
        """Drops a half received cut."""
        self._collector.abandon()

    def _throw_away(self) -> None:
        with immediate(self.store.connection):
            self._stage.discard()
            self.store.connection.execute("UPDATE syncline_state SET apply_count = apply_count + 1")

    @property
    def progress(self) -> tuple[int, int | None, int] | None:
        """(rows received, rows expected if known, bytes received) while a download comes in, else None. Of a paged one:
        from its beginning, before whatever break."""
        cut = self._collector.cut
        if cut is None:
            return None
        return cut.received, None if cut.expected is None else max(cut.expected, cut.received), cut.bytes

    # ------------------------------------------------------------ purging
    def purge(self) -> bool:
        """Empties the log after rows left the file; True when nothing is left to purge. An old reader prevents it."""
        if not self.store.state().purge_pending:
            return True
        if not self.store.truncate_log():
            return False
        self.store.connection.execute("UPDATE syncline_state SET purge_pending = 0")
        return True

    def wipe(self, reason: str = "") -> None:
        """Deletes everything but the fact that it was wiped; the app's own tables stay."""
        self._collector.abandon()
        wipe_file(self.store, reason)

    @staticmethod
    def _refuse_wiped(state: State) -> None:
        if state.wiped is not None:
            raise WipedError("This replica was deleted by the office.", hint="Use another file.")

    # ------------------------------------------------------------ notes
    def note_synced(self) -> None:
        """Both sides are quiet now. Not worth waiting for an app that holds the file."""
        self._note("last_synced_us", self.store.now_us())

    def note_agent(self, state: str) -> None:
        """What the agent is doing, for other processes."""
        self._note("agent", state)

    def _note(self, column: str, value: int | str) -> None:
        try:
            self.store.connection.execute(f"UPDATE syncline_state SET {column} = ?", (value,))
        except sqlite3.OperationalError as error:
            _log.debug("%s could not be noted: %s", column, error)

    # ------------------------------------------------------------ the app's side
    def state(self) -> State:
        return self.store.state()

    def pending(self) -> int:
        """How many mutations wait."""
        return count_pending(self.store).count

    def connect(self) -> sqlite3.Connection:
        return app_connection.connect(self.path, self.store.prepare)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        with app_connection.transaction(self.path, self.store.prepare, self.store.outboxes) as connection:
            yield connection

    def close(self) -> None:
        self.store.close()


def server_error(frame: dict[str, Any]) -> ServerError:
    """An `error` frame as an exception."""
    return ServerError(
        checks.said(frame, "message", "The server ended the stream."),
        hint=checks.said(frame, "hint", ""),
        code=checks.said(frame, "code", "server", 100),
        retry_after_seconds=checks.seconds(frame.get("retry_after")),
    )
