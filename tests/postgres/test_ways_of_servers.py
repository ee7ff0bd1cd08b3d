"""Hosts that lock, servers that restart, stand by or subscribe: nobody waits behind us for long, and we come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.postgres.conftest import HostDatabase
from tests.postgres.ways import (
    ONE_VERSION,
    TABLES,
    Beside,
    Hosts,
    OpenTown,
    Session,
    Town,
    Ways,
    caseload,
    for_everybody,
    of,
)

from syncline.errors import SynclineError
from syncline.testing import postgres_server
from syncline.testing.plans import plan_for

OwnDatabase = Callable[..., HostDatabase]

ITEMS = 200_000


class TestWaits(Ways):
    """P15: nobody of the host's waits behind us for long: his lock_timeout would tell."""

    def test_alter_beside_slow_cuts_and_pages(self, open_town: OpenTown) -> None:
        """A cut and a download that take many seconds give way to the host's ALTER, and to those queueing behind it."""
        town = open_town(
            (
                "CREATE TABLE items(id integer PRIMARY KEY, body text)",
                f"INSERT INTO items SELECT n, repeat('x', 50) FROM generate_series(1, {ITEMS}) n",
            ),
            for_everybody("items"),
        )
        ann = town.new_phone("ann")
        stop = threading.Event()
        hosts = Hosts()
        altered: list[int] = []

        def alter() -> None:
            # Each deed of ours takes many seconds if nothing stops it; a host who waits for longer than this fails the test.
            session = town.connect(options="-c lock_timeout=500ms")
            for n in range(4):
                time.sleep(0.7)
                session.execute(f"ALTER TABLE items ADD COLUMN c{n} integer".encode())
                altered.append(n)
            stop.set()

        def read() -> None:
            session = town.connect(options="-c lock_timeout=500ms")
            while not stop.wait(0.05):
                session.execute("SELECT id FROM items LIMIT 1")

        town.execute("UPDATE items SET body = 'changed'")
        hosts.start(alter)
        hosts.start(read)
        try:
            while not stop.is_set() and not hosts.errors:
                try:
                    town.wait(town.source.take_checkpoint(town.term))
                    ann.hello()
                    ann.download()
                except SynclineError:
                    pass
        finally:
            stop.set()
        hosts.join()
        assert altered == [0, 1, 2, 3]

    def test_a_hosts_lock_holds_up_only_us(self, town: Town) -> None:
        """P2: ACCESS EXCLUSIVE for as long as he likes; we come again and again, and go on when he is done."""
        ann = town.phone("ann")
        locker = town.connect()
        locker.execute("BEGIN")
        locker.execute("LOCK TABLE notes IN ACCESS EXCLUSIVE MODE")
        other = town.connect(options="-c lock_timeout=2s")
        other.execute("UPDATE visits SET status = 'waits'")
        head = town.wait(town.source.read_head())
        try:  # it tries several times by itself
            assert town.wait(town.source.take_checkpoint(town.term)) is None
        except SynclineError as error:
            assert error.retry
        assert town.wait(town.source.read_head()) == head
        other.execute("UPDATE visits SET status = 'meanwhile'")
        locker.execute("UPDATE notes SET body = 'locked'")
        locker.execute("COMMIT")
        town.agree([ann], of("ann"))


