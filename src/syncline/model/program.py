"""The program: SQL that makes a plain SQLite file a replica, generated from the plan (DESIGN.md section 8).

A client stores it in the file and runs it. Everything that touches rows is in it, so clients of all languages behave
alike, and a correction reaches devices in the field with the next `hello`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from syncline.errors import ProtocolError
from syncline.model.program_base import pending_views
from syncline.model.program_load import load_statements, load_tables
from syncline.model.program_shape import MASK_BITS, Shape, build_shape
from syncline.model.program_statements import RECORD, RENUMBER_TABLE, table_statements
from syncline.model.program_tables import our_indexes, our_tables, scratch_table, source_indexes, synced_table
from syncline.model.program_triggers import capture_triggers
from syncline.model.scopes import Plan, SyncedTable

_VERSION_TOLD_MAX = 10**9
PROGRAM_VERSION = 1
SQLITE_MIN = "3.38.2"
"""The oldest that tests/neighbours/test_sqlite_versions.py runs on. From 3.38 on every build has the JSON functions."""


@dataclass(frozen=True)
class ProgramTable:
    """One synced table as a client needs it. Rows come in the order of `columns`; masks count `values` from bit 0."""

    name: str
    layout: int
    columns: tuple[str, ...]
    types: dict[str, str]
    key: tuple[str, ...]
    values: tuple[str, ...]
    generated: frozenset[str]
    rebase: dict[str, str]
    policies: dict[str, str]
    read_only: bool
    ddl: dict[str, Any]
    statements: dict[str, str]

    @cached_property
    def key_places(self) -> tuple[int, ...]:
        """Where in a row the key's columns are."""
        return tuple(self.columns.index(column) for column in self.key)

    @property
    def loads(self) -> bool:
        """False for a table of a program of before there were tables to load into."""
        return "load" in self.ddl

    @property
    def words(self) -> int:
        return max(1, -(-len(self.values) // MASK_BITS))

    def changed(self, words: tuple[int, ...]) -> list[int]:
        """The indexes into `values` that a mask names."""
        return [index for index in range(len(self.values)) if words[index // MASK_BITS] >> index % MASK_BITS & 1]


@dataclass(frozen=True)
class Program:
    """`document` is what travels and is stored: JSON, with its own hash."""

    document: dict[str, Any]

    @property
    def hash(self) -> str:
        return str(self.document["hash"])

    @property
    def sqlite_min(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.document["sqlite_min"].split("."))

    @cached_property
    def tables(self) -> dict[str, ProgramTable]:
        return {name: _load_table(name, spec) for name, spec in self.document["tables"].items()}

    @property
    def views(self) -> list[str]:
        return list(self.document["views"])

    @property
    def session(self) -> list[str]:
        """Temporary tables of the connection that applies."""
        return list(self.document["session"])

    def dump(self) -> dict[str, Any]:
        return self.document

    @classmethod
    def load(cls, document: Any) -> Program:
        """ProtocolError if it is not a program, of a later version, or not what its hash says."""
        if type(document) is not dict or type(document.get("tables")) is not dict:
            raise ProtocolError("The program is not an object with tables.", code="bad_program")
        version = document.get("version")
        if version != PROGRAM_VERSION:
            is_number = type(version) is int and abs(version) < _VERSION_TOLD_MAX
            told = f"version {version}" if is_number else "a version that is no number"  # it may be as long as a frame
            raise ProtocolError(
                f"The program has {told}; this client knows version {PROGRAM_VERSION}.",
                hint="Update the app.",
                code="program_version",
            )
        if document.get("hash") != program_hash(document):
            raise ProtocolError("The program is not what its hash says.", code="bad_program")
        program = cls(document)
        try:
            _ = program.tables, program.views, program.session, program.sqlite_min
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ProtocolError("The program lacks something.", code="bad_program") from error
        return program


def program_hash(document: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON of everything but the hash."""
    content = {name: value for name, value in document.items() if name != "hash"}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def build_program(plan: Plan, layouts: Mapping[str, int] | None = None) -> Program:
    """The program of a plan. `layouts`: table -> number of its layout, 1 where not said.

    ConfigError for a table that no replica can hold.
    """
    names = sorted(plan.tables)
    shapes = [build_shape(plan, plan.tables[name]) for name in names]
    tables = {
        shape.name: _dump_table(plan, plan.tables[shape.name], shape, (layouts or {}).get(shape.name, 1))
        for shape in shapes
    }
    document: dict[str, Any] = {
        "version": PROGRAM_VERSION,
        "sqlite_min": SQLITE_MIN,
        "tables": tables,
        "views": pending_views(shapes),
        "session": [RENUMBER_TABLE, *(scratch_table(shape) for shape in shapes)],
        "record": list(RECORD),
    }
    return Program({**document, "hash": program_hash(document)})


def _dump_table(plan: Plan, synced: SyncedTable, shape: Shape, layout: int) -> dict[str, Any]:
    return {
        "layout": layout,
        "columns": list(shape.columns),
        "types": shape.types,
        "key": list(shape.key),
        "values": list(shape.values),
        "generated": sorted(shape.generated),
        "rebase": {column: "add" if column in shape.adds else "set" for column in shape.values},
        "policies": {column: synced.policy(column) for column in shape.values},
        "read_only": not any(plan.is_writable(path.scope, synced.name) for path in synced.paths),
        "ddl": {
            "table": synced_table(plan, synced, shape),
            "ours": our_tables(shape),
            "our_indexes": our_indexes(shape),
            "load": load_tables(plan, synced, shape),
            "indexes": source_indexes(synced, shape),
            "triggers": capture_triggers(shape),
        },
        "statements": {**table_statements(shape), **load_statements(shape)},
    }


def _load_table(name: str, spec: dict[str, Any]) -> ProgramTable:
    """ValueError, or whatever a wrong type raises, where the parts do not fit each other."""
    if not spec["key"] or not {*spec["key"], *spec["values"]} <= set(spec["columns"]):
        raise ValueError("columns")
    return ProgramTable(
        name=name,
        layout=int(spec["layout"]),
        columns=tuple(spec["columns"]),
        types=dict(spec["types"]),
        key=tuple(spec["key"]),
        values=tuple(spec["values"]),
        generated=frozenset(spec["generated"]),
        rebase=dict(spec["rebase"]),
        policies=dict(spec["policies"]),
        read_only=bool(spec["read_only"]),
        ddl=dict(spec["ddl"]),
        statements=dict(spec["statements"]),
    )
