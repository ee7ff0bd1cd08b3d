"""Membership deltas against brute force: the real capture and the real SQL, on random histories.

A model device holds only what cuts told it; after each download it must equal the granted buckets read anew.
"""

from __future__ import annotations

import json
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig, bucket_scope
from syncline.source.port import Cut, Page, PageSize, Since, Walk
from syncline.source.sqlite.source import SqliteSource
from syncline.source.sqlite.threads import drive
from syncline.testing.plans import plan_for

TABLES = """
CREATE TABLE "the facilities"(id PRIMARY KEY, name);
CREATE TABLE patients(id PRIMARY KEY, facility_id, backup_facility_id, region, name, secret);
CREATE TABLE visits(id PRIMARY KEY, patient_id, status, body);
CREATE TABLE notes(site, no, visit_id, patient_id, body, PRIMARY KEY(site, no));
CREATE TABLE assignments(caregiver, patient_id);
CREATE INDEX i1 ON patients(facility_id); CREATE INDEX i2 ON patients(backup_facility_id);
CREATE INDEX i3 ON visits(patient_id); CREATE INDEX i4 ON notes(visit_id); CREATE INDEX i5 ON notes(patient_id);
"""
HOST_TRIGGER = """CREATE TRIGGER host AFTER UPDATE ON visits WHEN new.patient_id = 1
BEGIN UPDATE visits SET patient_id = 2 WHERE id = new.id; END"""

CONFIG = PlanConfig(
    scopes=(
        ScopeConfig(
            "caseload",
            {
                "visits": TableConfig(
                    (LinkConfig(parent="patients", on={"patient_id": "id"}),), where="status <> 'hidden'"
                ),
                "notes": TableConfig(
                    (
                        LinkConfig(parent="visits", on={"visit_id": "id"}),
                        LinkConfig(parent="patients", on={"patient_id": "id"}),
                    )
                ),
                "the facilities": TableConfig(
                    (
                        LinkConfig(referenced_by="patients", on={"id": "facility_id"}),
                        LinkConfig(referenced_by="patients", on={"id": "backup_facility_id"}),
                    )
                ),
            },
            root="patients",
            grant="SELECT patient_id FROM assignments WHERE caregiver = :sub",
        ),
        ScopeConfig(
            "regions",
            {"visits": TableConfig((LinkConfig(parent="patients", on={"patient_id": "id"}),))},
            root="patients",
            key=("region",),
            grant="SELECT :region",
        ),
        ScopeConfig("everybody", {"the facilities": TableConfig(where="name < 0.5")}),
    ),
    hide={"patients": ("secret",)},
)
SIZE = {"the facilities": 3, "patients": 6, "visits": 10, "notes": 12}


class ModelDevice:
    """What cuts say, and nothing else."""

    def __init__(self, name: str, claims: dict[str, object]) -> None:
        self.name, self.claims = name, claims
        self.cursor: tuple[str, int] | None = None
        self.held: frozenset[str] = frozenset()
        self.rows: dict[tuple[str, str], list[object]] = {}
        self.members: dict[tuple[str, str], set[str]] = {}

    def leave(self, bucket: str, at: tuple[str, str]) -> None:
        self.members.get(at, set()).discard(bucket)
        if not self.members.get(at):
            self.rows.pop(at, None)

    def apply(self, cut: Cut, pages: list[Page], new: frozenset[str]) -> None:
        """The later frame counts: rows of the pages first, then what the feed says since."""
        added = new & cut.granted
        for rows in [rows for page in pages for rows in page.rows]:
            for index, row in enumerate(json.loads(rows.images)):
                of = rows.of[index] if rows.of else 0
                for place in (of,) if isinstance(of, int) else of:
                    if rows.buckets[place] in added:
                        self.hold(rows.buckets[place], (rows.table, key_in(rows.table, row)), row)
        for entries in cut.entries:
            for key in entries.removed:
                self.leave(entries.bucket, (entries.table, key))
            for key, image in zip(entries.keys, entries.rows, strict=True):
                self.hold(entries.bucket, (entries.table, key), json.loads(image))
        for bucket in self.held - cut.granted:
            for at in [at for at, buckets in self.members.items() if bucket in buckets]:
                self.leave(bucket, at)
        self.held = (self.held & cut.granted) | added
        self.cursor = (cut.head.term, cut.head.checkpoint)

    def hold(self, bucket: str, at: tuple[str, str], row: list[object]) -> None:
        self.rows[at] = row
        self.members.setdefault(at, set()).add(bucket)


