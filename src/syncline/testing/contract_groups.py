"""What an app did in one `replica.transaction()` is judged as one: by what it began with and what it leaves behind."""

from __future__ import annotations

import pytest

from syncline.errors import ProtocolError
from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig
from syncline.testing.bench import Office, Phone
from syncline.testing.contract_clinic import ClinicFixtures, MakeOffice, codes, synced
from syncline.testing.dialect import Dialect

LATER = "PRAGMA defer_foreign_keys = ON"


def sync_with_visit_to_cy(phone: Phone, mutation: int) -> None:
    """Sends what waits, with this mutation of the group moving its visit to Cy, whom the phone does not hold."""
    request = phone.file.upload_request() or {}
    forged = request["groups"][0]["mutations"][mutation]
    forged["new"][forged["columns"].index("patient_id")] = "cy"
    phone.office.wait(phone.office.service.upload(phone.identity, request))
    phone.sync()


PLANS = (
    "CREATE TABLE patients(id TEXT PRIMARY KEY, name TEXT)",
    "CREATE TABLE plans(id TEXT PRIMARY KEY, patient_id TEXT REFERENCES patients(id))",
    "CREATE TABLE steps(plan_id TEXT REFERENCES plans(id) ON UPDATE CASCADE ON DELETE CASCADE, n INTEGER, "
    "patient_id TEXT REFERENCES patients(id), body TEXT, PRIMARY KEY(plan_id, n))",
    "CREATE TABLE assignments(nurse TEXT, patient_id TEXT, PRIMARY KEY(nurse, patient_id))",
    "CREATE INDEX i1 ON plans(patient_id)",
    "CREATE INDEX i2 ON steps(patient_id)",
    "INSERT INTO patients VALUES('ada', 'Ada'), ('cy', 'Cy')",
    "INSERT INTO assignments VALUES('ann', 'ada')",
    "INSERT INTO plans VALUES('p', 'ada')",
    "INSERT INTO steps VALUES('p', 1, 'ada', 'first')",
)
"""A plan's steps follow it when it gets another key, or goes."""
PLANS_CONFIG = PlanConfig(
    scopes=(
        ScopeConfig(
            "caseload",
            {name: TableConfig((LinkConfig(parent="patients"),)) for name in ("plans", "steps")},
            root="patients",
            grant="SELECT patient_id FROM assignments WHERE nurse = :sub",
        ),
    )
)


