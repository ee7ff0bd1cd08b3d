"""Every way in which a company writes to PostgreSQL reaches the devices (P1): one story each, with a replica file.

One phone follows every statement, one comes only in the end, and one is new: all three hold the source's rows.
"""

from __future__ import annotations

import pytest
from tests.postgres.ways import (
    ONE_VERSION,
    TABLES,
    Deed,
    OpenTown,
    Town,
    Ways,
    caseload,
    in_one_transaction,
    of,
    write_and_compare,
)


def rolled_back(*statements: str) -> Deed:
    def run(town: Town) -> None:
        town.execute("BEGIN", *statements, "ROLLBACK")

    return run


def copied(target: str, *rows: tuple[object, ...]) -> Deed:
    return lambda town: town.copy(target, rows)


PLAIN: dict[str, tuple[Deed, ...]] = {
    "insert, update, delete": (
        "INSERT INTO notes VALUES(1, 11, 'new')",
        "UPDATE notes SET body = 'changed' WHERE id = 1",
        "DELETE FROM notes WHERE id = 1",
    ),
    "many rows at once": (
        "INSERT INTO notes SELECT n, 10 + n % 2 + 1, 'bulk' FROM generate_series(1000, 6000) n",
        "UPDATE notes SET body = body || id WHERE id > 3000",
        "DELETE FROM notes WHERE id % 3 = 0",
    ),
    "on conflict do update": (
        "INSERT INTO visits VALUES(11, 1, 'again', 5), (19, 1, 'fresh', 6), (51, 2, 'moved here', 1) "
        "ON CONFLICT(id) DO UPDATE SET status = excluded.status, patient_id = excluded.patient_id",
    ),
    "on conflict do update where": (
        "INSERT INTO visits VALUES(11, 1, 'a'), (12, 1, 'b') ON CONFLICT(id) DO UPDATE SET status = excluded.status "
        "WHERE visits.id = 12",
    ),
    "on conflict do nothing": ("INSERT INTO visits VALUES(11, 2, 'no'), (18, 1, 'yes') ON CONFLICT DO NOTHING",),
    "merge": (
        "MERGE INTO visits v USING (VALUES(11, 1), (21, 3), (77, 2), (12, NULL)) AS s(id, p) ON v.id = s.id "
        "WHEN MATCHED AND s.p IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET patient_id = s.p, status = 'merged' "
        "WHEN NOT MATCHED THEN INSERT(id, patient_id) VALUES(s.id, s.p)",
    ),
    "copy": (copied("visits(id, patient_id, status)", (301, 1, "copied"), (302, 5, "nobody's"), (303, 3, "both's")),),
    "delete cascades three levels": ("DELETE FROM patients WHERE id = 2",),
    "update cascades three levels": (
        "UPDATE patients SET id = 102 WHERE id = 2",
        "UPDATE visits SET id = id + 500 WHERE patient_id = 1",
        "INSERT INTO assignments VALUES('ann', 102)",
    ),
    "deferred constraints": (
        in_one_transaction(
            "SET CONSTRAINTS ALL DEFERRED",
            "INSERT INTO notes VALUES(9000, 900, 'first the note')",
            "INSERT INTO visits VALUES(900, 1)",
            "DELETE FROM notes WHERE visit_id = 11",
        ),
    ),
    "keys change in one statement": (
        "UPDATE notes SET id = id + 1",
        "UPDATE notes SET id = -id",
        in_one_transaction(
            "UPDATE visits SET id = -11 WHERE id = 11",
            "UPDATE visits SET id = 11 WHERE id = 12",
            "UPDATE visits SET id = 12 WHERE id = -11",
        ),
    ),
    "a row changes hands": (
        "UPDATE visits SET patient_id = 4 WHERE patient_id = 1",
        "UPDATE visits SET patient_id = 3 WHERE patient_id = 4",
    ),
    "there and back before anybody looks": (
        in_one_transaction(
            "UPDATE visits SET patient_id = 5 WHERE id = 11", "UPDATE visits SET patient_id = 1 WHERE id = 11"
        ),
        in_one_transaction("DELETE FROM notes WHERE id = 110", "INSERT INTO notes VALUES(110, 51, 'elsewhere')"),
        in_one_transaction("INSERT INTO notes VALUES(7, 11, 'brief')", "DELETE FROM notes WHERE id = 7"),
    ),
    "rights come and go": (
        "DELETE FROM assignments WHERE patient_id = 1",
        "INSERT INTO assignments VALUES('ann', 5)",
        in_one_transaction(
            "UPDATE assignments SET patient_id = 1 WHERE nurse = 'ann' AND patient_id = 2", "DELETE FROM notes"
        ),
    ),
    "changing CTE": (
        "WITH gone AS (DELETE FROM notes WHERE visit_id < 20 RETURNING *), "
        "moved AS (UPDATE visits SET status = 'seen' WHERE id IN (SELECT visit_id FROM gone) RETURNING id) "
        "INSERT INTO notes SELECT id + 1, visit_id, upper(body) FROM gone",
    ),
    "one CTE writes the table twice": (
        "WITH a AS (UPDATE visits SET status = 'a' WHERE id = 11), b AS (INSERT INTO visits VALUES(700, 1)) "
        "DELETE FROM visits WHERE id = 12",
    ),
    "update from, delete using": (
        "UPDATE visits v SET minutes = n.id FROM notes n WHERE n.visit_id = v.id",
        "DELETE FROM notes n USING visits v WHERE n.visit_id = v.id AND v.patient_id = 3",
    ),
    "savepoints": (
        in_one_transaction(
            "UPDATE visits SET status = 'kept' WHERE id = 11",
            "SAVEPOINT a",
            "DELETE FROM visits",
            "SAVEPOINT b",
            "INSERT INTO patients VALUES(2000, 'ghost')",
            "ROLLBACK TO SAVEPOINT a",
            "UPDATE visits SET status = 'kept too' WHERE id = 12",
            "RELEASE SAVEPOINT a",
        ),
    ),
    "an error caught in a block": (
        "DO $$ BEGIN UPDATE visits SET status = 'before'; BEGIN DELETE FROM notes; PERFORM 1 / 0; "
        "EXCEPTION WHEN division_by_zero THEN UPDATE visits SET minutes = 9; END; END $$",
    ),
    "a procedure that commits on its way": (
        "CREATE PROCEDURE tidy() LANGUAGE plpgsql AS $$ BEGIN FOR i IN 11..12 LOOP UPDATE visits SET minutes = i "
        "WHERE id = i; COMMIT; END LOOP; DELETE FROM notes WHERE id = 110; ROLLBACK; END $$",
        "CALL tidy()",
    ),
    "where current of": (
        in_one_transaction(
            "DECLARE c CURSOR FOR SELECT * FROM visits WHERE patient_id = 1 ORDER BY id FOR UPDATE",
            "FETCH c",
            "UPDATE visits SET status = 'under the cursor' WHERE CURRENT OF c",
            "FETCH c",
            "DELETE FROM visits WHERE CURRENT OF c",
        ),
    ),
    "truncate": ("TRUNCATE notes", "INSERT INTO notes VALUES(1, 11, 'after')"),
    "truncate cascade": ("TRUNCATE visits RESTART IDENTITY CASCADE", "INSERT INTO visits VALUES(1, 1), (2, 5)"),
    "truncate and fill in one transaction": (
        in_one_transaction("TRUNCATE notes", "INSERT INTO notes SELECT id, id, 'refilled' FROM visits"),
    ),
    "truncate several": ("TRUNCATE notes, visits", "INSERT INTO visits VALUES(11, 1)"),
    "values of a megabyte": (
        "UPDATE notes SET body = repeat('ä', 1000000) WHERE id = 110",
        "UPDATE notes SET id = 111 WHERE id = 110",
        "UPDATE notes SET visit_id = 31 WHERE id = 111",
    ),
    "a writable view": (
        "CREATE VIEW open_visits AS SELECT id, patient_id, status FROM visits WHERE status <> 'done'",
        "UPDATE open_visits SET status = 'done' WHERE id = 11",
        "INSERT INTO open_visits VALUES(66, 1, 'by view')",
        "DELETE FROM open_visits WHERE id = 12",
    ),
    "a session of a replica": (
        "SET session_replication_role = replica",
        "UPDATE visits SET patient_id = 2 WHERE patient_id = 1",
        "DELETE FROM patients WHERE id = 1",
        "INSERT INTO notes VALUES(5, 21, 'by a replica')",
        "TRUNCATE notes",
        "INSERT INTO notes VALUES(6, 21, 'by a replica')",
        "RESET session_replication_role",
    ),
}
OF_READ_ONLY = (
    "insert, update, delete",
    "many rows at once",
    "merge",
    "update cascades three levels",
    "keys change in one statement",
    "there and back before anybody looks",
    "truncate",
)
"""Where capture of a table that no device writes differs: in what it makes of an UPDATE."""
QUIET: dict[str, tuple[Deed, ...]] = {
    "rolled back": (rolled_back("DELETE FROM notes", "UPDATE visits SET patient_id = 5", "TRUNCATE visits CASCADE"),),
    "select for update": (in_one_transaction("SELECT * FROM visits FOR UPDATE", "SELECT * FROM patients FOR SHARE"),),
    "no row concerned": ("UPDATE visits SET status = 'x' WHERE id = -1", "DELETE FROM notes WHERE false"),
    "explain without analyze": ("EXPLAIN UPDATE visits SET status = 'x'",),
    "lock and vacuum": ("VACUUM ANALYZE visits", "REINDEX TABLE visits"),
}


