"""What a nurse may not see is in no byte on her device: not in the file, its log, a free page, or a line that is logged."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.scenarios import wall
from tests.scenarios.test_paged_downloads import catch_up, download
from tests.scenarios.wall import Company, Lines, Walled

from syncline.replica.retry import dismiss
from syncline.testing.bench import Office
from syncline.testing.contract_downloads import TINY
from syncline.testing.dialect import SQLITE, Dialect
from syncline.testing.simulation.disks import Image, put_image, take_image

STEPS = {"sqlite": 100, "postgres": 30}
SEEDS = range(1, 1 + int(os.environ.get("WALL_SEEDS", "1")))
"""More of them by hand: `WALL_SEEDS=50`."""
PAGE_BYTES = 4096


@pytest.fixture
def lines() -> Iterator[Lines]:
    yield from wall.listening()


@pytest.fixture
def make_company(open_office: Callable[..., Office], dialect: Dialect) -> Callable[[int], Company]:
    def make(seed: int) -> Company:
        office = open_office(wall.tables(dialect), wall.CONFIG)
        office.service.downloads.paging = TINY
        return Company(office, seed)

    return make


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    """On SQLite: what is looked at is the device, whatever serves it."""
    office = Office(tmp_path, wall.tables(SQLITE), wall.CONFIG)
    office.service.downloads.paging = TINY
    yield Company(office, 1)
    office.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_no_byte_is_of_somebody_elses_patients(
    make_company: Callable[[int], Company], lines: Lines, dialect: Dialect, seed: int
) -> None:
    """P8, P9: reassignments, dismissals, filters, moved and deleted rows, hidden columns, refused and conflicting edits,
    pages that break off, old readers, crashes. After each step every byte of every device is searched."""
    company = make_company(seed)
    devices = [Walled(company, user, number) for number, user in enumerate(("ann", "ben", "ann"))]
    for _ in range(STEPS[dialect.name]):
        company.step(devices)
    for device in devices:
        device.end_reading()
        company.sync(device)
    assert not wall.canaries_in(lines.text.encode()), "in what was logged"


def test_a_dismissed_nurse_keeps_nothing_of_what_she_had(company: Company) -> None:
    """P9: large rows and BLOBs too, what she had changed, what had been refused, whose value had won, and the names of
    the buckets."""
    ann = Walled(company, "ann", 1)
    company.assign_all("ann")
    company.sync(ann)
    assert ann.look() >= company.allowed("ann")
    for visit in ann.keys("visits"):
        ann.touched.add(visit)
        ann.write("UPDATE visits SET summary = 'own words' WHERE id = ?", visit)
        company._execute("UPDATE visits SET summary = ? WHERE id = ?", f"the office's {company._canary()}", visit)
    ann.write("UPDATE visits SET status = 'no such status'")
    company.sync(ann)
    assert wall.canaries_in(repr(ann.phone.conflicts()).encode()) and ann.phone.rejections()
    ann.write("UPDATE visits SET summary = 'own words again'")
    company.remove(ann)
    company.dismiss("ann")
    company.sync(ann)
    assert not ann.phone.file.pending() and not ann.keys("patients")
    for rejection in ann.phone.rejections():
        assert dismiss(ann.phone.file.store.connection, rejection)
    ann.phone.file.store.truncate_log()
    kept = {each["key"]["id"] for each in ann.phone.conflicts() if each["kind"] == "gone"}
    assert ann.look() <= kept, "but for the keys of which she is told that what she wrote is at the office"


def test_pages_of_a_patient_who_is_taken_away_meanwhile_are_thrown_away(company: Company) -> None:
    """P8: they are staged already, and never become rows; another patient's come on."""
    company.assign_all("ann")
    ann = Walled(company, "ann", 1)
    while len(ann.look()) < 12:
        assert download(ann.phone) == "pause"
    patients = [patient for (patient,) in company.office.execute("SELECT id FROM patients ORDER BY id")]
    company._execute("DELETE FROM assignments WHERE patient_id <> ?", patients[-1])
    company.office.checkpoint()
    download(ann.phone)
    assert ann.look(is_in_step=True) <= company.allowed("ann") | company.nameable("ann")
    catch_up(ann.phone)
    ann.phone.file.purge()
    assert ann.look(is_in_step=True) >= company.allowed("ann") and ann.keys("patients") == patients[-1:]


def test_an_old_reader_of_the_apps_holds_it_up_until_it_ends_and_no_longer(company: Company) -> None:
    """P9: and the status says so until then."""
    ann = Walled(company, "ann", 1)
    company.assign_all("ann")
    ann.sync()
    ann.begin_reading()
    company.dismiss("ann")
    ann.sync()
    assert ann.phone.file.state().purge_pending and ann.look(), "the reader still sees it"
    ann.end_reading()
    assert ann.phone.file.purge() and not ann.phone.file.state().purge_pending
    assert ann.look() == set()


def test_a_crash_in_the_middle_of_the_purge_is_made_up_for(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    """P9: before the log is folded into the file, in the middle of that, after it, and before the log is emptied."""
    ann = Walled(company, "ann", 1)
    company.assign_all("ann")
    ann.sync()
    company.dismiss("ann")
    with monkeypatch.context() as dying:
        dying.setattr(type(ann.phone.file.store), "truncate_log", lambda store: False)
        ann.sync()
    before = take_image(ann.phone.path)
    assert wall.canaries_in(before.database + before.log)
    ann.phone.file.store.connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    after = take_image(ann.phone.path)
    pages = len(after.database) // PAGE_BYTES
    assert before.database != after.database and after.log
    torn = [
        Image(after.database[: at * PAGE_BYTES] + before.database[at * PAGE_BYTES :], before.log)
        for at in (1, pages // 2)
    ]
    for image in (before, *torn, after):
        ann.phone.file.close()
        put_image(ann.phone.path, image)
        ann.phone.file = ann.phone._open()
        assert ann.phone.file.state().purge_pending
        assert ann.phone.file.purge()
        assert ann.look() == set()
        assert not ann.keys("patients")


OPEN_FILES = Path("/proc/self/fd")
SORTED = (
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 5000) "
    "SELECT zeroblob(2000) FROM c ORDER BY random()"
)


def is_sorted_in_a_file(db: sqlite3.Connection) -> bool:
    """SQLite deletes the name of such a file as soon as it has made it; the bytes stay on the disk."""
    db.execute("PRAGMA cache_size = -100")
    cursor = db.execute(SORTED)
    cursor.fetchone()
    found = any("etilqs" in str(each.readlink()) for each in OPEN_FILES.iterdir() if each.is_symlink())
    cursor.close()
    return found


@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="what a process has open is seen on Linux")
def test_what_sqlite_sorts_aside_is_in_no_temporary_file(company: Company) -> None:
    """P8: rows on their way through a large sort stay in memory, on the app's connections and on ours."""
    ann = Walled(company, "ann", 1)
    with closing(sqlite3.connect(ann.phone.path)) as plain:
        plain.execute("PRAGMA temp_store = FILE")
        assert is_sorted_in_a_file(plain), "otherwise this test shows nothing"
    with closing(ann.phone.file.connect()) as of_the_app:
        assert not is_sorted_in_a_file(of_the_app)
    with ann.phone.file.transaction() as in_a_group:
        assert not is_sorted_in_a_file(in_a_group)
    assert not is_sorted_in_a_file(ann.phone.file.store.connection)
