"""Every way in which a company writes to PostgreSQL reaches the devices (P1): one story each, with a replica file.

One phone follows every statement, one comes only in the end, and one is new: all three hold the source's rows.
"""

from __future__ import annotations

import pytest
from tests.postgres.ways import TABLES, Deed, OpenTown, Town, Ways, caseload, everybody, for_everybody, of


def in_one_transaction(*statements: str) -> Deed:
    def run(town: Town) -> None:
        with town.host.transaction():
            town.execute(*statements)

    return run


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
QUIET: dict[str, tuple[Deed, ...]] = {
    "rolled back": (rolled_back("DELETE FROM notes", "UPDATE visits SET patient_id = 5", "TRUNCATE visits CASCADE"),),
    "select for update": (in_one_transaction("SELECT * FROM visits FOR UPDATE", "SELECT * FROM patients FOR SHARE"),),
    "no row concerned": ("UPDATE visits SET status = 'x' WHERE id = -1", "DELETE FROM notes WHERE false"),
    "explain without analyze": ("EXPLAIN UPDATE visits SET status = 'x'",),
    "lock and vacuum": ("VACUUM ANALYZE visits", "REINDEX TABLE visits"),
}


class TestPlain(Ways):
    @pytest.mark.parametrize("way", PLAIN)
    @pytest.mark.parametrize("read_only", [False, True], ids=["writable", "read-only"])
    def test_a_way_of_writing(self, open_town: OpenTown, way: str, read_only: bool) -> None:
        """P1, P9."""
        town = open_town(TABLES, caseload(read_only=read_only))
        if way == "merge" and town.host.info.server_version < 150000:
            pytest.skip("MERGE came with PostgreSQL 15")
        ann, later, ben = town.phone("ann"), town.phone("ann"), town.phone("ben")
        for deed in PLAIN[way]:
            town.do(deed)
            town.agrees(ann, of("ann"))
        town.agree([ann, later], of("ann"))
        town.agree([ben], of("ben"))

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


# ---------------------------------------------------------------- the company's own rules and triggers
ROW = "FOR EACH ROW EXECUTE FUNCTION"


def function(name: str, body: str) -> str:
    return f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN {body} END $body$"


