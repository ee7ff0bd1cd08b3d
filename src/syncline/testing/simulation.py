"""A small seeded simulation: the real server code and the real replica code on real SQLite files, a virtual clock,
and a network that
drops, doubles and reorders. After every event each device is compared with an oracle:

    a device's rows = the cut that its cursor names + its own mutations that this cut does not include

`run(seed, folder)` plays one history; it raises `BrokenPromiseError` with the promise and what differed.
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from syncline.errors import SynclineError
from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig, bucket_key
from syncline.protocol import frames
from syncline.replica.file import ReplicaFile
from syncline.replica.records import read_rejections
from syncline.server.auth import Identity
from syncline.server.downloads import BucketsNeededError
from syncline.server.service import Service
from syncline.source.sqlite.source import SqliteSource
from syncline.source.sqlite.threads import drive
from syncline.testing.plans import plan_for
from syncline.testing.world import Determinism, VirtualClock

TABLES = """
CREATE TABLE patients(id TEXT PRIMARY KEY, name TEXT, ssn TEXT);
CREATE TABLE visits(id TEXT PRIMARY KEY, patient_id TEXT, status TEXT CHECK(status IS NOT 'bad'), note, n INTEGER NOT
NULL DEFAULT 0,
  updated_at INTEGER);
CREATE TABLE lines(id TEXT PRIMARY KEY, visit_id TEXT, label TEXT CHECK(label IS NOT 'bad'));
CREATE TABLE assignments(nurse TEXT, patient_id TEXT);
CREATE INDEX visits_patient ON visits(patient_id); CREATE INDEX lines_visit ON lines(visit_id);
CREATE TRIGGER host_stamps AFTER UPDATE ON visits WHEN new.updated_at IS old.updated_at
  BEGIN UPDATE visits SET updated_at = coalesce(updated_at, 0) + 1 WHERE id = new.id; END;
CREATE TRIGGER host_locks BEFORE DELETE ON visits WHEN old.status = 'locked' BEGIN SELECT raise(ABORT, 'locked'); END;
INSERT INTO patients VALUES('a', 'Anna', 'SECRET-a'), ('b', 'Bo', 'SECRET-b'), ('c', 'Cy', 'SECRET-c');
INSERT INTO visits(id, patient_id, status) VALUES('v1', 'a', 'open'), ('v2', 'b', 'open'), ('v3', 'c', 'open');
INSERT INTO lines VALUES('l1', 'v1', 'x'), ('l2', 'v2', 'y');
INSERT INTO assignments VALUES('u1', 'a'), ('u1', 'b'), ('u2', 'b'), ('u2', 'c');
"""
CONFIG = PlanConfig(
    scopes=(
        ScopeConfig(
            "caseload",
            {
                "visits": TableConfig((LinkConfig(parent="patients", on={"patient_id": "id"}),)),
                "lines": TableConfig((LinkConfig(parent="visits", on={"visit_id": "id"}),)),
            },
            root="patients",
            grant="SELECT patient_id FROM assignments WHERE nurse = :sub",
        ),
    ),
    hide={"patients": ("ssn",)},
    merge={"visits": {"n": "add", "updated_at": "server"}},
)
COLUMNS = {
    "patients": ("id", "name"),
    "visits": ("id", "patient_id", "status", "note", "n", "updated_at"),
    "lines": ("id", "visit_id", "label"),
}
KEYS = {"visits": [f"v{number}" for number in range(1, 7)], "lines": [f"l{number}" for number in range(1, 5)]}
USERS = {"d1": "u1", "d2": "u1", "d3": "u2"}

Rows = dict[tuple[str, str], dict[str, Any]]


class BrokenPromiseError(AssertionError):
    """A checker found a promise broken: which one, on which device, and what differed."""


@dataclass
class Truth:
    """One cut: all rows of the source, and each device's last included mutation."""

    rows: Rows
    included: dict[str, int]


@dataclass
class Done:
    """One mutation that a device's app committed, as the oracle remembers it."""

    number: int
    operation: str
    table: str
    key: str
    new: dict[str, Any]
    old: dict[str, Any]
    marked: int


@dataclass
class SimulatedDevice:
    name: str
    user: str
    path: Path
    clock: VirtualClock
    file: ReplicaFile
    journal: list[Done] = field(default_factory=list)
    identity: str = ""
    last_cursor: tuple[int, int] = (0, 0)


