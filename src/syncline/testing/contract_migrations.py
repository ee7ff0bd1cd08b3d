"""The company changes its schema beside a running sequencer: what any source must do, as tests.

    class TestMySourceMigrates(MigrationContract):
        @pytest.fixture
        def lab(self, tmp_path): ...  # yields a SourceLab

Statements that a kind of database does not have are left out by its `migrations`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import pytest

from syncline.errors import ProtocolError, SourceBusyError
from syncline.model.scopes import PlanConfig, ScopeConfig, TableConfig
from syncline.testing.bench import Phone
from syncline.testing.contract_lab import SourceLab
from syncline.testing.dialect import Dialect
from syncline.testing.migrating_company import ANNS, CASELOAD, CONFIG, MigratingCompany
from syncline.testing.plans import plan_for

T = TypeVar("T")

OUR_TRIGGER: Sequence[str] = ["what drops our trigger for updates of medications"]
REBUILT = (
    "CREATE TABLE new_visits(id VARCHAR(20) PRIMARY KEY, status VARCHAR(20), summary VARCHAR(80), "
    "patient_id VARCHAR(20) REFERENCES patients(id), minutes INTEGER)",
    "INSERT INTO new_visits SELECT id, status, upper(summary), patient_id, 30 FROM visits",
)

_PATIENT = "patient_id VARCHAR(20) NOT NULL REFERENCES patients(id)"
LAID_OUT = {
    "columns change places": (
        f"id VARCHAR(20) PRIMARY KEY, {_PATIENT}, summary VARCHAR(80), status VARCHAR(20)",
        "id, patient_id, summary, status",
    ),
    "another key": (
        f"id VARCHAR(20) NOT NULL UNIQUE, {_PATIENT}, status VARCHAR(20), summary VARCHAR(80), PRIMARY KEY(id, patient_id)",
        "id, patient_id, status, summary",
    ),
    "another type": (
        f"id VARCHAR(20) PRIMARY KEY, {_PATIENT}, status VARCHAR(20), summary INTEGER",
        "id, patient_id, status, 7",
    ),
}
"""Columns · where their values come from."""


def rebuild(dialect: Dialect, made: tuple[str, ...] = REBUILT) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Statements up to the moment when there is no table `visits` · and after it."""
    notes = ("visits", "notes", "visit_id")
    back = ("ALTER TABLE new_visits RENAME TO visits", *dialect.refer_again(*notes))
    return (*made, *dialect.drop_referenced(*notes)), back