class TestServers(Ways):
    @ONE_VERSION
    def test_a_standby_is_refused_with_the_reason(self, own_postgres: Callable[..., Any], tmp_path: Path) -> None:
        """P15."""
        server = own_postgres()
        name = server.create_database().name
        with psycopg.connect(server.address(name).url, autocommit=True) as db:
            db.execute("CREATE TABLE visits(id integer PRIMARY KEY)")
        server.stop()
        (server.data / "standby.signal").touch()
        server.start({"hot_standby": "on"})
        beside = Beside(server.address(name).url, tmp_path)
        try:
            source = beside.open()
            with pytest.raises(SynclineError, match=r"standby|recovery"):
                beside.wait(source.provision(beside.wait(plan_for(source, for_everybody("visits")))))
        finally:
            beside.close()

    @pytest.mark.parametrize("kind", ["a table", "a partitioned table"])
    def test_a_table_that_a_subscription_fills(self, own_database: OwnDatabase, open_town: OpenTown, kind: str) -> None:
        """P1: logical replication's worker fires no statement triggers; its changes arrive all the same, also where
        the subscription came after provisioning."""
        database = own_database({"wal_level": "logical"})
        server = database.server
        parts = kind == "a partitioned table"
        tables = [f"CREATE TABLE items(id integer PRIMARY KEY, body text){' PARTITION BY RANGE (id)' if parts else ''}"]
        tables += ["CREATE TABLE items_all PARTITION OF items DEFAULT"] if parts else []
        with psycopg.connect(server.address(server.create_database().name).url, autocommit=True) as publisher:
            for statement in tables:
                publisher.execute(statement.encode())
            publisher.execute("CREATE PUBLICATION p FOR TABLE items WITH (publish_via_partition_root = true)")
            publisher.execute("SELECT pg_create_logical_replication_slot('items', 'pgoutput')")
            publisher.execute("INSERT INTO items VALUES(7, 'first copy')")
            town = open_town(tables, for_everybody("items"), database=database)
            where = f"host={server.folder} port={server.port} user=postgres dbname={publisher.info.dbname}"
            town.execute(
                f"CREATE SUBSCRIPTION items CONNECTION '{where}' PUBLICATION p WITH (create_slot = false, slot_name = 'items')"
            )
            ann = town.phone("ann")
            for statement in (
                "INSERT INTO items VALUES(1, 'a'), (2, 'b')",
                "UPDATE items SET body = 'c'",
                "UPDATE items SET id = 3 WHERE id = 2",
                "DELETE FROM items WHERE id = 1",
                "TRUNCATE items; INSERT INTO items VALUES(4, 'after')",
            ):
                publisher.execute(statement.encode())
                held = publisher.execute("SELECT id, body FROM items ORDER BY id").fetchall()
                while town.ask("SELECT id, body FROM items ORDER BY id") != held:
                    time.sleep(0.02)
                town.agrees(ann, {"items": "true"})
            town.execute("UPDATE items SET body = 'our own'")
            town.agree([ann], {"items": "true"})
            said = {finding.code for finding in town.wait(town.source.diagnose(town.plan))}
            town.execute(
                "ALTER SUBSCRIPTION items DISABLE",
                "ALTER SUBSCRIPTION items SET (slot_name = NONE)",
                "DROP SUBSCRIPTION items",
            )
            assert not any(code.startswith("capture") for code in said)
            town.agree([ann], {"items": "true"})

    @ONE_VERSION
    @pytest.mark.parametrize("mode", ["fast", "immediate"])
    def test_the_server_restarts_beside_us(self, own_database: OwnDatabase, open_town: OpenTown, mode: str) -> None:
        """P2, P3: busy for a while, then everything goes on; nothing that was committed is lost."""
        database = own_database(durable=True)
        server = database.server
        town = open_town(TABLES, caseload(), database=database)
        ann = town.phone("ann")
        town.execute("UPDATE visits SET status = 'before the restart'")
        ann.execute("UPDATE visits SET minutes = 7 WHERE id = 11")
        port = server.port
        server.stop(mode)
        for call in (lambda: town.source.take_checkpoint(town.term), town.source.read_head):
            with pytest.raises(SynclineError) as gone:
                town.wait(call())
            assert gone.value.retry, gone.value
        start_on(server, port)
        town.host = reconnect(town)
        until_served(town)
        town.execute("UPDATE visits SET status = 'after the restart' WHERE id = 12")
        town.agree([ann], of("ann"))
        assert town.ask("SELECT minutes FROM visits WHERE id = 11") == [(7,)]


def start_on(server: Any, port: int) -> None:
    """Started again where its clients look for it."""
    drawn = postgres_server._free_port
    postgres_server._free_port = lambda: port
    try:
        server.start()
    finally:
        postgres_server._free_port = drawn


def reconnect(town: Town) -> Session:
    town.host.close()
    return town.connect()


def until_served(town: Town) -> None:
    """The sequencer's session is gone with the server; it begins a term anew, as the service does."""
    for _ in range(50):
        try:
            town.wait(town.source.take_checkpoint(town.term))
            return
        except SynclineError:
            time.sleep(0.1)
        try:
            if town.wait(town.source.begin_term(f"{town.term}+")):
                town.term += "+"
        except SynclineError:
            pass
    raise AssertionError("The sequencer does not come back.")
