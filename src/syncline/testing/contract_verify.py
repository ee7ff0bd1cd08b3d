"""A device compared with the source by digests: what is the same there is the same here, whatever it is made of."""

from __future__ import annotations

from collections.abc import Mapping

from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig
from syncline.testing.contract_lab import ContractFixtures
from syncline.testing.contract_shapes import MakeCompany, everybody, needs
from syncline.testing.dialect import Dialect
from syncline.testing.verifying import PhoneVerification, damage, verify

GRANT = "SELECT patient_id FROM assignments WHERE nurse = :sub"
SHARED = (
    "CREATE TABLE patients(id VARCHAR(20) PRIMARY KEY, name VARCHAR(20), pharmacy VARCHAR(20))",
    "CREATE TABLE pharmacies(id VARCHAR(20) PRIMARY KEY, name VARCHAR(20))",
    "CREATE TABLE visits(id INTEGER, site VARCHAR(9), patient_id VARCHAR(20), stand_in VARCHAR(20), status VARCHAR(9), "
    "PRIMARY KEY(id, site))",
    "CREATE TABLE assignments(nurse VARCHAR(20), patient_id VARCHAR(20))",
    "CREATE INDEX i1 ON visits(patient_id)",
    "CREATE INDEX i2 ON visits(stand_in)",
    "CREATE INDEX i3 ON patients(pharmacy)",
    "INSERT INTO pharmacies VALUES('f1', 'North')",
    "INSERT INTO patients VALUES('ada', 'Ada', 'f1'), ('bo', 'Bo', 'f1'), ('cy', 'Cy', 'f1')",
    "INSERT INTO assignments VALUES('ann', 'ada'), ('ann', 'bo')",
    "INSERT INTO visits VALUES(1, 'x', 'ada', 'bo', 'open'), (1, 'y', 'bo', NULL, 'open'), (2, 'x', 'cy', 'ada', 'open'), "
    "(3, 'x', 'ada', NULL, 'hidden')",
)
CASELOAD = ScopeConfig(
    "caseload",
    {
        "visits": TableConfig(
            (
                LinkConfig(parent="patients", on={"patient_id": "id"}),
                LinkConfig(parent="patients", on={"stand_in": "id"}),
            ),
            where="status <> 'hidden'",
        ),
        "pharmacies": TableConfig((LinkConfig(referenced_by="patients", on={"id": "pharmacy"}),), read_only=True),
    },
    root="patients",
    grant=GRANT,
)


