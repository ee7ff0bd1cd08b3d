"""Any legal shape of a table: keys of every kind, columns of every kind, and what a table may refer to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from syncline.errors import ConfigError
from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig
from syncline.testing.contract_lab import Company, ContractFixtures
from syncline.testing.dialect import Dialect

MakeCompany = Callable[..., Company]
EVERYBODY = ScopeConfig("all", {"things": TableConfig()})
CASELOAD = ScopeConfig(
    "caseload",
    {"visits": TableConfig((LinkConfig(parent="patients", on={"patient_id": "id"}),))},
    root="patients",
    grant="SELECT patient_id FROM assignments WHERE nurse = :sub",
)
PATIENTS = (
    "CREATE TABLE patients(id VARCHAR(20) PRIMARY KEY, name VARCHAR(80))",
    "CREATE TABLE assignments(nurse VARCHAR(20), patient_id VARCHAR(20))",
    "INSERT INTO patients VALUES('ada', 'Ada'), ('bo', 'Bo')",
    "INSERT INTO assignments VALUES('ann', 'ada'), ('ben', 'bo')",
)


def needs(dialect: Dialect, flag: str) -> None:
    """Skip where the database has no such thing."""
    if not getattr(dialect, flag):
        pytest.skip(f"{dialect.name} {flag.replace('has_', 'has no ').replace('_', ' ')}")


def everybody(*tables: str) -> PlanConfig:
    """One bucket that all hold."""
    return PlanConfig((ScopeConfig("all", {table: TableConfig() for table in tables}),))


class ShapesContract(ContractFixtures):
    """A part of `SourceContract`."""

    def follow(self, company: Company, table: str, statements: Sequence[str]) -> None:
        """A device is in step after each statement, and so is one that comes new at the end."""
        ann = company.phone("ann")
        for statement in statements:
            company.execute(statement)
            company.agrees(ann, {table: "1 = 1"})
        company.agrees(company.phone("ben"), {table: "1 = 1"})

    # ------------------------------------------------------------ keys
    def test_a_key_of_four_columns(self, make_company: MakeCompany) -> None:
        company = make_company(
            [
                "CREATE TABLE things(a INTEGER, v VARCHAR(9), b VARCHAR(9), c VARCHAR(9), d INTEGER, PRIMARY KEY(d, c, b, a))"
            ],
            everybody("things"),
        )
        self.follow(
            company,
            "things",
            [
                "INSERT INTO things VALUES(1, 'v', 'b', 'c', 1), (2, 'v', 'b', 'c', 1), (1, 'v', 'b', 'd', 1)",
                "UPDATE things SET v = 'w' WHERE a = 2",
                "UPDATE things SET a = a + 10, d = 7 WHERE c = 'c'",
                "DELETE FROM things WHERE a = 12",
            ],
        )

    def test_keys_that_one_update_shifts_along(self, make_company: MakeCompany) -> None:
        company = make_company(["CREATE TABLE things(id INTEGER PRIMARY KEY, v VARCHAR(9))"], everybody("things"))
        self.follow(
            company,
            "things",
            [
                "INSERT INTO things VALUES(1, 'a'), (2, 'b'), (3, 'c')",
                "UPDATE things SET id = -id",
                "UPDATE things SET id = -id + 1",
            ],
        )

    def test_keys_that_rows_swap(self, make_company: MakeCompany) -> None:
        """Within one transaction, over a key that is free."""
        company = make_company(
            [
                *PATIENTS,
                "CREATE TABLE visits(id INTEGER PRIMARY KEY, patient_id VARCHAR(20), v VARCHAR(9))",
                "CREATE INDEX i ON visits(patient_id)",
                "INSERT INTO visits VALUES(1, 'ada', 'of Ada'), (2, 'bo', 'of Bo')",
            ],
            PlanConfig((CASELOAD,)),
        )
        ann, ben = company.phone("ann"), company.phone("ben")
        company.execute(
            "BEGIN",
            "UPDATE visits SET id = 0 WHERE id = 1",
            "UPDATE visits SET id = 1 WHERE id = 2",
            "UPDATE visits SET id = 2 WHERE id = 0",
            "COMMIT",
        )
        company.agrees(ann, visits="patient_id = 'ada'")
        company.agrees(ben, visits="patient_id = 'bo'")

    @pytest.mark.parametrize(
        ("kind", "values"),
        [
            ("INTEGER", ("1", "-9223372036854775808", "9223372036854775807", "9007199254740993")),
            ("BIGINT", ("0", "9223372036854775806", "-1")),
            ("VARCHAR(40)", ("''", "'a'", "'A'", "'ä'", "'a '", "'1'", "'🩺''\"'")),
        ],
    )
    def test_keys_of_a_kind(
        self, make_company: MakeCompany, dialect: Dialect, kind: str, values: tuple[str, ...]
    ) -> None:
        kind = dialect.wide_integer if kind == "INTEGER" else kind
        company = make_company([f"CREATE TABLE things(id {kind} PRIMARY KEY, v VARCHAR(9))"], everybody("things"))
        statements = [f"INSERT INTO things VALUES({value}, 'a')" for value in values]
        statements += [
            f"UPDATE things SET v = 'b' WHERE id = {values[0]}",
            f"DELETE FROM things WHERE id = {values[1]}",
        ]
        self.follow(company, "things", statements)

    @pytest.mark.parametrize(
        ("kind", "values"),
        [
            ("BLOB", ("x''", "x'00ff'", "x'31'", "'1'")),
            ("REAL", ("0.1", "1e300", "1.0", "-0.5", "9e999", "'text'")),
            ("", ("1", "'1'", "x'31'", "1.5", "'a'")),
            ("INT", ("1", "'a'", "2.5")),
            ("UNSIGNED BIG INT", ("18446744073709551615", "'x'", "7")),
            ("DECIMAL(10, 2)", ("1.25", "'abc'", "3")),
        ],
    )
    def test_keys_that_differ_by_type_alone(
        self, make_company: MakeCompany, dialect: Dialect, kind: str, values: tuple[str, ...]
    ) -> None:
        needs(dialect, "has_typeless_columns")
        self.test_keys_of_a_kind(make_company, dialect, kind, values)

    def test_rows_whose_key_holds_null_stay_at_home(self, make_company: MakeCompany, dialect: Dialect) -> None:
        """They can be told from one another by nothing. What hangs on one belongs to nobody's bucket either."""
        needs(dialect, "has_null_keys")
        company = make_company(
            [
                *PATIENTS,
                "CREATE TABLE visits(id VARCHAR(20), n INTEGER, patient_id VARCHAR(20), no INTEGER, PRIMARY KEY(id, n))",
                "CREATE TABLE notes(id VARCHAR(20) PRIMARY KEY, visit_no INTEGER, body VARCHAR(20))",
                "CREATE INDEX i ON visits(patient_id)",
                "CREATE INDEX j ON visits(no)",
                "CREATE INDEX k ON notes(visit_no)",
                "INSERT INTO visits VALUES('v1', 1, 'ada', 1), ('v2', NULL, 'ada', 2), (NULL, NULL, 'ada', 3)",
                "INSERT INTO notes VALUES('n1', 1, 'a'), ('n2', 2, 'b'), ('n3', 3, 'c')",
            ],
            PlanConfig(
                (
                    ScopeConfig(
                        "caseload",
                        {
                            **CASELOAD.tables,
                            "notes": TableConfig((LinkConfig(parent="visits", on={"visit_no": "no"}),)),
                        },
                        root="patients",
                        grant=CASELOAD.grant,
                    ),
                )
            ),
        )
        ann = company.phone("ann")
        whole = "id IS NOT NULL AND n IS NOT NULL AND patient_id = 'ada'"
        for statement in (
            "UPDATE visits SET patient_id = 'ada'",
            "INSERT INTO visits VALUES('v4', 4, 'ada', 4), ('v5', NULL, 'ada', 5)",
            "INSERT INTO notes VALUES('n4', 4, 'd'), ('n5', 5, 'e')",
            "UPDATE visits SET n = 2 WHERE no = 2",
            "UPDATE visits SET id = NULL WHERE no = 1",
            "DELETE FROM visits WHERE no = 3",
            "UPDATE notes SET visit_no = 1 WHERE id = 'n4'",
            "UPDATE notes SET visit_no = 4 WHERE id = 'n4'",
        ):
            company.execute(statement)
            company.agrees(ann, visits=whole, notes=f"visit_no IN (SELECT no FROM visits WHERE {whole})")
        assert company.rows("visits", whole)

    def test_a_table_without_rowid(self, make_company: MakeCompany, dialect: Dialect) -> None:
        needs(dialect, "has_without_rowid")
        company = make_company(
            ["CREATE TABLE things(id TEXT, n INT, v TEXT UNIQUE, PRIMARY KEY(n, id)) WITHOUT ROWID"],
            everybody("things"),
        )
        self.follow(
            company,
            "things",
            [
                "INSERT INTO things VALUES('a', 1, 'x'), ('b', 1, 'y')",
                "UPDATE things SET n = n + 1",
                "REPLACE INTO things VALUES('c', 5, 'x')",
                "UPDATE things SET v = 'z' WHERE id = 'b'",
            ],
        )

    def test_a_strict_table(self, make_company: MakeCompany, dialect: Dialect) -> None:
        needs(dialect, "has_strict")
        company = make_company(
            ["CREATE TABLE things(id INTEGER PRIMARY KEY, i INT, r REAL, t TEXT, b BLOB, a ANY) STRICT"],
            everybody("things"),
        )
        self.follow(
            company,
            "things",
            [
                "INSERT INTO things VALUES(1, 1, 1, 'x', x'00', '1'), (2, NULL, NULL, NULL, NULL, 1)",
                "UPDATE things SET a = 1 WHERE id = 1",
                "UPDATE things SET a = 1.0 WHERE id = 1",
                "UPDATE things SET r = 2.5, b = x'01'",
            ],
        )

    # ------------------------------------------------------------ columns
    def test_columns_without_a_type_and_with_odd_ones(self, make_company: MakeCompany, dialect: Dialect) -> None:
        needs(dialect, "has_typeless_columns")
        company = make_company(
            [
                'CREATE TABLE things(id INTEGER PRIMARY KEY, a, b VARCHAR(10), c "UNSIGNED BIG INT", d DECIMAL(10,2), '
                'e "strange ""type"" (x", f NVARCHAR, g DATETIME, h BOOLEAN, i FLOATING POINT, j NULL, k "")'
            ],
            everybody("things"),
        )
        values = "1, '1', '01', '007', '1.50', '1.0', 'x', 'now', 'true', '2', '1e2', x'00'"
        self.follow(
            company,
            "things",
            [
                f"INSERT INTO things VALUES({values}), (2, 1, 1, 1.5, 1.50, 1, 2, 3, 1, 4, 5, NULL)",
                "UPDATE things SET a = '1' WHERE id = 2",
                "UPDATE things SET a = 1, c = -1, k = 9223372036854775807, i = 1e999",
                "INSERT INTO things(id, b) VALUES(3, 'a much longer text than ten')",
            ],
        )

    @pytest.mark.parametrize("kind", ["VIRTUAL", "STORED"])
    def test_generated_columns_join_and_filter(self, make_company: MakeCompany, dialect: Dialect, kind: str) -> None:
        needs(dialect, "has_generated_columns" if kind == "STORED" else "has_virtual_columns")
        company = make_company(
            [
                *PATIENTS,
                "CREATE TABLE visits(id INTEGER PRIMARY KEY, code VARCHAR(20), "
                f"patient_id VARCHAR(20) GENERATED ALWAYS AS (substr(code, 3)) {kind}, "
                f"hidden INTEGER GENERATED ALWAYS AS (length(code)) {kind})",
                "CREATE INDEX i ON visits(patient_id)",
                "INSERT INTO visits(id, code) VALUES(1, 'v-ada'), (2, 'v-bo')",
            ],
            PlanConfig(
                (
                    ScopeConfig(
                        "caseload",
                        {"visits": TableConfig(CASELOAD.tables["visits"].links, where="hidden < 8")},
                        root="patients",
                        grant=CASELOAD.grant,
                    ),
                )
            ),
        )
        ann = company.phone("ann")
        for statement in (
            "INSERT INTO visits(id, code) VALUES(3, 'w-ada')",
            "UPDATE visits SET code = 'x-ada' WHERE id = 1",
            "UPDATE visits SET code = 'x-bo' WHERE id = 1",
            "INSERT INTO patients VALUES('a long name', 'x')",
            "UPDATE visits SET code = 'x-ada' WHERE id = 2",
        ):
            company.execute(statement)
            company.agrees(ann, visits="patient_id = 'ada' AND hidden < 8")
        ann.execute("UPDATE visits SET code = 'z-ada' WHERE id = 3")
        company.agrees(ann, visits="patient_id = 'ada' AND hidden < 8")
        assert company.lab.execute("SELECT code, patient_id FROM visits WHERE id = 3") == [("z-ada", "ada")]

    def test_hidden_columns_are_never_asked_for(self, make_company: MakeCompany) -> None:
        """P8: not even in a row that only they changed."""
        company = make_company(
            ["CREATE TABLE things(id INTEGER PRIMARY KEY, ssn VARCHAR(20), v VARCHAR(20))"],
            PlanConfig((EVERYBODY,), hide={"things": ("ssn",)}),
        )
        ann = company.phone("ann")
        company.execute("INSERT INTO things VALUES(1, 'SECRET-1', 'a')")
        company.agrees(ann, things="1 = 1")
        company.execute("UPDATE things SET ssn = 'SECRET-2'")
        company.agrees(ann, things="1 = 1")
        ann.execute("INSERT INTO things VALUES(2, 'by Ann')")
        company.agrees(ann, things="1 = 1")
        assert b"SECRET" not in ann.bytes_on_disk()

    # ------------------------------------------------------------ what a table may refer to
    def test_foreign_keys_in_a_circle(self, make_company: MakeCompany) -> None:
        """Each patient has a contact among her visits, and each visit its patient."""
        company = make_company(
            [
                "CREATE TABLE patients(id VARCHAR(20) PRIMARY KEY, main_visit INTEGER)",
                "CREATE TABLE visits(id INTEGER PRIMARY KEY, patient_id VARCHAR(20) REFERENCES patients(id), next INTEGER)",
                "CREATE TABLE assignments(nurse VARCHAR(20), patient_id VARCHAR(20))",
                "CREATE INDEX i ON visits(patient_id)",
                "INSERT INTO patients VALUES('ada', NULL), ('bo', NULL)",
                "INSERT INTO assignments VALUES('ann', 'ada')",
                "INSERT INTO visits VALUES(1, 'ada', 2), (2, 'ada', 1), (3, 'bo', 3)",
            ],
            PlanConfig(
                (
                    ScopeConfig(
                        "caseload",
                        {"visits": TableConfig((LinkConfig(parent="patients"),))},
                        root="patients",
                        grant=CASELOAD.grant,
                    ),
                )
            ),
        )
        ann = company.phone("ann")
        for statement in (
            "UPDATE patients SET main_visit = 1 WHERE id = 'ada'",
            "UPDATE visits SET patient_id = 'bo', next = 3 WHERE id = 1",
            "UPDATE visits SET patient_id = 'ada' WHERE id = 3",
            "DELETE FROM visits WHERE id = 2",
        ):
            company.execute(statement)
            company.agrees(ann, patients="id = 'ada'", visits="patient_id = 'ada'")

    def test_a_tree_is_refused_as_a_path_and_syncs_by_another(self, make_company: MakeCompany) -> None:
        """A path has a fixed number of steps; a row's own parent may be any number of them away."""
        tree = (
            "CREATE TABLE wards(id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES wards(id), patient_id VARCHAR(20))"
        )
        index = "CREATE INDEX i ON wards(patient_id)"

        def config(link: LinkConfig) -> PlanConfig:
            return PlanConfig(
                (ScopeConfig("caseload", {"wards": TableConfig((link,))}, root="patients", grant=CASELOAD.grant),)
            )

        with pytest.raises(ConfigError) as refused:
            make_company([*PATIENTS, tree, index], config(LinkConfig(parent="wards")))
        assert refused.value.error_code == "path_circle" and "its own parent" in refused.value.message
        company = make_company([], config(LinkConfig(parent="patients", on={"patient_id": "id"})))
        ann = company.phone("ann")
        company.execute("INSERT INTO wards VALUES(1, NULL, 'ada'), (2, 1, 'ada'), (3, 2, 'bo')")
        company.agrees(ann, wards="patient_id = 'ada'")
        company.execute("UPDATE wards SET parent_id = 3, patient_id = 'ada'")
        company.agrees(ann, wards="patient_id = 'ada'")

    def test_a_view_is_refused_in_a_scope_and_resolved_in_a_grant(self, make_company: MakeCompany) -> None:
        view = "CREATE VIEW current_assignments AS SELECT nurse AS who, patient_id FROM assignments WHERE until IS NULL"
        statements = [
            "CREATE TABLE patients(id VARCHAR(20) PRIMARY KEY, name VARCHAR(80))",
            "CREATE TABLE assignments(nurse VARCHAR(20), patient_id VARCHAR(20), until VARCHAR(20))",
            "INSERT INTO patients VALUES('ada', 'Ada')",
            "INSERT INTO assignments VALUES('ann', 'ada', NULL)",
            view,
        ]
        with pytest.raises(ConfigError) as refused:
            make_company(statements, everybody("current_assignments"))
        assert refused.value.error_code == "view_cannot_sync"
        grant = "SELECT patient_id FROM current_assignments WHERE who = :sub"
        company = make_company([], PlanConfig((ScopeConfig("caseload", {}, root="patients", grant=grant),)))
        assert company.plan.grant_reads == {"caseload": frozenset({"assignments"})}
        ann = company.phone("ann")
        company.agrees(ann, patients="id = 'ada'")
        company.execute("UPDATE assignments SET until = 'today'")
        company.agrees(ann, patients="1 = 0")

    def test_a_virtual_table_is_refused_with_its_reason(self, make_company: MakeCompany, dialect: Dialect) -> None:
        needs(dialect, "has_virtual_tables")
        statements = [
            *PATIENTS,
            "CREATE VIRTUAL TABLE words USING fts5(body)",
            "CREATE VIRTUAL TABLE places USING rtree(id, x0, x1)",
        ]
        with pytest.raises(ConfigError, match="virtual table"):
            make_company(statements, everybody("words"))
        with pytest.raises(ConfigError, match="virtual table"):
            make_company([], everybody("places"))
        grant = "SELECT p.id FROM patients p JOIN words ON body = p.name WHERE :sub = p.id"
        with pytest.raises(ConfigError, match="virtual table"):
            make_company([], PlanConfig((ScopeConfig("caseload", {}, root="patients", grant=grant),)))

    def test_three_hundred_tables(self, make_company: MakeCompany) -> None:
        names = [f"table_{number}" for number in range(300)]
        company = make_company(
            [f"CREATE TABLE {name}(id INTEGER PRIMARY KEY, v VARCHAR(20))" for name in names], everybody(*names)
        )
        ann = company.phone("ann")
        company.execute("INSERT INTO table_7 VALUES(1, 'a')", "INSERT INTO table_299 VALUES(1, 'b')")
        taken = company.checkpoint()
        assert taken and taken.tables == {"table_7", "table_299"}
        company.agrees(ann, dict.fromkeys(names[:10] + names[-10:], "1 = 1"))
