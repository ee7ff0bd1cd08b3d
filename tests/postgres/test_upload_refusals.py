"""P2, P8, P18: what a PostgreSQL database refuses is told to the nurse, and holds nothing else up."""

from __future__ import annotations

from tests.postgres.uploading import OpenOffice, UploadFixtures, codes, rule, synced, visit

from syncline.testing.bench import Office


class TestRefusals(UploadFixtures):
    def test_every_way_of_refusing_has_its_code_and_all_else_of_the_day_passes(self, office: Office) -> None:
        ann = synced(office)
        refused = [
            ("status", "much too long", "type"),
            ("n", 5000, "check"),
            ("n", 99_999_999_999, "type"),
            ("at", "tomorrow, perhaps", "type"),
            ("price", "12345678.90", "type"),
            ("doc", "{not json", "type"),
            ("mood", "angry", "type"),
            ("label", "longer than ten", "check"),
            ("room", "a\0b", "type"),
            ("patient_id", "cy", "scope"),
            ("patient_id", "nobody", "scope"),
        ]
        db = ann.file.connect()
        db.execute("PRAGMA foreign_keys = OFF")
        with db:
            for number, (column, value, _) in enumerate(refused, 1):
                db.execute(f"UPDATE visits SET {column} = ? WHERE id = ?", (value, visit(number)))
            db.execute("INSERT INTO slots VALUES(2, 'ada', '[5,6)')")
            db.execute("INSERT INTO slots VALUES(3, 'ada', '[20,30)')")
            db.execute("UPDATE visits SET room = 'passes' WHERE id > ?", (visit(len(refused)),))
        db.close()
        ann.sync()
        assert codes(ann) == [*(code for _, _, code in refused), "unique"]
        assert office.execute("SELECT count(*) FROM visits WHERE room = 'passes'") == [(40 - len(refused),)]
        assert office.execute("SELECT id FROM slots ORDER BY id") == [(1,), (3,)]
        shown = "SELECT id, n, status, room, patient_id FROM visits ORDER BY id"
        assert ann.execute(shown) == office.execute(shown), "each refused visit is as the office has it"

    def test_the_companys_own_words_reach_the_nurse(self, open_office: OpenOffice) -> None:
        office = open_office(
            *rule("closed", "BEFORE UPDATE", "IF new.room = 'x' THEN RAISE 'Room x is closed.'; END IF; RETURN new;"),
            *rule(
                "late",
                "AFTER UPDATE",
                "IF new.room = 'y' THEN RAISE 'Room y was closed too.' USING ERRCODE = 'QX001'; END IF; RETURN NULL;",
                constraint=True,
            ),
            *rule("half", "BEFORE UPDATE", "IF new.room = 'z' THEN new.n = 1 / 0; END IF; RETURN new;"),
            *rule(
                "hidden",
                "BEFORE UPDATE",
                "IF new.room = 's' THEN RAISE 'ssn SSN-ADA'; END IF; RETURN new;",
                table="visits",
            ),
        )
        ann = synced(office)
        for number, room in enumerate("xyzo", 1):
            ann.execute(f"UPDATE visits SET room = '{room}' WHERE id = '{visit(number)}'")
        ann.sync()
        assert codes(ann) == ["refused", "refused", "refused"]
        reasons = [rejection["reason"] for rejection in ann.rejections()]
        assert reasons[:2] == ["Room x is closed.", "Room y was closed too."]
        assert "zero" not in reasons[2]
        assert office.execute("SELECT id::text FROM visits WHERE room IS NOT NULL") == [(visit(4),)]

    def test_a_transaction_that_swaps_two_places_passes(self, office: Office) -> None:
        """P7: a deferrable constraint is asked at the group's end."""
        ann = synced(office)
        ann.group(
            f"UPDATE visits SET place = 2 WHERE id = '{visit(1)}'",
            f"UPDATE visits SET place = 1 WHERE id = '{visit(2)}'",
        )
        ann.sync()
        assert not ann.rejections()
        assert office.execute("SELECT place FROM visits WHERE place < 3 ORDER BY id") == [(2,), (1,)]

    def test_of_a_refused_transaction_the_culprit_has_the_reason(self, office: Office) -> None:
        """P7."""
        ann = synced(office)
        ann.group(
            f"UPDATE visits SET room = 'a' WHERE id = '{visit(1)}'",
            f"UPDATE visits SET place = 30 WHERE id = '{visit(2)}'",
            f"UPDATE visits SET room = 'c' WHERE id = '{visit(3)}'",
        )
        ann.sync()
        assert codes(ann) == ["group", "unique", "group"]
        assert office.execute("SELECT count(*) FROM visits WHERE room IS NOT NULL") == [(0,)]

    def test_a_change_that_a_rule_swallows_is_taken_back_on_the_phone(self, open_office: OpenOffice) -> None:
        office = open_office(
            *rule("frozen", "BEFORE UPDATE", f"IF new.id = '{visit(1)}' THEN new.room = old.room; END IF; RETURN new;"),
            *rule("gone", "BEFORE DELETE", f"IF old.id = '{visit(2)}' THEN RETURN NULL; END IF; RETURN old;"),
        )
        ann = synced(office)
        ann.execute("UPDATE visits SET room = 'r'")
        ann.execute(f"DELETE FROM visits WHERE id IN ('{visit(2)}', '{visit(3)}')")
        ann.sync()
        assert not ann.rejections()
        shown = "SELECT id, room FROM visits ORDER BY id"
        assert ann.execute(shown) == office.execute(shown)
        assert ann.execute(shown)[:3] == [(visit(1), None), (visit(2), "r"), (visit(4), "r")]
