"""The statements that an upload runs per mutation, written once per table instead of once per mutation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from syncline.model.identifiers import quote, quote_list
from syncline.model.scopes import SyncedTable
from syncline.source.sqlite.capture import Capture


@dataclass
class UploadSql:
    """Parameters are numbered: keys come first, in `update` last."""

    columns: tuple[str, ...]
    values: tuple[str, ...]
    row: str
    waiting: str
    delete: str
    touch: str
    _table: SyncedTable
    _writes: dict[tuple[str, tuple[str, ...]], str] = field(default_factory=dict)

    def insert(self, columns: tuple[str, ...]) -> str:
        known = self._writes.get(("I", columns))
        if known is None:
            names = (*self._table.key, *columns)
            known = f"INSERT INTO {quote(self._table.name)}({quote_list(names)}) VALUES({places(len(names))})"
            self._writes["I", columns] = known
        return known

    def update(self, columns: tuple[str, ...]) -> str:
        known = self._writes.get(("U", columns))
        if known is None:
            sets = ", ".join(f"{quote(column)} = ?{index}" for index, column in enumerate(columns, 1))
            where = _where(self._table.key, len(columns))
            known = f"UPDATE {quote(self._table.name)} SET {sets} WHERE {where}"
            self._writes["U", columns] = known
        return known


def build_upload_sql(table: SyncedTable, capture: Capture) -> UploadSql:
    columns = table.table.column_names
    own = " AND ".join(f"{name} = ?{index}" for index, name in enumerate(capture.key_columns, 1))
    waiting = ", ".join(["op", "stamp", "writer", *capture.mask_columns])
    touched = [*capture.key_columns, *capture.mask_columns, "op", "stamp", "writer"]
    return UploadSql(
        columns=columns,
        values=table.values,
        row=f"SELECT {quote_list(columns)} FROM {quote(table.name)} WHERE {_where(table.key)}",
        waiting=f"SELECT {waiting} FROM {capture.changelog} WHERE {own} ORDER BY id",
        delete=f"DELETE FROM {quote(table.name)} WHERE {_where(table.key)}",
        touch=f"INSERT INTO {capture.changelog}({', '.join(touched)}) VALUES({places(len(touched))})",
        _table=table,
    )


def _where(columns: Iterable[str], offset: int = 0) -> str:
    return " AND ".join(f"{quote(column)} = ?{index}" for index, column in enumerate(columns, offset + 1))


def places(count: int) -> str:
    return ", ".join(f"?{index}" for index in range(1, count + 1))
