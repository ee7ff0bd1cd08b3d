"""What becomes of what a nurse wrote: what arrives, what is refused, and that nothing counts twice."""

from __future__ import annotations

import pytest

from syncline.errors import AuthError
from syncline.protocol import frames
from syncline.testing.bench import Office
from syncline.testing.contract_clinic import ClinicFixtures, MakeOffice, codes, synced
from syncline.testing.contract_shapes import needs
from syncline.testing.dialect import Dialect

_END = "DELETE FROM assignments WHERE nurse = 'ann' AND patient_id = 'ada'"


class UploadContract(ClinicFixtures):
    """A part of `SourceContract`."""

    def test_a_day_offline_reaches_the_office_and_the_colleague(self, office: Office) -> None:
        """P1, P5: updates, inserts and deletes; the company's triggers fire once."""
        ann, ben = synced(office), synced(office, "ben")
        ann.execute("UPDATE visits SET status = 'done', summary = 'fine' WHERE id = 'v-bo'")
        ann.execute("INSERT INTO notes VALUES('n-new', 'v-bo', 'wound is dry')")
        ann.execute("DELETE FROM notes WHERE id = 'n-ada'")
        ann.sync()
        ben.sync()
        assert office.execute("SELECT status, summary FROM visits WHERE id = 'v-bo'") == [("done", "fine")]
        assert office.execute("SELECT count(*) FROM journal") == [(1,)]
        assert ben.execute("SELECT body FROM notes ORDER BY id") == [("canary-of-cy",), ("wound is dry",)]
        assert office.execute("SELECT id FROM notes WHERE id = 'n-ada'") == []
        assert not ann.rejections() and not ann.conflicts()

    def test_a_repeated_upload_changes_nothing(self, office: Office) -> None:
        """P5."""
        ann = synced(office)
        ann.execute("UPDATE visits SET kilometres = kilometres + 5 WHERE id = 'v-ada'")
        request = ann.file.upload_request()
        for _ in range(3):
            office.wait(office.service.upload(ann.identity, frames.load(frames.dump(request or {}))))
        ann.sync()
        assert office.execute("SELECT kilometres FROM visits WHERE id = 'v-ada'") == [(5.0,)]

    def test_a_lost_answer_loses_no_rejection(self, office: Office) -> None:
        """P3: outcomes travel with the checkpoint."""
        ann = synced(office)
        ann.execute("UPDATE visits SET status = 'nonsense' WHERE id = 'v-ada'")
        office.wait(office.service.upload(ann.identity, ann.file.upload_request() or {}))
        ann.restart()
        ann.sync()
        assert codes(ann) == ["check"]
        assert ann.execute("SELECT status FROM visits WHERE id = 'v-ada'") == [("planned",)]

    @pytest.mark.parametrize(
        ("statement", "code"),
        [
            ("UPDATE visits SET status = 'nonsense' WHERE id = 'v-ada'", "check"),
            ("UPDATE visits SET room = 'r2' WHERE id = 'v-ada'", "unique"),
            ("UPDATE patients SET name = NULL WHERE id = 'ada'", "not_null"),
            ("UPDATE facilities SET name = 'mine' WHERE id = 'f1'", "read_only"),
            ("UPDATE medications SET name = 'mine' WHERE id = 'm1'", "read_only"),
            ("INSERT INTO medications VALUES('m2', 'mine')", "read_only"),
            ("INSERT INTO tickets(patient_id, body) VALUES('ada', 'help')", "generated_key"),
            ("INSERT INTO visits(id, patient_id) VALUES('v-cy', 'ada')", "key_exists"),
            ("INSERT INTO patients(id, name) VALUES('eve', 'Eve')", "scope"),
            ("DELETE FROM patients WHERE id = 'bo'", "foreign_key"),
        ],
    )
    def test_what_is_refused_is_parked_with_a_reason_and_the_row_is_as_the_office_has_it(
        self, office: Office, statement: str, code: str
    ) -> None:
        """P3, P18: refused, told, corrected; what comes after is not held up."""
        ann = synced(office)
        before = {
            table: ann.execute(f"SELECT * FROM {table} ORDER BY id") for table in ("patients", "visits", "facilities")
        }
        ann.execute("PRAGMA foreign_keys")
        db = ann.file.connect()
        db.execute("PRAGMA foreign_keys = OFF")
        with db:
            db.execute(statement)
        db.close()
        ann.execute("INSERT INTO notes VALUES('n-after', 'v-ada', 'written after')")
        ann.sync()
        (rejection,) = ann.rejections()
        assert rejection["code"] == code and rejection["reason"]
        assert {table: ann.execute(f"SELECT * FROM {table} ORDER BY id") for table in before} == before
        assert office.execute("SELECT body FROM notes WHERE id = 'n-after'") == [("written after",)]
        assert [record["code"] for record in office.rejections()] == [code]

    def test_the_companys_own_words_reach_the_nurse(self, office: Office) -> None:
        ann = synced(office)
        ann.execute("UPDATE visits SET status = 'done' WHERE id = 'v-ada'")
        ann.sync()
        ann.execute("UPDATE visits SET status = 'planned' WHERE id = 'v-ada'")
        ann.sync()
        assert ann.rejections()[0]["reason"] == "A finished visit cannot be planned again."

    def test_a_marked_group_is_refused_as_a_whole_and_an_unmarked_run_one_by_one(self, office: Office) -> None:
        """P7, P18."""
        ann = synced(office)
        ann.group(
            "INSERT INTO notes VALUES('n1', 'v-ada', 'in the group')",
            "UPDATE visits SET status = 'nonsense' WHERE id = 'v-ada'",
        )
        ann.execute("INSERT INTO notes VALUES('n2', 'v-ada', 'outside')")
        ann.execute("UPDATE visits SET status = 'nonsense' WHERE id = 'v-bo'")
        ann.execute("INSERT INTO notes VALUES('n3', 'v-ada', 'outside too')")
        ann.sync()
        assert codes(ann) == ["group", "check", "check"]
        assert office.execute("SELECT id FROM notes WHERE id LIKE 'n_' ORDER BY id") == [("n2",), ("n3",)]
        assert ann.execute("SELECT id FROM notes WHERE id LIKE 'n_' ORDER BY id") == [("n2",), ("n3",)]

    @pytest.mark.parametrize("marked", [False, True])
    def test_what_a_rule_of_the_companys_takes_away_counts_for_the_next_change(
        self, make_office: MakeOffice, dialect: Dialect, marked: bool
    ) -> None:
        """P8, P9: her last visit ends an assignment, by a trigger; what follows in the same upload is no longer hers to
        write. A marked group is judged by its end."""
        office = make_office(own_edit_may_leave=False)
        for statement in dialect.trigger(
            "ends", "AFTER UPDATE OF summary", "visits", "new.summary = 'the last one'", _END
        ):
            office.execute(statement)
        ann = synced(office)
        statements = (
            "UPDATE visits SET summary = 'fine' WHERE id = 'v-ada'",
            "UPDATE notes SET body = 'before' WHERE id = 'n-ada'",
            "UPDATE visits SET summary = 'the last one' WHERE id = 'v-bo'",
            "UPDATE notes SET body = 'too late' WHERE id = 'n-ada'",
        )
        if marked:
            ann.group(*statements)
        else:
            for statement in statements:
                ann.execute(statement)
        ann.sync()
        ann.sync()
        body = office.execute("SELECT body FROM notes WHERE id = 'n-ada'")
        assigned = office.execute("SELECT count(*) FROM assignments WHERE nurse = 'ann' AND patient_id = 'ada'")
        if marked:
            assert (body, assigned) == ([("sleeps well",)], [(1,)]) and set(codes(ann)) == {"scope", "group"}
        else:
            assert (body, assigned) == ([("before",)], [(0,)])
            assert [conflict["device_value"] for conflict in office.conflicts()] == ["too late"]
            assert ann.execute("SELECT id FROM visits WHERE patient_id = 'ada'") == []

    def test_what_stands_on_a_refused_insert_is_refused_with_it(self, office: Office) -> None:
        """Two phones that both chose v-9 must not fuse two patients' visits: not the visit, not its note, not its update."""
        ann, ben = synced(office), synced(office, "ben")
        ben.execute("INSERT INTO visits(id, patient_id, summary) VALUES('v-9', 'bo', 'of ben')")
        ben.sync()
        ann.execute("INSERT INTO visits(id, patient_id, summary) VALUES('v-9', 'ada', 'of ann')")
        ann.execute("INSERT INTO notes VALUES('n-9', 'v-9', 'about Ada')")
        ann.execute("UPDATE visits SET summary = 'of ann, changed' WHERE id = 'v-9'")
        ann.sync()
        assert codes(ann) == ["key_exists", "depends", "depends"]
        assert office.execute("SELECT summary FROM visits WHERE id = 'v-9'") == [("of ben",)]
        assert ann.execute("SELECT summary FROM visits WHERE id = 'v-9'") == [("of ben",)]
        ann.execute("INSERT INTO notes VALUES('n-10', 'v-9', 'now knowingly')")
        ann.sync()
        assert office.execute("SELECT body FROM notes WHERE id = 'n-10'") == [("now knowingly",)]

    def test_a_key_outside_the_scope_answers_like_one_that_does_not_exist(self, office: Office) -> None:
        """P8, P19: forged mutations on Cy's note, and on one that nobody has."""
        ann = synced(office)
        ann.execute("UPDATE notes SET body = 'x' WHERE id = 'n-ada'")
        ann.execute("UPDATE notes SET body = 'y' WHERE id = 'n-ada'")
        request = ann.file.upload_request() or {}
        first, second = request["groups"][0]["mutations"]
        first["key"], second["key"] = ["n-cy"], ["n-nobody"]
        office.wait(office.service.upload(ann.identity, request))
        office.checkpoint()
        told = [frame for frame in ann.download() if frame["t"] == "outcome"]
        assert len(told) == 2
        seen = [{k: v for k, v in frame.items() if k not in ("n", "key", "conflicts")} for frame in told]
        assert seen[0] == seen[1]
        assert "canary" not in repr(told)
        assert office.execute("SELECT body FROM notes WHERE id = 'n-cy'") == [("canary-of-cy",)]

    def test_an_edit_that_gives_the_patients_visit_away_is_refused(self, office: Office) -> None:
        ann = synced(office)
        ann.execute("PRAGMA foreign_keys")
        db = ann.file.connect()
        db.execute("PRAGMA foreign_keys = OFF")
        with db:
            db.execute("UPDATE visits SET patient_id = 'cy' WHERE id = 'v-ada'")
        db.close()
        ann.sync()
        assert codes(ann) == ["scope"]
        assert ann.execute("SELECT patient_id FROM visits WHERE id = 'v-ada'") == [("ada",)]

    def test_unless_the_scope_allows_it(self, make_office: MakeOffice) -> None:
        office = make_office(own_edit_may_leave=True)
        ann = synced(office)
        db = ann.file.connect()
        db.execute("PRAGMA foreign_keys = OFF")
        with db:
            db.execute("UPDATE visits SET patient_id = 'cy' WHERE id = 'v-ada'")
        db.close()
        ann.sync()
        assert not ann.rejections()
        assert office.execute("SELECT patient_id FROM visits WHERE id = 'v-ada'") == [("cy",)]
        assert ann.execute("SELECT id FROM visits") == [("v-bo",)]

    def test_an_error_about_a_hidden_column_does_not_name_it(self, office: Office, dialect: Dialect) -> None:
        """P8: a rule of the company's that looks at a hidden column refuses without telling."""
        refusal = dialect.refusal("ssn SSN-ADA is wrong")
        for statement in dialect.trigger("ssn_rule", "BEFORE UPDATE", "patients", "new.phone = 'x'", refusal):
            office.execute(statement)
        ann = synced(office)
        ann.execute("UPDATE patients SET phone = 'x' WHERE id = 'ada'")
        ann.sync()
        assert "ssn" not in repr(ann.rejections()).lower()

    def test_a_phone_restored_from_a_backup_loses_nothing_and_doubles_nothing(self, office: Office) -> None:
        """P5: the restored file has an old nonce; its numbers were used for other changes."""
        ann = synced(office)
        ann.execute("UPDATE visits SET kilometres = kilometres + 1 WHERE id = 'v-ada'")
        backup = ann.copy()
        ann.sync()
        ann.execute("UPDATE visits SET kilometres = kilometres + 10 WHERE id = 'v-ada'")
        ann.sync()
        ann.sync()
        ann.restart(backup)
        ann.execute("UPDATE visits SET kilometres = kilometres + 100 WHERE id = 'v-ada'")
        ann.sync()
        assert office.execute("SELECT kilometres FROM visits WHERE id = 'v-ada'") == [(111.0,)]
        assert ann.execute("SELECT kilometres FROM visits WHERE id = 'v-ada'") == [(111.0,)]

    def test_another_users_token_is_refused_before_anything_is_sent(self, office: Office) -> None:
        ann = synced(office)
        ann.identity = type(ann.identity)("ben", {"sub": "ben"})
        with pytest.raises(AuthError) as refused:
            ann.hello()
        assert refused.value.error_code == "other_user"

    def test_values_of_every_kind_survive_both_ways(self, office: Office, dialect: Dialect) -> None:
        """P16: also where they do not fit the declared type."""
        needs(dialect, "has_loose_types")
        ann = synced(office)
        values = [
            "",
            "NULL",
            "🩺 \x00 é",
            2**63 - 1,
            -(2**63),
            0.1 + 0.2,
            1.0,
            1e300,
            float("inf"),
            b"\x00\xff",
            b"",
            "12",
            None,
        ]
        for index, value in enumerate(values):
            ann.execute("INSERT INTO notes VALUES(?, 'v-ada', ?)", (f"x{index:02}", value))
        ann.sync()
        query = "SELECT body, typeof(body) FROM notes WHERE id LIKE 'x%' ORDER BY id"
        stored = office.execute(query)
        other = synced(office)
        assert ann.execute(query) == stored == other.execute(query)
        assert stored[3] == (str(2**63 - 1), "text"), "a TEXT column makes text of it, here as there"
        assert stored[9] == (b"\x00\xff", "blob")

    def test_text_that_is_not_utf8_passes_as_it_is(self, office: Office, dialect: Dialect) -> None:
        """P16, P18."""
        needs(dialect, "has_text_that_is_not_utf8")
        office.execute("UPDATE notes SET body = CAST(x'C3' AS TEXT) WHERE id = 'n-ada'")
        ann = synced(office)
        assert ann.execute("SELECT hex(body), typeof(body) FROM notes WHERE id = 'n-ada'") == [("C3", "text")]
        ann.execute("UPDATE notes SET body = CAST(x'C328' AS TEXT) WHERE id = 'n-ada'")
        ann.sync()
        assert office.execute("SELECT hex(body) FROM notes WHERE id = 'n-ada'") == [("C328",)]

    @pytest.mark.parametrize(
        ("statement", "code"),
        [
            ("UPDATE tickets SET id = 2 WHERE id = 1", "generated_key"),
            ("UPDATE notes SET id = 'n-cy' WHERE id = 'n-ada'", "key_exists"),
            ("UPDATE visits SET id = 'v-x', status = 'nonsense' WHERE id = 'v-bo'", "check"),
        ],
    )
    def test_a_refused_change_of_a_key_leaves_the_row_under_its_old_one(
        self, office: Office, statement: str, code: str
    ) -> None:
        """P3: delete and insert are one."""
        ann = synced(office)
        before = [ann.execute(f"SELECT * FROM {table}") for table in ("tickets", "notes", "visits")]
        ann.execute(statement)
        ann.sync()
        assert code in codes(ann)
        assert [ann.execute(f"SELECT * FROM {table}") for table in ("tickets", "notes", "visits")] == before
        assert office.execute("SELECT count(*) FROM tickets") == [(1,)]
        assert office.execute("SELECT count(*) FROM notes") == [(2,)]

    @pytest.mark.parametrize("others", [0, 12])
    def test_a_refused_change_of_a_key_that_is_sent_in_an_unmarked_group_deletes_nothing(
        self, office: Office, others: int
    ) -> None:
        """P3: also where a program other than ours does not mark the two halves."""
        ann = synced(office)
        for number in range(others):
            ann.execute("UPDATE visits SET summary = ? WHERE id = 'v-ada'", (f"{number}",))
        before = ann.execute("SELECT * FROM notes")
        ann.execute("UPDATE notes SET id = 'n-cy' WHERE id = 'n-ada'")
        ann.execute("UPDATE visits SET summary = 'after it' WHERE id = 'v-ada'")
        request = ann.file.upload_request()
        assert request
        mutations = [mutation for group in request["groups"] for mutation in group["mutations"]]
        request["groups"] = [{"marked": False, "mutations": mutations}]
        office.wait(office.service.upload(ann.identity, request))
        office.checkpoint()
        ann.sync()
        assert sorted(codes(ann)) == ["group", "key_exists"]
        assert office.execute("SELECT id FROM notes ORDER BY id") == [("n-ada",), ("n-cy",)]
        assert ann.execute("SELECT * FROM notes") == before
        assert office.execute("SELECT summary FROM visits WHERE id = 'v-ada'") == [("after it",)]

    def test_a_rule_of_the_companys_that_fails_on_a_value_holds_nothing_up(
        self, office: Office, dialect: Dialect
    ) -> None:
        """P2, P18."""
        parsing = dialect.json_parsing("new.body")
        for statement in dialect.trigger("json_rule", "BEFORE UPDATE", "notes", "new.body LIKE 'json%'", parsing):
            office.execute(statement)
        ann = synced(office)
        ann.execute("UPDATE notes SET body = 'json, but not really' WHERE id = 'n-ada'")
        ann.execute("UPDATE visits SET summary = 'after it' WHERE id = 'v-ada'")
        ann.sync()
        assert codes(ann) == ["refused"]
        assert office.execute("SELECT summary FROM visits WHERE id = 'v-ada'") == [("after it",)]

    def test_keys_that_are_not_utf8_can_be_written_from_a_phone(self, office: Office, dialect: Dialect) -> None:
        """P16."""
        needs(dialect, "has_text_that_is_not_utf8")
        office.execute("INSERT INTO notes VALUES(CAST(x'6EFF' AS TEXT), 'v-ada', 'odd key')")
        ann = synced(office)
        ann.execute("UPDATE notes SET body = 'changed' WHERE body = 'odd key'")
        ann.sync()
        assert office.execute("SELECT body FROM notes WHERE hex(id) = '6EFF'") == [("changed",)]
        assert not ann.rejections() and not ann.conflicts()

    def test_a_phone_from_before_the_source_was_provisioned_anew_does_not_send_again(self, office: Office) -> None:
        """P5: what it had sent is in the rows."""
        ann = synced(office)
        ann.execute("UPDATE visits SET kilometres = kilometres + 5 WHERE id = 'v-ada'")
        ann.sync()
        plan = office.service.plan
        office.wait(office.source.end_term(office.term))
        assert office.wait(office.source.deprovision())
        office.wait(office.source.provision(plan))
        office.wait(office.source.attach(plan))
        office.term = "again"
        assert office.wait(office.source.begin_term("again"))
        ann.execute("UPDATE visits SET kilometres = kilometres + 1 WHERE id = 'v-ada'")
        ann.sync()
        assert office.execute("SELECT kilometres FROM visits WHERE id = 'v-ada'") == [(6.0,)]
        assert ann.execute("SELECT kilometres FROM visits WHERE id = 'v-ada'") == [(6.0,)]
