"""A small home-care company for the scenarios, on each kind of database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract.test_postgres_source import PostgresLab
from tests.contract.test_sqlite_source import SqliteLab

from syncline.model.scopes import PlanConfig
from syncline.testing.bench import Office
from syncline.testing.contract_clinic import CASELOAD, CONFIG, clinic_tables
from syncline.testing.contract_lab import SourceLab
from syncline.testing.dialect import Dialect
from syncline.testing.postgres_run import SharedServers
from syncline.testing.postgres_server import installed


@pytest.fixture(params=["sqlite", "postgres"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SourceLab]:
    """An empty database of the company's."""
    made: SourceLab
    if request.param == "sqlite":
        made = SqliteLab(tmp_path)
    else:
        servers: SharedServers = request.getfixturevalue("postgres_servers")
        made = PostgresLab(servers.server(installed()["18"]), tmp_path)
    yield made
    made.close()


@pytest.fixture
def dialect(lab: SourceLab) -> Dialect:
    return lab.dialect


@pytest.fixture
def open_office(lab: SourceLab) -> Iterator[Callable[..., Office]]:
    """`open_office(tables, config)`: the company of these tables."""
    made: list[Office] = []

    def make(tables: tuple[str, ...], config: PlanConfig) -> Office:
        made.append(Office(lab.folder, tables, config, database=lab))
        return made[-1]

    yield make
    for office in made:
        office.close()


@pytest.fixture
def make_office(open_office: Callable[..., Office], dialect: Dialect) -> Callable[..., Office]:
    """`make_office(own_edit_may_leave=True)`: the company with fields of the caseload's configuration changed."""

    def make(**changes: object) -> Office:
        config = replace(CONFIG, scopes=(replace(CASELOAD, **changes), *CONFIG.scopes[1:]))  # type: ignore[arg-type]
        return open_office(clinic_tables(dialect), config)

    return make


@pytest.fixture
def office(make_office: Callable[..., Office]) -> Office:
    return make_office()
