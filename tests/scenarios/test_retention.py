"""A nurse who was away for longer than the retention: P11."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncline.testing.bench import Office
from syncline.testing.contract_downloads import CONFIG, TABLES
from syncline.testing.world import SECOND_US

DAY = 86_400


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path, ";".join(TABLES), CONFIG)
    office.service.sequencer.term = office.term
    yield office
    office.close()


def pass_days(office: Office, days: int) -> None:
    """Day by day, as a server that runs all the time."""
    for _ in range(days):
        office.pass_time(DAY)
        before_us = office.clock.now_us() - 90 * DAY * SECOND_US
        while office.wait(office.source.prune(office.term, before_us)):
            pass


def count(office: Office, table: str) -> int:
    return int(office.execute(f"SELECT count(*) FROM {table}")[0][0])


def test_she_begins_anew_and_keeps_what_she_wrote(office: Office) -> None:
    ann, ben = office.phone("ann"), office.phone("ben")
    ann.sync()
    ben.sync()
    ann.execute("INSERT INTO notes VALUES('v12', 70, 'written offline')")
    office.execute("DELETE FROM visits WHERE id = 'v14'")
    office.execute("UPDATE visits SET n = n + 1")
    office.checkpoint()
    pass_days(office, 60)
    office.execute("UPDATE visits SET n = n + 1 WHERE id = 'v12'")
    ben.sync()
    pass_days(office, 35)
    ben.sync()
    assert count(office, "syncline_entry") == 1, "the tombstone and the old entries are gone, the newer one is not"
    assert count(office, "syncline_row_state") == 1
    frames = ann.download()
    assert frames[0]["reset"]
    assert ann.execute("SELECT body FROM notes WHERE no = 70") == [("written offline",)]
    ann.sync()
    assert not ann.execute("SELECT 1 FROM visits WHERE id = 'v14'")
    assert office.execute("SELECT body FROM notes WHERE no = 70") == [("written offline",)]
    assert not ben.download()[0].get("reset"), "he was never that far behind"


def test_a_visit_that_the_office_deleted_stays_deleted_whatever_she_wrote_on_it(office: Office) -> None:
    """P13: nobody knows any more when it was deleted; but that it is gone, the source knows. Only a key that she
    inserts anew is a new row."""
    ann = office.phone("ann")
    ann.sync()
    ann.execute("UPDATE visits SET n = 99 WHERE id = 'v14'")
    office.execute("DELETE FROM visits WHERE id = 'v14'")
    office.execute("DELETE FROM visits WHERE id = 'v12'")
    office.checkpoint()
    pass_days(office, 100)
    assert count(office, "syncline_row_state") == 0
    ann.execute("DELETE FROM visits WHERE id = 'v12'")
    ann.execute("INSERT INTO visits SELECT 'v12', patient_id, n FROM visits WHERE id = 'v14'")
    ann.sync()
    assert not office.execute("SELECT 1 FROM visits WHERE id = 'v14'")
    assert [(row["kind"], row["key"]) for row in office.conflicts()] == [("gone", ["v14"])]
    assert office.execute("SELECT 1 FROM visits WHERE id = 'v12'")
    assert ann.execute("SELECT id FROM visits WHERE id IN ('v12', 'v14')") == [("v12",)]


def test_records_of_the_office_stay_when_outcomes_go(office: Office) -> None:
    ann = office.phone("ann")
    ann.sync()
    office.execute("INSERT INTO notes VALUES('v12', 60, 'of the office')")
    ann.execute("INSERT INTO notes VALUES('v12', 60, 'of ann')")
    ann.sync()
    assert count(office, "syncline_outcome") == 1
    pass_days(office, 100)
    assert count(office, "syncline_outcome") == 0
    assert len(office.rejections()) == 1


def test_outcomes_that_waiting_work_may_stand_on_stay_while_the_device_is_about(office: Office) -> None:
    """A change that stands on a refused insert must still be refused with it."""
    ann = office.phone("ann")
    ann.sync()
    ann.execute("INSERT INTO notes VALUES('v12', 71, 'first')")
    ann.sync()
    for _ in range(10):
        pass_days(office, 10)
        ann.hello()
    assert count(office, "syncline_outcome") == 1
    pass_days(office, 91)
    assert count(office, "syncline_outcome") == 0


def test_the_service_prunes_by_its_own_clock(office: Office) -> None:
    office.execute("UPDATE visits SET n = n + 1")
    office.checkpoint()

    async def prune() -> None:
        steps = []

        async def step(term: str, before_us: int) -> bool:
            steps.append((term, before_us))
            return False

        office.service.source.prune = step  # type: ignore[method-assign]
        await office.service.prune()
        assert steps == [(office.term, office.clock.now_us() - 90 * DAY * SECOND_US)]
        office.service.sequencer.term = ""
        await office.service.prune()
        assert len(steps) == 1, "another process holds the sequencer"

    office.wait(prune())
