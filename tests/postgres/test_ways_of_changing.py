"""The host's DDL on PostgreSQL at any moment, beside a running sequencer and open downloads (P15, P20).

Nothing of the host's fails, nobody's rows are taken away by a schema that is half changed, and in the end the devices
hold what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from tests.postgres.ways import ONE_VERSION, TABLES, Hosts, OpenTown, Town, Ways, caseload, everybody, of, sync_or_wait

from syncline.errors import SynclineError
from syncline.testing.bench import Phone

PATIENCE = "-c lock_timeout=3s -c statement_timeout=30s"
"""Of the host's own sessions: more than we may make them wait, less than they could stand."""

STORIES: dict[str, tuple[str, ...]] = {
    "add a column": ("ALTER TABLE visits ADD COLUMN room text",),
    "add a column with a default": ("ALTER TABLE visits ADD COLUMN room text NOT NULL DEFAULT 'r'",),
    "add a column that rewrites": ("ALTER TABLE visits ADD COLUMN token double precision DEFAULT random()",),
    "rewriting type": ("ALTER TABLE visits ALTER COLUMN minutes TYPE bigint",),
    "rewriting type with using": ("ALTER TABLE visits ALTER COLUMN minutes TYPE text USING minutes || ' min'",),
    "rewriting type of a key": (
        "ALTER TABLE notes ALTER COLUMN id TYPE bigint",
        "ALTER TABLE notes ALTER COLUMN visit_id TYPE bigint",
    ),
    "drop a column": ("ALTER TABLE visits DROP COLUMN minutes",),
    "rename a column": ("ALTER TABLE visits RENAME COLUMN minutes TO duration",),
    "rename a column and back": (
        "ALTER TABLE visits RENAME COLUMN patient_id TO patient",
        "ALTER TABLE visits RENAME COLUMN patient TO patient_id",
    ),
    "rename a table and back": ("ALTER TABLE visits RENAME TO calls", "ALTER TABLE calls RENAME TO visits"),
    "a new table in its place": (
        "CREATE TABLE new_notes(LIKE notes INCLUDING ALL)",
        "INSERT INTO new_notes SELECT * FROM notes",
        "BEGIN; ALTER TABLE notes RENAME TO old_notes; ALTER TABLE new_notes RENAME TO notes; COMMIT",
        "DROP TABLE old_notes",
        "ALTER TABLE notes ADD FOREIGN KEY (visit_id) REFERENCES visits ON UPDATE CASCADE ON DELETE CASCADE",
    ),
    "cluster and vacuum full": ("CLUSTER visits USING visits_pkey", "VACUUM FULL notes"),
    "to another tablespace and unlogged": ("ALTER TABLE notes SET UNLOGGED", "ALTER TABLE notes SET LOGGED"),
    "another schema and back": (
        "CREATE SCHEMA attic",
        "ALTER TABLE notes SET SCHEMA attic",
        "ALTER TABLE attic.notes SET SCHEMA public",
    ),
    "triggers off and on": (
        "ALTER TABLE visits DISABLE TRIGGER ALL",
        "UPDATE visits SET status = 'unseen' WHERE id % 2 = 1",
        "ALTER TABLE visits ENABLE TRIGGER ALL",
    ),
    "user triggers off and on": (
        "ALTER TABLE visits DISABLE TRIGGER USER",
        "UPDATE visits SET status = 'unseen' WHERE id % 2 = 1",
        "ALTER TABLE visits ENABLE TRIGGER USER",
    ),
    "triggers off and on in one transaction": (
        "BEGIN; ALTER TABLE visits DISABLE TRIGGER USER; UPDATE visits SET status = 'unseen' WHERE id % 2 = 1; "
        "ALTER TABLE visits ENABLE TRIGGER USER; COMMIT",
    ),
    "truncate": ("TRUNCATE notes", "INSERT INTO notes VALUES(1, 11, 'x'), (2, 51, 'y')"),
    "truncate and refill": (
        "BEGIN; CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT * FROM notes; TRUNCATE notes; "
        "INSERT INTO notes SELECT * FROM kept; COMMIT",
    ),
    "constraints and indexes": (
        "ALTER TABLE visits ADD CONSTRAINT positive CHECK (minutes >= -100) NOT VALID",
        "ALTER TABLE visits VALIDATE CONSTRAINT positive",
        "CREATE INDEX CONCURRENTLY by_status ON visits(status)",
        "DROP INDEX CONCURRENTLY by_status",
        "ALTER TABLE visits ALTER COLUMN status DROP NOT NULL",
        "ALTER TABLE visits ALTER COLUMN minutes SET DEFAULT 5",
    ),
    "another primary key": (
        "ALTER TABLE notes DROP CONSTRAINT notes_pkey",
        "ALTER TABLE notes ADD PRIMARY KEY (id, visit_id)",
    ),
    "owner and rights": (
        "CREATE ROLE owner_of_the_town NOLOGIN",
        "ALTER TABLE visits OWNER TO owner_of_the_town",
        "ALTER TABLE visits OWNER TO postgres",
        "DROP ROLE owner_of_the_town",
    ),
    "a failed migration": (
        "BEGIN; ALTER TABLE visits ADD COLUMN room text; ALTER TABLE visits DROP COLUMN minutes; TRUNCATE notes; ROLLBACK",
    ),
    "one big transaction": (
        "BEGIN; ALTER TABLE visits ADD COLUMN room text; UPDATE visits SET room = 'r' || id; "
        "ALTER TABLE visits ALTER COLUMN room SET NOT NULL; ALTER TABLE notes RENAME COLUMN body TO text; "
        "DELETE FROM notes WHERE id = 110; COMMIT",
    ),
    "a function that our queries might use": (
        "CREATE FUNCTION public.coalesce_all() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE EXTENSION IF NOT EXISTS plpgsql",
    ),
}
REMOVING = {"truncate", "one big transaction"}
"""Of these the rows that are really gone are to be taken away."""
AT_ANY_MOMENT = (
    "add a column",
    "rewriting type of a key",
    "rename a column and back",
    "rename a table and back",
    "a new table in its place",
    "cluster and vacuum full",
    "triggers off and on",
    "truncate and refill",
    "another primary key",
    "one big transaction",
)
"""One of each kind of lock and of each way in which a table may seem empty or be gone."""


