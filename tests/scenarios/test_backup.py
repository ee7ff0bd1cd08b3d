"""The office's database is restored from a backup: what the phones did meanwhile comes back from the phones."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.contract.test_postgres_source import PostgresLab
from tests.contract.test_sqlite_source import SqliteLab

from syncline.errors import SchemaChangedError, SourceBusyError, SourceError
from syncline.model.scopes import Plan
from syncline.server.service import Service
from syncline.testing.bench import Office, Phone
from syncline.testing.contract_clinic import CONFIG, clinic_tables
from syncline.testing.contract_lab import SourceLab
from syncline.testing.plans import plan_for

ATTEMPTS_MAX = 5


class OfficeWithBackups(Office):
    """`backup` is taken while everything runs. Three ways to restore it."""

    def backup(self) -> Path:
        raise NotImplementedError

    def restore_and_start_again(self, backup: Path) -> None:
        """The server is stopped, the database put in its place, the server started."""
        raise NotImplementedError

    def put_another_there(self, backup: Path) -> None:
        """While the server runs: the address names another database from now on."""
        raise NotImplementedError

    def pour_back(self, backup: Path) -> None:
        """While the server runs: a program writes all that the backup holds into the database."""
        raise NotImplementedError

    def begin_again(self) -> None:
        """What the sequencer's loop does when its term is lost."""
        assert self.lost() == "term_lost"
        self.wait(self.source.end_term(self.term))
        self.look_at_the_schema_first()
        plan = self.wait(plan_for(self.source, CONFIG))
        self.wait(self.source.adopt(plan))
        self._begin(plan)

    def lost(self) -> str:
        """What the next checkpoint says once the database is there again; empty if it is simply taken."""
        for _ in range(ATTEMPTS_MAX):
            try:
                self.checkpoint()
            except SourceBusyError:
                continue
            except SourceError as error:
                return error.error_code
            return ""
        raise AssertionError("the database does not come back")

    def look_at_the_schema_first(self) -> None:
        """It may be another one, too."""

    def _start(self) -> None:
        """A new server process."""
        self.source = self.database.open(self.determinism)
        plan = self.wait(plan_for(self.source, CONFIG))
        try:
            self.wait(self.source.attach(plan))
        except SchemaChangedError:  # a dump keeps the rows and the words of a schema, not its identity
            self.wait(self.source.adopt(plan))
        self._begin(plan)

    def _begin(self, plan: Plan) -> None:
        self.service = Service(self.source, plan, self.clock, wait_for_marker=self._pass_marker)
        self._terms += 1
        self.term = f"term-{self._terms}"
        assert self.wait(self.source.begin_term(self.term))


class OfficeOnSqlite(OfficeWithBackups):
    """A backup is a copy of the file."""

    database: SqliteLab

    def backup(self) -> Path:
        path = self.folder / "backup.db"
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as copy:
            self.database.host.backup(copy)
        return path

    def restore_and_start_again(self, backup: Path) -> None:
        self.database.host.close()
        self.wait(self.source.close())
        self.database.path.write_bytes(backup.read_bytes())
        self._remove_log()
        self.database.reconnect()
        self._start()

    def put_another_there(self, backup: Path) -> None:
        self.database.host.close()
        backup.replace(self.database.path)
        self._remove_log()
        self.database.reconnect()

    def pour_back(self, backup: Path) -> None:
        """As `.restore` of the command-line program."""
        with closing(sqlite3.connect(backup)) as copy:
            copy.backup(self.database.host)

    def look_at_the_schema_first(self) -> None:
        with pytest.raises(SchemaChangedError):
            self.wait(self.source.begin_term("too early"))

    def _remove_log(self) -> None:
        """It belongs to the file that is gone."""
        for suffix in ("-wal", "-shm"):
            Path(f"{self.database.path}{suffix}").unlink(missing_ok=True)


class OfficeOnPostgres(OfficeWithBackups):
    """A backup is what pg_dump writes."""

    database: PostgresLab

    def backup(self) -> Path:
        path = self.database.server.folder / f"{self.database.address.name}.dump"
        self.database.server.run("pg_dump", "--format=custom", f"--file={path}", self.database.url)
        return path

    def restore_and_start_again(self, backup: Path) -> None:
        self.database.host.close()
        self.wait(self.source.close())
        self._replace(backup)
        self._start()

    def put_another_there(self, backup: Path) -> None:
        self._replace(backup)

    def pour_back(self, backup: Path) -> None:
        """In one transaction, into the database that all use."""
        self._restore("--clean", "--if-exists", "--single-transaction", str(backup))

    def _replace(self, backup: Path) -> None:
        server, name = self.database.server, self.database.address.name
        self.database.host.close()
        server.drop_database(name)
        server.create_database(name=name)
        self._restore(str(backup))
        self.database.reconnect()

    def _restore(self, *arguments: str) -> None:
        self.database.server.run("pg_restore", f"--dbname={self.database.url}", *arguments)


