"""The company of the integration tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.company import Company


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    """Its database is provisioned; no server runs yet."""
    company = Company(tmp_path)
    yield company
    company.close()
