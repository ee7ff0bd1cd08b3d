"""Live queries: the screen shows what is in the file, whoever changed it, and is drawn again for nothing else."""

from __future__ import annotations

import gc
import queue
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.replica.office import PROGRAM, Office, execute, until

from syncline import Replica, ReplicaError
from syncline.replica.live_query import LiveQuery
from syncline.replica.watch import Watch


@pytest.fixture
def synced(replica: Replica) -> Replica:
    replica.sync(timeout=20)
    execute(replica.path, "CREATE TABLE drafts (id INTEGER PRIMARY KEY, body TEXT)")
    execute(replica.path, "CREATE VIEW plan AS SELECT v.id, d.body FROM visits AS v LEFT JOIN drafts AS d USING (id)")
    return replica


class Screen:
    """Shows what a live query yields, on a thread of its own."""

    def __init__(self, watch: Watch) -> None:
        self.shown: queue.Queue[Any] = queue.Queue()
        self.watch = watch
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._draw, daemon=True)
        self.thread.start()

    def _draw(self) -> None:
        try:
            for rows in self.watch:
                self.shown.put(rows)
        except BaseException as error:
            self.error = error
        self.shown.put(None)

    def next(self) -> Any:
        return self.shown.get(timeout=20)


@pytest.fixture
def show(synced: Replica) -> Iterator[Callable[..., Screen]]:
    screens: list[Screen] = []

    def make(sql: str, parameters: Any = (), **options: Any) -> Screen:
        screens.append(Screen(synced.watch(sql, parameters, **options)))
        return screens[-1]

    yield make
    for screen in screens:
        screen.watch.close()
        screen.thread.join(20)
        assert not screen.thread.is_alive()


def elsewhere(path: Path, sql: str) -> None:
    """A statement in a process that has never heard of Syncline."""
    code = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None); db.execute(sys.argv[2]); db.close()"
    subprocess.run([sys.executable, "-c", code, str(path), sql], check=True, timeout=60)


def test_rows_come_at_once_and_after_every_kind_of_writer(
    synced: Replica, office: Office, show: Callable[..., Screen]
) -> None:
    screen = show("SELECT id, status FROM visits WHERE patient = ? ORDER BY id", ("p-1",))
    assert screen.next() == [(1, "planned")]
    with synced.transaction() as db:
        db.execute("UPDATE visits SET status = 'on the way'")
    assert screen.next() == [(1, "on the way")]
    elsewhere(synced.path, "UPDATE visits SET status = 'there'")
    assert screen.next() == [(1, "there")]
    office.change(2, "p-1", "new one", 0, None)
    synced.sync(timeout=20)
    assert screen.next() == [(1, "there"), (2, "new one")]
    execute(synced.path, "DELETE FROM visits WHERE id = 2")
    assert screen.next() == [(1, "there")]


def test_what_the_office_changes_is_shown_while_it_runs(
    synced: Replica, office: Office, show: Callable[..., Screen]
) -> None:
    screen = show("SELECT status FROM visits")
    assert screen.next() == [("planned",)]
    synced.start()
    until(lambda: synced.status.state == "live")
    office.change(1, "p-1", "moved", 5, None)
    assert screen.next() == [("moved",)]


def test_the_same_rows_are_never_shown_twice_in_a_row(synced: Replica, show: Callable[..., Screen]) -> None:
    screen = show("SELECT status FROM visits")
    screen.next()
    execute(synced.path, "UPDATE visits SET note = 'of no concern'")
    execute(synced.path, "UPDATE visits SET status = 'x'")
    assert screen.next() == [("x",)]
    execute(synced.path, "UPDATE visits SET status = 'y'")
    assert screen.next() == [("y",)] and screen.shown.empty()


def test_one_and_one_point_nought_are_not_the_same(synced: Replica, show: Callable[..., Screen]) -> None:
    screen = show("SELECT note FROM visits")
    execute(synced.path, "UPDATE visits SET note = 1")
    until(lambda: screen.next() == [(1,)])
    execute(synced.path, "UPDATE visits SET note = 1.0")
    (row,) = screen.next()
    assert type(row[0]) is float