def key_in(table: str, row: list[object]) -> str:
    return json.dumps(row[: 2 if table == "notes" else 1], separators=(",", ":"))


def rewrite_somewhere(rng: random.Random, db: sqlite3.Connection) -> None:
    """One random write of the company's: insert, update, delete, change of key, replace, reassignment."""
    if rng.random() < 0.2:
        where = (rng.choice("ab"), rng.randint(1, 6))
        deleted = db.execute("DELETE FROM assignments WHERE caregiver = ? AND patient_id = ?", where).rowcount
        if not deleted:
            db.execute("INSERT INTO assignments VALUES(?, ?)", where)
        return
    table = rng.choice(list(SIZE))
    columns = [row[1] for row in db.execute(f'PRAGMA table_info("{table}")')]
    key_columns = 2 if table == "notes" else 1
    make = {
        "facility_id": lambda: rng.randint(1, 3),
        "backup_facility_id": lambda: rng.randint(1, 3),
        "patient_id": lambda: rng.randint(1, 6) if rng.random() < 0.8 else None,
        "visit_id": lambda: rng.randint(1, 10) if rng.random() < 0.7 else None,
        "status": lambda: rng.choice(["open", "done", "hidden", None]),
        "region": lambda: rng.choice(["north", "south", None]),
        "site": lambda: rng.choice(["x", "y"]),
        "no": lambda: rng.randint(1, 6),
    }
    row = [make.get(column, rng.random)() for column in columns]
    if table != "notes":
        row[0] = rng.randint(1, SIZE[table])
    where = " AND ".join(f'"{column}" = ?' for column in columns[:key_columns])
    key = row[:key_columns]
    places = ", ".join("?" * len(columns))
    act = rng.random()
    if not db.execute(f'SELECT 1 FROM "{table}" WHERE {where}', key).fetchone():
        db.execute(f'INSERT INTO "{table}" VALUES({places})', row)
    elif act < 0.2:
        db.execute(f'DELETE FROM "{table}" WHERE {where}', key)
    elif act < 0.35:
        db.execute(f'INSERT OR REPLACE INTO "{table}" VALUES({places})', row)
    elif act < 0.5:
        other = rng.choice(["OR IGNORE", "OR REPLACE"])
        column, value = columns[0], rng.choice(["x", "y"]) if table == "notes" else rng.randint(1, SIZE[table])
        db.execute(f'UPDATE {other} "{table}" SET "{column}" = ? WHERE {where}', (value, *key))
    else:
        column = rng.choice(columns[key_columns:])
        db.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE {where}', (row[columns.index(column)], *key))


def read_pages(
    source: SqliteSource, device: ModelDevice, new: frozenset[str], rng: random.Random, db: Any
) -> list[Page]:
    """A whole walk in small pages; with `db`, the world goes on between two of them."""
    pages: list[Page] = []
    walk, place = Walk(new), None
    while not pages or place is not None:
        size = PageSize(rng.randint(1, 8), 10_000)
        pages.append(drive(source.read_page(device.claims, walk, place, (), size)))
        head = pages[0].survey.head
        walk, place = Walk(new, start=(head.term, head.checkpoint)), pages[-1].next
        if db is not None and rng.random() < 0.3:
            rewrite_somewhere(rng, db)
            if rng.random() < 0.5:
                drive(source.take_checkpoint("term"))
    return pages


