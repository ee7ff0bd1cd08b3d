"""A company in which every value of every row carries a canary of its own, and devices of which every byte is searched.

`canary-000123` stands in what a row says, `key-000123` in its key. Who may see which is asked of the company's database by
plain SQL, apart from anything that Syncline computes.
"""

from __future__ import annotations

import base64
import logging
import random
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing

from tests.scenarios.test_paged_downloads import catch_up, download

from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig
from syncline.testing.bench import Office, Phone
from syncline.testing.dialect import Dialect
from syncline.testing.simulation.disks import put_image, take_image

NURSES = ("ann", "ben")
LARGE_BYTES = 20_000
"""More than a page: what overflows stands in pages of its own."""

CONFIG = PlanConfig(
    (
        ScopeConfig(
            "caseload",
            {
                "visits": TableConfig((LinkConfig(parent="patients"),), where="status <> 'missed'"),
                "notes": TableConfig((LinkConfig(parent="visits"),)),
                "scans": TableConfig((LinkConfig(parent="visits"),)),
            },
            root="patients",
            grant="SELECT patient_id FROM assignments WHERE nurse = :sub",
        ),
    ),
    hide={"patients": ("ssn",)},
)

_FOUND = re.compile(rb"(?:canary|key)-\d{6}")
_ENCODED = re.compile(rb"Y2FuYXJ5L[A-Za-z0-9+/]{9}")
"""A canary at the beginning of a BLOB, as JSON carries it."""


def tables(dialect: Dialect) -> tuple[str, ...]:
    blob = "BYTEA" if dialect.name == "postgres" else "BLOB"
    return (
        "CREATE TABLE patients(id TEXT PRIMARY KEY, name TEXT, ssn TEXT)",
        "CREATE TABLE visits(id TEXT PRIMARY KEY, patient_id TEXT REFERENCES patients(id), "
        "status TEXT CHECK(status IN ('planned', 'done', 'missed')), summary TEXT)",
        "CREATE TABLE notes(id TEXT PRIMARY KEY, visit_id TEXT REFERENCES visits(id) ON DELETE CASCADE, body TEXT)",
        f"CREATE TABLE scans(id TEXT PRIMARY KEY, visit_id TEXT REFERENCES visits(id) ON DELETE CASCADE, image {blob})",
        "CREATE TABLE assignments(nurse TEXT, patient_id TEXT, PRIMARY KEY(nurse, patient_id))",
        "CREATE INDEX w1 ON visits(patient_id)",
        "CREATE INDEX w2 ON notes(visit_id)",
        "CREATE INDEX w3 ON scans(visit_id)",
        "CREATE INDEX w4 ON visits(summary)",
    )


def canaries_in(content: bytes) -> set[str]:
    decoded = (base64.b64decode(found + b"=" * (-len(found) % 4)) for found in _ENCODED.findall(content))
    return {found.decode() for piece in (content, *decoded) for found in _FOUND.findall(piece)}


class Walled:
    """One nurse's device, in a folder of its own. `app` is the app's connection."""

    def __init__(self, company: Company, user: str, number: int) -> None:
        self.company = company
        self.user = user
        self.folder = company.office.folder / f"{user}-{number}"
        self.folder.mkdir()
        office = company.office
        self.phone = Phone(office, f"{user}-{number}/nurse", user, {"sub": user}, 0)
        office.phones.append(self.phone)
        self.touched: set[str] = set()
        """Keys of rows that the device itself has written to: they stay until the office has judged that, and with the
        records of what it left out."""
        self.reader: sqlite3.Connection | None = None
        self.phone.hello()

    def look(self, *, is_in_step: bool = False) -> set[str]:
        """Searches every byte; answers what was found. `is_in_step`: nothing may be left of what was taken away."""
        found: set[str] = set()
        for path in self.folder.rglob("*"):
            found |= canaries_in(path.read_bytes())
        never = found - self.company.ever[self.user] - self.company.named[self.user]
        assert not never, f"{self.user} was never entitled to {sorted(never)[:5]}"
        if is_in_step and not self.phone.file.state().purge_pending:
            left = found - self.company.allowed(self.user) - self.company.nameable(self.user) - self.touched
            assert not left, f"{self.user} is no longer entitled to {sorted(left)[:5]}"
        return found

    def write(self, sql: str, *parameters: object) -> None:
        """The app's own SQL, on a connection that asks for secure_delete, as docs/orms.md says."""
        with closing(self.phone.file.connect()) as db:
            self.phone._prepare(db)
            db.execute(sql, parameters)
            db.commit()

    def keys(self, table: str) -> list[str]:
        return [key for (key,) in self.phone.execute(f"SELECT id FROM {table} ORDER BY id")]

    def sync(self) -> None:
        self.phone.hello()
        catch_up(self.phone)
        self.phone.sync()
        self.phone.file.purge()
        if not self.phone.rejections() and not self.phone.conflicts():
            self.touched.clear()

    # ------------------------------------------------------------ an old reader of the app's
    def begin_reading(self) -> None:
        if self.reader is None:
            self.reader = sqlite3.connect(self.phone.path, isolation_level=None)
            self.reader.execute("BEGIN")
            self.reader.execute("SELECT count(*) FROM visits").fetchone()

    def end_reading(self) -> None:
        if self.reader is not None:
            self.reader.close()
            self.reader = None

    def crash(self) -> None:
        """Power is kept: what was written to the file is there."""
        self.end_reading()
        image = take_image(self.phone.path)
        self.phone.file.close()
        put_image(self.phone.path, image)
        self.phone.file = self.phone._open()