def test_a_list_that_the_app_changes_is_its_own(synced: Replica, show: Callable[..., Screen]) -> None:
    watch = synced.watch("SELECT id FROM visits ORDER BY id")
    next(watch).clear()
    execute(synced.path, "INSERT INTO visits (id) VALUES (2)")
    assert next(watch) == [(1,), (2,)]
    watch.close()


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("SELECT * FROM visits", {"visits"}),
        ('SELECT * FROM main."VISITS" AS v', {"visits"}),
        ("SELECT count(*) FROM visits", {"visits"}),
        ("SELECT 1 FROM visits, lines", {"visits", "lines"}),
        ("SELECT EXISTS (SELECT 1 FROM lines)", {"lines"}),
        ("SELECT body FROM plan", {"visits", "drafts"}),
        ("WITH mine AS (SELECT id FROM visits) SELECT * FROM mine", {"visits"}),
        ("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < (SELECT max(id) FROM visits)) "
         "SELECT * FROM n", {"visits"}),
        ("SELECT (SELECT max(a) FROM lines) FROM drafts", {"lines", "drafts"}),
        ("SELECT id FROM visits UNION SELECT b FROM lines", {"visits", "lines"}),
        ("SELECT v.id FROM visits AS v WHERE patient IN (SELECT a FROM lines)", {"visits", "lines"}),
        ("SELECT 1", set()),
        ("VALUES (1), (2);", set()),
    ],
)  # fmt: skip
def test_the_tables_of_a_query_are_found_exactly(synced: Replica, sql: str, tables: set[str]) -> None:
    with synced.watch(sql) as watch:
        assert watch.tables == tables
        next(watch)


def test_a_query_is_run_again_only_for_its_own_tables(synced: Replica, office: Office) -> None:
    """What the clerk's own tables and other synced tables do costs a live query a few look-ups, and no run."""
    with closing(CountingQuery(synced.path, "SELECT id FROM visits")) as visits:
        visits.look()
        execute(synced.path, "INSERT INTO drafts VALUES (1, 'x')")
        execute(synced.path, "INSERT INTO lines VALUES ('a', 1, 'x')")
        office.rows.clear()
        assert synced.sync(timeout=20).uploaded_mutations == 1
        runs = visits.runs
        assert visits.look() is None and visits.runs == runs
        execute(synced.path, "UPDATE visits SET status = 's'")
        assert visits.look() is None and visits.runs == runs + 1
        synced.sync(timeout=20)
        visits.look()
        assert visits.runs == runs + 2, "its own change came back with a checkpoint"
    with closing(CountingQuery(synced.path, "SELECT count(*) FROM drafts")) as drafts:
        assert drafts.look() == [(1,)]
        execute(synced.path, "INSERT INTO drafts VALUES (2, 'y')")
        assert drafts.look() == [(2,)], "of the app's own tables any commit may have been one"


class CountingQuery(LiveQuery):
    runs = 0

    def _run(self, sql: str) -> list[tuple[Any, ...]]:
        self.runs += 1
        return super()._run(sql)


def test_the_clock_icon(synced: Replica, office: Office, show: Callable[..., Screen]) -> None:
    """`syncline_pending` is watched like any table."""
    screen = show("SELECT table_name, key FROM syncline_pending")
    assert screen.next() == []
    execute(synced.path, "UPDATE visits SET status = 'done'")
    assert screen.next() == [("visits", '{"id":1}')]
    synced.sync(timeout=20)
    assert screen.next() == []


def test_many_live_queries_cost_one_poller_and_none_costs_none(synced: Replica, show: Callable[..., Screen]) -> None:
    screens = [show("SELECT status FROM visits") for _ in range(8)]
    pollers = [thread for thread in threading.enumerate() if thread.name == "syncline-watch"]
    assert len(pollers) == 1
    execute(synced.path, "UPDATE visits SET status = 'seen by all'")
    for screen in screens:
        until(lambda screen=screen: screen.next() == [("seen by all",)])  # type: ignore[misc]
    for screen in screens:
        screen.watch.close()
    pollers[0].join(20)
    assert not pollers[0].is_alive()
    again = show("SELECT status FROM visits")
    again.next()
    execute(synced.path, "UPDATE visits SET status = 'again'")
    assert again.next() == [("again",)]


def test_a_live_query_ends_with_the_replica(synced: Replica, show: Callable[..., Screen]) -> None:
    screen = show("SELECT status FROM visits")
    screen.next()
    synced.stop()
    assert screen.next() is None and screen.error is None


