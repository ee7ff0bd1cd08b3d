"""A device: the real replica file, and the nurse's app that writes into it with plain SQL."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from syncline.model.program import Program
from syncline.protocol.messages import HelloAnswer
from syncline.replica.file import ReplicaFile
from syncline.testing.simulation.company import FIRST_KEYS, Values, insertion
from syncline.testing.simulation.disks import Image, put_image, take_image
from syncline.testing.simulation.oracle import BrokenPromiseError, Done
from syncline.testing.simulation.processes import Process
from syncline.testing.simulation.streams import SimulatedStream
from syncline.testing.world import VirtualClock

T = TypeVar("T")

OFFICES = "updated_at"
"""The column whose merge policy is `server`: an insert says nothing of it."""


_prepared: dict[str, bytes] = {}


def put_prepared(path: Path, program: Program) -> None:
    """A file as an app may bring it along: the program is installed, and nobody's name stands in it."""
    if program.hash not in _prepared:
        with TemporaryDirectory() as folder:
            file = ReplicaFile(Path(folder) / "prepared.db")
            file.install_bundled(program)
            file.close()
            _prepared[program.hash] = file.path.read_bytes()
    path.write_bytes(_prepared[program.hash])


@dataclass(frozen=True)
class DeviceCopy:
    """A device's file as it was, and what the oracle knew of it then."""

    image: Image
    journal: tuple[Done, ...]
    past: tuple[Done, ...]
    identity: str