class TestPlain(Ways):
    @pytest.mark.parametrize("way", PLAIN)
    def test_a_way_of_writing(self, town: Town, way: str) -> None:
        """P1, P9."""
        if way == "merge" and town.host.info.server_version < 150000:
            pytest.skip("MERGE came with PostgreSQL 15")
        write_and_compare(town, *PLAIN[way])

    @ONE_VERSION
    @pytest.mark.parametrize("way", OF_READ_ONLY)
    def test_a_way_of_writing_what_devices_only_read(self, open_town: OpenTown, way: str) -> None:
        """P1, P9: no masks are kept of such tables."""
        write_and_compare(open_town(TABLES, caseload(read_only=True)), *PLAIN[way])

    @ONE_VERSION
    @pytest.mark.parametrize("way", QUIET)
    def test_what_changes_nothing_takes_no_checkpoint(self, town: Town, way: str) -> None:
        """P14: and nobody is told anything."""
        ann = town.phone("ann")
        town.drain()
        head = town.wait(town.source.read_head())
        town.do(*QUIET[way])
        assert town.drain() == 0
        assert town.wait(town.source.read_head()) == head
        town.agrees(ann, of("ann"))

    def test_a_statement_that_fails_leaves_no_change(self, town: Town) -> None:
        """P15: the host gets its own error."""
        ann = town.phone("ann")
        with pytest.raises(Exception, match="notes_visit_id_fkey"):
            town.execute("INSERT INTO notes VALUES(1, 11, 'good'), (2, 12345, 'bad')")
        with pytest.raises(Exception, match="null value in column"):
            town.execute("UPDATE visits SET status = CASE WHEN id > 30 THEN NULL ELSE 'x' END")
        assert town.drain() == 0
        town.agrees(ann, of("ann"))
