"""An office per test; whatever it started is ended with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.postgres.applications.office import Office
from tests.postgres.conftest import HostDatabase


@pytest.fixture
def office(postgres: HostDatabase, tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path, tmp_path / "none", database=postgres)
    yield made
    made.close()
