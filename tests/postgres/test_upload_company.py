"""P2, P8: uploads under the company's own rights and claims, and beside its own transactions."""

from __future__ import annotations

import pytest
from tests.postgres.uploading import OpenOffice, UploadFixtures, codes, rule, synced, visit

from syncline.errors import AuthError, SourceBusyError
from syncline.source.postgres import writing
from syncline.source.postgres.company import WriteOptions
from syncline.source.postgres.row_writer import RowWriter
from syncline.source.postgres.upload_group import Write
from syncline.testing.bench import Office
from syncline.testing.postgres_database import PostgresDatabase

ROLE = (
    "DO $$ BEGIN CREATE ROLE field_staff; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
    "GRANT SELECT ON visits, patients TO field_staff",
    "GRANT INSERT, UPDATE ON visits TO field_staff",
    "GRANT USAGE ON SCHEMA public TO field_staff",
    "ALTER TABLE visits ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY seen ON visits FOR SELECT TO field_staff USING (true)",
    "CREATE POLICY made ON visits FOR INSERT TO field_staff WITH CHECK (room IS DISTINCT FROM 'forbidden')",
    "CREATE POLICY changed ON visits FOR UPDATE TO field_staff USING (n < 10) WITH CHECK (room IS DISTINCT FROM 'forbidden')",
)


