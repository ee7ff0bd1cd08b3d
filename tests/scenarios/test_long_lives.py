"""Away for longer than anybody remembers, restored, edited a thousand times over: what is left, and who is told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from bench.long_lives import ROWS, Sample, live_long
from tests.scenarios.test_backup import OfficeWithBackups, agrees, office, restore_at_rest

from syncline.replica.identity import CopiedFileError
from syncline.replica.receipt import read_receipt
from syncline.testing.bench import Office, Phone
from syncline.testing.contract_clinic import CONFIG, clinic_tables
from syncline.testing.contract_retention import pass_days
from syncline.testing.dialect import Dialect

__all__ = ["office"]
ANEW = "stands in a time that is not known here, and downloads everything anew"
RESTORED = "a file or the source was restored, or the file was copied"
WEEK_SECONDS = 7 * 86_400
EDITS = 20_000
DAYS = 200


@pytest.fixture
def company(open_office: Callable[..., Office], dialect: Dialect) -> Office:
    company = open_office(clinic_tables(dialect), CONFIG)
    company.service.sequencer.term = company.term
    return company


def in_step(company: Office, phone: Phone) -> None:
    agrees(company, phone)
    assert phone.file.pending() == 0


# ---------------------------------------------------------------- away
def test_a_nurse_comes_back_after_a_leave_of_a_hundred_days(company: Office, caplog: pytest.LogCaptureFixture) -> None:
    """P1, P4, P13, P22: of her old edits one arrives, one met a deleted visit, one a patient who is another nurse's. The
    office has what it did not take, and is told that she began anew; she is told of which rows."""
    company.execute("INSERT INTO visits(id, patient_id) VALUES('v-gone', 'ada')")
    ann = company.phone("ann")
    ann.sync()
    for visit in ("v-ada", "v-gone", "v-bo"):
        ann.execute("UPDATE visits SET summary = 'before her leave' WHERE id = ?", (visit,))
    ann.execute("INSERT INTO notes VALUES('n-new', 'v-ada', 'before her leave')")
    company.execute("DELETE FROM visits WHERE id = 'v-gone'")
    company.execute("UPDATE assignments SET nurse = 'cy' WHERE nurse = 'ann' AND patient_id = 'bo'")
    company.checkpoint()
    pass_days(company, 100)
    with caplog.at_level(logging.INFO, "syncline"):
        ann.sync()
    in_step(company, ann)
    assert company.execute("SELECT summary FROM visits WHERE id = 'v-ada'") == [("before her leave",)]
    assert company.execute("SELECT body FROM notes WHERE id = 'n-new'") == [("before her leave",)]
    assert company.execute("SELECT summary FROM visits WHERE id IN ('v-gone', 'v-bo')") == [(None,)]
    assert company.rejections() == ann.rejections() == []
    kept = [(each["kind"], each["key"], each["device_value"], each["user"]) for each in company.conflicts()]
    assert sorted(kept) == [
        ("gone", ["v-bo"], "before her leave", "ann"),
        ("gone", ["v-gone"], "before her leave", "ann"),
    ]
    told = sorted((each["kind"], each["key"]["id"]) for each in ann.conflicts())
    assert told == [("gone", "v-bo"), ("gone", "v-gone")], "she is told which; what she wrote, the office has"
    receipt = read_receipt(ann.file.store.connection)
    assert receipt is not None and (receipt.reached, receipt.refused, receipt.of) == (4, 0, 4)
    assert caplog.text.count(ANEW) == 1


def test_what_she_sent_before_her_leave_without_hearing_so_stays_deleted(company: Office) -> None:
    """P5, P13: the answer was lost, the office deleted the row, and the outcome is forgotten when she offers it again."""
    ann = company.phone("ann")
    ann.sync()
    ann.execute("INSERT INTO notes VALUES('n-new', 'v-ada', 'written once')")
    ann.execute("UPDATE visits SET kilometres = kilometres + 5 WHERE id = 'v-ada'")
    assert ann.upload()
    company.execute("DELETE FROM notes WHERE id = 'n-new'")
    company.checkpoint()
    pass_days(company, 100)
    ann.restart()
    ann.sync()
    in_step(company, ann)
    assert company.execute("SELECT 1 FROM notes WHERE id = 'n-new'") == []
    assert company.execute("SELECT kilometres FROM visits WHERE id = 'v-ada'") == [(5.0,)]


# ---------------------------------------------------------------- restored
def test_a_phone_restored_from_last_weeks_backup_is_named_as_what_it_is(
    company: Office, caplog: pytest.LogCaptureFixture
) -> None:
    """P1, P5, P22: nothing is lost or doubled; the log says what happened, and the office's list of devices whose place
    the new one took."""
    ann = company.phone("ann")
    ann.sync()
    ann.execute("UPDATE visits SET kilometres = kilometres + 1 WHERE id = 'v-ada'")
    backup = ann.copy()
    ann.sync()
    ann.execute("UPDATE visits SET kilometres = kilometres + 10 WHERE id = 'v-ada'")
    ann.sync()
    company.execute("DELETE FROM notes WHERE id = 'n-ada'")
    company.pass_time(WEEK_SECONDS)
    ann.restart(backup)
    ann.execute("INSERT INTO notes VALUES('n-since', 'v-ada', 'after the restore')")
    with caplog.at_level(logging.INFO, "syncline"):
        for _ in range(3):
            try:
                ann.sync()
            except CopiedFileError:  # as the agent does, it says hello again
                continue
    in_step(company, ann)
    assert caplog.text.count(RESTORED) == 1
    assert company.execute("SELECT kilometres FROM visits WHERE id = 'v-ada'") == [(11.0,)]
    assert [row[0] for row in company.execute("SELECT id FROM notes WHERE visit_id = 'v-ada'")] == ["n-since"]
    before, since = company.wait(company.source.devices())
    assert (before["replaces"], since["replaces"]) == (None, before["device"])
    assert before["user"] == since["user"] == "ann"


def test_the_server_is_restored_from_yesterday_and_the_office_hears_who_stood_in_the_lost_time(
    office: OfficeWithBackups, caplog: pytest.LogCaptureFixture
) -> None:
    """P1, P3, P12, P22: what the nurse had sent comes again from her phone; where the office has decided otherwise since,
    her value is in the conflict log; a phone that began in the lost time is a new device that names its old id."""
    ann = office.phone("ann")
    ann.sync()
    backup = office.backup()
    ann.execute("UPDATE visits SET summary = 'slept badly', status = 'done' WHERE id = 'v-ada'")
    office.execute("UPDATE patients SET phone = '999' WHERE id = 'ada'")
    ann.sync()
    late = office.phone("ann")
    late.sync()
    late.execute("INSERT INTO notes VALUES('n-late', 'v-bo', 'from the second phone')")
    late.sync()
    restore_at_rest(office, backup)
    office.pass_time(3600)
    office.execute("UPDATE visits SET summary = 'the office called' WHERE id = 'v-ada'")
    with caplog.at_level(logging.INFO, "syncline"):
        ann.sync()
        late.sync()
        ann.sync()
    agrees(office, ann)
    agrees(office, late)
    assert office.execute("SELECT summary, status FROM visits WHERE id = 'v-ada'") == [("the office called", "done")]
    assert office.execute("SELECT body FROM notes WHERE id = 'n-late'") == [("from the second phone",)]
    assert ann.execute("SELECT phone FROM patients WHERE id = 'ada'") == [("1",)]
    kept = [(each["column"], each["kind"], each["device_value"]) for each in office.conflicts()]
    assert kept == [("summary", "lost", "slept badly")]
    assert [(each["column"], each["kind"]) for each in ann.conflicts()] == [("summary", "lost")], "she is told, too"
    assert caplog.text.count(RESTORED) == 2
    known = office.wait(office.source.devices())
    unknown = {each["replaces"] for each in known if each["replaces"]} - {each["device"] for each in known}
    assert unknown, "the id that the second phone had in the lost time"


# ---------------------------------------------------------------- a thousand times over
def test_edits_without_end_leave_no_more_than_the_rows_and_the_retention(tmp_path: Path) -> None:
    """P14: 20,000 edits of a hundred rows, a colleague who writes every day, and a phone that is away all the time.
    `make bench-long` does it with a million."""
    story = live_long(tmp_path, EDITS, DAYS)
    half, last = next(each for each in story.samples if each.day >= 100), story.samples[-1]
    assert (last.edits, last.day) == (EDITS, DAYS)
    assert last.own_rows["syncline_entry"] == last.own_rows["syncline_row_state"] == ROWS
    assert all(not name.startswith("syncline_changelog") for name in last.own_rows), "the queue is empty"
    assert grown(half, last, lambda each: sum(each.own_rows.values())) <= 1.01
    assert grown(half, last, lambda each: each.source_bytes) <= 1.05
    assert grown(half, last, lambda each: each.present_bytes) <= 1.05
    assert len({each.away_bytes for each in story.samples}) == 1
    assert story.is_reset and story.caught_up_rows == ROWS + 10 and story.is_converged


def grown(before: Sample, after: Sample, size: Callable[[Sample], int]) -> float:
    return size(after) / size(before)
