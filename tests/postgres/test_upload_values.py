"""P16: a value in another usual form is the same value, in a key too, and the phone ends with the source's spelling."""

from __future__ import annotations

from tests.postgres.uploading import UploadFixtures, synced, visit

from syncline.testing.bench import Office


class TestSpellings(UploadFixtures):
    def test_a_row_made_under_another_spelling_of_its_key_is_held_once(self, office: Office) -> None:
        ann = synced(office)
        odd = visit(77).replace("-", "").upper()
        ann.execute(f"INSERT INTO visits(id, patient_id, room) VALUES('{odd}', 'ada', 'one')")
        ann.execute("INSERT INTO days VALUES('ada', '2026-11-22T20:31:05Z', 'evening')")
        ann.upload()
        ann.execute(f"UPDATE visits SET room = 'two' WHERE id = '{odd}'")
        office.checkpoint()
        ann.download()
        assert ann.execute(f"SELECT room FROM visits WHERE id = '{odd}'") == [("two",)], "what waits stays visible"
        ann.sync()
        assert not ann.rejections() and not ann.conflicts()
        assert office.execute("SELECT id::text, room FROM visits WHERE room IS NOT NULL") == [(visit(77), "two")]
        assert ann.execute("SELECT id, room FROM visits WHERE room IS NOT NULL") == [(visit(77), "two")]
        assert ann.execute("SELECT * FROM days") == [("ada", "2026-11-22 20:31:05.000000", "evening")]

    def test_a_refused_row_under_another_spelling_leaves_and_what_hangs_on_it_is_refused_too(
        self, office: Office
    ) -> None:
        """P18."""
        ann = synced(office)
        odd = visit(1).replace("-", "")
        ann.execute(f"INSERT INTO visits(id, patient_id, room) VALUES('{odd}', 'ada', 'mine')")
        ann.execute(f"UPDATE visits SET room = 'mine still' WHERE id = '{odd}'")
        ann.sync()
        assert [rejection["code"] for rejection in ann.rejections()] == ["key_exists", "depends"]
        assert ann.execute("SELECT count(*) FROM visits") == [(40,)]
        assert ann.execute("SELECT count(*) FROM visits WHERE room IS NOT NULL") == [(0,)]

    def test_the_same_value_in_other_words_is_no_change_and_no_conflict(self, office: Office) -> None:
        office.execute(f"UPDATE visits SET at = '2026-11-22 20:31:05Z', doc = '{{\"a\": 1}}' WHERE id = '{visit(1)}'")
        ann, ben = synced(office), synced(office, "ben")
        ann.execute(
            f"UPDATE visits SET at = '2026-11-22T21:31:05+01:00', fee = '1.500', doc = '{{\"a\":1}}' "
            f"WHERE id = '{visit(1)}'"
        )
        ben.execute(f"UPDATE visits SET fee = '1.5' WHERE id = '{visit(1)}'")
        ann.sync()
        ben.sync()
        ann.sync()
        assert not ann.conflicts() and not office.conflicts() and not ann.rejections()
        expected = [("2026-11-22 20:31:05.000000", "1.50", '{"a": 1}')]
        query = f"SELECT at, fee, doc FROM visits WHERE id = '{visit(1)}'"
        assert ann.execute(query) == expected == ben.execute(query)

    def test_a_changed_key_that_is_the_same_key_leaves_the_row(self, office: Office) -> None:
        ann = synced(office)
        ann.execute(f"UPDATE visits SET id = '{visit(1).upper().replace('-', '')}', room = 'r' WHERE id = '{visit(1)}'")
        ann.sync()
        assert not ann.rejections()
        assert office.execute("SELECT id::text, n FROM visits WHERE room = 'r'") == [(visit(1), 1)]
        assert ann.execute("SELECT id, n FROM visits WHERE room = 'r'") == [(visit(1), 1)]
        assert ann.execute("SELECT count(*) FROM visits") == [(40,)]
