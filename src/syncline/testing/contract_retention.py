"""A nurse who was away for longer than the retention: P11."""

from __future__ import annotations

import pytest

from syncline.testing.bench import Office
from syncline.testing.contract_clinic import ClinicFixtures, MakeOffice
from syncline.testing.contract_downloads import CONFIG, TABLES
from syncline.testing.dialect import Dialect
from syncline.testing.world import SECOND_US

DAY = 86_400


def pass_days(office: Office, days: int) -> None:
    """Day by day, as a server that runs all the time."""
    for _ in range(days):
        office.pass_time(DAY)
        before_us = office.clock.now_us() - 90 * DAY * SECOND_US
        while office.wait(office.source.prune(office.term, before_us)):
            pass


class RetentionContract(ClinicFixtures):
    """A part of `SourceContract`."""

    @pytest.fixture
    def practice(self, open_office: MakeOffice) -> Office:
        office = open_office(TABLES, CONFIG)
        office.service.sequencer.term = office.term
        return office

    @staticmethod
    def count(practice: Office, dialect: Dialect, table: str) -> int:
        """Rows of a table of ours."""
        return int(practice.execute(f"SELECT count(*) FROM {dialect.own_table(table)}")[0][0])

    def test_she_begins_anew_and_keeps_what_she_wrote(self, practice: Office, dialect: Dialect) -> None:
        ann, ben = practice.phone("ann"), practice.phone("ben")
        ann.sync()
        ben.sync()
        ann.execute("INSERT INTO notes VALUES('v12', 70, 'written offline')")
        practice.execute("DELETE FROM visits WHERE id = 'v14'")
        practice.execute("UPDATE visits SET n = n + 1")
        practice.checkpoint()
        pass_days(practice, 60)
        practice.execute("UPDATE visits SET n = n + 1 WHERE id = 'v12'")
        ben.sync()
        pass_days(practice, 35)
        ben.sync()
        assert self.count(practice, dialect, "entry") == 1, (
            "the tombstone and the old entries are gone, the newer one is not"
        )
        assert self.count(practice, dialect, "row_state") == 1
        frames = ann.download()
        assert frames[0]["reset"]
        assert ann.execute("SELECT body FROM notes WHERE no = 70") == [("written offline",)]
        ann.sync()
        assert not ann.execute("SELECT 1 FROM visits WHERE id = 'v14'")
        assert practice.execute("SELECT body FROM notes WHERE no = 70") == [("written offline",)]
        assert not ben.download()[0].get("reset"), "he was never that far behind"

    def test_a_visit_that_the_office_deleted_stays_deleted_whatever_she_wrote_on_it(
        self, practice: Office, dialect: Dialect
    ) -> None:
        """P13: nobody knows any more when it was deleted; but that it is gone, the source knows. Only a key that she
        inserts anew is a new row."""
        ann = practice.phone("ann")
        ann.sync()
        ann.execute("UPDATE visits SET n = 99 WHERE id = 'v14'")
        practice.execute("DELETE FROM visits WHERE id = 'v14'")
        practice.execute("DELETE FROM visits WHERE id = 'v12'")
        practice.checkpoint()
        pass_days(practice, 100)
        assert self.count(practice, dialect, "row_state") == 0
        ann.execute("DELETE FROM visits WHERE id = 'v12'")
        ann.execute("INSERT INTO visits SELECT 'v12', patient_id, n FROM visits WHERE id = 'v14'")
        ann.sync()
        assert not practice.execute("SELECT 1 FROM visits WHERE id = 'v14'")
        assert [(row["kind"], row["key"]) for row in practice.conflicts()] == [("gone", ["v14"])]
        assert practice.execute("SELECT 1 FROM visits WHERE id = 'v12'")
        assert ann.execute("SELECT id FROM visits WHERE id IN ('v12', 'v14')") == [("v12",)]

    def test_an_edit_of_a_row_that_nobody_has_changed_since_arrives_however_old_it_is(self, practice: Office) -> None:
        """P4, P12: no stamp is known of the row; but that it is what she saw, the source knows. Of two such edits the
        later one wins, in either order, and what somebody else has written meanwhile is not overwritten."""
        ann, eve = practice.phone("ann"), practice.phone("ann")
        ann.sync()
        eve.sync()
        edit, read = "UPDATE notes SET body = '{}' WHERE visit_id = 'v12' AND no = {}", "SELECT no, body FROM notes"
        ann.execute(edit.format("of ann", 1))
        eve.execute(edit.format("of eve", 1))
        ann.execute(edit.format("of ann", 2))
        practice.execute(edit.format("of the office", 2))
        practice.checkpoint()
        pass_days(practice, 100)
        for phone in (eve, ann):
            phone.sync()
        found = practice.execute(f"{read} WHERE visit_id = 'v12' AND no IN (1, 2) ORDER BY no")
        assert found == [(1, "of eve"), (2, "of the office")]
        lost = [(each["kind"], each["device_value"]) for each in practice.conflicts()]
        assert lost == [("lost", "of ann"), ("lost", "of ann")]

    def test_records_of_the_office_stay_when_outcomes_go(self, practice: Office, dialect: Dialect) -> None:
        ann = practice.phone("ann")
        ann.sync()
        practice.execute("INSERT INTO notes VALUES('v12', 60, 'of the office')")
        ann.execute("INSERT INTO notes VALUES('v12', 60, 'of ann')")
        ann.sync()
        assert self.count(practice, dialect, "outcome") == 1
        pass_days(practice, 100)
        assert self.count(practice, dialect, "outcome") == 0
        assert len(practice.rejections()) == 1

    def test_what_became_of_her_work_is_told_as_long_as_her_cursor_is_known(self, practice: Office) -> None:
        """P1, P3: moments are noted now and then, so that a cut may stay known for longer than the outcomes that the
        next one brings are young."""

        def prune() -> None:
            before_us = practice.clock.now_us() - 90 * DAY * SECOND_US
            while practice.wait(practice.source.prune(practice.term, before_us)):
                pass

        ann = practice.phone("ann")
        practice.execute("INSERT INTO notes VALUES('v12', 60, 'of the office')")
        practice.checkpoint()
        ann.sync()
        ann.execute("UPDATE notes SET body = 'of ann' WHERE visit_id = 'v12' AND no = 60")
        practice.pass_time(60)
        practice.execute("UPDATE notes SET body = 'of the office, later' WHERE visit_id = 'v12' AND no = 60")
        practice.checkpoint()
        ann.download()
        prune()
        practice.pass_time(60)
        ann.upload()
        practice.checkpoint()
        practice.pass_time(3_000)
        practice.execute("UPDATE visits SET n = n + 1 WHERE id = 'v14'")
        practice.checkpoint()
        prune()
        practice.pass_time(90 * DAY - 1_500)
        prune()
        frames = ann.download()
        assert not frames[0]["reset"]
        assert ann.execute("SELECT body FROM notes WHERE no = 60") == [("of the office, later",)]

    def test_outcomes_that_waiting_work_may_stand_on_stay_while_the_device_is_about(
        self, practice: Office, dialect: Dialect
    ) -> None:
        """A change that stands on a refused insert must still be refused with it."""
        ann = practice.phone("ann")
        ann.sync()
        ann.execute("INSERT INTO notes VALUES('v12', 71, 'first')")
        ann.sync()
        for _ in range(10):
            pass_days(practice, 10)
            ann.hello()
        assert self.count(practice, dialect, "outcome") == 1
        pass_days(practice, 91)
        assert self.count(practice, dialect, "outcome") == 0
