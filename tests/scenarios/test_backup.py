"""The office's database is restored from a backup: what the phones did meanwhile comes back from the phones."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.scenarios.conftest import CONFIG, TABLES

from syncline.errors import SchemaChangedError, SourceBusyError
from syncline.model.scopes import Plan
from syncline.server.service import Service
from syncline.source.sqlite.sequencer import TermLostError
from syncline.source.sqlite.threads import drive
from syncline.testing.bench import Office, Phone
from syncline.testing.company_database import SqliteDatabase
from syncline.testing.plans import plan_for


class OfficeWithBackups(Office):
    """`backup` is taken while everything runs. Three ways to restore it."""

    database: SqliteDatabase

    def backup(self) -> Path:
        path = self.folder / "backup.db"
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as copy:
            self.database.host.backup(copy)
        return path

    def restore_and_start_again(self, backup: Path) -> None:
        """The server is stopped, the file put in its place, the server started."""
        self._stop_host()
        drive(self.source.close())
        self.database.path.write_bytes(backup.read_bytes())
        self._remove_log()
        self._start_host()
        self.source = self.database.open(self.determinism)
        plan = drive(plan_for(self.source, CONFIG))
        drive(self.source.attach(plan))
        self._begin(plan)

    def put_another_file_there(self, backup: Path) -> None:
        """While the server runs: the path names another file from now on."""
        self._stop_host()
        backup.replace(self.database.path)
        self._remove_log()
        self._start_host()

    def pour_back(self, backup: Path) -> None:
        """While the server runs: `.restore` of the command-line program writes into the open file."""
        with closing(sqlite3.connect(backup)) as copy:
            copy.backup(self.database.host)

    def begin_again(self) -> None:
        """What the sequencer's loop does when its term is lost."""
        with pytest.raises(TermLostError):
            self.checkpoint()
        drive(self.source.end_term(self.term))
        with pytest.raises(SchemaChangedError):  # the schema may be another one, too
            drive(self.source.begin_term("too early"))
        plan = drive(plan_for(self.source, CONFIG))
        drive(self.source.adopt(plan))
        self._begin(plan)

    def _begin(self, plan: Plan) -> None:
        self.service = Service(self.source, plan, self.clock, wait_for_marker=self._pass_marker)
        self._terms += 1
        self.term = f"term-{self._terms}"
        assert drive(self.source.begin_term(self.term))

    def _remove_log(self) -> None:
        """It belongs to the file that is gone."""
        for suffix in ("-wal", "-shm"):
            Path(f"{self.database.path}{suffix}").unlink(missing_ok=True)

    def _stop_host(self) -> None:
        self.database.host.close()

    def _start_host(self) -> None:
        self.database.host = self.database.connect()


@pytest.fixture
def office(tmp_path: Path) -> Iterator[OfficeWithBackups]:
    office = OfficeWithBackups(tmp_path, TABLES, CONFIG)
    yield office
    office.close()


Restore = Callable[[OfficeWithBackups, Path], None]


def restore_at_rest(office: OfficeWithBackups, backup: Path) -> None:
    office.restore_and_start_again(backup)


def restore_by_another_file(office: OfficeWithBackups, backup: Path) -> None:
    office.put_another_file_there(backup)
    office.begin_again()


def restore_into_the_file(office: OfficeWithBackups, backup: Path) -> None:
    office.pour_back(backup)
    office.begin_again()


RESTORES = pytest.mark.parametrize("restore", [restore_at_rest, restore_by_another_file, restore_into_the_file])


def agrees(office: Office, phone: Phone) -> None:
    """Ann's visits and notes on her phone are those of the office."""
    mine = "SELECT patient_id FROM assignments WHERE nurse = 'ann'"
    visits = f"SELECT * FROM visits WHERE patient_id IN ({mine}) ORDER BY id"
    assert phone.execute("SELECT * FROM visits ORDER BY id") == office.execute(visits)
    notes = f"SELECT n.* FROM notes n JOIN visits v ON v.id = n.visit_id WHERE v.patient_id IN ({mine}) ORDER BY n.id"
    assert phone.execute("SELECT * FROM notes ORDER BY id") == office.execute(notes)


