"""What a company's statements, triggers, foreign keys and settings do to rows: devices follow all of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig
from syncline.testing.bench import Phone
from syncline.testing.contract_lab import Company, ContractFixtures
from syncline.testing.contract_shapes import MakeCompany, needs
from syncline.testing.dialect import Dialect

TABLES = (
    "CREATE TABLE patients(id VARCHAR(20) PRIMARY KEY, name VARCHAR(80), n INTEGER DEFAULT 0)",
    "CREATE TABLE visits(id INTEGER PRIMARY KEY, patient_id VARCHAR(20) DEFAULT 'bo' {reference}, "
    "status VARCHAR(20), n INTEGER DEFAULT 0)",
    "CREATE TABLE assignments(nurse VARCHAR(20), patient_id VARCHAR(20))",
    "CREATE TABLE incoming(id INTEGER, patient_id VARCHAR(20), status VARCHAR(20))",
    "CREATE INDEX i ON visits(patient_id)",
    "INSERT INTO patients(id, name) VALUES('ada', 'Ada'), ('bo', 'Bo')",
    "INSERT INTO assignments VALUES('ann', 'ada'), ('ben', 'bo')",
    "INSERT INTO visits(id, patient_id, status) VALUES(1, 'ada', 'open'), (2, 'bo', 'open'), (3, 'ada', 'open')",
)
CONFIG = PlanConfig(
    (
        ScopeConfig(
            "caseload",
            {
                "visits": TableConfig(
                    (LinkConfig(parent="patients", on={"patient_id": "id"}),), where="status <> 'hidden'"
                )
            },
            root="patients",
            grant="SELECT patient_id FROM assignments WHERE nurse = :sub",
        ),
    )
)


class Ward:
    """Ann has Ada, Ben has Bo."""

    def __init__(self, make_company: MakeCompany, *more: str, action: str = "", refers: bool = True) -> None:
        """`refers`: the visits' foreign key is declared."""
        reference = f"REFERENCES patients(id) {action}" if refers else ""
        tables = [each.replace("{reference}", reference) for each in TABLES]
        self.company: Company = make_company([*tables, *more], CONFIG)
        self.ann: Phone = self.company.phone("ann")
        self.ben: Phone = self.company.phone("ben")

    def does(self, *statements: str, settings: tuple[str, ...] = ()) -> None:
        """The company's statements; afterwards both phones agree, and so does one that comes new."""
        if settings:
            self.company.lab.reconnect(*settings)
        self.company.execute(*statements)
        self.agrees()

    def agrees(self) -> None:
        for phone, nurse in ((self.ann, "ann"), (self.ben, "ben"), (self.company.phone("ann"), "ann")):
            granted = f"IN (SELECT patient_id FROM assignments WHERE nurse = '{nurse}')"
            patient = "patient_id IN (SELECT id FROM patients)"
            self.company.agrees(
                phone,
                patients=f"id {granted}",
                visits=f"patient_id {granted} AND {patient} AND status <> 'hidden'",
            )

    def visits(self) -> list[tuple[object, ...]]:
        return self.company.lab.execute("SELECT id, patient_id, status, n FROM visits ORDER BY id")


REPLACING = "REPLACE inside a trigger"
STATUS = "UPDATE visits SET status = 'done' WHERE id = 1"
NEW_VISIT = "INSERT INTO visits VALUES(9, 'ada', 'new', 0)"
HOST_TRIGGERS: dict[str, Callable[[Dialect], tuple[Sequence[str], str]]] = {
    "AFTER UPDATE, the row itself": lambda sql: (
        sql.trigger("h", "AFTER UPDATE OF status", "visits", "new.n < 5", "UPDATE visits SET n = n + 1, patient_id = 'bo' WHERE id = new.id"),
        STATUS,
    ),
    "BEFORE UPDATE, the row itself": lambda sql: (
        sql.trigger("h", "BEFORE UPDATE OF status", "visits", "", sql.rewriting("visits", "patient_id", "'bo'")),
        STATUS,
    ),
    "AFTER INSERT, the row itself": lambda sql: (
        sql.trigger("h", "AFTER INSERT", "visits", "", "UPDATE visits SET patient_id = 'bo', n = 9 WHERE id = new.id"),
        NEW_VISIT,
    ),
    "AFTER INSERT, its key": lambda sql: (
        sql.trigger("h", "AFTER INSERT", "visits", "", "UPDATE visits SET id = id + 100 WHERE id = new.id"),
        NEW_VISIT,
    ),
    "AFTER INSERT, gone again": lambda sql: (
        sql.trigger("h", "AFTER INSERT", "visits", "", "DELETE FROM visits WHERE id = new.id"),
        NEW_VISIT,
    ),
    "BEFORE DELETE, somebody else's row": lambda sql: (
        sql.trigger("h", "BEFORE DELETE", "visits", "", "UPDATE visits SET patient_id = 'ada' WHERE id = 2"),
        "DELETE FROM visits WHERE id = 1",
    ),
    "a cascade of triggers": lambda sql: (
        (
            *sql.trigger("h", "AFTER UPDATE OF name", "patients", "", "UPDATE visits SET status = new.name WHERE patient_id = new.id"),
            *sql.trigger("h2", "AFTER UPDATE OF status", "visits", "", "INSERT INTO visits VALUES(new.id + 50, 'bo', 'copy', 0)"),
            *sql.trigger("h3", "AFTER INSERT", "visits", "", "UPDATE patients SET n = n + 1 WHERE id = 'bo'"),
        ),
        "UPDATE patients SET name = 'Ada L.' WHERE id = 'ada'",
    ),
    "INSTEAD OF on a view": lambda sql: (
        (
            "CREATE VIEW open_visits AS SELECT * FROM visits WHERE status = 'open'",
            *sql.trigger("h", "INSTEAD OF UPDATE", "open_visits", "", "UPDATE visits SET patient_id = 'bo', n = new.n WHERE id = old.id"),
        ),
        "UPDATE open_visits SET n = 7 WHERE id = 1",
    ),
    REPLACING: lambda sql: (
        sql.trigger("h", "AFTER UPDATE OF status", "visits", "", "INSERT OR REPLACE INTO visits VALUES(2, 'ada', 'taken', 0)"),
        STATUS,
    ),
}  # fmt: skip

