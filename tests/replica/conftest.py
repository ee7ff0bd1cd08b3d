"""A replica on a real file, and the few messages of a server that tests make by hand."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.replica.messages import Bench, plan_of

from syncline import Replica, limits
from syncline.model.program import build_program
from syncline.model.schema import Column, Index, Table
from syncline.replica.file import ReplicaFile

VISITS = Table(
    "visits",
    (
        Column("id", "INTEGER"),
        Column("patient", "TEXT"),
        Column("status", "TEXT", default="'new'"),
        Column("count", "INTEGER"),
        Column("note", ""),
    ),
    ("id",),
    indexes=(Index("visits_patient", ("patient",)),),
    generated_key=True,
)
LINES = Table("lines", (Column("a", "TEXT"), Column("b", "INT"), Column("label", "TEXT")), ("a", "b"))


@pytest.fixture
def open_files() -> Iterator[list[ReplicaFile]]:
    files: list[ReplicaFile] = []
    yield files
    for file in files:
        file.close()


@pytest.fixture
def make_bench(tmp_path: Path, open_files: list[ReplicaFile]) -> Callable[..., Bench]:
    def make(*tables: Table, name: str = "replica.db", **merge: dict[str, str]) -> Bench:
        file = ReplicaFile(tmp_path / name)
        open_files.append(file)
        bench = Bench(file, build_program(plan_of(*(tables or (VISITS, LINES)), merge=merge)))
        bench.hello()
        return bench

    return make


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench(visits={"count": "add"})


@pytest.fixture
def app(bench: Bench) -> Iterator[sqlite3.Connection]:
    """An app's connection: autocommit, so that each statement is a transaction."""
    with closing(sqlite3.connect(bench.file.path, isolation_level=None)) as connection:
        yield connection


@pytest.fixture
def office() -> Any:
    """See tests/replica/office.py."""
    from tests.replica.office import Office

    return Office()


@pytest.fixture
def replica(tmp_path: Path, office: Any) -> Iterator[Replica]:
    with Replica(tmp_path / "nurse.db", "https://sync.example.org", "token", transport=office) as made:
        yield made


def rows(connection: sqlite3.Connection, sql: str) -> list[tuple[Any, ...]]:
    return connection.execute(sql).fetchall()


@pytest.fixture(params=[0, limits.LOADED_ROWS_COPIED_MAX], ids=["renamed", "copied"])
def placing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How loaded rows get to their place: both ways, with as few rows as tests have."""
    monkeypatch.setattr(limits, "LOADED_ROWS_COPIED_MAX", request.param)