class SimulatedDevice:
    """`journal` is what its app committed, as the oracle remembers it, by the numbers that it has now; `past` what
    it had under another identity; `look` an ordinary reader of the file; `process` that of the app and its agent, which
    dies with both."""

    def __init__(self, name: str, user: str, path: Path, clock: VirtualClock, rng: random.Random) -> None:
        self.name = name
        self.user = user
        self.path = path
        self.clock = clock
        self._rng = rng
        self.process = Process("device", path, clock, random.Random(rng.random()))
        self.journal: list[Done] = []
        self.past: list[Done] = []
        self._hoped: list[Done] = []
        self.identity = ""
        self.is_copied = False
        """Its file, or the server's, is or was one of several: it may be given another identity."""
        self.is_of_lost_time = False
        """The server was restored, and this device has not greeted it since."""
        self.has_outlived_server = False
        """The server was restored at some time: what it had sent before may still be on its way."""
        self.renames_loads = rng.random() < 0.2
        """Loaded rows become a table's by a change of name, however few they are."""
        self.last_cursor = (0, 0)
        self.last_term = ""
        self.stream: SimulatedStream | None = None
        self.open()

    def open(self) -> None:
        self.seen_version = -1
        self.knows_time = False
        self.needs_hello = True
        self.look = sqlite3.connect(self.path, isolation_level=None)
        self.file = ReplicaFile(self.path, clock=self.clock, prepare=self.process)
        if self.renames_loads:
            self.file.store.copied_max = 0
        self._app = sqlite3.connect(self.path, isolation_level=None)
        self.process(self._app)

    @property
    def included(self) -> int:
        """The last of its mutations that is in the cut which it holds."""
        (number,) = self.look.execute("SELECT included FROM syncline_state").fetchone()
        return int(number)

    def close(self) -> None:
        self.process.disarm()
        self.file.close()
        self._app.close()
        self.look.close()

    def crash(self) -> None:
        """The process ends between two statements; what it has in memory is lost."""
        self.close()
        self.open()

    def begin_anew(self, *, has_power: bool) -> list[Done]:
        """After the process has died inside a statement; without power its disk went with it. What the app turns out to
        have committed."""
        self.process.close_all()
        self.look.close()
        self.process.put_disk_back(None if has_power else self._rng)
        if not has_power:  # what the agent had committed last may be gone
            self.last_cursor = (0, 0)
        self.open()
        return self._find_out()

    def _find_out(self) -> list[Done]:
        """P4: what the app was committing when it died is there as a whole, or not at all."""
        hoped, self._hoped = self._hoped, []
        (number,) = self.look.execute("SELECT seq FROM syncline_state").fetchone()
        before = hoped[0].number - 1 if hoped else number
        if hoped and number == hoped[-1].number:
            return self._keep(hoped)
        if number != before:
            raise BrokenPromiseError("P4 part of a transaction is in the file", self.name, number, hoped)
        return []

    def note_identity(self, answer: HelloAnswer, included: int) -> None:
        """What the server's answer to `hello` has made of the device, of which `included` were in the cut before.

        P4: with a new identity all that waited waits on, in its old order, under new numbers.
        """
        self.needs_hello = self.is_of_lost_time = False
        self.knows_time = True
        if answer.identity == "new" and self.identity:
            self._renumber(included)
        self.identity = answer.device

    def _renumber(self, included: int) -> None:
        numbers = {identity: number for number, identity in self._waiting_ids().items()}
        waited = [done for done in self.journal if done.number > included]
        missing = [done for done in waited if done.id not in numbers]
        if missing or sorted(waited, key=lambda done: numbers[done.id]) != waited:
            raise BrokenPromiseError("P4 what waited is lost with the old identity", self.name, missing)
        known = {done.id: done for done in (*self.past, *self.journal)}
        unknown = numbers.keys() - known.keys()
        if unknown:
            raise BrokenPromiseError("P5 what was never written is offered again", self.name, unknown)
        self.past = list(known.values())
        self.journal = [replace(known[each], number=numbers[each]) for each in sorted(numbers, key=numbers.__getitem__)]

    # ------------------------------------------------------------ copies
    def copy(self) -> DeviceCopy:
        return DeviceCopy(take_image(self.path), tuple(self.journal), tuple(self.past), self.identity)

    def become(self, copy: DeviceCopy) -> None:
        """An older file comes back in the place of this one."""
        self.close()
        put_image(self.path, copy.image)
        self.journal, self.past, self.identity = list(copy.journal), list(copy.past), copy.identity
        self.is_copied, self.last_cursor = True, (0, 0)
        self.open()

    def clone(self, name: str, clock: VirtualClock) -> SimulatedDevice:
        """Another phone with a copy of this file."""
        copy, path = self.copy(), self.path.with_name(f"{name}.db")
        put_image(path, copy.image)
        clone = SimulatedDevice(name, self.user, path, clock, self._rng)
        clone.journal, clone.past, clone.identity = list(copy.journal), list(copy.past), copy.identity
        clone.is_copied = self.is_copied = True
        clone.is_of_lost_time, clone.has_outlived_server = self.is_of_lost_time, self.has_outlived_server
        return clone

    def outlive_server(self) -> None:
        """Its numbers and its cursor may be of a time that the server has lost."""
        self.is_copied = self.is_of_lost_time = self.has_outlived_server = True
        self.last_cursor = (0, 0)

    def call(self, act: Callable[[ReplicaFile], T]) -> T:
        """What the agent does with its file; ProcessDiedError where it died of it, whatever the code made of that."""
        try:
            with self.process.on_its_disk():
                result = act(self.file)
        except Exception:
            self.process.require_alive()
            raise
        self.process.require_alive()
        return result

    # ------------------------------------------------------------ the app
    def write(self, values: Values) -> list[Done]:
        """One transaction, marked as a group or not, sometimes rolled back. What it committed."""
        try:
            with self.process.on_its_disk():
                return self._write(values)
        except sqlite3.OperationalError:
            self.process.require_alive()
            if self._app.in_transaction:
                self._app.execute("ROLLBACK")
            self._hoped = []
            raise

    def _write(self, values: Values) -> list[Done]:
        rng, db = self._rng, self._app
        number = db.execute("SELECT seq FROM syncline_state").fetchone()[0]
        is_marked = rng.random() < 0.4
        db.execute("BEGIN IMMEDIATE")
        if is_marked:
            db.execute("UPDATE syncline_state SET grp = seq + 1")
        done: list[Done] = []
        for _ in range(rng.choice((1, 1, 2, 3))):
            done += self._write_row(values, number + len(done) + 1, number + 1 if is_marked else 0)
            self._hoped = done
        if is_marked:
            db.execute("UPDATE syncline_state SET grp = 0")
        if rng.random() < 0.05:
            self._hoped = []
            db.execute("ROLLBACK")
            self.process.require_alive()
            return []
        db.execute("COMMIT")
        self.process.require_alive()
        self._hoped = []
        return self._keep(done)

    def _keep(self, done: list[Done]) -> list[Done]:
        ids = self._waiting_ids() if done else {}
        kept = [replace(each, id=ids[each.number]) for each in done]
        self.journal += kept
        return kept

    def _waiting_ids(self) -> dict[int, bytes]:
        """Of all mutations in the file's outboxes, by number."""
        found: dict[int, bytes] = {}
        names = self.look.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' "
            "AND (name LIKE 'syncline\\_outbox\\_%' ESCAPE '\\' OR name LIKE 'syncline\\_retired\\_%' ESCAPE '\\')"
        ).fetchall()
        for (name,) in names:
            found.update(self.look.execute(f'SELECT seq, id FROM "{name}"'))
        return found

    def _write_row(self, values: Values, number: int, marked: int) -> list[Done]:
        rng, db = self._rng, self._app
        table = rng.choice(("visits", "visits", "lines"))
        key = values.key(table)
        found = db.execute(f"SELECT * FROM {table} WHERE id = ?", (key,))
        columns = [column[0] for column in found.description]
        row = found.fetchone()
        drawn = values.draw(table, [column for column in columns if column.startswith("x")])
        if row is None:
            if not values.deletes and key in FIRST_KEYS:
                return []
            made = {"id": key, **drawn}
            db.execute(insertion(table, made), tuple(made.values()))
            whole = dict(
                zip(columns, db.execute(f"SELECT * FROM {table} WHERE id = ?", (key,)).fetchone(), strict=True)
            )
            written = {column: value for column, value in whole.items() if column not in ("id", OFFICES)}
            return [Done(number, "I", table, key, written, {}, marked)]
        old = dict(zip(columns, row, strict=True))
        if rng.random() < values.deletes:
            db.execute(f"DELETE FROM {table} WHERE id = ?", (key,))
            return [Done(number, "D", table, key, {}, old, marked)]
        changes = self._changes(values, drawn, old)
        if not changes:
            return []
        named = ", ".join(f"{column} = ?" for column in changes)
        db.execute(f"UPDATE {table} SET {named} WHERE id = ?", (*changes.values(), key))
        return [Done(number, "U", table, key, changes, old, marked)]

    def _changes(self, values: Values, drawn: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
        picked = values.columns(drawn, self._rng.choice((1, 1, 2)))
        changes = {column: (old["n"] or 0) + 1 if column == "n" else drawn[column] for column in picked}
        return {column: value for column, value in changes.items() if value != old[column]}