PARENTS_KEY = "a parent's key, left behind by its children"
STATEMENTS = {
    "several rows": ("UPDATE visits SET patient_id = CASE patient_id WHEN 'ada' THEN 'bo' ELSE 'ada' END",),
    "insert from select": ("INSERT INTO visits SELECT id + 10, 'bo', status, n FROM visits",),
    "upsert": (
        "INSERT INTO visits VALUES(1, 'bo', 'x', 1), (7, 'ada', 'y', 2) "
        "ON CONFLICT(id) DO UPDATE SET patient_id = excluded.patient_id, n = visits.n + 1",
    ),
    "upsert that does nothing": ("INSERT INTO visits VALUES(1, 'bo', 'x', 1) ON CONFLICT DO NOTHING",),
    "savepoints": (
        "BEGIN",
        "UPDATE visits SET n = 1",
        "SAVEPOINT a",
        "DELETE FROM visits",
        "INSERT INTO visits VALUES(9, 'ada', 'never', 0)",
        "ROLLBACK TO a",
        "UPDATE visits SET patient_id = 'bo' WHERE id = 1",
        "RELEASE a",
        "COMMIT",
    ),
    "deleted and inserted again": (
        "BEGIN",
        "DELETE FROM visits WHERE id = 1",
        "INSERT INTO visits VALUES(1, 'bo', 'again', 0)",
        "COMMIT",
    ),
    "all of a table": ("DELETE FROM visits",),
    "out of the filter and in": (
        "UPDATE visits SET status = 'hidden' WHERE id IN (1, 2)",
        "UPDATE visits SET status = NULL WHERE id = 3",
        "UPDATE visits SET status = 'seen', patient_id = 'bo' WHERE id = 1",
    ),
    PARENTS_KEY: (
        "INSERT INTO patients(id) VALUES('cy')",
        "UPDATE visits SET patient_id = 'cy' WHERE id = 3",
        "DELETE FROM patients WHERE id = 'cy'",
        "UPDATE patients SET id = 'zoe' WHERE id = 'ada'",
        "UPDATE patients SET id = 'ada' WHERE id = 'bo'",
    ),
}  # fmt: skip