class MigrationContract:
    """The suite. A source whose triggers stay with a rebuilt table passes it, too."""

    @pytest.fixture
    def lab(self) -> SourceLab:
        raise NotImplementedError("give the fixture `lab`")

    @pytest.fixture
    def dialect(self, lab: SourceLab) -> Dialect:
        return lab.dialect

    @pytest.fixture
    def company(self, lab: SourceLab) -> Iterator[MigratingCompany]:
        company = MigratingCompany(lab)
        yield company
        company.close()

    # ------------------------------------------------------------ one statement
    @pytest.mark.parametrize(
        ("statements", "anew"),
        [
            (["ALTER TABLE visits ADD COLUMN minutes INTEGER DEFAULT 7"], {"visits", "notes"}),
            (["ALTER TABLE visits RENAME COLUMN summary TO report"], {"visits", "notes"}),
            (["ALTER TABLE medications ADD COLUMN dose VARCHAR(20) DEFAULT '1 mg'"], {"medications"}),
            (["ALTER TABLE assignments DROP COLUMN remark"], set()),
            (["ALTER TABLE visits RENAME TO calls", "ALTER TABLE calls RENAME TO visits"], set()),
            (["CREATE INDEX by_status ON visits(status)"], set()),
            (["CREATE TABLE payroll(id INTEGER PRIMARY KEY)"], set()),
            (OUR_TRIGGER, {"medications"}),
        ],
        ids=[
            "add",
            "rename",
            "add read-only",
            "drop where capture names no column",
            "there and back",
            "index",
            "unrelated",
            "our trigger",
        ],
    )
    def test_a_nurse_keeps_her_rows_and_gets_no_more_than_what_changed(
        self, company: MigratingCompany, dialect: Dialect, statements: Sequence[str], anew: set[str]
    ) -> None:
        """P1, P20: nothing waits in a changelog, and it is noticed all the same."""
        if statements is OUR_TRIGGER:
            statements = [dialect.drop_own_trigger("update", "medications")]
        ann = company.phone("ann")
        ann.execute("UPDATE visits SET status = 'done' WHERE id = 'v-bo'")
        company.execute(*statements)
        company.agrees(ann, ANNS)
        assert company.lab.execute("SELECT status FROM visits WHERE id = 'v-bo'") == [("done",)]
        assert company.replaced() == anew
        company.nothing_was_taken_away()

    @pytest.mark.parametrize("what", LAID_OUT)
    def test_rows_of_another_layout_are_not_taken_for_the_old_ones(
        self, company: MigratingCompany, dialect: Dialect, what: str
    ) -> None:
        """P1, P16: a phone that has not said hello since refuses them, though they are as wide: under another key its
        next program would begin with an empty table, and nobody would send it again."""
        ann = company.phone("ann")
        columns, values = LAID_OUT[what]
        made = (f"CREATE TABLE new_visits({columns})", f"INSERT INTO new_visits SELECT {values} FROM visits")
        gone, back = rebuild(dialect, made)
        company.execute(*gone, back[0])
        company.checkpoint()
        with pytest.raises(ProtocolError, match="layout"):
            ann.download()
        assert ann.execute("SELECT DISTINCT status FROM visits") == [("planned",)]
        company.agrees(ann, ANNS)
        company.nothing_was_taken_away()

    def test_what_is_written_after_a_new_column_came_is_captured(self, company: MigratingCompany) -> None:
        """P1."""
        ann = company.phone("ann")
        company.execute("ALTER TABLE visits ADD COLUMN minutes INTEGER", "UPDATE visits SET minutes = 5")
        company.checkpoint()
        company.execute("UPDATE visits SET minutes = 6 WHERE id = 'v-ada'")
        company.agrees(ann, ANNS)
        ann.execute("UPDATE visits SET minutes = 9 WHERE id = 'v-bo'")
        company.agrees(ann, ANNS)
        assert company.lab.execute("SELECT minutes FROM visits ORDER BY id") == [(6,), (9,), (5,)]
        company.nothing_was_taken_away()

    # ------------------------------------------------------------ rebuilds
    def test_a_rebuilt_table_comes_whole_and_no_row_vanishes_on_the_way(
        self, company: MigratingCompany, dialect: Dialect
    ) -> None:
        """P1, P20: at every moment of a migration that is not one transaction."""
        ann = company.phone("ann")
        ann.execute("UPDATE visits SET status = 'done' WHERE id = 'v-ada'")
        for statement in (statement for part in rebuild(dialect) for statement in part):
            company.execute(statement)
            if "DROP TABLE" in statement:
                company.waits()
            else:
                company.checkpoint()
            assert ann.execute("SELECT count(*) FROM visits") == [(2,)]
        company.agrees(ann, ANNS)
        assert ann.execute("SELECT id, summary, minutes FROM visits ORDER BY id") == [
            ("v-ada", "A", 30),
            ("v-bo", "B", 30),
        ]
        assert company.lab.execute("SELECT status FROM visits WHERE id = 'v-ada'") == [("done",)]
        assert company.replaced() == {"visits", "notes"}
        company.nothing_was_taken_away()

    def test_changes_that_waited_when_the_table_was_rebuilt_keep_their_stamps(
        self, company: MigratingCompany, dialect: Dialect
    ) -> None:
        """P12: the office wrote first, the nurse later; and the other way round."""
        ann = company.phone("ann")
        company.execute("UPDATE visits SET status = 'missed' WHERE id = 'v-ada'")
        ann.execute("UPDATE visits SET status = 'done'")
        time.sleep(0.05)  # stamps are the machine's here: whole milliseconds there, a measured offset here
        company.execute("UPDATE visits SET status = 'missed' WHERE id = 'v-bo'")
        gone, back = rebuild(dialect)
        company.execute(*gone, *back)
        company.agrees(ann, ANNS)
        assert company.lab.execute("SELECT status FROM visits WHERE patient_id <> 'cy' ORDER BY id") == [
            ("done",),
            ("missed",),
        ]

    def test_rows_that_the_rebuild_left_out_leave_the_devices(
        self, company: MigratingCompany, dialect: Dialect
    ) -> None:
        """P1: `replace` is everything."""
        ann = company.phone("ann")
        left = "INSERT INTO new_visits SELECT id, status, summary, patient_id, 1 FROM visits WHERE id <> 'v-bo'"
        gone, back = rebuild(dialect, (REBUILT[0], left))
        company.execute(*gone, *back)
        company.agrees(ann, ANNS)
        assert ann.execute("SELECT id FROM visits") == [("v-ada",)]

    def test_nothing_is_read_or_written_between_drop_and_rename(
        self, company: MigratingCompany, dialect: Dialect
    ) -> None:
        """P8, P20: a device is asked to come back, and keeps what it has."""
        ann, ben = company.phone("ann"), Phone(company, "ben-1", "ben", {"sub": "ben"}, 0)
        ann.execute("UPDATE visits SET status = 'done' WHERE id = 'v-ada'")
        ben.hello()
        gone, back = rebuild(dialect)
        company.execute(*gone)
        with pytest.raises(SourceBusyError):
            ann.upload()
        with pytest.raises(SourceBusyError):
            ben.download()
        assert ann.execute("SELECT status FROM visits WHERE id = 'v-ada'") == [("done",)]
        company.execute(*back)
        company.agrees(ann, ANNS)
        assert company.lab.execute("SELECT status FROM visits WHERE id = 'v-ada'") == [("done",)]
        ben.file.close()

    def test_a_rebuilt_table_that_only_grants_read_revokes_nothing(self, company: MigratingCompany) -> None:
        """P8, P9: while it is empty nobody is asked; what it says then counts, in both directions."""
        ann = company.phone("ann")
        company.execute(
            "ALTER TABLE assignments RENAME TO old_assignments",
            "CREATE TABLE assignments(caregiver VARCHAR(20), patient_id VARCHAR(20), since INTEGER)",
        )
        with pytest.raises(SourceBusyError):
            ann.download()
        company.execute(
            "INSERT INTO assignments SELECT caregiver, patient_id, 1 FROM old_assignments",
            "DROP TABLE old_assignments",
        )
        company.agrees(ann, ANNS)
        company.nothing_was_taken_away()
        assert company.replaced() == set()
        company.execute("DELETE FROM assignments WHERE patient_id = 'bo'")
        company.agrees(ann, ANNS)
        assert ann.execute("SELECT id FROM patients") == [("ada",)]

    def test_a_device_that_was_away_during_the_migration_gets_it_later(
        self, company: MigratingCompany, dialect: Dialect
    ) -> None:
        """P1, P4."""
        ann = company.phone("ann")
        ann.execute("INSERT INTO notes VALUES('n-new', 'v-bo', 'written in a tunnel')")
        gone, back = rebuild(dialect)
        company.execute(*gone, *back)
        company.checkpoint()
        company.execute("DELETE FROM notes WHERE id = 'n-ada'", "UPDATE visits SET minutes = 1")
        company.checkpoint()
        company.agrees(ann, ANNS)
        assert company.lab.execute("SELECT body FROM notes WHERE id = 'n-new'") == [("written in a tunnel",)]

    # ------------------------------------------------------------ what no longer fits
    def test_a_column_of_the_configuration_that_is_gone_holds_everything_until_it_is_back(
        self, company: MigratingCompany
    ) -> None:
        """P3, P20: what is written meanwhile is not missed."""
        ann = company.phone("ann")
        company.execute("ALTER TABLE visits RENAME COLUMN status TO state")
        company.execute("UPDATE medications SET name = 'Ibuprofen'")
        company.waits()
        company.waits()
        assert ann.execute("SELECT count(*) FROM visits") == [(2,)]
        company.execute("ALTER TABLE visits RENAME COLUMN state TO status")
        company.agrees(ann, ANNS)
        company.nothing_was_taken_away()

    # ------------------------------------------------------------ while nobody serves
    @pytest.mark.parametrize("how", ["a rebuilt table", "a new column"])
    def test_a_migration_while_no_server_runs(self, company: MigratingCompany, dialect: Dialect, how: str) -> None:
        """P1, P15: noticed when it starts; cursors stay, and only what changed comes anew."""
        gone, back = rebuild(dialect)
        added = ("ALTER TABLE visits ADD COLUMN minutes INTEGER DEFAULT 3",)
        statements = (*gone, *back) if how == "a rebuilt table" else added
        ann = company.phone("ann")
        company.wait(company.source.end_term("term-1"))
        company.execute(*statements, "UPDATE visits SET summary = 'unseen'", "DELETE FROM visits WHERE id = 'v-bo'")
        company.restart()
        company.agrees(ann, ANNS)
        assert company.replaced() == {"visits", "notes"}
        assert not any(frame["reset"] for frame in company.said("begin"))

    def test_a_new_configuration_brings_just_the_tables_that_it_changes(
        self, company: MigratingCompany, more: Mapping[str, str] | None = None
    ) -> None:
        """P8, P20: a filter takes rows away although nobody wrote them; terms and cursors stay."""
        ann = company.phone("ann")
        narrower = ScopeConfig(
            "caseload",
            {**CASELOAD.tables, "notes": TableConfig(CASELOAD.tables["notes"].links, where="body <> 'sleeps well'")},
            root="patients",
            grant=CASELOAD.grant,
        )
        company.config = PlanConfig((narrower, *CONFIG.scopes[1:]), hide=CONFIG.hide)
        company.wait(company.source.provision(company.wait(plan_for(company.source, company.config))))
        company.restart()
        company.agrees(ann, {**ANNS, "notes": "1 = 0"})
        assert company.replaced() == {"notes"}
        company.nothing_was_taken_away()

    def test_a_table_that_syncs_no_more_and_then_again(self, company: MigratingCompany) -> None:
        """P1: what happened between is not missed."""
        ann = company.phone("ann")
        without = ScopeConfig("caseload", {"visits": CASELOAD.tables["visits"]}, root="patients", grant=CASELOAD.grant)
        for scope in (without, CASELOAD):
            company.config = PlanConfig((scope, *CONFIG.scopes[1:]), hide=CONFIG.hide)
            company.wait(company.source.provision(company.wait(plan_for(company.source, company.config))))
            company.restart()
            company.execute("UPDATE notes SET body = 'unseen' WHERE id = 'n-ada'")
            ann.sync()
        company.agrees(ann, ANNS)
        assert not any(frame["reset"] for frame in company.said("begin"))

    # ------------------------------------------------------------ with capture taken off
    def test_a_migration_around_which_capture_was_taken_off(self, company: MigratingCompany, lab: SourceLab) -> None:
        """P1, P20: a column that capture names is dropped; the server waits, and tables that were not touched stay."""
        ann = company.phone("ann")
        ann.execute("UPDATE visits SET status = 'done' WHERE id = 'v-bo'")
        migrating = lab.open()
        assert company.wait(migrating.suspend()) >= {"visits", "notes", "patients", "assignments"}
        company.execute("ALTER TABLE visits DROP COLUMN summary")
        company.waits()
        with pytest.raises(SourceBusyError):
            ann.download()
        report = company.wait(migrating.provision(company.wait(plan_for(migrating, CONFIG))))
        assert set(report.anew) == {"visits", "notes"}
        company.wait(migrating.close())
        company.agrees(ann, ANNS)
        assert company.replaced() == {"visits", "notes"}
        company.nothing_was_taken_away()

    def test_a_trigger_of_ours_that_goes_right_after_a_migration_comes_back(
        self, company: MigratingCompany, lab: SourceLab, dialect: Dialect
    ) -> None:
        """P2: before the server has looked, so that it finds other capture than its own, and that not whole."""
        ann = company.phone("ann")
        migrating = lab.open()
        company.wait(migrating.suspend())
        company.execute("ALTER TABLE visits DROP COLUMN summary")
        company.wait(migrating.provision(company.wait(plan_for(migrating, CONFIG))))
        company.wait(migrating.close())
        company.execute(dialect.drop_own_trigger("update", "medications"))
        company.agrees(ann, ANNS)
        company.nothing_was_taken_away()

    def test_what_others_write_while_capture_is_off_is_not_missed(
        self, company: MigratingCompany, lab: SourceLab
    ) -> None:
        """P1: an alarm stands in the place of capture."""
        ann = company.phone("ann")
        migrating = lab.open()
        company.wait(migrating.suspend())
        company.execute("UPDATE medications SET name = 'Ibuprofen'", "DELETE FROM notes WHERE id = 'n-ada'")
        report = company.wait(migrating.provision(company.wait(plan_for(migrating, CONFIG))))
        assert set(report.anew) == {"medications", "notes"}
        company.wait(migrating.close())
        company.agrees(ann, ANNS)

    @pytest.mark.parametrize("by", ["command", "script"])
    def test_what_was_missed_before_capture_was_taken_off_comes_anew(
        self, company: MigratingCompany, lab: SourceLab, dialect: Dialect, by: str
    ) -> None:
        """P1: the alarm in the place of capture knows nothing of what was written while a trigger of ours was gone."""
        ann = company.phone("ann")
        company.execute(dialect.drop_own_trigger("update", "medications"), "UPDATE medications SET name = 'Ibuprofen'")
        if by == "command":
            migrating = lab.open()
            company.wait(migrating.suspend())
            report = company.wait(migrating.provision(company.wait(plan_for(migrating, CONFIG))))
            assert set(report.anew) == {"medications"}
            company.wait(migrating.close())
        else:
            company.execute(*company.wait(company.source.suspend_script()))
            company.execute(*company.wait(company.source.resume_script()))
        company.agrees(ann, ANNS)
        assert company.replaced() == {"medications"}

    def test_a_migration_that_dies_and_is_begun_anew_brings_no_table_anew(
        self, company: MigratingCompany, lab: SourceLab
    ) -> None:
        """P2: nobody has written, and the alarm has stood all the time."""
        company.phone("ann").sync()
        for _ in range(2):
            migrating = lab.open()
            company.wait(migrating.suspend())
            company.wait(migrating.close())
        migrating = lab.open()
        report = company.wait(migrating.provision(company.wait(plan_for(migrating, CONFIG))))
        assert report.anew == ()
        company.wait(migrating.close())

    def test_a_migration_that_dies_is_cleared_up(self, company: MigratingCompany, lab: SourceLab) -> None:
        """P2: its process holds a lock; when that is free the server puts capture back."""
        ann = company.phone("ann")
        before = company.wait(company.source.diagnose(company.plan))
        migrating = lab.open()
        company.wait(migrating.suspend())
        company.execute("UPDATE visits SET summary = 'unseen'")
        company.waits()
        company.wait(migrating.close())
        company.agrees(ann, ANNS)
        assert company.wait(company.source.diagnose(company.plan)) == before

    def test_the_scripts_for_other_tools(self, company: MigratingCompany) -> None:
        """P20: before and after, run by somebody who knows nothing of Syncline."""
        ann = company.phone("ann")
        before = company.wait(company.source.diagnose(company.plan))
        company.execute(*company.wait(company.source.suspend_script()))
        company.execute("ALTER TABLE visits DROP COLUMN summary")
        company.waits()
        found = company.wait(company.source.diagnose(company.plan))
        assert [each.code for each in found if each not in before] == ["migration_running"]
        company.execute(*company.wait(company.source.resume_script()))
        company.agrees(ann, ANNS)
        assert company.replaced() == {"visits", "notes"}
        company.nothing_was_taken_away()