@RESTORES
def test_the_nurses_acknowledged_work_comes_back_from_her_phone(office: OfficeWithBackups, restore: Restore) -> None:
    """P1, P3, P5: the backup is from before her cursor; what she wrote since is offered again, once."""
    ann = office.phone("ann")
    ann.sync()
    backup = office.backup()
    ann.execute("UPDATE visits SET summary = 'slept badly', kilometres = 5 WHERE id = 'v-ada'")
    ann.execute("INSERT INTO notes VALUES('n-new', 'v-ada', 'ask the doctor')")
    office.execute("UPDATE patients SET name = 'lost with the day' WHERE id = 'ada'")
    ann.sync()
    restore(office, backup)
    ann.sync()
    assert office.execute("SELECT summary, kilometres FROM visits WHERE id = 'v-ada'") == [("slept badly", 5.0)]
    assert office.execute("SELECT body FROM notes WHERE id = 'n-new'") == [("ask the doctor",)]
    assert ann.execute("SELECT name FROM patients WHERE id = 'ada'") == [("Ada",)]
    agrees(office, ann)
    ann.sync()
    assert office.execute("SELECT kilometres FROM visits WHERE id = 'v-ada'") == [(5.0,)]


@RESTORES
def test_the_lost_time_is_noticed_although_the_head_has_passed_its_number_again(
    office: OfficeWithBackups, restore: Restore
) -> None:
    """P1, P6: a cursor is a term and a number; the number alone would say that nothing is missing."""
    ann, ben = office.phone("ann"), office.phone("ben")
    ann.sync()
    ben.sync()
    backup = office.backup()
    office.execute("UPDATE visits SET summary = 'of the lost time' WHERE id = 'v-ada'")
    ann.sync()
    lost = drive(office.source.read_head()).checkpoint
    restore(office, backup)
    for number in range(lost + 3):
        office.execute("UPDATE visits SET summary = ?1 WHERE id = 'v-cy'", (f"new {number}",))
        office.checkpoint()
    assert drive(office.source.read_head()).checkpoint > lost
    ann.hello()
    assert ann.download()[0]["reset"]
    agrees(office, ann)
    assert ann.execute("SELECT summary FROM visits WHERE id = 'v-ada'") == [(None,)]
    ben.hello()
    assert not ben.download()[0]["reset"], "his cursor is older than the backup, and still valid"
    assert ben.execute("SELECT summary FROM visits WHERE id = 'v-cy'") == [(f"new {lost + 2}",)]


def test_what_is_uploaded_to_a_file_that_is_gone_is_not_acknowledged(office: OfficeWithBackups) -> None:
    """P3: the file is replaced while the upload's transaction is open."""
    ann = office.phone("ann")
    ann.sync()
    backup = office.backup()
    ann.execute("UPDATE visits SET summary = 'slept badly' WHERE id = 'v-ada'")
    write = office.source.write

    async def replaced_meanwhile(work):  # type: ignore[no-untyped-def]
        async def and_then(transaction):  # type: ignore[no-untyped-def]
            result = await work(transaction)
            office.put_another_file_there(backup)
            return result

        return await write(and_then)

    office.source.write = replaced_meanwhile  # type: ignore[method-assign]
    with pytest.raises(SourceBusyError) as refused:
        ann.upload()
    assert refused.value.error_code == "source_replaced"
    office.source.write = write  # type: ignore[method-assign]
    office.begin_again()
    ann.sync()
    assert office.execute("SELECT summary FROM visits WHERE id = 'v-ada'") == [("slept badly",)]


def test_a_backup_from_before_a_migration_brings_its_schema_along(office: OfficeWithBackups) -> None:
    """P1, P20: the older columns, the older program, and no row lost."""
    backup = office.backup()
    office.execute("ALTER TABLE notes ADD COLUMN mood TEXT")
    plan = drive(plan_for(office.source, CONFIG))
    drive(office.source.adopt(plan))
    office.service = Service(office.source, plan, office.clock, wait_for_marker=office._pass_marker)
    ann = office.phone("ann")
    ann.sync()
    ann.execute("UPDATE notes SET mood = 'good', body = 'slept well' WHERE id = 'n-ada'")
    ann.sync()
    restore_at_rest(office, backup)
    ann.sync()
    agrees(office, ann)
    assert [row[1] for row in ann.execute("PRAGMA table_info(notes)")] == ["id", "visit_id", "body"]