MADE: dict[str, tuple[tuple[str, ...], tuple[Deed, ...]]] = {
    "a rule that redirects": (
        (
            "CREATE VIEW old_visits AS SELECT id, patient_id AS patient FROM visits",
            "CREATE RULE put AS ON INSERT TO old_visits DO INSTEAD INSERT INTO visits(id, patient_id) VALUES(new.id, new.patient)",
            "CREATE RULE turn AS ON UPDATE TO old_visits DO INSTEAD UPDATE visits SET patient_id = new.patient, status = 'ruled' WHERE id = old.id",
            "CREATE RULE drop AS ON DELETE TO visits WHERE old.status = 'locked' DO INSTEAD UPDATE visits SET minutes = -1 WHERE id = old.id",
        ),
        (
            "INSERT INTO old_visits VALUES(801, 1), (802, 4)",
            "UPDATE old_visits SET patient = 2 WHERE patient = 4",
            "UPDATE visits SET status = 'locked' WHERE id = 11",
            "DELETE FROM visits WHERE patient_id = 1",
        ),
    ),
    "a rule that writes as well": (
        (
            "CREATE RULE also AS ON UPDATE TO visits DO ALSO INSERT INTO notes VALUES(old.id + 10000, old.id, old.status)",
        ),
        ("UPDATE visits SET status = 'ruled' WHERE patient_id = 1",),
    ),
    "instead of": (
        (
            "CREATE VIEW desk AS SELECT v.id, p.name, v.status FROM visits v JOIN patients p ON p.id = v.patient_id",
            function(
                "desk_write",
                "IF tg_op = 'DELETE' THEN DELETE FROM visits WHERE id = old.id; RETURN old; END IF; "
                "UPDATE visits SET status = new.status WHERE id = new.id; "
                "UPDATE patients SET name = new.name FROM visits WHERE visits.id = new.id AND patients.id = patient_id; RETURN new;",
            ),
            f"CREATE TRIGGER desk INSTEAD OF UPDATE OR DELETE ON desk {ROW} desk_write()",
        ),
        ("UPDATE desk SET status = 'by desk', name = name || '!'", "DELETE FROM desk WHERE id = 12"),
    ),
    "before triggers that rewrite the row": (
        (
            function("shout", "new.body := upper(new.body); RETURN new;"),
            f"CREATE TRIGGER shout BEFORE INSERT OR UPDATE ON notes {ROW} shout()",
            function(
                "route", "IF new.minutes = 99 THEN new.patient_id := 2; new.id := new.id + 1000; END IF; RETURN new;"
            ),
            f"CREATE TRIGGER zz_route BEFORE INSERT OR UPDATE ON visits {ROW} route()",
            function("spare", "IF old.status = 'spare' THEN RETURN NULL; END IF; RETURN old;"),
            f"CREATE TRIGGER spare BEFORE DELETE ON visits {ROW} spare()",
        ),
        (
            "INSERT INTO notes VALUES(1, 11, 'quiet')",
            "UPDATE visits SET minutes = 99 WHERE id IN (11, 41)",
            "UPDATE visits SET status = 'spare' WHERE id = 12",
            "DELETE FROM visits WHERE patient_id = 1",
        ),
    ),
    "after triggers that write again": (
        (
            function(
                "again",
                "IF new.minutes < 3 THEN UPDATE visits SET minutes = minutes + 1 WHERE id = new.id; END IF; RETURN NULL;",
            ),
            f"CREATE TRIGGER aaa AFTER UPDATE ON visits {ROW} again()",
            function("tally", "UPDATE patients SET name = 'p' || (SELECT count(*) FROM visits) ; RETURN NULL;"),
            "CREATE TRIGGER zzz AFTER INSERT OR DELETE ON visits FOR EACH STATEMENT EXECUTE FUNCTION tally()",
        ),
        (
            "UPDATE visits SET minutes = 0",
            "INSERT INTO visits VALUES(600, 1)",
            "DELETE FROM visits WHERE patient_id IN (1, 4)",
        ),
    ),
    "a trigger that moves the row on": (
        (
            function(
                "pass_on",
                "UPDATE visits SET patient_id = 4 WHERE id = new.id AND new.status = 'hand over'; RETURN NULL;",
            ),
            f"CREATE TRIGGER pass_on AFTER UPDATE OF status ON visits {ROW} pass_on()",
        ),
        ("UPDATE visits SET status = 'hand over' WHERE id IN (11, 31)",),
    ),
    "a constraint trigger at commit": (
        (
            function("late", "UPDATE patients SET region = 'late' WHERE id = new.patient_id; RETURN NULL;"),
            f"CREATE CONSTRAINT TRIGGER late AFTER INSERT ON visits DEFERRABLE INITIALLY DEFERRED {ROW} late()",
        ),
        (in_one_transaction("INSERT INTO visits VALUES(601, 1)", "INSERT INTO notes VALUES(602, 601, 'x')"),),
    ),
    "disabled and enabled user triggers": (
        (
            function("shout", "new.body := upper(new.body); RETURN new;"),
            f"CREATE TRIGGER shout BEFORE UPDATE ON notes {ROW} shout()",
        ),
        (
            "ALTER TABLE notes DISABLE TRIGGER shout",
            "UPDATE notes SET body = 'quiet' WHERE id = 110",
            "ALTER TABLE notes ENABLE TRIGGER shout",
            "UPDATE notes SET body = 'loud' WHERE id = 120",
        ),
    ),
}


