"""Storage in the long run: `python -m bench.long_lives [--edits N] [--days D] [--json]`.

A hundred visits are edited again and again, nine edits of ten in the office and one on a colleague's device, day by day
on a virtual clock, with the real server code, the real device file, and the retention of 90 days. One device is away
all the time. What is measured is what all of that leaves behind, in the company's file and on the devices.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from syncline.limits import RETENTION_DAYS_DEFAULT
from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig
from syncline.testing.bench import Office, Phone
from syncline.testing.world import SECOND_US

ROWS = 100
DAY_SECONDS = 86_400
DAYS_DEFAULT = 4 * RETENTION_DAYS_DEFAULT
EDITS_DEFAULT = 1_000_000
TRANSACTION_EDITS = 50
SAMPLES = 8

TABLES = f"""
CREATE TABLE patients(id TEXT PRIMARY KEY, name TEXT);
CREATE TABLE visits(id TEXT PRIMARY KEY, patient_id TEXT REFERENCES patients(id), summary TEXT, kilometres INTEGER);
CREATE TABLE assignments(nurse TEXT, patient_id TEXT, PRIMARY KEY(nurse, patient_id));
CREATE INDEX visits_patient ON visits(patient_id);
WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 10) INSERT INTO patients
  SELECT 'p' || n, 'P' FROM c;
INSERT INTO assignments SELECT 'ann', id FROM patients;
INSERT INTO assignments SELECT 'ben', id FROM patients;
WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < {ROWS - 1})
  INSERT INTO visits SELECT 'v' || n, 'p' || (n % 10 + 1), 'planned', 0 FROM c;
"""
CONFIG = PlanConfig(
    (
        ScopeConfig(
            "caseload",
            {"visits": TableConfig((LinkConfig(parent="patients"),))},
            root="patients",
            grant="SELECT patient_id FROM assignments WHERE nurse = :sub",
        ),
    ),
    merge={"visits": {"kilometres": "add"}},
)


@dataclass(frozen=True)
class Sample:
    """At the end of a day. Sizes in bytes, logs included; `own_rows`: what our tables hold in the company's file."""

    day: int
    edits: int
    source_bytes: int
    present_bytes: int
    away_bytes: int
    own_rows: dict[str, int]


@dataclass(frozen=True)
class Story:
    """`caught_up_rows`: what the device that was away had to download; `reset`: it began anew."""

    samples: list[Sample]
    caught_up_rows: int
    is_reset: bool
    is_converged: bool


def live_long(folder: Path, edits: int, days: int = DAYS_DEFAULT) -> Story:
    """The company's life, as a server that runs all the time."""
    office = Office(folder, TABLES, CONFIG)
    try:
        office.service.sequencer.term = office.term
        away, present = office.phone("ann"), office.phone("ben")
        away.sync()
        present.sync()
        away.copy()  # folds its log into its file
        samples, numbers = [], count(1)
        for day in range(1, days + 1):
            a_day = edits * day // days - edits * (day - 1) // days
            _edit(office, present, a_day, numbers)
            office.pass_time(DAY_SECONDS)
            _prune(office)
            if day % max(days // SAMPLES, 1) == 0:
                samples.append(_measure(office, present, away, day, edits * day // days))
        return _come_back(office, away, present, samples)
    finally:
        office.close()


def _edit(office: Office, present: Phone, edits: int, numbers: Iterator[int]) -> None:
    on_device = edits // 10
    for begun in range(0, edits - on_device, TRANSACTION_EDITS):
        office.database.execute("BEGIN IMMEDIATE")
        for _ in range(min(TRANSACTION_EDITS, edits - on_device - begun)):
            number = next(numbers)
            office.execute("UPDATE visits SET summary = ? WHERE id = ?", (f"edit {number}", f"v{number % ROWS}"))
        office.database.execute("COMMIT")
    office.checkpoint()
    with closing(present.file.connect()) as db, db:
        drive = "UPDATE visits SET kilometres = kilometres + 1 WHERE id = ?"
        db.executemany(drive, [(f"v{next(numbers) % ROWS}",) for _ in range(on_device)])
    present.sync()


def _prune(office: Office) -> None:
    before_us = office.clock.now_us() - RETENTION_DAYS_DEFAULT * DAY_SECONDS * SECOND_US
    while office.wait(office.source.prune(office.term, before_us)):
        pass


def _measure(office: Office, present: Phone, away: Phone, day: int, edits: int) -> Sample:
    names = office.database.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'syncline_%' ORDER BY name"
    )
    held = {name: int(office.database.execute(f'SELECT count(*) FROM "{name}"')[0][0]) for (name,) in names}
    own = {name: rows for name, rows in held.items() if rows}
    return Sample(day, edits, _size(office.folder / "clinic.db"), _size(present.path), _size(away.path), own)


def _size(path: Path) -> int:
    return sum(each.stat().st_size for each in (path, Path(f"{path}-wal")) if each.exists())


def _come_back(office: Office, away: Phone, present: Phone, samples: list[Sample]) -> Story:
    away.hello()
    frames = away.download()
    rows = sum(len(frame.get("rows", ())) for frame in frames if frame["t"] == "rows")
    away.sync()
    present.sync()
    query = "SELECT * FROM visits ORDER BY id"
    is_converged = away.execute(query) == present.execute(query) == office.execute(query)
    return Story(samples, rows, bool(frames[0].get("reset")), is_converged)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.long_lives", description=__doc__)
    parser.add_argument("--edits", type=int, default=EDITS_DEFAULT)
    parser.add_argument("--days", type=int, default=DAYS_DEFAULT)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="syncline-long-") as folder:
        story = live_long(Path(folder), options.edits, options.days)
    if options.json:
        print(json.dumps(asdict(story), indent=1))
        return 0 if story.is_converged else 1
    print(f"{'day':>5}{'edits':>11}{'source':>12}{'present':>12}{'away':>12}   rows of ours")
    for each in story.samples:
        own = ", ".join(f"{name.removeprefix('syncline_')} {rows:,}" for name, rows in each.own_rows.items())
        sizes = "".join(f"{size:>12,}" for size in (each.source_bytes, each.present_bytes, each.away_bytes))
        print(f"{each.day:>5}{each.edits:>11,}{sizes}   {own}")
    how = "began anew" if story.is_reset else "went on"
    print(
        f"the device that was away {how}: {story.caught_up_rows} rows; "
        f"all are {'' if story.is_converged else 'NOT '}the same"
    )
    return 0 if story.is_converged else 1


if __name__ == "__main__":
    sys.exit(main())