class Simulation:
    """One history. Everything random comes from the seed."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.rng = random.Random(seed)
        self.clock = VirtualClock()
        self.determinism = Determinism(self.clock, random.Random(seed + 1))
        self.stats: Counter[str] = Counter()
        self.trace = sha256()
        self.network: list[tuple[str, str, bytes]] = []
        self.truths: dict[int, Truth] = {}
        self.faulty = True
        self.unique = 0
        rng = self.rng
        self.p_drop, self.p_double = rng.choice((0, 0.1, 0.4)), rng.choice((0, 0.1, 0.3))
        self.p_interrupt = rng.choice((0, 0, 0.02))
        self.in_order = rng.random() < 0.3
        self.host = sqlite3.connect(folder / "clinic.db", isolation_level=None)
        self.determinism(self.host)
        self.host.executescript(TABLES)
        self.source = SqliteSource(
            folder / "clinic.db", clock=self.clock, draw=self.determinism.draw, prepare=self.determinism, inline=True
        )
        plan = drive(plan_for(self.source, CONFIG))
        drive(self.source.provision(plan))
        self.service = Service(self.source, plan, self.clock, wait_for_marker=self._pass_marker)
        drive(self.source.attach(plan))
        self.term = 0
        self._begin_term()
        self.devices = [self._device(name, user, folder) for name, user in USERS.items()]

    def close(self) -> None:
        for device in self.devices:
            device.file.close()
        drive(self.source.close())
        self.host.close()

    # ------------------------------------------------------------ the server
    def _begin_term(self) -> None:
        if self.term:
            drive(self.source.end_term(f"term-{self.term}"))
        self.term += 1
        head = drive(self.source.begin_term(f"term-{self.term}"))
        assert head is not None
        self.truths.setdefault(head.checkpoint, self._read_truth())

    def _read_truth(self) -> Truth:
        rows: Rows = {}
        for table, columns in COLUMNS.items():
            for row in self.host.execute(f"SELECT {', '.join(columns)} FROM {table}"):
                rows[table, row[0]] = dict(zip(columns, row, strict=True))
        return Truth(rows, dict(self.host.execute("SELECT device, number FROM syncline_included")))

    def checkpoint(self) -> None:
        taken = drive(self.source.take_checkpoint(f"term-{self.term}"))
        if taken:
            self.stats["checkpoints"] += 1
            self.truths[taken.head.checkpoint] = self._read_truth()

    async def _pass_marker(self) -> None:
        await self.source.put_marker()
        for _ in range(self.rng.randint(0, 2)):
            self.office()
            self.checkpoint() if self.rng.random() < 0.5 else None
        self.checkpoint()

    def identity(self, device: SimulatedDevice) -> Identity:
        return Identity(device.user, {"sub": device.user})

    # ------------------------------------------------------------ devices
    def _device(self, name: str, user: str, folder: Path) -> SimulatedDevice:
        skew = self.rng.choice((0, 0, 1, -1)) * self.rng.randint(0, 4_000_000_000)
        clock = self.clock.skewed(skew)
        path = folder / f"{name}.db"
        device = SimulatedDevice(name, user, path, clock, self._open(path, clock))
        self.hello(device, lossy=False)
        return device

    def _open(self, path: Path, clock: VirtualClock) -> ReplicaFile:
        return ReplicaFile(path, clock=clock, prepare=Determinism(clock, random.Random(self.rng.random())))

    def hello(self, device: SimulatedDevice, *, lossy: bool) -> None:
        sent = device.clock.now_us()
        request = _over_the_wire(device.file.hello_request())
        self.clock.advance(self.rng.randint(0, 3_000))
        answer = drive(self.service.hello(self.identity(device), request, self.clock.now_us()))
        self.clock.advance(self.rng.randint(0, 3_000))
        if lossy and self.rng.random() < self.p_drop:
            self.stats["lost hello"] += 1
            return
        if answer.identity == "new" and device.identity:
            raise BrokenPromiseError("a known device got a new identity", device.name)
        device.file.accept_hello(_over_the_wire(answer.dump()), sent, device.clock.now_us())
        device.identity = answer.device

    def app(self, device: SimulatedDevice) -> None:
        """The nurse's app: plain SQL in one transaction, marked as a group or not, sometimes rolled back."""
        rng = self.rng
        db = sqlite3.connect(device.path, isolation_level=None)
        if device.file.store.prepare:
            device.file.store.prepare(db)
        number = db.execute("SELECT seq FROM syncline_state").fetchone()[0]
        marked = rng.random() < 0.4
        db.execute("BEGIN IMMEDIATE")
        if marked:
            db.execute("UPDATE syncline_state SET grp = seq + 1")
        done: list[Done] = []
        for _ in range(rng.choice((1, 1, 2, 3))):
            done += self._app_write(db, number + len(done) + 1, number + 1 if marked else 0)
        if marked:
            db.execute("UPDATE syncline_state SET grp = 0")
        if rng.random() < 0.05:
            db.execute("ROLLBACK")
        else:
            db.execute("COMMIT")
            device.journal += done
            self.stats["mutations"] += len(done)
        db.close()

    def _app_write(self, db: sqlite3.Connection, number: int, marked: int) -> list[Done]:
        rng = self.rng
        table = rng.choice(("visits", "visits", "lines"))
        key = rng.choice(KEYS[table])
        columns = COLUMNS[table]
        found = db.execute(f"SELECT {', '.join(columns)} FROM {table} WHERE id = ?", (key,)).fetchone()
        row = dict(zip(columns, found, strict=True)) if found else None
        values = self._values(table)
        if row is None:
            db.execute(
                f"INSERT INTO {table}(id, {', '.join(values)}) VALUES({', '.join('?' * (len(values) + 1))})",
                (key, *values.values()),
            )
            return [Done(number, "I", table, key, values, {}, marked)]
        if rng.random() < 0.2:
            db.execute(f"DELETE FROM {table} WHERE id = ?", (key,))
            return [Done(number, "D", table, key, {}, row, marked)]
        picked = rng.sample(list(values), k=rng.choice((1, 1, 2)))
        changes = {column: (row["n"] or 0) + 1 if column == "n" else values[column] for column in picked}
        changes = {column: value for column, value in changes.items() if value != row[column]}
        if not changes:
            return []
        db.execute(
            f"UPDATE {table} SET {', '.join(c + ' = ?' for c in changes)} WHERE id = ?", (*changes.values(), key)
        )
        return [Done(number, "U", table, key, changes, row, marked)]

    def _values(self, table: str) -> dict[str, Any]:
        rng = self.rng

        def text(prefix: str) -> str:
            self.unique += 1
            return rng.choice("AB") if rng.random() < 0.4 else f"{prefix}{self.unique}"

        if table == "lines":
            return {"visit_id": rng.choice(KEYS["visits"]), "label": "bad" if rng.random() < 0.06 else text("l")}
        status = "bad" if rng.random() < 0.06 else "locked" if rng.random() < 0.08 else text("s")
        note = rng.choice((text("t"), rng.random(), rng.randbytes(3), None))
        return {"patient_id": rng.choice("abbc"), "status": status, "note": note, "n": rng.randint(0, 3)}

    # ------------------------------------------------------------ the office
    def office(self) -> None:
        """The company's own application: plain SQL in the same file."""
        rng = self.rng
        self.clock.advance(rng.randint(0, 2_000))
        self.host.execute("BEGIN IMMEDIATE")
        for _ in range(rng.randint(1, 3)):
            table = rng.choice(("visits", "visits", "lines"))
            key = rng.choice(KEYS[table])
            values = self._values(table)
            values = {column: "fine" if value == "bad" else value for column, value in values.items()}
            exists = self.host.execute(f"SELECT 1 FROM {table} WHERE id = ?", (key,)).fetchone()
            if not exists or rng.random() < 0.15:
                verb = "INSERT OR REPLACE" if exists else "INSERT"
                self.host.execute(
                    f"{verb} INTO {table}(id, {', '.join(values)}) VALUES({', '.join('?' * (len(values) + 1))})",
                    (key, *values.values()),
                )
            elif rng.random() < 0.2:
                unlocked = " AND status IS NOT 'locked'" if table == "visits" else ""
                self.host.execute(f"DELETE FROM {table} WHERE id = ?{unlocked}", (key,))
            else:
                column = rng.choice(list(values))
                self.host.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (values[column], key))
        self.host.execute("COMMIT")
        self.stats["office writes"] += 1

    def reassign(self) -> None:
        nurse, patient = self.rng.choice(("u1", "u2")), self.rng.choice("abc")
        where = (nurse, patient)
        if not self.host.execute("DELETE FROM assignments WHERE nurse = ? AND patient_id = ?", where).rowcount:
            self.host.execute("INSERT INTO assignments VALUES(?, ?)", where)
        self.stats["reassignments"] += 1

    # ------------------------------------------------------------ the network
    def send(self, kind: str, device: SimulatedDevice, content: bytes) -> None:
        if self.faulty and self.rng.random() < self.p_drop:
            self.stats["dropped"] += 1
            return
        self.network.append((kind, device.name, content))
        if self.faulty and self.rng.random() < self.p_double:
            self.stats["doubled"] += 1
            self.network.append((kind, device.name, content))

    def deliver(self) -> None:
        if not self.network:
            return
        place = 0 if self.in_order or not self.faulty else self.rng.randrange(len(self.network))
        self.stats["reordered"] += place > 0
        kind, name, content = self.network.pop(place)
        self.trace.update(kind.encode() + name.encode() + content)
        device = next(device for device in self.devices if device.name == name)
        getattr(self, f"_on_{kind}")(device, content)

    def upload(self, device: SimulatedDevice) -> None:
        request = device.file.upload_request()
        if request:
            self.send("upload", device, frames.dump(request))

    def _on_upload(self, device: SimulatedDevice, content: bytes) -> None:
        try:
            answer = drive(self.service.upload(self.identity(device), frames.load(content)))
        except SynclineError as error:
            self.stats[f"error {error.error_code}"] += 1
            return
        self.send("answer", device, frames.dump(answer.dump()))

    def _on_answer(self, device: SimulatedDevice, content: bytes) -> None:
        device.file.accept_upload(frames.load(content))

    def download(self, device: SimulatedDevice, *, with_buckets: bool = False) -> None:
        self.send("download", device, frames.dump(device.file.download_request(with_buckets=with_buckets)))

    def _on_download(self, device: SimulatedDevice, content: bytes) -> None:
        async def collect() -> list[bytes]:
            return [frame async for frame in await self.service.download(self.identity(device), frames.load(content))]

        try:
            answer = drive(collect())
        except BucketsNeededError:
            self.stats["buckets needed"] += 1
            self.download(device, with_buckets=True)
            return
        self.send("cut", device, json.dumps([frame.decode() for frame in answer]).encode())

    def _on_cut(self, device: SimulatedDevice, content: bytes) -> None:
        listed = [frames.load(frame.encode()) for frame in json.loads(content)]
        if self.faulty and self.rng.random() < 0.05:
            listed = listed[: self.rng.randrange(len(listed))]  # the line breaks inside
            self.stats["cut short"] += 1
        for frame in listed:
            applied = device.file.receive(frame)
            self.stats["applied"] += applied is not None
        device.file.abandon()

    # ------------------------------------------------------------ one history
    def step(self) -> None:
        rng = self.rng
        self.clock.advance(rng.randint(500, 4_000))
        device = rng.choice(self.devices)
        acts = (
            "app",
            "upload",
            "download",
            "deliver",
            "checkpoint",
            "office",
            "reassign",
            "hello",
            "crash",
            "restart",
            "skew",
        )
        act = rng.choices(acts, (14, 12, 12, 36, 10, 6, 1, 1, 1, 0.3, 0.3))[0]
        self.stats["events"] += 1
        self.trace.update(act.encode() + device.name.encode())
        if act in ("app", "upload", "download"):
            getattr(self, act)(device)
        elif act == "hello":
            self.hello(device, lossy=True)
        elif act == "crash":
            device.file.close()
            device.file = self._open(device.path, device.clock)
            self.stats["crashes"] += 1
        elif act == "restart":
            self._begin_term()
        elif act == "skew":
            device.clock.skew_us += rng.randint(-(10**9), 10**9)
        else:
            getattr(self, act)()
        for each in self.devices:
            self.check(each)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()
        self.faulty = False
        self._settle()
        for device in self.devices:
            self.check_quiet(device)

    def _settle(self) -> None:
        """Liveness: no faults and no new writes; everything must drain by itself (P2)."""
        while self.network:
            self.deliver()
        for _ in range(40):
            for device in self.devices:
                self.clock.advance(1_000)
                self.hello(device, lossy=False)
                self.upload(device)
                self.download(device)
                while self.network:
                    self.deliver()
                self.check(device)
            self.checkpoint()

    # ------------------------------------------------------------ checkers
    def _holds(self, truth: Truth, held: set[str]) -> Rows:
        """The rows of these patients at a cut, found by hand."""
        found: Rows = {}
        for (table, key), row in truth.rows.items():
            visit = truth.rows.get(("visits", row["visit_id"])) if table == "lines" else row
            patient = key if table == "patients" else visit and visit["patient_id"]
            if patient in held and ("patients", str(patient)) in truth.rows:
                found[table, key] = row
        return found

    def _read_device(self, device: SimulatedDevice) -> tuple[Any, set[str], Rows]:
        db = sqlite3.connect(device.path)
        state = db.execute("SELECT cursor, included, apply_count FROM syncline_state").fetchone()
        held = {str(bucket_key(name)[0]) for (name,) in db.execute("SELECT name FROM syncline_bucket")}
        rows: Rows = {}
        for table, columns in COLUMNS.items():
            for row in db.execute(f"SELECT {', '.join(columns)} FROM {table}"):
                rows[table, row[0]] = dict(zip(columns, row, strict=True))
        db.close()
        return state, held, rows

    def check(self, device: SimulatedDevice) -> None:
        """P4, P6, P8, P10: after every event."""
        (cursor, included, applies), held, have = self._read_device(device)
        if cursor is None:
            return
        number = int(cursor.rpartition(".")[2])
        if (number, applies) < device.last_cursor:
            raise BrokenPromiseError("P6 the cursor went back", device.name, device.last_cursor, cursor)
        device.last_cursor = (number, applies)
        truth = self.truths[number]
        if included != max(truth.included.get(device.identity, 0), 0):
            raise BrokenPromiseError("P6 included is not that of the cut", device.name, included, truth.included)
        want = {at: dict(row) for at, row in self._holds(truth, held).items()}
        loose = self._replay(want, [done for done in device.journal if done.number > included])
        for at in {*have, *want, *loose}:
            if at in loose:
                if at not in have or any(have[at][c] != v for c, v in loose[at].items()):
                    raise BrokenPromiseError("P10 an own write vanished", device.name, at, have.get(at), loose[at])
            elif have.get(at) != want.get(at):
                raise BrokenPromiseError(
                    "P10/P6 rows are not cut + pending", device.name, at, have.get(at), want.get(at), cursor
                )

    @staticmethod
    def _replay(want: Rows, pending: list[Done]) -> Rows:
        """Pending mutations over the cut, in order. Rows that no bucket holds and that were only updated are `loose`:
        they
        stay until the outcome comes, and of them only the own values are known."""
        loose: Rows = {}
        for done in pending:
            at = done.table, done.key
            base = want.get(at)
            if done.operation == "D":
                want.pop(at, None)
                loose.pop(at, None)
            elif done.operation == "I":
                empty = {"n": 0} if done.table == "visits" else {}
                blank = {**dict.fromkeys(COLUMNS[done.table]), **empty, "id": done.key}
                want[at] = {**blank, **(base or {}), **done.new}
                loose.pop(at, None)
            elif base is None or at in loose:
                loose.setdefault(at, {}).update({c: v for c, v in done.new.items() if c != "n"})
            else:
                for column, value in done.new.items():
                    base[column] = base[column] + value - done.old[column] if column == "n" else value
        return loose

    def check_quiet(self, device: SimulatedDevice) -> None:
        """P1, P2, P3, P5, P7, P8: when everything has drained."""
        (cursor, _, _), held, have = self._read_device(device)
        head = self.host.execute("SELECT head FROM syncline_checkpoint").fetchone()[0]
        granted = {
            row[0] for row in self.host.execute("SELECT patient_id FROM assignments WHERE nurse = ?", (device.user,))
        }
        if device.file.pending() or int(cursor.rpartition(".")[2]) != head:
            raise BrokenPromiseError("P2 not drained", device.name, device.file.pending(), cursor, head)
        if held != granted or have != self._holds(self._read_truth(), granted):
            raise BrokenPromiseError("P1 not converged", device.name, held ^ granted)
        outcomes = dict(
            self.host.execute(
                "SELECT number, kind FROM syncline_outcome WHERE device = ?", (device.identity,)
            ).fetchall()
        )
        if set(outcomes) != {done.number for done in device.journal}:
            raise BrokenPromiseError("P3/P5/P22 not every mutation has exactly one outcome", device.name)
        parked = {record["id"] for record in read_rejections(device.file.store.connection)}
        refused = [number for number, kind in outcomes.items() if kind == "rejected"]
        if len(parked) != len(refused):
            raise BrokenPromiseError("P3 a rejection was lost", device.name, len(parked), len(refused))
        groups: dict[int, set[bool]] = {}
        for done in device.journal:
            if done.marked:
                groups.setdefault(done.marked, set()).add(outcomes[done.number] == "rejected")
        if any(len(kinds) > 1 for kinds in groups.values()):
            raise BrokenPromiseError("P7 half a marked group was refused", device.name)
        for name in (device.path, Path(f"{device.path}-wal")):
            if name.exists() and b"SECRET-" in name.read_bytes():
                raise BrokenPromiseError("P8 a hidden column is on the device", device.name, name.name)


def _over_the_wire(message: dict[str, Any]) -> dict[str, Any]:
    return frames.load(frames.dump(message))


def run(seed: int, folder: Path, steps: int = 160) -> Simulation:
    """Play one history to its quiet end; BrokenPromiseError if a checker found something."""
    simulation = Simulation(seed, folder)
    try:
        simulation.run(steps)
    finally:
        simulation.close()
    return simulation