class TestMade(Ways):
    @pytest.mark.parametrize("way", MADE)
    def test_rules_and_triggers_of_the_company(self, open_town: OpenTown, way: str) -> None:
        """P1: what its rules and triggers made of the write, not what was asked for."""
        setup, deeds = MADE[way]
        town = open_town((*TABLES, *setup), caseload())
        ann, later, ben = town.phone("ann"), town.phone("ann"), town.phone("ben")
        for deed in deeds:
            town.do(deed)
            town.agrees(ann, of("ann"))
        town.agree([ann, later], of("ann"))
        town.agree([ben], of("ben"))

    def test_what_a_foreign_key_sets(self, open_town: OpenTown) -> None:
        """P1, P9: SET NULL and SET DEFAULT move rows between nurses."""
        town = open_town(
            (
                *TABLES,
                "CREATE TABLE tickets(id integer PRIMARY KEY, patient_id integer REFERENCES patients ON DELETE SET NULL)",
                "CREATE TABLE letters(id integer PRIMARY KEY, patient_id integer DEFAULT 3 REFERENCES patients "
                "ON DELETE SET DEFAULT ON UPDATE SET DEFAULT)",
                "INSERT INTO tickets SELECT p, p FROM generate_series(1, 5) p",
                "INSERT INTO letters SELECT p, p FROM generate_series(1, 5) p",
            ),
            caseload(everybody("tickets", "letters")),
        )
        everything = {"tickets": "true", "letters": "true"}
        ann = town.phone("ann")
        town.execute("DELETE FROM tickets WHERE id = 5")  # its key knows only ON DELETE
        town.execute("DELETE FROM patients WHERE id = 1", "UPDATE patients SET id = 55 WHERE id = 5")
        town.agree([ann], of("ann") | everything)
        assert ann.execute("SELECT patient_id FROM letters WHERE id IN (1, 5)") == [(3,), (3,)]
        assert ann.execute("SELECT patient_id FROM tickets WHERE id = 1") == [(None,)]

    def test_keys_that_move_over_each_other_in_one_statement(self, open_town: OpenTown) -> None:
        """P1, P13: every key is both old and new."""
        town = open_town(
            (
                "CREATE TABLE seats(row integer, id integer, who text, PRIMARY KEY(row, id) DEFERRABLE)",
                "INSERT INTO seats SELECT 1, n, 'guest ' || n FROM generate_series(1, 50) n",
            ),
            for_everybody("seats"),
        )
        ann = town.phone("ann")
        for statement in (
            "UPDATE seats SET id = id + 1",
            "UPDATE seats SET id = 52 - id",
            "UPDATE seats SET id = 53 - id WHERE id IN (26, 27)",
            "UPDATE seats SET row = row + 1, id = id - 1",
        ):
            town.execute(statement)
            town.agree([ann], {"seats": "true"})

    def test_generated_and_identity_and_serial_columns(self, open_town: OpenTown) -> None:
        """P1, P16: a phone sees what the database made of it."""
        town = open_town(
            (
                "CREATE TABLE bills(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, net integer, "
                "gross integer GENERATED ALWAYS AS (net * 2) STORED, line serial, made text DEFAULT 'x' || 1)",
                "INSERT INTO bills(net) SELECT n FROM generate_series(1, 5) n",
            ),
            for_everybody("bills"),
        )
        ann = town.phone("ann")
        town.execute("INSERT INTO bills(net) VALUES(10)", "UPDATE bills SET net = net + 1 WHERE id < 3")
        town.execute(
            "INSERT INTO bills(id, net) OVERRIDING SYSTEM VALUE VALUES(100, 1)", "TRUNCATE bills RESTART IDENTITY"
        )
        town.execute("INSERT INTO bills(net) VALUES(20), (21)")
        town.agree([ann], {"bills": "true"})
        assert ann.execute("SELECT id, gross FROM bills") == [(1, 40), (2, 42)]

    def test_children_that_inherit_are_never_shown_by_half(self, open_town: OpenTown) -> None:
        """P1: a SELECT on the parent shows the children's rows; where capture cannot follow them, the table is
        refused."""
        tables = (
            "CREATE TABLE papers(id integer PRIMARY KEY, title text)",
            "CREATE TABLE drawings(scale integer) INHERITS (papers)",
            "INSERT INTO papers VALUES(1, 'plain')",
        )
        try:
            town = open_town(tables, for_everybody("papers"))
        except Exception as error:
            assert "papers" in str(error) and "inherit" in str(error)
            return
        ann = town.phone("ann")
        town.execute("INSERT INTO drawings VALUES(2, 'house', 50)", "UPDATE papers SET title = title || '!'")
        town.execute("UPDATE drawings SET title = 'barn'", "INSERT INTO papers VALUES(3, 'x')")
        town.agree([ann], {"papers": "true"})
        town.execute("TRUNCATE ONLY papers", "DELETE FROM drawings")
        town.agree([ann], {"papers": "true"})