class StatementsContract(ContractFixtures):
    """A part of `SourceContract`."""

    @pytest.mark.parametrize("case", STATEMENTS)
    def test_statements(self, make_company: MakeCompany, dialect: Dialect, case: str) -> None:
        refers = case != PARENTS_KEY or not dialect.enforces_foreign_keys
        Ward(make_company, refers=refers).does(*STATEMENTS[case])

    def test_update_from_and_returning(self, make_company: MakeCompany, dialect: Dialect) -> None:
        needs(dialect, "has_update_from")
        needs(dialect, "has_returning")
        ward = Ward(make_company)
        ward.does(
            "INSERT INTO incoming VALUES(1, 'bo', 'moved'), (2, 'ada', 'moved')",
            "UPDATE visits SET patient_id = i.patient_id, status = i.status FROM incoming AS i WHERE i.id = visits.id RETURNING *",
            "DELETE FROM visits WHERE id = 3 RETURNING id",
            "INSERT INTO visits VALUES(4, 'ada', 'x', 0) RETURNING id",
        )
        assert ward.visits() == [(1, "bo", "moved", 0), (2, "ada", "moved", 0), (4, "ada", "x", 0)]

    # ------------------------------------------------------------ triggers of the company's
    @pytest.mark.parametrize("recursive", [False, True], ids=["", "recursive_triggers"])
    @pytest.mark.parametrize("order", ["before ours", "after ours"])
    @pytest.mark.parametrize("case", HOST_TRIGGERS)
    def test_triggers_that_rewrite_what_was_written(
        self, make_company: MakeCompany, dialect: Dialect, case: str, order: str, recursive: bool
    ) -> None:
        """P5: made before provisioning or after it: SQLite fires them in another order then."""
        if recursive or case == REPLACING:
            needs(dialect, "has_replace")  # the setting is SQLite's
        made, statement = HOST_TRIGGERS[case](dialect)
        ward = Ward(make_company, *(made if order == "before ours" else ()))
        if order == "after ours":
            ward.company.execute(*made)
        ward.does(statement, settings=(f"recursive_triggers = {recursive}",) if dialect.has_replace else ())

    # ------------------------------------------------------------ foreign keys
    @pytest.mark.parametrize(
        ("action", "statement"),
        [
            ("ON DELETE CASCADE", "DELETE FROM patients WHERE id = 'ada'"),
            ("ON DELETE SET NULL", "DELETE FROM patients WHERE id = 'ada'"),
            ("ON DELETE SET DEFAULT", "DELETE FROM patients WHERE id = 'ada'"),
            ("ON UPDATE CASCADE", "UPDATE patients SET id = 'zoe' WHERE id = 'ada'"),
            ("ON UPDATE SET NULL", "UPDATE patients SET id = 'zoe' WHERE id = 'ada'"),
            ("ON UPDATE SET DEFAULT", "UPDATE patients SET id = 'zoe' WHERE id = 'ada'"),
        ],
    )
    def test_foreign_key_actions(
        self, make_company: MakeCompany, dialect: Dialect, action: str, statement: str
    ) -> None:
        settings = ("foreign_keys = ON",) if dialect.name == "sqlite" else ()
        ward = Ward(make_company, action=action)
        before = ward.visits()
        ward.does(statement, settings=settings)
        assert ward.visits() != before
        ward.does("INSERT INTO assignments VALUES('ann', 'zoe')", "DELETE FROM assignments WHERE patient_id = 'ada'")

    @pytest.mark.parametrize(
        "settings",
        [
            ("foreign_keys = OFF",),
            ("trusted_schema = OFF",),
            ("recursive_triggers = ON", "trusted_schema = OFF"),
            ("case_sensitive_like = ON",),
            ("legacy_alter_table = ON",),
            ("foreign_keys = ON", "defer_foreign_keys = ON"),
            ("reverse_unordered_selects = ON",),
            ("ignore_check_constraints = ON", "cell_size_check = ON"),
            ("count_changes = ON", "short_column_names = OFF", "full_column_names = ON"),
            ("query_only = OFF", "temp_store = MEMORY", "synchronous = OFF"),
        ],
        ids=lambda settings: ", ".join(settings),
    )
    def test_connections_with_settings_of_their_own(
        self, make_company: MakeCompany, dialect: Dialect, settings: tuple[str, ...]
    ) -> None:
        """P15: none of the company's programs has to change."""
        needs(dialect, "has_attach")  # the settings are SQLite's
        ward = Ward(make_company)
        ward.does(
            "INSERT INTO visits VALUES(7, 'ada', 'new', 1)",
            "UPDATE visits SET patient_id = 'bo' WHERE id = 1",
            "UPDATE visits SET id = 70 WHERE id = 7",
            "DELETE FROM visits WHERE id = 2",
            "INSERT OR REPLACE INTO visits VALUES(3, 'bo', 'x', 3)",
            settings=settings,
        )

    def test_a_file_that_is_attached_to_another(self, make_company: MakeCompany, dialect: Dialect) -> None:
        """A report's program has its own database, with tables of the same names, and writes to ours beside it."""
        needs(dialect, "has_attach")
        ward = Ward(make_company)
        lab = ward.company.lab
        lab.attach_to_another("clinic", "CREATE TABLE visits(id)", "CREATE TABLE syncline_context(one)")
        ward.company.execute(
            "BEGIN",
            "INSERT INTO clinic.visits VALUES(9, 'ada', 'from afar', 0)",
            "UPDATE clinic.visits SET patient_id = 'bo' WHERE id = 1",
            "INSERT INTO visits VALUES(1)",
            "INSERT OR REPLACE INTO clinic.visits VALUES(2, 'ada', 'replaced', 0)",
            "COMMIT",
        )
        lab.reconnect()
        ward.agrees()
