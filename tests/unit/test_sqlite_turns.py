"""Which devices have news, among very many that have none."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from syncline.source.sqlite.belongings import base_script
from syncline.source.sqlite.turns import Turns, take_turn

FLEET = 100_000


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    """A fleet all of whose mutations are included."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(base_script())
    many = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {FLEET})"
    connection.execute(
        f"INSERT INTO syncline_device(device, number, user, last) {many} SELECT printf('d%06d', i), i, 'u', 3 FROM n"
    )
    connection.execute("INSERT INTO syncline_included SELECT device, 3, 1 FROM syncline_device")
    connection.execute("INSERT INTO syncline_turn SELECT number, device FROM syncline_device")
    yield connection
    connection.close()


def upload(db: sqlite3.Connection, device: str, last: int) -> None:
    db.execute("UPDATE syncline_device SET last = ?2 WHERE device = ?1", (device, last))
    take_turn(db, device)


def include(db: sqlite3.Connection, turns: Turns) -> list[tuple[str, int]]:
    """As a checkpoint does."""
    found = turns.read()
    db.executemany(
        "INSERT INTO syncline_included VALUES(?1, ?2, 2) ON CONFLICT DO UPDATE SET number = excluded.number", found
    )
    turns.done()
    return sorted(found)


def test_each_upload_is_seen_once(db: sqlite3.Connection) -> None:
    turns = Turns(db)
    assert include(db, turns) == []
    upload(db, "d000007", 4)
    upload(db, "d000002", 5)
    upload(db, "d000007", 6)
    assert include(db, turns) == [("d000002", 5), ("d000007", 6)]
    assert include(db, turns) == []


def test_what_was_read_and_not_taken_is_read_again(db: sqlite3.Connection) -> None:
    """The disk was full when the checkpoint was written, or another plan came."""
    turns = Turns(db)
    include(db, turns)
    upload(db, "d000007", 4)
    assert turns.read() == turns.read() == [("d000007", 4)]
    upload(db, "d000001", 4)
    assert include(db, turns) == [("d000001", 4), ("d000007", 4)]


def test_another_process_looks_at_all_devices_first(db: sqlite3.Connection) -> None:
    """Nothing depends on what the sequencer before it had seen, or on turns that an older version did not take."""
    db.execute("UPDATE syncline_device SET last = 9 WHERE device = 'd012345'")
    assert include(db, Turns(db)) == [("d012345", 9)]


def test_a_look_costs_what_is_new_and_not_the_fleet(db: sqlite3.Connection) -> None:
    turns = Turns(db)
    include(db, turns)
    upload(db, "d000007", 4)
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    db.set_progress_handler(count, 100)
    assert turns.read() == [("d000007", 4)]
    db.set_progress_handler(None, 0)
    assert steps < 10, "SQLite's instructions, in hundreds; a scan of the fleet needs thousands of them"