def listen(phone: Phone) -> list[dict[str, Any]]:
    """Every frame that the phone gets from now on."""
    frames: list[dict[str, Any]] = []
    receive = phone.file.receive

    def hear(frame: dict[str, Any]) -> Any:
        frames.append(frame)
        return receive(frame)

    phone.file.receive = hear  # type: ignore[method-assign]
    return frames


def taken_away(frames: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Removes, dropped buckets, and downloads that began anew."""
    return [f for f in frames if f["t"] in ("remove", "drop_bucket") or (f["t"] == "begin" and f["reset"])]


def held(phone: Phone) -> list[int]:
    return [row[0] for row in phone.execute("SELECT id FROM visits ORDER BY id")]


class TestStories(Ways):
    @pytest.mark.parametrize("story", STORIES)
    def test_beside_a_sequencer_that_looks_after_every_statement(self, town: Town, story: str) -> None:
        """P1, P15, P20: and a phone that looks, too; writes of others come in between."""
        ann = town.phone("ann")
        frames = listen(ann)
        ddl = town.connect(options=PATIENCE)
        before = held(ann)
        for n, statement in enumerate(STORIES[story]):
            ddl.execute(statement.encode())
            if "visits" in existing(town):
                town.execute(f"UPDATE visits SET status = 'turn {n}' WHERE id = 12")
            try_checkpoint(town)
            sync_or_wait(ann)
            assert held(ann) == before  # at no moment is a visit gone
        town.agree([ann], of("ann"))
        if story not in REMOVING:
            assert taken_away(frames) == []

    @ONE_VERSION
    @pytest.mark.parametrize("story", AT_ANY_MOMENT)
    def test_beside_a_busy_sequencer_with_writers_and_phones(self, town: Town, story: str) -> None:
        """P1, P15, P20: at whatever moment of a cut or a page the DDL comes."""
        ann, ben = town.phone("ann"), town.phone("ben")
        frames = listen(ann)
        hosts = Hosts()
        ddl, writer = town.connect(options=PATIENCE), town.connect(options=PATIENCE)
        done: list[bool] = []

        def change() -> None:
            try:
                for statement in STORIES[story]:
                    ddl.execute(statement.encode())
            finally:
                done.append(True)

        def write() -> None:
            n = 0
            while not done or n < 5:
                n += 1
                writer.execute(b"UPDATE patients SET name = name || '.' WHERE id <= 3")

        hosts.start(write)
        hosts.start(change)
        while hosts.busy():
            try_checkpoint(town)
            sync_or_wait(ann)
        hosts.join()
        town.agree([ann], of("ann"))
        town.agree([ben], of("ben"))
        if story not in REMOVING:
            assert taken_away(frames) == []

    @ONE_VERSION
    @pytest.mark.parametrize("story", AT_ANY_MOMENT)
    def test_while_a_download_is_open(self, town: Town, story: str) -> None:
        """P6, P20: a phone's first download began before the change; whatever it is told, it ends with the rows."""
        ann = town.new_phone("ann")
        ann.hello()
        stream = first_frames(town, ann)
        ddl = town.connect(options=PATIENCE)
        for statement in STORIES[story]:
            ddl.execute(statement.encode())
        town.wait(close(stream))
        town.agree([ann], of("ann"))


UNNOTICED: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "the key has another type": (
        ("ALTER TABLE notes ALTER COLUMN id TYPE text",),
        (
            "INSERT INTO notes VALUES('not a number', 11, 'x')",
            "UPDATE notes SET id = id || 'a'",
            "DELETE FROM notes WHERE id = '110a'",
        ),
        (),
    ),
    "the key has another name": (
        ("ALTER TABLE notes RENAME COLUMN id TO number",),
        (
            "INSERT INTO notes VALUES(1, 11, 'x')",
            "UPDATE notes SET number = -number",
            "DELETE FROM notes WHERE number = -110",
        ),
        ("ALTER TABLE notes RENAME COLUMN number TO id",),
    ),
    "a column of the path has another type": (
        ("ALTER TABLE visits ALTER COLUMN patient_id TYPE bigint",),
        ("INSERT INTO patients VALUES(99, 'x')", "UPDATE visits SET patient_id = 2 WHERE patient_id = 1"),
        (),
    ),
    "a column of the path is gone": (
        ("ALTER TABLE visits DROP COLUMN patient_id",),
        ("INSERT INTO visits(id) VALUES(900)", "UPDATE visits SET minutes = 5", "DELETE FROM visits WHERE id = 12"),
        (
            "ALTER TABLE visits ADD COLUMN patient_id integer REFERENCES patients ON UPDATE CASCADE ON DELETE CASCADE",
            "UPDATE visits SET patient_id = 1 + id % 3",
        ),
    ),
    "a column of the path has another name": (
        ("ALTER TABLE visits RENAME COLUMN patient_id TO patient",),
        ("INSERT INTO visits(id, patient) VALUES(900, 1)", "UPDATE visits SET patient = 2 WHERE patient = 1"),
        ("ALTER TABLE visits RENAME COLUMN patient TO patient_id",),
    ),
    "a column that devices show is gone": (
        ("ALTER TABLE notes DROP COLUMN body",),
        ("INSERT INTO notes VALUES(1, 11)", "UPDATE notes SET id = id + 1000", "DELETE FROM notes WHERE id = 1110"),
        (),
    ),
    "the table has another name": (
        ("ALTER TABLE notes RENAME TO remarks",),
        ("INSERT INTO remarks VALUES(1, 11, 'x')", "UPDATE remarks SET body = 'y'", "TRUNCATE remarks"),
        ("ALTER TABLE remarks RENAME TO notes", "INSERT INTO notes VALUES(5, 11, 'z')"),
    ),
    "what capture keeps no longer fits": (
        (
            "ALTER TABLE assignments ALTER COLUMN patient_id TYPE numeric",
            "ALTER TABLE assignments ALTER COLUMN nurse TYPE varchar(4) USING nurse",
        ),
        ("INSERT INTO assignments VALUES('ann', 5)", "UPDATE assignments SET patient_id = 4 WHERE patient_id = 2"),
        (),
    ),
}


