"""P1, P4: what is judged and written as a set ends as if it had been done one by one."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import asyncpg
import pytest
from tests.postgres.uploading import OpenOffice, UploadFixtures, rule, synced, visit

from syncline.testing.bench import Office


class TestSets(UploadFixtures):
    def test_a_day_of_many_edits_costs_a_few_statements(self, office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
        ann = synced(office)
        for number in range(1, 41):
            ann.execute(f"UPDATE visits SET room = 'r{number}' WHERE id = '{visit(number)}'")
            ann.execute(f"UPDATE visits SET n = {number} WHERE id = '{visit(number)}'")
        said: list[str] = []
        execute = asyncpg.Connection.execute

        async def listened(self: Any, query: str, *arguments: Any, **more: Any) -> Any:
            said.append(query)
            return await execute(self, query, *arguments, **more)

        with monkeypatch.context() as patched:
            patched.setattr(asyncpg.Connection, "execute", listened)
            ann.upload()
        assert sum(query.startswith('UPDATE "public"."visits"') for query in said) == 2, "one for each wave"
        ann.sync()
        assert office.execute("SELECT count(*) FROM visits WHERE room = 'r' || n") == [(40,)]
        assert not ann.rejections() and not ann.conflicts()

    def test_each_edit_of_a_set_keeps_its_own_moment(self, office: Office) -> None:
        """The later one wins, row by row, although all of them arrive at once."""
        ann, ben = synced(office), synced(office, "ben")
        ann.execute(f"UPDATE visits SET room = 'ann, early' WHERE id = '{visit(1)}'")
        office.pass_time(60)
        ben.execute("UPDATE visits SET room = 'ben, at noon'")
        office.pass_time(60)
        ann.execute(f"UPDATE visits SET room = 'ann, late' WHERE id = '{visit(2)}'")
        ann.sync()
        ben.sync()
        rooms = office.execute("SELECT room FROM visits WHERE n = 1 ORDER BY id LIMIT 3")
        assert rooms == [("ben, at noon",), ("ann, late",), ("ben, at noon",)]
        ann.sync()
        assert ann.execute("SELECT room FROM visits ORDER BY id LIMIT 3") == rooms

    def test_the_stamps_of_a_set_are_those_of_its_mutations(self, office: Office) -> None:
        ann = synced(office)
        for number in range(1, 6):
            office.pass_time(1)
            ann.execute(f"UPDATE visits SET room = 'r' WHERE id = '{visit(number)}'")
        ann.sync()
        stamps = office.execute("SELECT stamps FROM syncline.row_state WHERE table_name = 'visits' ORDER BY key")
        times = [int(re.findall(r'"room":\[(\d+)', row[0])[0]) for row in stamps]
        assert [round((after - before) / 1e6) for before, after in pairwise(times)] == [1, 1, 1, 1]

    def test_a_rule_that_counts_in_another_row_of_the_set_loses_nothing(self, open_office: OpenOffice) -> None:
        """P4: the second edit of the set adds to what the first one's rule has left."""
        office = open_office(
            *rule(
                "tally",
                "AFTER UPDATE",
                f"IF new.id = '{visit(1)}' AND new.room IS DISTINCT FROM old.room THEN "
                f"UPDATE visits SET km = km + 100 WHERE id = '{visit(2)}'; END IF; RETURN NULL;",
            )
        )
        ann = synced(office)
        ann.execute(f"UPDATE visits SET room = 'r' WHERE id = '{visit(1)}'")
        ann.execute(f"UPDATE visits SET km = km + 5 WHERE id = '{visit(2)}'")
        ann.execute(f"UPDATE visits SET km = km + 7 WHERE id = '{visit(3)}'")
        ann.sync()
        assert office.execute("SELECT km FROM visits WHERE km > 0 ORDER BY id") == [(105.0,), (7.0,)]
        assert ann.execute("SELECT km FROM visits WHERE km > 0 ORDER BY id") == [(105.0,), (7.0,)]

    def test_one_bad_edit_among_many_is_the_only_one_refused(self, office: Office) -> None:
        """P2."""
        ann = synced(office)
        for number in range(1, 41):
            ann.execute(f"UPDATE visits SET n = {5000 if number == 23 else number} WHERE id = '{visit(number)}'")
        ann.sync()
        assert [rejection["code"] for rejection in ann.rejections()] == ["check"]
        assert office.execute("SELECT count(*) FROM visits WHERE n > 1") == [(38,)]

    def test_a_visit_its_edits_and_its_end_in_one_upload(self, office: Office) -> None:
        ann = synced(office)
        for number in range(50, 60):
            ann.execute(f"INSERT INTO visits(id, patient_id) VALUES('{visit(number)}', 'ada')")
            ann.execute(f"UPDATE visits SET room = 'r' WHERE id = '{visit(number)}'")
            if number % 2:
                ann.execute(f"DELETE FROM visits WHERE id = '{visit(number)}'")
        ann.sync()
        assert not ann.rejections()
        assert office.execute("SELECT count(*) FROM visits WHERE room = 'r'") == [(5,)]
        assert ann.execute("SELECT count(*) FROM visits WHERE room = 'r'") == [(5,)]

    def test_a_change_that_a_rule_swallows_is_not_made_up_for_by_one_that_it_makes_twice(
        self, open_office: OpenOffice
    ) -> None:
        """P1: nothing and two are not one and one."""
        office = open_office(
            *rule("keep", "BEFORE UPDATE", f"IF new.id = '{visit(1)}' THEN RETURN old; END IF; RETURN new;"),
            *rule(
                "mark",
                "AFTER UPDATE",
                "IF new.room = 'r' AND new.status IS NULL THEN UPDATE visits SET status = 'seen' WHERE id = new.id; "
                "END IF; RETURN NULL;",
            ),
        )
        ann = synced(office)
        ann.execute(f"UPDATE visits SET room = 'r' WHERE id IN ('{visit(1)}', '{visit(2)}')")
        ann.sync()
        shown = "SELECT id, room, status FROM visits WHERE n = 1 ORDER BY id LIMIT 2"
        assert office.execute(shown.replace("id,", "id::text,")) == [(visit(1), None, None), (visit(2), "r", "seen")]
        assert ann.execute(shown) == [(visit(1), None, None), (visit(2), "r", "seen")]
        assert office.execute("SELECT kind, code FROM syncline.outcome ORDER BY number") == [
            ("merged", "ignored"),
            ("applied", None),
        ]

    @pytest.mark.parametrize("is_deferred", [False, True])
    def test_what_a_rule_changes_elsewhere_has_the_moment_of_the_edit_that_it_comes_from(
        self, open_office: OpenOffice, is_deferred: bool
    ) -> None:
        """P1: Ben's later word on the patient wins, also when Ann's whole day arrives at once."""
        office = open_office(
            *rule(
                "note",
                "AFTER UPDATE",
                "IF new.room = 'r' THEN UPDATE patients SET name = 'seen' WHERE id = new.patient_id; END IF; "
                "RETURN NULL;",
                constraint=is_deferred,
            )
        )
        ann, ben = synced(office), synced(office, "ben")
        ann.execute(f"UPDATE visits SET room = 'r' WHERE id = '{visit(1)}'")
        office.pass_time(3600)
        ben.execute("UPDATE patients SET name = 'Ada, says Ben' WHERE id = 'ada'")
        office.pass_time(3600)
        ann.execute(f"UPDATE visits SET room = 'other' WHERE id = '{visit(2)}'")
        ann.sync()
        ben.sync()
        assert office.execute("SELECT name FROM patients WHERE id = 'ada'") == [("Ada, says Ben",)]
