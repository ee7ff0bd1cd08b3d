"""What grants and filters read when the database last took them.

A running service makes its plan anew whenever the schema changes. A filter or grant that the database does not take any
more (a label or function that it names has another name now) then stops what it is for, and not everything.
"""

from __future__ import annotations

import dataclasses

from syncline.errors import ConfigError
from syncline.log import logger
from syncline.model.schema import Schema
from syncline.model.scopes import QueryReads
from syncline.source.port import ReadsUnseenError

_log = logger("service")


class KeptReads:
    """Of one service and its settings. `unfit` and `unfit_grants` are those of the plan that is being made."""

    def __init__(self, *, forgives_all: bool = False) -> None:
        """`forgives_all`: of what never was taken nothing is known to be read, for whoever only wants to look."""
        self._forgives_all = forgives_all
        self._filters: dict[tuple[str, str], QueryReads] = {}
        self._grants: dict[str, QueryReads] = {}
        self.begin()

    def begin(self) -> None:
        self.unfit: dict[str, str] = {}
        self.unfit_grants: dict[str, str] = {}

    def keep_grant(self, scope: str, reads: QueryReads) -> QueryReads:
        self._grants[scope] = reads
        return reads

    def keep_filter(self, table: str, where: str, reads: QueryReads) -> QueryReads:
        self._filters[table, where] = reads
        return reads

    def instead_of_grant(self, scope: str, error: ConfigError) -> QueryReads:
        """What it read before; `error` where that is not known, or would not do."""
        reads = self._usable(self._grants.get(scope), error)
        if not _is_the_same(reads, error):
            self.unfit_grants[scope] = _reason(error)
        return reads

    def instead_of_filter(self, table: str, where: str, schema: Schema, error: ConfigError) -> QueryReads:
        """As `instead_of_grant`, without columns that are no more."""
        reads = self._usable(self._filters.get((table, where)), error)
        if not _is_the_same(reads, error):
            self.unfit[table] = _reason(error)
        there = set(schema.table(table).column_names)
        return dataclasses.replace(reads, tables={name: found & there for name, found in reads.tables.items()})

    def _usable(self, reads: QueryReads | None, error: ConfigError) -> QueryReads:
        if reads is None and self._forgives_all:
            reads = QueryReads({})
        if reads is None or error.error_code != "query_fails":
            raise error
        return reads


def _reason(error: ConfigError) -> str:
    return error.message.removeprefix("The query does not work on this database: ").rstrip(".")


def _is_the_same(reads: QueryReads, error: ConfigError) -> bool:
    """Whether it surely reads what it read: its words are the same, and no view stands between."""
    if not isinstance(error, ReadsUnseenError) or reads.views:
        return False
    _log.warning("%s %s It is taken to read what it read before.", error.message, error.hint)
    return True
