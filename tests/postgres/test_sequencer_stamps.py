"""The stamps that a cut folds in SQL are those that `fold_changes` folds in Python, whatever happened to a row."""

from __future__ import annotations

from typing import Any

import asyncpg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.postgres.sequencing import running

from syncline.model.merge import Stamp
from syncline.model.resolving import resolve
from syncline.model.scope_config import PlanConfig, ScopeConfig, TableConfig
from syncline.model.scopes import QueryReads
from syncline.source.port import Head
from syncline.source.postgres.belongings import base_script
from syncline.source.postgres.capture import changelog_index_sql, changelog_sql
from syncline.source.postgres.checkpoint_sql import Seen
from syncline.source.postgres.cut import Cut, Waiting
from syncline.source.postgres.introspect import introspect
from syncline.source.postgres.layout import PlanSql, build_plan_sql
from syncline.source.postgres.scratch import ScratchTables
from syncline.source.stamps import RowStamps, fold_changes

COLUMNS = tuple(f"c{index}" for index in range(1, 64))
"""More than one word of a mask holds."""
NOTES = f"CREATE TABLE notes(id int PRIMARY KEY, {', '.join(f'{name} text' for name in COLUMNS)})"

_stamps = st.builds(Stamp, st.integers(1, 6), st.integers(0, 2))
_columns = st.sets(st.sampled_from(["c1", "c2", "c60", "c61", "c63"]), min_size=1).map(sorted)
_changes = st.tuples(st.integers(1, 3), st.sampled_from("IUDTU"), _stamps, _columns)


class Notes:
    """A database with a captured table, into whose changelog the tests write."""

    def __init__(self, db: asyncpg.Connection, sql: PlanSql) -> None:
        self.db = db
        self.sql = sql
        self._scratch = ScratchTables()

    @classmethod
    async def make(cls, db: asyncpg.Connection) -> Notes:
        await db.execute(NOTES)
        config = PlanConfig(scopes=(ScopeConfig(name="all", tables={"notes": TableConfig()}),))
        plan = resolve(config, await introspect(db), {}, dict[tuple[str, str], QueryReads]())
        sql = build_plan_sql(plan, {"notes": 1})
        await db.execute(base_script())
        for statement in (changelog_sql(sql.captures["notes"]), changelog_index_sql(sql.captures["notes"])):
            await db.execute(statement)
        return cls(db, sql)

    async def cut(self, changes: list[tuple[int, str, Stamp, list[str]]], exists: bool) -> dict[str, str]:
        """One cut of these changes; the stamps that it leaves, by key."""
        capture = self.sql.captures["notes"]
        await self.db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await self.db.execute("DELETE FROM notes")
        if exists:
            await self.db.execute("INSERT INTO notes(id) VALUES(1), (2), (3)")
        for key, op, stamp, columns in changes:
            masks = capture.mask_of(set(columns)) if op in "UT" else [0, 0]
            await self.db.execute(
                f"INSERT INTO {capture.changelog}(op, k_1, m_0, m_1, stamp, writer) "
                'VALUES($1::text::"char", $2, $3, $4, $5, $6)',
                op,
                key,
                *masks,
                stamp.time_us,
                stamp.writer,
            )
        await self._scratch.require(self.db, self.sql, {"notes"})
        waiting = Waiting(Head("t", 1, 1), "1:1:", {"notes": len(changes)}, False, False, False)
        await Cut(self.db, self.sql, Seen(), waiting).take(1)
        self._scratch.committed()
        await self.db.execute("COMMIT")
        return dict(await self.db.fetch("SELECT key, stamps FROM syncline.row_state"))


async def _compare(db: asyncpg.Connection, notes: Notes, batches: list[Any], exists: bool) -> None:
    await db.execute("DELETE FROM syncline.row_state")
    expected: dict[str, str] = {}
    for batch in batches:
        for key in {change[0] for change in batch}:
            mine = [(op, stamp, columns if op in "UT" else []) for k, op, stamp, columns in batch if k == key]
            expected[f"[{key}]"] = fold_changes(expected.get(f"[{key}]"), mine)
        found = await notes.cut(batch, exists)
        assert {key: RowStamps.parse(text) for key, text in found.items()} == {
            key: RowStamps.parse(text) for key, text in expected.items()
        }


def test_sql_folds_the_stamps_of_any_history_as_python_does(postgres: Any) -> None:
    async def story() -> None:
        db = await asyncpg.connect(postgres.url)
        notes = await Notes.make(db)
        histories: list[Any] = []

        @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(st.lists(_changes, min_size=1, max_size=8), min_size=1, max_size=3), st.booleans())
        def collect(batches: list[Any], exists: bool) -> None:
            histories.append((batches, exists))

        collect()
        for batches, exists in histories:
            await _compare(db, notes, batches, exists)
        await db.close()

    running(story())
