"""Many rows by one statement leave what the same rows leave one by one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from syncline.replica.bulk import PARAMETERS_MAX, ROWS_PER_STATEMENT, execute_many

UPSERT = "INSERT INTO t (a, b) VALUES (?1, ?2) ON CONFLICT (a) DO UPDATE SET b = excluded.b"


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (a PRIMARY KEY, b)")
        yield connection


@pytest.mark.parametrize("count", [0, 1, ROWS_PER_STATEMENT - 1, ROWS_PER_STATEMENT, ROWS_PER_STATEMENT * 3 + 7])
def test_every_row_arrives_once_and_in_order(db: sqlite3.Connection, count: int) -> None:
    execute_many(db, UPSERT, [(number, b"\0x") for number in range(count)])
    execute_many(db, UPSERT, [(number % 10, number) for number in range(count)])
    found = dict(db.execute("SELECT a, b FROM t").fetchall())
    assert len(found) == count
    assert found == {**dict.fromkeys(range(count), b"\0x"), **{n % 10: n for n in range(count)}}


def test_statements_without_a_list_of_values_are_run_as_they_are(db: sqlite3.Connection) -> None:
    execute_many(db, UPSERT, [(number, "x") for number in range(200)])
    execute_many(db, "DELETE FROM t WHERE a = ?1 AND b = ?2", [(number, "x") for number in range(150)])
    assert db.execute("SELECT count(*) FROM t").fetchone() == (50,)


def test_a_name_that_looks_like_a_list_of_values(db: sqlite3.Connection) -> None:
    db.execute('CREATE TABLE odd ("VALUES (?1, ?2)", b)')
    execute_many(db, 'INSERT INTO odd ("VALUES (?1, ?2)", b) VALUES (?1, ?2)', [(n, n) for n in range(120)])
    assert db.execute("SELECT count(*), sum(b) FROM odd").fetchone() == (120, 7140)


def test_wide_tables_stay_below_what_a_statement_may_carry(db: sqlite3.Connection) -> None:
    width = 900
    assert width * ROWS_PER_STATEMENT > PARAMETERS_MAX
    columns = [f"c{number}" for number in range(width)]
    db.execute(f"CREATE TABLE wide ({', '.join(columns)})")
    marks = ", ".join(f"?{number}" for number in range(1, width + 1))
    execute_many(db, f"INSERT INTO wide VALUES ({marks})", [tuple(range(width))] * 25)
    assert db.execute("SELECT count(*), sum(c899) FROM wide").fetchone() == (25, 25 * 899)
