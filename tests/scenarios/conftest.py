"""A small home-care company for the scenarios."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract.test_sqlite_source import SQLITE

from syncline.testing.bench import Office
from syncline.testing.contract_clinic import CASELOAD, CONFIG, clinic_tables

TABLES = clinic_tables(SQLITE)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path, TABLES, CONFIG)
    yield office
    office.close()


@pytest.fixture
def make_office(tmp_path: Path) -> Iterator[Callable[..., Office]]:
    """`make_office(own_edit_may_leave=True)`: the same company with fields of the caseload's configuration changed."""
    made: list[Office] = []

    def make(**changes: object) -> Office:
        config = replace(CONFIG, scopes=(replace(CASELOAD, **changes), *CONFIG.scopes[1:]))  # type: ignore[arg-type]
        made.append(Office(tmp_path, TABLES, config))
        return made[-1]

    yield make
    for office in made:
        office.close()
