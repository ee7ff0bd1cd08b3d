"""A nurse who was away for longer than the retention: P11."""

from __future__ import annotations

from dataclasses import replace

import pytest

from syncline.model.scopes import TableRules
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

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    def test_an_edit_of_a_row_that_nobody_has_changed_since_arrives_however_old_it_is(
        self, make_office: MakeOffice, order: tuple[int, int]
    ) -> None:
        """P4, P12, P17: no stamp is known of the row; but that it is what she saw, the source knows. Of two such edits
        the later one wins, in either order and whatever their clocks say, and what somebody else has written unseen
        stays. What is added is added. Whatever lost is in the office's records."""
        office = make_office()
        phones = office.phone("ann", skew_seconds=315_360_000), office.phone("ann", skew_seconds=-315_360_000)
        office.execute("INSERT INTO notes VALUES('n-2', 'v-ada', 'as it was')")
        for phone, own, kilometres in zip(phones, ("first", "second"), (3, 4), strict=True):
            phone.sync()
            office.pass_time(3600)
            phone.execute("UPDATE notes SET body = ?", (own,))
            phone.execute("UPDATE visits SET kilometres = kilometres + ? WHERE id = 'v-ada'", (kilometres,))
        office.execute("UPDATE notes SET body = 'of the office' WHERE id = 'n-2'")
        office.checkpoint()
        pass_days(office, 100)
        for place in order:
            phones[place].sync()
        phones[order[0]].sync()
        for phone in phones:
            assert phone.execute("SELECT body FROM notes ORDER BY id") == [("of the office",), ("second",)]
        assert office.execute("SELECT body FROM notes WHERE visit_id = 'v-ada' ORDER BY id") == [
            ("of the office",),
            ("second",),
        ]
        assert office.execute("SELECT kilometres FROM visits WHERE id = 'v-ada'") == [(7.0,)]
        kept = {(each["key"][0], each["kind"]): (each["server"], each["device_value"]) for each in office.conflicts()}
        of_two = ("n-ada", "won"), ("first", "second")
        if order[0]:
            of_two = ("n-ada", "lost"), ("second", "first")
        assert kept.pop(of_two[0]) == of_two[1]
        lost = [each["device_value"] for each in office.conflicts() if each["key"] == ["n-2"]]
        assert kept.keys() == {("n-2", "lost")} and sorted(lost) == ["first", "second"]

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    def test_what_the_office_wrote_long_ago_is_not_older_because_she_wrote_the_same(
        self, practice: Office, order: tuple[int, int]
    ) -> None:
        """P12: nobody knows when the office did; that it counts as of the end of the retention holds in either
        order, and for what she wrote over her own words, too."""
        phones = practice.phone("ann"), practice.phone("ann")
        for phone, bodies in zip(phones, (("of the office", "mine"), ("other",)), strict=True):
            phone.sync()
            for body in bodies:
                phone.execute("UPDATE notes SET body = ? WHERE visit_id = 'v12' AND no = 1", (body,))
        practice.execute("UPDATE notes SET body = 'of the office' WHERE visit_id = 'v12' AND no = 1")
        practice.checkpoint()
        pass_days(practice, 100)
        for place in order:
            phones[place].sync()
        assert practice.execute("SELECT body FROM notes WHERE visit_id = 'v12' AND no = 1") == [("of the office",)]
        kept = sorted((each["kind"], each["device_value"]) for each in practice.conflicts())
        assert kept == [("lost", "mine"), ("lost", "other")]

    def test_a_natural_key_that_she_made_long_ago_takes_nothing_from_a_row_that_she_never_saw(
        self, open_office: MakeOffice
    ) -> None:
        """P12: she saw no row, so that it holds nothing is not what she saw. Where both know when, the later one
        wins."""
        office = open_office(TABLES, replace(CONFIG, rules={"visits": TableRules("natural")}))
        ann, eve = office.phone("ann"), office.phone("ann")
        ann.sync()
        eve.sync()
        for phone, n in ((ann, 5), (eve, 6)):
            phone.execute("INSERT INTO visits VALUES('v-plan', 'p1', ?)", (n,))
            phone.execute("INSERT INTO visits VALUES('v-none', 'p1', ?)", (n,))
        office.execute("INSERT INTO visits VALUES('v-none', 'p1', NULL)")
        office.checkpoint()
        pass_days(office, 100)
        eve.sync()
        ann.sync()
        assert office.execute("SELECT id, n FROM visits WHERE id LIKE 'v-%' ORDER BY id") == [
            ("v-none", None),
            ("v-plan", 6),
        ]
        assert sorted((each["key"][0], each["kind"], each["device_value"]) for each in office.conflicts()) == [
            ("v-none", "lost", 5),
            ("v-none", "lost", 6),
            ("v-plan", "lost", 5),
        ]
        assert not office.rejections()

    def test_stamps_of_changes_that_waited_when_a_table_changed_are_as_young_as_they_are(
        self, practice: Office, dialect: Dialect
    ) -> None:
        """P12: an edit that is older than the office's does not win because a migration came between."""
        ann = practice.phone("ann")
        ann.sync()
        ann.execute("UPDATE visits SET n = 99 WHERE id = 'v12'")
        practice.execute("UPDATE visits SET n = 100 WHERE id = 'v12'")
        practice.execute("ALTER TABLE visits ADD COLUMN room VARCHAR(20)")
        practice.reconfigure(CONFIG)
        practice.checkpoint()
        pass_days(practice, 1)
        ann.sync()
        assert practice.execute("SELECT n FROM visits WHERE id = 'v12'") == [(100,)]
        assert [(each["kind"], each["device_value"]) for each in practice.conflicts()] == [("lost", 99)]

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