@pytest.fixture
def office(lab: SourceLab, tmp_path: Path) -> Iterator[OfficeWithBackups]:
    kind = OfficeOnPostgres if isinstance(lab, PostgresLab) else OfficeOnSqlite
    office = kind(tmp_path, clinic_tables(lab.dialect), CONFIG, database=lab)
    yield office
    office.close()


Restore = Callable[[OfficeWithBackups, Path], None]


def restore_at_rest(office: OfficeWithBackups, backup: Path) -> None:
    office.restore_and_start_again(backup)


def restore_by_another(office: OfficeWithBackups, backup: Path) -> None:
    office.put_another_there(backup)
    office.begin_again()


def restore_into_it(office: OfficeWithBackups, backup: Path) -> None:
    office.pour_back(backup)
    office.begin_again()


RESTORES = pytest.mark.parametrize("restore", [restore_at_rest, restore_by_another, restore_into_it])


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
    lost = office.wait(office.source.read_head()).checkpoint
    restore(office, backup)
    for number in range(lost + 3):
        office.execute("UPDATE visits SET summary = ? WHERE id = 'v-cy'", (f"new {number}",))
        office.checkpoint()
    assert office.wait(office.source.read_head()).checkpoint > lost
    ann.hello()
    assert ann.download()[0]["reset"]
    agrees(office, ann)
    assert ann.execute("SELECT summary FROM visits WHERE id = 'v-ada'") == [(None,)]
    ben.hello()
    assert not ben.download()[0]["reset"], "his cursor is older than the backup, and still valid"
    assert ben.execute("SELECT summary FROM visits WHERE id = 'v-cy'") == [(f"new {lost + 2}",)]


def test_what_is_uploaded_to_a_database_that_is_gone_is_not_acknowledged(office: OfficeWithBackups) -> None:
    """P3: it is replaced while the upload's transaction is open."""
    ann = office.phone("ann")
    ann.sync()
    backup = office.backup()
    ann.execute("UPDATE visits SET summary = 'slept badly' WHERE id = 'v-ada'")
    write = office.source.write

    async def replaced_meanwhile(work, claims=None):  # type: ignore[no-untyped-def]
        async def and_then(transaction):  # type: ignore[no-untyped-def]
            result = await work(transaction)
            office.put_another_there(backup)
            return result

        return await write(and_then, claims)

    office.source.write = replaced_meanwhile  # type: ignore[method-assign]
    with pytest.raises(SourceBusyError) as refused:
        ann.upload()
    if isinstance(office, OfficeOnSqlite):
        assert refused.value.error_code == "source_replaced"
    office.source.write = write  # type: ignore[method-assign]
    if isinstance(office, OfficeOnSqlite):
        office.begin_again()
    else:  # the feed has not moved since the backup: it goes on once the schema has been looked at
        assert office.lost() == "schema_changed"
        office.wait(office.source.adopt(office.wait(plan_for(office.source, CONFIG))))
        assert office.lost() == ""
    ann.sync()
    assert office.execute("SELECT summary FROM visits WHERE id = 'v-ada'") == [("slept badly",)]


def test_a_backup_from_before_a_migration_brings_its_schema_along(office: OfficeWithBackups) -> None:
    """P1, P20: the older columns, the older program, and no row lost."""
    backup = office.backup()
    office.execute("ALTER TABLE notes ADD COLUMN mood TEXT")
    plan = office.wait(plan_for(office.source, CONFIG))
    office.wait(office.source.adopt(plan))
    office.service = Service(office.source, plan, office.clock, wait_for_marker=office._pass_marker)
    ann = office.phone("ann")
    ann.sync()
    ann.execute("UPDATE notes SET mood = 'good', body = 'slept well' WHERE id = 'n-ada'")
    ann.sync()
    restore_at_rest(office, backup)
    ann.sync()
    agrees(office, ann)
    assert [row[1] for row in ann.execute("PRAGMA table_info(notes)")] == ["id", "visit_id", "body"]
