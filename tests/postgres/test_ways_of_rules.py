"""What a company's own rules, triggers and keys make of a write on PostgreSQL reaches the devices (P1)."""

from __future__ import annotations

import pytest
from tests.postgres.ways import (
    TABLES,
    Deed,
    OpenTown,
    Ways,
    caseload,
    everybody,
    for_everybody,
    in_one_transaction,
    of,
    write_and_compare,
)

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
        write_and_compare(open_town((*TABLES, *setup), caseload()), *deeds)

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