class TestCompany(UploadFixtures):
    def test_row_security_refuses_what_the_companys_role_may_not(self, open_office: OpenOffice) -> None:
        office = open_office(*ROLE, options=WriteOptions("field_staff"))
        office.execute(f"UPDATE visits SET n = 20 WHERE id = '{visit(2)}'")
        ann = synced(office)
        ann.execute(f"UPDATE visits SET room = 'forbidden' WHERE id = '{visit(1)}'")
        ann.execute(f"UPDATE visits SET room = 'not mine' WHERE id = '{visit(2)}'")
        ann.execute(f"UPDATE visits SET room = 'allowed' WHERE id = '{visit(3)}'")
        ann.execute(f"DELETE FROM visits WHERE id = '{visit(4)}'")
        ann.execute(f"INSERT INTO visits(id, patient_id, room) VALUES('{visit(50)}', 'ada', 'forbidden')")
        ann.execute(f"INSERT INTO visits(id, patient_id, room) VALUES('{visit(51)}', 'ada', 'allowed')")
        ann.sync()
        assert codes(ann) == ["rls", "rls", "refused", "rls"]
        rooms = "SELECT id, room FROM visits WHERE room IS NOT NULL ORDER BY id"
        assert office.execute(rooms) == [(visit(3), "allowed"), (visit(51), "allowed")] == ann.execute(rooms)
        assert office.execute(f"SELECT count(*) FROM visits WHERE id = '{visit(4)}'") == [(1,)]

    def test_the_companys_journal_knows_the_nurse(self, open_office: OpenOffice) -> None:
        office = open_office(
            *rule(
                "journal_rule",
                "AFTER UPDATE",
                "INSERT INTO journal VALUES(current_setting('app.user_id', true), new.room, "
                "current_setting('app.site', true)); RETURN NULL;",
            ),
            options=WriteOptions("", {"app.user_id": ":sub", "app.site": "north"}),
        )
        ann, ben = synced(office), synced(office, "ben")
        ann.execute(f"UPDATE visits SET room = 'a' WHERE id = '{visit(1)}'")
        ben.execute(f"UPDATE visits SET room = 'b' WHERE id = '{visit(2)}'")
        ann.sync()
        ben.sync()
        office.execute(f"UPDATE visits SET room = 'c' WHERE id = '{visit(3)}'")
        journal = office.execute("SELECT * FROM journal ORDER BY what")
        assert journal == [("ann", "a", "north"), ("ben", "b", "north"), (journal[2][0], "c", journal[2][2])]
        assert journal[2][0] in (None, "")

    def test_a_claim_that_the_token_lacks_refuses_the_request_and_no_change(self, open_office: OpenOffice) -> None:
        office = open_office(options=WriteOptions("", {"app.tenant": ":tenant"}))
        ann = synced(office)
        ann.execute(f"UPDATE visits SET room = 'a' WHERE id = '{visit(1)}'")
        with pytest.raises(AuthError) as refused:
            ann.upload()
        assert refused.value.error_code == "claim_missing"
        assert not ann.rejections()

    def test_a_row_that_the_host_holds_makes_us_wait_and_refuses_nothing(
        self, office: Office, lab: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writing, "TRIES_MAX", 2)
        ann = synced(office)
        ann.execute(f"UPDATE visits SET room = 'a' WHERE id = '{visit(1)}'")
        host = lab.connect()
        host.execute("BEGIN")
        host.execute(f"UPDATE visits SET n = 7 WHERE id = '{visit(1)}'".encode())
        with pytest.raises(SourceBusyError):
            ann.upload()
        host.execute("COMMIT")
        host.close()
        ann.sync()
        assert not ann.rejections()
        assert office.execute(f"SELECT room, n FROM visits WHERE id = '{visit(1)}'") == [("a", 7)]

    def test_a_rule_that_never_ends_is_refused_in_the_end(
        self, open_office: OpenOffice, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writing, "TRIES_MAX", 2)
        office = open_office(
            *rule("slow", "BEFORE UPDATE", "IF new.room = 'slow' THEN PERFORM pg_sleep(60); END IF; RETURN new;"),
            options=WriteOptions("", {"statement_timeout": "300ms"}),
        )
        ann = synced(office)
        ann.execute(f"UPDATE visits SET room = 'slow' WHERE id = '{visit(1)}'")
        ann.execute(f"UPDATE visits SET room = 'quick' WHERE id = '{visit(2)}'")
        ann.sync()
        assert codes(ann) == ["refused"]
        assert office.execute("SELECT room FROM visits WHERE room IS NOT NULL") == [("quick",)]

    def test_a_rule_that_never_ends_is_waited_for_twice_and_no_more(
        self, open_office: OpenOffice, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Hosts wait for what the upload has locked. A sequence counts also what is rolled back."""
        monkeypatch.setattr(writing, "UPLOAD_STATEMENT_SECONDS", 0.3)
        office = open_office(
            "CREATE SEQUENCE slow_times",
            *rule(
                "slow",
                "BEFORE UPDATE",
                "IF new.room = 'slow' THEN PERFORM nextval('slow_times'); PERFORM pg_sleep(60); END IF; RETURN new;",
            ),
        )
        ann = synced(office)
        for number in range(1, 9):
            ann.execute(f"UPDATE visits SET room = '{'slow' if number == 5 else 'ok'}' WHERE id = '{visit(number)}'")
        ann.sync()
        assert codes(ann) == ["refused"]
        assert office.execute("SELECT count(*) FROM visits WHERE room = 'ok'") == [(7,)]
        assert office.execute("SELECT last_value FROM slow_times") == [(2,)]

    def test_a_key_that_somebody_else_takes_in_the_same_moment_is_taken(
        self, office: Office, lab: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ann = synced(office)
        ann.execute(f"INSERT INTO visits(id, patient_id, room) VALUES('{visit(50)}', 'ada', 'of ann')")
        write = RowWriter.write
        host = lab.connect()

        async def overtaken(writer: RowWriter, one: Write) -> bool:
            monkeypatch.setattr(RowWriter, "write", write)
            host.execute(f"INSERT INTO visits(id, patient_id, room) VALUES('{visit(50)}', 'ada', 'of ben')".encode())
            return await write(writer, one)

        monkeypatch.setattr(RowWriter, "write", overtaken)
        ann.sync()
        host.close()
        assert codes(ann) == ["key_exists"]
        assert ann.execute("SELECT room FROM visits WHERE room IS NOT NULL") == [("of ben",)]