def test_a_query_that_takes_long_is_broken_off(synced: Replica) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n, visits"
    screen = Screen(synced.watch(endless))
    closer = threading.Timer(0.2, screen.watch.close)
    closer.start()
    screen.thread.join(20)
    closer.join()
    assert not screen.thread.is_alive() and screen.error is None


def test_leaving_the_loop_leaves_nothing(synced: Replica) -> None:
    for _ in synced.watch("SELECT status FROM visits"):
        break
    gc.collect()
    poller = synced._watches.poller.thread
    if poller is not None:
        poller.join(20)
        assert not poller.is_alive()
    execute(synced.path, "PRAGMA wal_checkpoint(TRUNCATE)")
    assert not Path(f"{synced.path}-wal").exists() or Path(f"{synced.path}-wal").stat().st_size == 0


def test_a_closed_one_yields_nothing_more(synced: Replica) -> None:
    with synced.watch("SELECT status FROM visits") as watch:
        assert next(watch) == [("planned",)]
    watch.close()
    assert list(watch) == []


@pytest.mark.parametrize(
    ("sql", "parameters", "code"),
    [
        ("SELEC 1", (), "bad_query"),
        ("", (), "bad_query"),
        ("SELECT * FROM nowhere", (), "bad_query"),
        ("SELECT 1; SELECT 2", (), "bad_query"),
        ("SELECT ?", (), "bad_query"),
        ("SELECT ?", (object(),), "bad_query"),
        ("SELECT ?", (2**70,), "bad_query"),
        ("SELECT ?", "a", "bad_query"),
        ("SELECT ?", 5, "bad_query"),
        (5, (), "bad_query"),
        ("UPDATE visits SET status = 'x'", (), "query_writes"),
        ("DELETE FROM visits RETURNING id", (), "query_writes"),
        ("INSERT INTO drafts VALUES (9, 'x')", (), "query_writes"),
        ("CREATE TABLE t (a)", (), "query_writes"),
        ("PRAGMA user_version = 5", (), "query_writes"),
        ("ATTACH 'other.db' AS other", (), "query_writes"),
        ("BEGIN IMMEDIATE", (), "query_writes"),
        ("VACUUM", (), "query_writes"),
    ],
)
def test_what_cannot_be_watched_is_refused_at_the_call(synced: Replica, sql: Any, parameters: Any, code: str) -> None:
    before = execute(synced.path, "SELECT * FROM visits")
    with pytest.raises(ReplicaError) as caught:
        synced.watch(sql, parameters)
    assert caught.value.error_code == code
    assert execute(synced.path, "SELECT * FROM visits") == before
    assert not [thread for thread in threading.enumerate() if thread.name == "syncline-watch"]


def test_a_table_that_goes_away_is_told(synced: Replica, show: Callable[..., Screen]) -> None:
    screen = show("SELECT * FROM drafts")
    screen.next()
    execute(synced.path, "DROP VIEW plan")
    execute(synced.path, "DROP TABLE drafts")
    assert screen.next() is None
    assert isinstance(screen.error, ReplicaError) and screen.error.error_code == "bad_query"


def test_a_view_that_reads_other_tables_now(synced: Replica, show: Callable[..., Screen]) -> None:
    screen = show("SELECT count(*) FROM plan")
    assert screen.next() == [(1,)]
    with closing(sqlite3.connect(synced.path)) as db, db:
        db.execute("DROP VIEW plan")
        db.execute("CREATE VIEW plan AS SELECT * FROM lines")
    assert screen.next() == [(0,)]
    execute(synced.path, "INSERT INTO lines VALUES ('a', 1, 'x')")
    assert screen.next() == [(1,)]


def test_rows_as_the_app_wants_them(synced: Replica) -> None:
    with synced.watch("SELECT id, :status AS status FROM visits", {"status": "x"}, row_factory=sqlite3.Row) as watch:
        (row,) = next(watch)
        assert row["status"] == "x"


def test_it_needs_no_network_and_no_start(tmp_path: Path) -> None:
    replica = Replica(tmp_path / "n.db", "https://x.org", "t", program=PROGRAM.dump(), transport=Office())
    with replica, replica.watch("SELECT patient FROM visits") as watch:
        assert next(watch) == []
        execute(replica.path, "INSERT INTO visits (id, patient) VALUES (7, 'p-7')")
        assert next(watch) == [("p-7",)]
