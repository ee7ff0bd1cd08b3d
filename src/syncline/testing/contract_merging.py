"""Who wins where the office and the nurses wrote on the same row, and what is kept of the other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from syncline.model.scopes import LinkConfig, TableConfig, TableRules
from syncline.testing.bench import Office
from syncline.testing.contract_clinic import CASELOAD, CONFIG, ClinicFixtures, MakeOffice, clinic_tables, codes, synced
from syncline.testing.dialect import Dialect


class MergeContract(ClinicFixtures):
    """A part of `SourceContract`."""

    def test_the_later_edit_wins_by_true_time_whatever_the_order_of_arrival(self, office: Office) -> None:
        """P12, P17: Ben's clock is ten years ahead and Ann's a day behind."""
        ann, ben = office.phone("ann", skew_seconds=-86_400), office.phone("ben", skew_seconds=315_360_000)
        ann.sync()
        ben.sync()
        ben.execute("UPDATE visits SET summary = 'ben, earlier' WHERE id = 'v-bo'")
        office.pass_time(60)
        ann.execute("UPDATE visits SET summary = 'ann, later' WHERE id = 'v-bo'")
        ann.sync()
        ben.sync()
        ann.sync()
        assert office.execute("SELECT summary FROM visits WHERE id = 'v-bo'") == [("ann, later",)]
        assert ben.execute("SELECT summary FROM visits WHERE id = 'v-bo'") == [("ann, later",)]
        (conflict,) = office.conflicts()
        assert (conflict["kind"], conflict["server"], conflict["device_value"]) == (
            "lost",
            "ann, later",
            "ben, earlier",
        )
        assert [each["kind"] for each in ben.conflicts()] == ["lost"] and not ann.conflicts()

    def test_an_office_edit_that_no_checkpoint_has_seen_yet_is_not_overwritten_by_an_older_one(
        self, office: Office
    ) -> None:
        """P12: the stamps of waiting changes count."""
        ann = synced(office)
        ann.execute("UPDATE visits SET summary = 'older' WHERE id = 'v-ada'")
        office.pass_time(10)
        office.execute("UPDATE visits SET summary = 'newer' WHERE id = 'v-ada'")
        ann.upload()
        assert office.execute("SELECT summary FROM visits WHERE id = 'v-ada'") == [("newer",)]
        ann.sync()
        assert ann.execute("SELECT summary FROM visits WHERE id = 'v-ada'") == [("newer",)]

    def test_different_columns_of_one_row_do_not_conflict(self, office: Office) -> None:
        ann = synced(office)
        ann.execute("UPDATE patients SET phone = '77' WHERE id = 'ada'")
        office.execute("UPDATE patients SET name = 'Ada L.' WHERE id = 'ada'")
        ann.sync()
        assert office.execute("SELECT name, phone FROM patients WHERE id = 'ada'") == [("Ada L.", "77")]
        assert ann.execute("SELECT name, phone FROM patients WHERE id = 'ada'") == [("Ada L.", "77")]
        assert not office.conflicts()

    def test_two_nurses_who_both_drove_add_their_kilometres(self, office: Office) -> None:
        ann, ben = synced(office), synced(office, "ben")
        for phone, distance in ((ann, 3), (ben, 4)):
            phone.execute("UPDATE visits SET kilometres = kilometres + ? WHERE id = 'v-bo'", (distance,))
        ann.sync()
        ben.sync()
        ann.sync()
        assert office.execute("SELECT kilometres FROM visits WHERE id = 'v-bo'") == [(7.0,)]
        assert ann.execute("SELECT kilometres FROM visits WHERE id = 'v-bo'") == [(7.0,)]

    def test_the_offices_own_column_stays_the_offices(self, office: Office) -> None:
        ann = synced(office)
        office.execute("UPDATE visits SET updated_at = 'office' WHERE id = 'v-ada'")
        ann.execute("UPDATE visits SET updated_at = 'phone', summary = 'x' WHERE id = 'v-ada'")
        ann.sync()
        assert office.execute("SELECT updated_at, summary FROM visits WHERE id = 'v-ada'") == [("office", "x")]
        assert ann.execute("SELECT updated_at, summary FROM visits WHERE id = 'v-ada'") == [("office", "x")]
        assert not ann.rejections()

    def test_an_edit_of_a_deleted_visit_is_kept_for_the_office(self, office: Office) -> None:
        """P13."""
        ann = synced(office)
        office.execute("DELETE FROM notes WHERE id = 'n-ada'")
        ann.execute("UPDATE notes SET body = 'too late' WHERE id = 'n-ada'")
        ann.sync()
        assert ann.execute("SELECT * FROM notes") == []
        assert [(c["kind"], c["device_value"]) for c in office.conflicts()] == [("gone", "too late")]

    def test_a_delete_of_a_row_that_somebody_changed_unseen_keeps_the_whole_row(self, office: Office) -> None:
        """P12."""
        ann = synced(office)
        office.execute("UPDATE notes SET body = 'important' WHERE id = 'n-ada'")
        ann.execute("DELETE FROM notes WHERE id = 'n-ada'")
        ann.sync()
        (conflict,) = office.conflicts()
        assert conflict["kind"] == "delete" and conflict["row"]["body"] == "important"
        assert office.execute("SELECT * FROM notes WHERE id = 'n-ada'") == []

    def test_a_row_that_was_made_again_after_the_delete_lives(self, office: Office) -> None:
        ann = synced(office)
        ann.execute("DELETE FROM notes WHERE id = 'n-ada'")
        office.pass_time(5)
        office.execute("DELETE FROM notes WHERE id = 'n-ada'")
        office.execute("INSERT INTO notes VALUES('n-ada', 'v-ada', 'made again')")
        ann.sync()
        assert ann.execute("SELECT body FROM notes WHERE id = 'n-ada'") == [("made again",)]

    def test_work_on_a_patient_who_was_taken_away_meanwhile_is_kept_for_the_office(self, office: Office) -> None:
        """P9."""
        ann = synced(office)
        ann.execute("UPDATE notes SET body = 'last words' WHERE id = 'n-ada'")
        office.execute("DELETE FROM assignments WHERE nurse = 'ann' AND patient_id = 'ada'")
        ann.sync()
        assert ann.execute("SELECT id FROM patients") == [("bo",)]
        assert b"sleeps well" not in ann.bytes_on_disk()
        assert [c["device_value"] for c in office.conflicts()] == ["last words"]

    def test_a_changed_key_renames_the_row_and_loses_nothing(self, office: Office) -> None:
        """P3, P12: hidden columns, the children and what the office changed meanwhile stay."""
        office.execute(
            "CREATE TABLE follow_ups(id TEXT PRIMARY KEY, patient_id TEXT REFERENCES patients(id) ON DELETE CASCADE ON UPDATE CASCADE)"
        )
        office.execute("INSERT INTO patients VALUES('dora', 'Dora', 'SSN-D', 'f1', '4')")
        office.execute("INSERT INTO follow_ups VALUES('u1', 'dora')")
        office.execute("INSERT INTO assignments VALUES('ann', 'dora'), ('ann', 'dora-2')")
        ann = synced(office)
        office.execute("UPDATE patients SET name = 'Dora D.' WHERE id = 'dora'")
        ann.execute("UPDATE patients SET id = 'dora-2', phone = '5' WHERE id = 'dora'")
        ann.sync()
        assert office.execute("SELECT * FROM patients WHERE id LIKE 'dora%'") == [
            ("dora-2", "Dora D.", "SSN-D", "f1", "5")
        ]
        assert office.execute("SELECT patient_id FROM follow_ups") == [("dora-2",)]
        assert ann.execute("SELECT * FROM patients WHERE id LIKE 'dora%'") == [("dora-2", "Dora D.", "f1", "5")]
        assert not ann.rejections()

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    def test_two_nurses_who_both_plan_the_visit_of_a_day_have_planned_one(
        self, open_office: MakeOffice, dialect: Dialect, order: tuple[int, int]
    ) -> None:
        """P5, P12: `keys = "natural"`: what the later one wrote counts, column by column, and what adds up is added."""
        office = open_office(clinic_tables(dialect), replace(CONFIG, rules={"visits": TableRules("natural")}))
        phones = synced(office), synced(office, "ben")
        for phone, summary, kilometres in zip(phones, ("of ann", "of ben"), (3, 4), strict=True):
            plan = "INSERT INTO visits(id, patient_id, summary, kilometres) VALUES('bo-monday', 'bo', ?, ?)"
            phone.execute(plan, (summary, kilometres))
        for place in order:
            phones[place].sync()
        phones[order[0]].sync()
        found = "SELECT summary, kilometres FROM visits WHERE id = 'bo-monday'"
        for rows in (office.execute(found), phones[0].execute(found), phones[1].execute(found)):
            assert rows == [("of ben", 7.0)]
        assert not office.rejections()
        assert [(each["column"], each["kind"]) for each in office.conflicts()] == [
            ("summary", ("won", "lost")[order[0]])
        ]

    def test_a_natural_key_reaches_no_row_outside_the_scope(self, open_office: MakeOffice, dialect: Dialect) -> None:
        """P8: it answers like any key that is taken, also to a group that would draw the row in."""
        tables = {**CASELOAD.tables, "facilities": TableConfig((LinkConfig(referenced_by="patients"),))}
        rules = {table: TableRules("natural") for table in ("facilities", "visits")}
        config = replace(CONFIG, scopes=(replace(CASELOAD, tables=tables),), rules=rules)
        office = open_office(clinic_tables(dialect), config)
        ann = synced(office)
        ann.execute("INSERT INTO visits(id, patient_id, summary) VALUES('v-cy', 'ada', 'mine')")
        ann.group(
            "UPDATE patients SET facility_id = 'f3' WHERE id = 'ada'", "INSERT INTO facilities VALUES('f3', 'mine')"
        )
        ann.sync()
        assert sorted(codes(ann)) == ["group", "key_exists", "key_exists"]
        assert office.execute("SELECT patient_id, summary FROM visits WHERE id = 'v-cy'") == [("cy", None)]
        assert office.execute("SELECT name FROM facilities WHERE id = 'f3'") == [("Nobody's",)]
