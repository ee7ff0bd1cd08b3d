"""What is looked at after every event, and when everything has drained."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from syncline.model.scopes import bucket_key
from syncline.protocol.messages import HelloAnswer
from syncline.replica.records import read_rejections
from syncline.testing.simulation.company import CANARY, PATIENTS, SECRET, TABLES
from syncline.testing.simulation.devices import SimulatedDevice
from syncline.testing.simulation.oracle import BrokenPromiseError, Rows, replay
from syncline.testing.simulation.report import Report
from syncline.testing.simulation.server import SimulatedServer

PARENTS = {"visits": ("patients", "patient_id"), "lines": ("visits", "visit_id")}
"""Table -> the table of its parents, and the column that names them."""

OWN_REASON = "The rest of the change is sent."
"""Ends a record that the device makes by itself: what a change wrote into a column that is gone."""


def patients_of(buckets: Iterable[str]) -> set[str]:
    return {str(bucket_key(name)[0]) for name in buckets}


class Checkers:
    """BrokenPromiseError with the promise, the device, and what differed."""

    def __init__(self, server: SimulatedServer, report: Report) -> None:
        self._server = server
        self._cuts = server.cuts
        self._report = report

    # ------------------------------------------------------------ what is sent
    def check_frame(self, user: str, frame: Mapping[str, Any]) -> None:
        """P8: no row leaves the server for one to whom it is not granted at that moment."""
        if frame["t"] == "rows" and not patients_of(frame["buckets"]) <= self._server.company.granted(user):
            raise BrokenPromiseError("P8 a row was sent to one who may not have it", user, frame)
        self._report.look("P8")

    def check_identity(self, device: SimulatedDevice, answer: HelloAnswer) -> None:
        """P3: a device that nobody has copied or restored keeps its identity, and with it the numbers of what waits."""
        if answer.identity == "new" and device.identity and not device.is_copied:
            raise BrokenPromiseError("P3 a known device got a new identity", device.name)

    # ------------------------------------------------------------ after every event
    def check(self, device: SimulatedDevice) -> bool:
        """P4, P6, P7, P8, P10, P11, P16. False where nothing has changed: it was looked at before."""
        (version,) = device.look.execute("PRAGMA data_version").fetchone()
        if version == device.seen_version:
            return False
        device.seen_version = version
        self._check_file(device)
        return True

    def _check_file(self, device: SimulatedDevice) -> None:
        cursor, included, applies, is_purging = device.look.execute(
            "SELECT cursor, included, apply_count, purge_pending FROM syncline_state"
        ).fetchone()
        held = self._buckets(device, "SELECT name FROM syncline_bucket")
        if not is_purging:
            self._check_traces(device, held)
        if cursor is None:
            return
        term, _, number = cursor.rpartition(".")
        cut = (term, int(number))
        is_back = (cut[1], applies) < device.last_cursor
        if is_back and not (device.has_outlived_server and term != device.last_term):
            raise BrokenPromiseError("P6 the cursor went back", device.name, device.last_cursor, cursor)
        device.last_cursor, device.last_term = (cut[1], applies), term
        if not held <= self._cuts.granted[cut][device.user]:
            raise BrokenPromiseError("P8 a bucket is held that is not granted", device.name, held, cursor)
        told = self._cuts.truths[cut].included.get(device.identity, 0)
        if included != told and not (device.is_of_lost_time and included > told):
            raise BrokenPromiseError("P6 included is not that of the cut", device.name, included, cursor)
        self._report.look("P6", "P8")
        self._check_rows(device, cut, included, held)
        self._report.look("P4", "P7", "P10")

    def _buckets(self, device: SimulatedDevice, query: str) -> set[str]:
        return patients_of(name for (name,) in device.look.execute(query))

    def _check_rows(self, device: SimulatedDevice, cut: tuple[str, int], included: int, held: set[str]) -> None:
        """A column that the cut does not know, or the device's program does not yet, is not compared."""
        have = read_rows(device)
        want = {at: dict(row) for at, row in self._cuts.truths[cut].held_by(held).items()}
        loose = replay(want, [done for done in device.journal if done.number > included])
        retired = self._retired(device)
        own = {(done.table, done.key) for done in device.journal if done.number > included}
        for at in sorted({*have, *want, *loose}):
            if at[0] in retired and at in own:
                continue
            if at in loose:
                if at not in have or _differs(loose[at], have[at]):
                    raise BrokenPromiseError("P10 an own write vanished", device.name, at, have.get(at), loose[at])
            elif (at in have) != (at in want) or (at in have and _differs(want[at], have[at])):
                raise BrokenPromiseError(
                    "P10/P6 rows are not cut + pending", device.name, at, have.get(at), want.get(at), cut
                )
        self._check_parents(device, have, own)

    def _check_parents(self, device: SimulatedDevice, have: Rows, own: set[tuple[str, str]]) -> None:
        """P11, of rows and parents that the device's own pending changes have not touched."""
        for at, row in have.items():
            if at[0] in PARENTS and at not in own:
                table, column = PARENTS[at[0]]
                parent = (table, row[column])
                if parent not in have and parent not in own:
                    raise BrokenPromiseError("P11 a row is there without its parent", device.name, at, parent)
        self._report.look("P11", "P16")

    @staticmethod
    def _retired(device: SimulatedDevice) -> set[str]:
        """Tables whose outbox was begun anew because a column is gone that judged changes wrote to: what waits for its
        outcome then is kept, but seen no more (`replica.install`)."""
        kinds = device.look.execute("SELECT kind FROM syncline_program WHERE kind <> 'current'")
        return {kind.split("_", 2)[2] for (kind,) in kinds}

    def _check_traces(self, device: SimulatedDevice, held: set[str]) -> None:
        """P8: once the file has been purged, nothing in it is of a patient who is neither held nor staged."""
        staged = self._buckets(device, "SELECT name FROM syncline_job_bucket")
        content = content_of(device.path)
        for patient in PATIENTS:
            if patient not in held | staged and f"{CANARY}{patient}".encode() in content:
                raise BrokenPromiseError("P8 what was revoked is still in the file", device.name, patient)
        self._report.look("P8", "P9")

    # ------------------------------------------------------------ at the end
    def is_quiet(self, device: SimulatedDevice) -> bool:
        """Nothing waits, nothing is staged, and the device stands at the head with what is granted."""
        return not any(self._unfinished(device).values())

    def _unfinished(self, device: SimulatedDevice) -> dict[str, Any]:
        held = self._buckets(device, "SELECT name FROM syncline_bucket")
        cursor = device.file.state().cursor or ".0"
        return {
            "pending": device.file.pending(),
            "checkpoints behind": self._server.head - int(cursor.rpartition(".")[2]),
            "staged": self._buckets(device, "SELECT name FROM syncline_job_bucket"),
            "not granted or not held": held ^ self._server.company.granted(device.user),
        }

    def check_quiet(self, device: SimulatedDevice) -> None:
        """P1, P2, P3, P5, P7, P8, P22: when everything has drained."""
        self.check_converged(device)
        self._server.note_outcomes()
        outcomes = {number: kind for (name, number), kind in self._server.outcomes.items() if name == device.identity}
        if set(outcomes) != {done.number for done in device.journal}:
            missing = {done.number for done in device.journal} ^ set(outcomes)
            raise BrokenPromiseError("P3/P5/P22 not every mutation has exactly one outcome", device.name, missing)
        self._report.look("P3", "P5", "P22")
        if not device.is_copied:
            self._check_parked(device, [number for number, kind in outcomes.items() if kind == "rejected"])
        self._check_groups(device, outcomes)
        if SECRET.encode() in content_of(device.path):
            raise BrokenPromiseError("P8 a hidden column is on the device", device.name)

    def _check_parked(self, device: SimulatedDevice, refused: list[int]) -> None:
        records = read_rejections(device.file.store.connection)
        parked = {record["id"] for record in records if not record["reason"].endswith(OWN_REASON)}
        told = [number for number in refused if (device.identity, number) not in self._server.forgotten]
        if not len(told) <= len(parked) <= len(refused):
            raise BrokenPromiseError("P3 a rejection was lost", device.name, len(parked), len(refused))

    def _check_groups(self, device: SimulatedDevice, outcomes: Mapping[int, str]) -> None:
        """A duplicate was judged under another number."""
        groups: dict[int, set[bool]] = {}
        for done in device.journal:
            if done.marked and outcomes[done.number] != "duplicate":
                groups.setdefault(done.marked, set()).add(outcomes[done.number] == "rejected")
        if any(len(kinds) > 1 for kinds in groups.values()):
            raise BrokenPromiseError("P7 half a marked group was refused", device.name)
        self._report.look("P7")

    def check_converged(self, device: SimulatedDevice) -> None:
        server = self._server
        if not self.is_quiet(device):
            raise BrokenPromiseError("P2 not drained", device.name, self._unfinished(device))
        granted = server.company.granted(device.user)
        columns = {name: table.columns for name, table in server.service.plan.tables.items()}
        truth = server.cuts.truths[server.at]
        if truth.rows != server.company.rows(columns):
            raise BrokenPromiseError("P1 changes of the company never became a checkpoint", server.head)
        have, want = read_rows(device), truth.held_by(granted)
        if have.keys() != want.keys() or any(_differs(want[at], have[at]) for at in want):
            raise BrokenPromiseError("P1 not converged", device.name, read_rows(device), truth.held_by(granted))
        self._report.look("P1", "P2")


def read_rows(device: SimulatedDevice) -> Rows:
    """All synced tables as any reader finds them."""
    rows: Rows = {}
    for table in TABLES:
        found = device.look.execute(f"SELECT * FROM {table}")
        columns = [column[0] for column in found.description]
        for row in found:
            named = dict(zip(columns, row, strict=True))
            rows[table, named["id"]] = named
    return rows


def _differs(want: Mapping[str, Any], have: Mapping[str, Any]) -> bool:
    """P16: 1 is not 1.0, and a text not the bytes of it."""
    return any(not _is_same(have[column], value) for column, value in want.items() if column in have)


def _is_same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def content_of(path: Path) -> bytes:
    """Every byte of the file and of its log."""
    found = (path, Path(f"{path}-wal"))
    return b"".join(each.read_bytes() for each in found if each.exists())


def over_the_wire(message: dict[str, Any]) -> dict[str, Any]:
    """As it arrives at the other side."""
    found: dict[str, Any] = json.loads(json.dumps(message))
    return found
