"""Whose fault an error of the company's tables is, and what may be said of it to this device."""

from __future__ import annotations

from asyncpg.exceptions import PostgresError

from syncline.log import logger
from syncline.source.port import PiecemealError
from syncline.source.postgres.layout import PlanSql, TableSql
from syncline.source.postgres.refusals import Treatment, is_timeout, refusal_of, state_of, treatment

_log = logger("upload")


class Blame:
    """Of one transaction. `has_role`: the company's tables are written under a role that need not have every right.
    `was_slow`: an earlier try took too long."""

    def __init__(self, sql: PlanSql, *, has_role: bool, is_last_try: bool, was_slow: bool = False) -> None:
        self._sql = sql
        self._has_role = has_role
        self._is_last_try = is_last_try
        self._was_slow = was_slow

    def of_write(self, table: str, error: PostgresError, *, together: bool) -> Exception:
        """Like `of`. A write that takes too long is given a second chance, and no third: it holds the hosts up."""
        return self._of(table, error, together, self._is_last_try or (self._was_slow and is_timeout(error)))

    def of(self, table: str, error: PostgresError, *, together: bool) -> Exception:
        """What to raise. The error itself where it is not the data's fault; PiecemealError where it is not known which
        mutation's fault it is."""
        return self._of(table, error, together, self._is_last_try)

    def _of(self, table: str, error: PostgresError, together: bool, is_last_try: bool) -> Exception:
        is_datas = treatment(error, is_last_try=is_last_try) is Treatment.REJECT
        if not is_datas and not (self._has_role and state_of(error) == "42501"):
            return error
        if together:
            return PiecemealError(state_of(error))
        refusal = refusal_of(error, lambda text: self._names_hidden(table, error, text))
        if refusal.code == "refused":
            _log.warning("a write to %s was refused by the database (SQLSTATE %s)", table, state_of(error))
        return refusal

    def is_overtaken(self, table: str, error: PostgresError) -> bool:
        """Whether somebody else's insert of the same key came between our look and our insert: started again, the
        transaction meets the row."""
        if self._is_last_try or state_of(error) != "23505":
            return False
        synced = self._sql.tables[table].synced
        name = getattr(error, "constraint_name", None)
        return any(index.name == name and set(index.columns) == set(synced.key) for index in synced.table.indexes)

    def _names_hidden(self, table: str, error: PostgresError, text: str) -> bool:
        """Whether it names a column that devices do not hold, or comes from a table that does not sync."""
        place = (getattr(error, "schema_name", None), getattr(error, "table_name", None))
        concerned = [entry for name, entry in self._sql.tables.items() if name == table]
        if place[1]:
            there = [entry for entry in self._sql.tables.values() if entry.synced.table.place == place]
            if not there:
                return True
            concerned += there
        hidden = {name.lower() for entry in concerned for name in _hidden_columns(entry)}
        return any(name in text.lower() for name in hidden)


def _hidden_columns(entry: TableSql) -> list[str]:
    return [name for name in entry.synced.table.column_names if name not in entry.synced.columns]
