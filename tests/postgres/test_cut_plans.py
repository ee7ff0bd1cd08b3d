"""What a cut costs follows what changed, not what the feed holds. P20."""

from __future__ import annotations

from collections.abc import Iterator

import asyncpg
import pytest
from tests.postgres.capturing import Clinic, clinic_on
from tests.postgres.conftest import HostDatabase

from syncline.model.scopes import PlanConfig, ScopeConfig, TableConfig
from syncline.source.postgres.batch_sql import Scratch, entries_sql, images_sql
from syncline.source.postgres.layout import TableSql
from syncline.source.postgres.stamps_sql import fold_sql

FORMULARY = PlanConfig((ScopeConfig("formulary", {"drugs": TableConfig()}),))
DRUGS = ("CREATE TABLE drugs(id integer PRIMARY KEY, name text)",)
TERM = "one"


@pytest.fixture
def clinic(postgres: HostDatabase) -> Iterator[Clinic]:
    """Its feed holds some thousand lines, of which nobody has told the planner yet."""
    with clinic_on(postgres, DRUGS, FORMULARY) as clinic:
        clinic.provision()
        clinic.wait(clinic.source.attach(clinic.plan))
        assert clinic.wait(clinic.source.begin_term(TERM))
        clinic.execute("INSERT INTO drugs SELECT n, 'x' FROM generate_series(1, 3000) n")
        assert clinic.wait(clinic.source.take_checkpoint(TERM))
        yield clinic
        clinic.wait(clinic.source.end_term(TERM))


async def conditions(url: str, table: TableSql, statement: str) -> list[str]:
    """By what the lines of the feed are looked for."""
    db = await asyncpg.connect(url)
    try:
        await db.execute(f"SET enable_seqscan = off; {Scratch(table.capture).create_sql()}")
        lines = [row[0].strip() for row in await db.fetch(f"EXPLAIN {statement}", 2, "drugs")]
    finally:
        await db.close()
    feed = [at for at, line in enumerate(lines) if "entry_" in line or "row_state_" in line]
    assert feed, lines
    return [lines[at + 1] for at in feed]


@pytest.mark.parametrize("size", [10, 300, 10_000])
def test_a_cut_of_few_rows_looks_up_their_lines_of_the_feed_and_reads_no_others(clinic: Clinic, size: int) -> None:
    table = clinic.source._attached().sql.tables["drugs"]
    folded = fold_sql(table.capture, size)
    for statement in (entries_sql(table, size), images_sql(table, size, folded), images_sql(table, size, None)):
        found = clinic.wait(conditions(clinic.database.url, table, statement))
        assert all("key = " in condition for condition in found), found


def test_lines_that_are_there_are_renewed_and_others_are_made(clinic: Clinic) -> None:
    """In cuts of every size: a row, and more rows than are looked up one by one."""
    clinic.execute("UPDATE drugs SET name = 'y' WHERE id = 1", "INSERT INTO drugs VALUES (3001, 'new')")
    assert clinic.wait(clinic.source.take_checkpoint(TERM))
    clinic.execute(
        "DELETE FROM drugs WHERE id = 2", "INSERT INTO drugs SELECT n, 'z' FROM generate_series(4000, 15000) n"
    )
    clinic.execute("UPDATE drugs SET name = 'w' WHERE id BETWEEN 3 AND 5")
    head = clinic.wait(clinic.source.take_checkpoint(TERM))
    assert head
    number = head.head.checkpoint
    told = dict(
        clinic.database.execute("SELECT checkpoint, count(*) FROM syncline.entry WHERE op = 'P' GROUP BY checkpoint")
    )
    assert told == {number - 2: 3000 - 5, number - 1: 2, number: 11_001 + 3}
    assert clinic.database.execute("SELECT key, checkpoint FROM syncline.entry WHERE op = 'R'") == [("[2]", number)]
    assert clinic.database.execute(
        "SELECT key, image FROM syncline.row_state WHERE key IN ('[1]', '[2]', '[3]', '[15000]') ORDER BY key"
    ) == [("[15000]", '[15000,"z"]'), ("[1]", '[1,"y"]'), ("[2]", None), ("[3]", '[3,"w"]')]
    assert clinic.database.execute("SELECT count(*), count(DISTINCT key) FROM syncline.row_state") == [(14_002, 14_002)]