def truth(source: SqliteSource, device: ModelDevice) -> dict[tuple[str, str], list[object]]:
    pages = read_pages(source, device, drive(source.granted(device.claims)), random.Random(1), None)
    return {
        (rows.table, key_in(rows.table, row)): row
        for page in pages
        for rows in page.rows
        for row in json.loads(rows.images)
    }


def brute_force(db: sqlite3.Connection, device: ModelDevice) -> dict[tuple[str, str], list[object]]:
    """The same by SQL written by hand from the configuration, as a reader of it would."""
    mine = "(SELECT patient_id FROM assignments WHERE caregiver = :sub)"
    queries = {
        "patients": f"SELECT * FROM patients WHERE id IN {mine} OR region = :region",
        "visits": f"""SELECT v.* FROM visits v WHERE (v.status <> 'hidden' AND v.patient_id IN (SELECT id FROM patients WHERE id IN {mine}))
                      OR v.patient_id IN (SELECT id FROM patients WHERE region = :region)""",
        "notes": f"""SELECT n.* FROM notes n WHERE n.patient_id IN (SELECT id FROM patients WHERE id IN {mine}) OR n.visit_id IN
                     (SELECT v.id FROM visits v WHERE v.status <> 'hidden' AND v.patient_id IN (SELECT id FROM patients WHERE id IN {mine}))""",
        "the facilities": f"""SELECT f.* FROM "the facilities" f WHERE f.name < 0.5 OR EXISTS (SELECT 1 FROM patients p
                              WHERE p.id IN {mine} AND f.id IN (p.facility_id, p.backup_facility_id))""",
    }
    found = {}
    for table, query in queries.items():
        for row in db.execute(query, device.claims):
            visible = row[:-1] if table == "patients" else row
            key = row[:2] if table == "notes" else row[:1]
            found[table, json.dumps(key, separators=(",", ":"))] = [*visible]
    return found


@pytest.mark.parametrize("seed", range(12))
def test_a_device_that_only_hears_of_changes_holds_exactly_its_scope(tmp_path: Path, seed: int) -> None:
    """P1, P8: moves, deletes, re-inserts, key changes, two paths, filters, shared parents, a host trigger that rewrites
    rows, several scopes over one table, INSERT OR REPLACE."""
    rng = random.Random(seed)
    path = tmp_path / "clinic.db"
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript(TABLES)
    if seed % 2:
        db.execute(HOST_TRIGGER)
    source = SqliteSource(path, inline=True)
    plan = drive(plan_for(source, CONFIG))
    drive(source.provision(plan))
    if not seed % 2:
        db.execute(HOST_TRIGGER)
    drive(source.attach(plan))
    assert drive(source.begin_term("term"))
    devices = [ModelDevice("1", {"sub": "a", "region": "north"}), ModelDevice("2", {"sub": "b", "region": "none"})]
    for _ in range(60):
        db.execute("BEGIN")
        for _ in range(rng.randint(0, 6)):
            rewrite_somewhere(rng, db)
        db.execute("COMMIT")
        drive(source.take_checkpoint("term"))
        for device in devices:
            if rng.random() < 0.5:
                new = drive(source.granted(device.claims)) - device.held
                pages = read_pages(source, device, new, rng, db) if new else []
                drive(source.take_checkpoint("term"))
                added = Since(new, pages[0].survey.head.checkpoint) if pages else None
                cut = drive(source.read_cut(device.name, device.claims, device.held, device.cursor, 0, added))
                device.apply(cut, pages, new)
                if drive(source.take_checkpoint("term")) is None and device.held == drive(
                    source.granted(device.claims)
                ):
                    assert device.rows == brute_force(db, device)
                    assert device.rows == truth(source, device)
                    assert {bucket_scope(b) for b in device.held} >= {"everybody", "regions"}
    assert drive(source.deprovision())
    drive(source.close())
    db.close()