class TestUnnoticed(Ways):
    @ONE_VERSION
    @pytest.mark.parametrize("story", UNNOTICED)
    @pytest.mark.parametrize("at_once", [False, True], ids=["statement by statement", "one transaction"])
    def test_writes_before_anybody_noticed_the_change(self, town: Town, story: str, at_once: bool) -> None:
        """P1, P15, P20: capture meets a table that it was not made for; the host's writes pass, and none is missed."""
        changes, writes, ends = UNNOTICED[story]
        ann = town.phone("ann")
        town.execute("UPDATE notes SET body = 'waits already'")
        if at_once:
            town.execute("BEGIN")
        town.execute(*changes, *writes)
        if at_once:
            town.execute("COMMIT")
        try_checkpoint(town)
        sync_or_wait(ann)
        town.execute(*ends)
        town.agree([ann], of("ann"))


class TestGone(Ways):
    def test_a_table_that_is_dropped_takes_nothing_else_with_it(self, town: Town) -> None:
        """P18, P20: the configuration names it still; the phones keep what they have until a person says what it
        means, and the host goes on writing the other tables."""
        ann = town.phone("ann")
        town.execute("DROP TABLE notes")
        town.execute("UPDATE visits SET status = 'after the drop'")
        try_checkpoint(town)
        sync_or_wait(ann)
        assert held(ann) == [11, 12, 21, 22, 31, 32]
        assert ann.execute("SELECT count(*) FROM notes") == [(6,)]
        town.execute(TABLES[2], "INSERT INTO notes VALUES(1, 11, 'anew')")
        town.agree([ann], of("ann"))

    def test_deprovision_after_the_company_changed_everything(self, town: Town) -> None:
        """P15: no object of ours is left on tables that were renamed, moved, or are gone."""
        town.execute(
            "ALTER TABLE visits RENAME TO calls",
            "CREATE SCHEMA attic",
            "ALTER TABLE notes SET SCHEMA attic",
            "DROP TABLE assignments",
            "ALTER TABLE patients RENAME COLUMN id TO number",
        )
        town.wait(town.source.end_term("term-1"))
        assert town.wait(town.source.deprovision())
        assert town.ask("SELECT tgname FROM pg_trigger WHERE tgname LIKE '%syncline%'") == []
        assert town.ask("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'syncline%'") == []
        assert not town.wait(town.source.deprovision())

    def test_the_host_drops_what_is_ours(self, town: Town) -> None:
        """P1, P15: with CASCADE, by mistake: his writes pass; the rest is said by name and put right by provision."""
        town.phone("ann")
        town.execute("DROP SCHEMA syncline CASCADE", "UPDATE visits SET status = 'passes'", "DELETE FROM notes")
        with pytest.raises(Exception, match=r"provision"):
            town.wait(town.source.attach(town.plan))
        town.wait(town.source.provision(town.plan))
        town.wait(town.source.attach(town.plan))
        assert town.wait(town.source.begin_term("term-2"))

    @ONE_VERSION
    def test_wide_tables(self, open_town: OpenTown) -> None:
        """P1, P20: wider than any function has arguments, and one column more beside a running sequencer."""
        columns = 890
        names = ", ".join(f"c{n} integer" for n in range(columns))
        town = open_town(
            (*TABLES, f"CREATE TABLE wide(id integer PRIMARY KEY, {names})", "INSERT INTO wide(id, c0) VALUES(1, 5)"),
            caseload(everybody("wide")),
        )
        ann = town.phone("ann")
        town.execute(f"UPDATE wide SET c{columns - 1} = 7", "INSERT INTO wide(id) VALUES(2)")
        town.agrees(ann, {"wide": "true"})
        town.execute(
            "ALTER TABLE wide ADD COLUMN one_more text DEFAULT 'x'", "UPDATE wide SET one_more = 'y' WHERE id = 1"
        )
        town.agree([ann], {"wide": "true"})


def existing(town: Town) -> set[str]:
    return {name for (name,) in town.ask("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")}


def try_checkpoint(town: Town) -> None:
    """As the service's loop does: what cannot be done now is tried again later."""
    try:
        town.wait(town.source.take_checkpoint(town.term))
    except SynclineError:
        try:
            town.wait(town.make_plan_anew())
        except SynclineError:
            pass


def first_frames(town: Town, phone: Phone) -> Any:
    """A download whose first frame has come, and that is open still."""

    async def begin() -> Any:
        stream = await town.service.download(phone.identity, phone.file.download_request(with_buckets=True))
        async for _ in stream:
            break
        return stream

    return town.wait(begin())


async def close(stream: Any) -> None:
    closing: Callable[[], Any] = stream.aclose
    await closing()