class VerifyContract(ContractFixtures):
    """A part of `SourceContract`."""

    def test_rows_in_several_buckets_are_the_same_on_both_sides(self, make_company: MakeCompany) -> None:
        """P1: two paths, a filter, a key of two columns, rows that patients share; after a first sync and by the
        feed."""
        company = make_company(SHARED, PlanConfig((CASELOAD,)))
        ann = company.phone("ann")
        report = verify(ann)
        assert (report.differences, report.not_compared, report.rows) == ((), (), 6)
        company.execute(
            "UPDATE visits SET stand_in = 'bo' WHERE id = 2",
            "UPDATE visits SET status = 'open' WHERE id = 3",
            "INSERT INTO pharmacies VALUES('f2', 'South')",
            "UPDATE patients SET pharmacy = 'f2' WHERE id = 'bo'",
        )
        ann.sync()
        assert verify(ann).differences == ()
        damage(ann, "UPDATE visits SET status = 'wrong' WHERE id = 1 AND site = 'x'")
        found = verify(ann, repair=True).differences
        assert [(each.table, each.bucket) for each in found] == [
            ("visits", 'caseload["ada"]'),
            ("visits", 'caseload["bo"]'),
        ]
        company.agrees(ann, visits="id <> 2 OR stand_in = 'bo'")

    def test_values_at_their_edges_have_one_digest(self, make_company: MakeCompany, dialect: Dialect) -> None:
        """P16: wide integers, floats to the last bit and without an end, text of every kind, NULL beside ''."""
        make = f"CREATE TABLE edges(id INTEGER PRIMARY KEY, n {dialect.wide_integer}, x DOUBLE PRECISION, t TEXT)"
        values = (
            "(1, 9223372036854775807, 0.1, '')",
            "(2, -9223372036854775807, 1.0, NULL)",
            '(3, 9007199254740993, -0.0, \'"[""f"",""-0.0""]"\')',
            "(4, 0, 1e300, 'Zoë 🩺')",
            '(5, NULL, 5e-324, \'["f","-0.0"]\')',
            "(6, 1, 123456789012345680.0, '1.0')",
            "(7, 2, 0.30000000000000004, 'a\tb\nc\\\\')",
        )
        company = make_company([make, f"INSERT INTO edges VALUES{', '.join(values)}"], everybody("edges"))
        ann = company.phone("ann")
        assert (verify(ann).differences, verify(ann).rows) == ((), len(values))
        company.execute("UPDATE edges SET x = -x, t = t || '.'")
        ann.sync()
        assert verify(ann).differences == ()
        for statement in (
            "UPDATE edges SET x = 0.1 + 0.2 WHERE id = 1",
            "UPDATE edges SET t = '' WHERE id = 2",
            "UPDATE edges SET n = 9007199254740992 WHERE id = 3",
        ):
            damage(ann, statement)
            assert len(verify(ann).differences) == 1, statement
            assert verify(ann, repair=True).is_whole

    def test_whatever_a_column_holds_is_the_same_on_both_sides(
        self, make_company: MakeCompany, dialect: Dialect
    ) -> None:
        """P16: values that are not of their column's type, bytes, text that is not UTF-8."""
        needs(dialect, "has_loose_types")
        company = make_company(
            [
                "CREATE TABLE loose(id PRIMARY KEY, i INTEGER, r REAL, n NUMERIC, b BLOB, t TEXT)",
                "INSERT INTO loose VALUES(1, 'abc', 'x', '1e3', x'00ff', 12), (1.5, 1.0, 2, '0x10', 7, 1.5)",
                "INSERT INTO loose VALUES('k', x'01', x'', 10.0, '', x'ff'), (x'6b', 1e999, -1e999, -0.0, -0.0, -0.0)",
                "INSERT INTO loose VALUES('raw', CAST(x'fffe' AS TEXT), 0.0, 5.5, CAST(x'80' AS TEXT), CAST(x'c3' AS TEXT))",
            ],
            everybody("loose"),
        )
        ann = company.phone("ann")
        assert (verify(ann).differences, verify(ann).rows) == ((), 5)
        damage(
            ann,
            "UPDATE loose SET b = x'00fe' WHERE id = 1",
            "UPDATE loose SET t = CAST(x'c4' AS TEXT) WHERE id = 'raw'",
        )
        assert len(verify(ann).differences) == 1
        assert verify(ann, repair=True).is_whole and verify(ann).differences == ()

    def test_an_edit_of_a_row_is_left_out_by_its_key(self, make_company: MakeCompany) -> None:
        """P4: a key of two columns, of which one is text."""
        company = make_company(SHARED, PlanConfig((CASELOAD,)))
        ann = company.phone("ann")
        ann.execute("UPDATE visits SET status = 'mine' WHERE id = 1 AND site = 'y'")
        report = verify(ann)
        assert (report.differences, report.pending) == ((), 1)

    def test_what_is_counted_is_counted_by_all_processes(self, make_company: MakeCompany) -> None:
        """P22."""
        company = make_company(SHARED, PlanConfig((CASELOAD,)))
        another = company.lab.open()
        company.wait(company.source.count_up({"verifications": 2, "verify_differences": 0}))
        company.wait(another.count_up({"verifications": 3, "verified_rows": 10}))
        counted: Mapping[str, int] = {"verifications": 5, "verified_rows": 10}
        assert company.wait(company.source.counters()) == company.wait(another.counters()) == counted

    def test_changes_that_wait_in_the_queue_are_no_difference(self, make_company: MakeCompany) -> None:
        """P6: the pages see them before a checkpoint has them; a marker tells."""
        company = make_company(SHARED, PlanConfig((CASELOAD,)))
        ann = company.phone("ann")
        company.execute("UPDATE visits SET status = 'done' WHERE patient_id = 'ada'")
        verification = PhoneVerification(ann)
        report = verification.run()
        assert report.differences == () and report.changed == 2, "ada's, and bo's as the stand-in"