class Company:
    """What happens in it is drawn from a seed."""

    def __init__(self, office: Office, seed: int) -> None:
        self.office = office
        self.rng = random.Random(seed)
        self.ever: dict[str, set[str]] = {nurse: set() for nurse in NURSES}
        self.named: dict[str, set[str]] = {nurse: set() for nurse in NURSES}
        """Keys alone: a row that leaves a bucket while that is granted to somebody new may be named to him as removed
        (docs/reliability.md, P8)."""
        self._said: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._of_patient: dict[str, set[str]] = defaultdict(set)
        self._number = 0
        for _ in range(4):
            self.admit()

    # ------------------------------------------------------------ canaries
    def _canary(self, kind: str = "canary") -> str:
        self._number += 1
        return f"{kind}-{self._number:06d}"

    def _large(self) -> str:
        """A text with its canary at both ends, now and then of many pages."""
        canary = self._canary()
        return canary + "x" * self.rng.choice((0, 10, LARGE_BYTES)) + canary

    def allowed(self, nurse: str) -> set[str]:
        """What a nurse may see now: what the rows say that she may have, and what these have said before."""
        rows = self._visible(nurse)
        return {canary for row in rows for canary in self._said[row]} | self._granted(nurse)

    def _granted(self, nurse: str) -> set[str]:
        found = self.office.database.execute(f"SELECT patient_id FROM assignments WHERE nurse = '{nurse}'")
        return {patient for (patient,) in found}

    def _visible(self, nurse: str) -> dict[tuple[str, str], set[str]]:
        """The rows that a nurse may have now, by table and key, and what they say."""
        mine = f"(SELECT patient_id FROM assignments WHERE nurse = '{nurse}')"
        visits = f"(SELECT id FROM visits WHERE patient_id IN {mine} AND status <> 'missed')"
        queries = {
            "patients": f"SELECT id, name FROM patients WHERE id IN {mine}",
            "visits": f"SELECT id, patient_id, summary FROM visits WHERE id IN {visits}",
            "notes": f"SELECT id, visit_id, body FROM notes WHERE visit_id IN {visits}",
            "scans": f"SELECT id, visit_id, image FROM scans WHERE visit_id IN {visits}",
        }
        return {
            (table, row[0]): {canary for cell in row for canary in canaries_in(_bytes_of(cell))}
            for table, query in queries.items()
            for row in self.office.database.execute(query)
        }

    def _execute(self, sql: str, *parameters: object) -> None:
        self.office.execute(sql, parameters)
        for nurse in NURSES:
            for row, said in self._visible(nurse).items():
                self._said[row] |= said
                self.ever[nurse] |= said
            self.ever[nurse] |= self._granted(nurse)
        self._note_keys()

    def nameable(self, nurse: str) -> set[str]:
        """The keys of all that is or was of the patients whom the nurse has now."""
        return {key for patient in self._granted(nurse) for key in self._of_patient[patient]}

    def _note_keys(self) -> None:
        for patient, *keys in self.office.database.execute(
            "SELECT v.patient_id, v.id, n.id, s.id FROM visits v "
            "LEFT JOIN notes n ON n.visit_id = v.id LEFT JOIN scans s ON s.visit_id = v.id"
        ):
            self._of_patient[patient] |= {key for key in keys if key}
        for nurse in NURSES:
            self.named[nurse] |= self.nameable(nurse)

    def _any(self, table: str) -> str:
        keys = [key for (key,) in self.office.database.execute(f"SELECT id FROM {table} ORDER BY id")]
        return str(self.rng.choice(keys)) if keys else ""

    # ------------------------------------------------------------ what happens in the office
    def admit(self) -> None:
        """A patient with everything, whom nobody has yet, or one nurse."""
        patient = self._canary("key")
        self._execute("INSERT INTO patients VALUES(?, ?, ?)", patient, self._large(), self._canary())
        for _ in range(self.rng.randint(1, 3)):
            self.plan(patient)
        if self.rng.random() < 0.7:
            self._execute("INSERT INTO assignments VALUES(?, ?)", self.rng.choice(NURSES), patient)

    def plan(self, patient: str = "") -> None:
        visit = self._canary("key")
        patient = patient or self._any("patients")
        status = self.rng.choice(("planned", "planned", "missed"))
        self._execute("INSERT INTO visits VALUES(?, ?, ?, ?)", visit, patient, status, self._large())
        self._execute("INSERT INTO notes VALUES(?, ?, ?)", self._canary("key"), visit, self._large())
        image = self._canary().encode() + bytes(self.rng.choice((10, LARGE_BYTES)))
        self._execute("INSERT INTO scans VALUES(?, ?, ?)", self._canary("key"), visit, image)

    def hand_over(self) -> None:
        patient = self._any("patients")
        self._execute("DELETE FROM assignments WHERE patient_id = ?", patient)
        self._execute("INSERT INTO assignments VALUES(?, ?)", self.rng.choice(NURSES), patient)

    def assign_all(self, nurse: str) -> None:
        others = "SELECT id FROM patients WHERE id NOT IN (SELECT patient_id FROM assignments WHERE nurse = ?)"
        self._execute(f"INSERT INTO assignments SELECT ?, id FROM ({others}) AS others", nurse, nurse)

    def dismiss(self, nurse: str = "") -> None:
        self._execute("DELETE FROM assignments WHERE nurse = ?", nurse or self.rng.choice(NURSES))

    def rewrite(self) -> None:
        self._execute(
            "UPDATE patients SET name = ?, ssn = ? WHERE id = ?", self._large(), self._canary(), self._any("patients")
        )
        self._execute("UPDATE visits SET summary = ? WHERE id = ?", self._large(), self._any("visits"))

    def miss(self) -> None:
        """The filter of the configuration takes it from everybody."""
        self._execute("UPDATE visits SET status = 'missed' WHERE id = ?", self._any("visits"))

    def find_again(self) -> None:
        self._execute("UPDATE visits SET status = 'planned' WHERE id = ?", self._any("visits"))

    def move(self) -> None:
        self._execute("UPDATE visits SET patient_id = ? WHERE id = ?", self._any("patients"), self._any("visits"))

    def delete(self) -> None:
        visit = self._any("visits")
        for table, column in (("notes", "visit_id"), ("scans", "visit_id"), ("visits", "id")):
            self._execute(f"DELETE FROM {table} WHERE {column} = ?", visit)

    # ------------------------------------------------------------ what happens on a device
    def edit(self, device: Walled) -> None:
        visits = device.keys("visits")
        if visits:
            visit, status = self.rng.choice(visits), self.rng.choice(("planned", "done", "no such status"))
            device.touched.add(visit)
            device.write("UPDATE visits SET status = ?, summary = 'own words' WHERE id = ?", status, visit)
            device.write("INSERT INTO notes VALUES(?, ?, 'own words')", f"own-{self._canary('n')}", visit)

    def remove(self, device: Walled) -> None:
        for note in device.keys("notes")[:1]:
            device.touched.add(note)
            device.write("DELETE FROM notes WHERE id = ?", note)

    def page(self, device: Walled) -> None:
        """One answer of a download, which may break off."""
        device.phone.hello()
        download(device.phone, self.rng.choice((1, 3, None)))

    def upload(self, device: Walled) -> None:
        device.phone.hello()
        device.phone.upload()

    def sync(self, device: Walled) -> None:
        device.sync()
        device.look(is_in_step=True)

    def step(self, devices: list[Walled]) -> None:
        office = (self.admit, self.plan, self.hand_over, self.hand_over, self.dismiss, self.rewrite, self.miss)
        office += (self.find_again, self.move, self.delete, self.office.checkpoint)
        theirs = (self.edit, self.edit, self.remove, self.page, self.page, self.upload, self.sync, self.sync)
        theirs += (Walled.begin_reading, Walled.end_reading, Walled.crash)
        if self.rng.random() < 0.4:
            self.rng.choice(office)()
        else:
            self.rng.choice(theirs)(self.rng.choice(devices))
        for device in devices:
            device.look()


def _bytes_of(cell: object) -> bytes:
    return cell if isinstance(cell, bytes) else str(cell).encode()


class Lines(logging.Handler):
    """All that is logged, as it would be written to a file."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += logging.Formatter("%(message)s").format(record) + "\n"


def listening() -> Iterator[Lines]:
    log, lines = logging.getLogger("syncline"), Lines()
    before = log.level
    log.setLevel(logging.DEBUG)
    log.addHandler(lines)
    yield lines
    log.removeHandler(lines)
    log.setLevel(before)