class GroupContract(ClinicFixtures):
    """A part of `SourceContract`."""

    @pytest.mark.parametrize("patient", ["ada", "cy"])
    def test_a_row_that_a_cascade_gives_another_key_is_judged_under_it(
        self, open_office: MakeOffice, patient: str
    ) -> None:
        """P8: a step planted for Cy is not hidden by renaming its plan; neither is one of Ada's let through unseen."""
        office = open_office(PLANS, PLANS_CONFIG)
        ann = synced(office)
        ann.group(
            "INSERT INTO steps VALUES('p', 2, 'ada', 'planted')",
            "INSERT INTO plans VALUES('q', 'ada')",
            "DELETE FROM plans WHERE id = 'q'",
        )
        request = ann.file.upload_request() or {}
        step, left, arrived = request["groups"][0]["mutations"]
        step["new"][step["columns"].index("patient_id")] = patient
        left.update(op="D", key=["p"], columns=["patient_id"], new=[None], was=["ada"])
        arrived.update(op="I", key=["q"], columns=["patient_id"], new=["ada"], was=[None], insert=left["n"])
        office.wait(office.service.upload(ann.identity, request))
        ann.sync()
        assert codes(ann) == ["scope", "group", "group"]
        assert office.execute("SELECT plan_id, n, patient_id FROM steps") == [("p", 1, "ada")]
        assert ann.execute("SELECT plan_id, n, patient_id FROM steps") == [("p", 1, "ada")]

    def test_a_row_that_its_group_wrote_may_go_with_its_parent(self, open_office: MakeOffice) -> None:
        """P8: what is deleted stands nowhere, whoever deleted it."""
        office = open_office(PLANS, PLANS_CONFIG)
        ann = synced(office)
        ann.group("UPDATE steps SET body = 'done' WHERE n = 1", "DELETE FROM steps", "DELETE FROM plans")
        request = ann.file.upload_request() or {}
        mutations = request["groups"][0]["mutations"]
        update, plan = mutations[0], mutations[-1]
        assert (update["op"], plan["op"], plan["table"]) == ("U", "D", "plans")
        mutations[1].update({**plan, "n": mutations[1]["n"], "id": mutations[1]["id"]})
        del mutations[2:]
        office.wait(office.service.upload(ann.identity, request))
        ann.sync()
        assert codes(ann) == []
        assert office.execute("SELECT 1 FROM steps UNION ALL SELECT 1 FROM plans") == []

    def test_a_child_may_be_written_before_its_parent(self, office: Office) -> None:
        """P7: the note of a visit that the same transaction makes only afterwards."""
        ann = synced(office)
        ann.group(
            LATER,
            "INSERT INTO notes VALUES('n-new', 'v-new', 'first the note')",
            "UPDATE notes SET body = 'first the note, then the visit' WHERE id = 'n-new'",
            "INSERT INTO visits(id, patient_id) VALUES('v-new', 'ada')",
        )
        ann.sync()
        assert codes(ann) == []
        assert office.execute("SELECT body FROM notes WHERE id = 'n-new'") == [("first the note, then the visit",)]
        assert office.execute("SELECT patient_id FROM visits WHERE id = 'v-new'") == [("ada",)]
        assert not office.conflicts()

    def test_what_stands_around_such_a_group_keeps_its_order_and_happens_once(
        self, office: Office, dialect: Dialect
    ) -> None:
        """P5, P7: groups before it are committed before it, groups after it after it."""
        ann = synced(office)
        for number in range(3):
            ann.execute(f"UPDATE visits SET kilometres = kilometres + 1, summary = 's{number}' WHERE id = 'v-ada'")
            ann.group(
                LATER,
                f"INSERT INTO notes VALUES('n{number}', 'v{number}', 'x')",
                f"INSERT INTO visits(id, patient_id) VALUES('v{number}', 'ada')",
            )
        ann.execute("UPDATE visits SET kilometres = kilometres + 1 WHERE id = 'v-ada'")
        ann.sync()
        assert codes(ann) == []
        assert office.execute("SELECT kilometres, summary FROM visits WHERE id = 'v-ada'") == [(4.0, "s2")]
        assert office.execute("SELECT count(*) FROM notes WHERE id IN ('n0', 'n1', 'n2')") == [(3,)]
        outcomes = office.execute(f"SELECT number, kind FROM {dialect.own_table('outcome')} ORDER BY number")
        assert outcomes == [(number, "applied") for number in range(1, 11)]

    def test_a_child_whose_parent_never_comes_is_refused_with_its_whole_group(self, office: Office) -> None:
        """P7, P18: what came before and after it passes."""
        ann = synced(office)
        office.execute("DELETE FROM notes WHERE visit_id = 'v-ada'")
        office.execute("DELETE FROM visits WHERE id = 'v-ada'")
        ann.execute("UPDATE patients SET phone = '71' WHERE id = 'ada'")
        ann.group(
            "UPDATE patients SET phone = '72' WHERE id = 'ada'",
            "INSERT INTO notes VALUES('orphan', 'v-ada', 'x')",
            "UPDATE patients SET name = 'Not to be' WHERE id = 'bo'",
        )
        ann.execute("UPDATE patients SET name = 'Ada A.' WHERE id = 'ada'")
        ann.sync()
        assert codes(ann) == ["group", "scope", "group"]
        assert office.execute("SELECT name, phone FROM patients WHERE id = 'ada'") == [("Ada A.", "71")]
        assert office.execute("SELECT name FROM patients WHERE id = 'bo'") == [("Bo",)]
        assert office.execute("SELECT 1 FROM notes WHERE id = 'orphan'") == []
        assert ann.execute("SELECT phone FROM patients WHERE id = 'ada'") == [("71",)]

    def test_a_visit_may_pass_through_another_patient_on_its_way(self, office: Office) -> None:
        """P8: what counts is where the row stood before the group and where it stands after it."""
        ann = synced(office)
        ann.group(
            "UPDATE visits SET patient_id = 'bo' WHERE id = 'v-ada'",
            "UPDATE visits SET summary = 'on its way' WHERE id = 'v-ada'",
            "UPDATE notes SET body = 'still mine' WHERE id = 'n-ada'",
            "UPDATE visits SET patient_id = 'ada' WHERE id = 'v-ada'",
        )
        sync_with_visit_to_cy(ann, 0)
        assert codes(ann) == []
        assert office.execute("SELECT patient_id, summary FROM visits WHERE id = 'v-ada'") == [("ada", "on its way")]
        assert office.execute("SELECT body FROM notes WHERE id = 'n-ada'") == [("still mine",)]

    def test_a_group_that_leaves_a_row_outside_is_refused_whole(self, office: Office) -> None:
        """P8: and the change that took it there is named."""
        ann = synced(office)
        before = office.execute("SELECT id, patient_id, summary FROM visits ORDER BY 1")
        ann.group(
            "UPDATE visits SET summary = 'x' WHERE id = 'v-bo'",
            "UPDATE visits SET patient_id = 'bo' WHERE id = 'v-ada'",
        )
        sync_with_visit_to_cy(ann, 1)
        assert codes(ann) == ["group", "scope"]
        assert office.execute("SELECT id, patient_id, summary FROM visits ORDER BY 1") == before
        assert ann.execute("SELECT id, patient_id, summary FROM visits ORDER BY 1") == before[:2]

    def test_a_group_cannot_reach_a_row_that_was_outside_before_it(self, office: Office) -> None:
        """P8: moving a visit of one's own to Cy opens no way to Cy's note."""
        ann = synced(office)
        ann.group(
            "UPDATE visits SET patient_id = 'bo' WHERE id = 'v-ada'",
            "UPDATE notes SET body = 'mine' WHERE id = 'n-ada'",
            "UPDATE visits SET patient_id = 'ada' WHERE id = 'v-ada'",
        )
        request = ann.file.upload_request() or {}
        request["groups"][0]["mutations"][1]["key"] = ["n-cy"]
        office.wait(office.service.upload(ann.identity, request))
        assert office.execute("SELECT body FROM notes WHERE id = 'n-cy'") == [("canary-of-cy",)]

    def test_two_unique_values_are_swapped_by_way_of_none(self, office: Office) -> None:
        """P7: as the company's own programs have to do it: the database looks at unique values row by row."""
        ann = synced(office)
        ann.group(
            "UPDATE visits SET room = NULL WHERE id = 'v-ada'",
            "UPDATE visits SET room = 'r1' WHERE id = 'v-bo'",
            "UPDATE visits SET room = 'r2' WHERE id = 'v-ada'",
        )
        ann.sync()
        assert codes(ann) == []
        assert office.execute("SELECT id, room FROM visits WHERE id <> 'v-cy' ORDER BY 1") == [
            ("v-ada", "r2"),
            ("v-bo", "r1"),
        ]

    def test_a_swap_that_the_database_cannot_take_is_refused_whole(self, office: Office) -> None:
        """P7: never half of it."""
        ann = synced(office)
        ann.group("UPDATE visits SET room = 'r2' WHERE id = 'v-ada'", "UPDATE visits SET room = 'r1' WHERE id = 'v-bo'")
        ann.sync()
        assert codes(ann) == ["unique", "group"]
        rooms = [("v-ada", "r1"), ("v-bo", "r2")]
        assert office.execute("SELECT id, room FROM visits WHERE id <> 'v-cy' ORDER BY 1") == rooms
        assert ann.execute("SELECT id, room FROM visits ORDER BY 1") == rooms

    def test_own_edits_may_leave_where_the_scope_says_so(self, make_office: MakeOffice) -> None:
        office = make_office(own_edit_may_leave=True)
        ann = synced(office)
        ann.group(
            "UPDATE visits SET patient_id = 'bo' WHERE id = 'v-ada'",
            "UPDATE visits SET summary = 'given away' WHERE id = 'v-ada'",
        )
        sync_with_visit_to_cy(ann, 0)
        assert codes(ann) == []
        assert office.execute("SELECT patient_id, summary FROM visits WHERE id = 'v-ada'") == [("cy", "given away")]

    def test_one_id_for_two_changes_is_no_request(self, office: Office) -> None:
        """P19: nothing of it is done, and the answer says what is wrong."""
        ann = synced(office)
        ann.execute("UPDATE visits SET summary = 'a' WHERE id = 'v-ada'")
        ann.execute("UPDATE visits SET summary = 'b' WHERE id = 'v-bo'")
        request = ann.file.upload_request() or {}
        first, second = [mutation for group in request["groups"] for mutation in group["mutations"]]
        second["id"] = first["id"]
        with pytest.raises(ProtocolError) as refused:
            office.wait(office.service.upload(ann.identity, request))
        assert refused.value.error_code == "repeated_id"
        assert office.execute("SELECT summary FROM visits WHERE id = 'v-ada'") == [(None,)]
