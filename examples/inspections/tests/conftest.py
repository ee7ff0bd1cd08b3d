"""What `syncline_pair` is made of: this app's schema and configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncline.testing.pair import PairSettings

pytest_plugins = ["syncline.testing.fixtures"]

APP = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def syncline_settings() -> PairSettings:
    return PairSettings(configuration=APP / "syncline.toml", schema=APP / "schema.sql", users=("ann", "ben"))
