"""Fixtures of pytest's for the tests of an app: `syncline_pair`.

An app's conftest.py asks for them: `pytest_plugins = ["syncline.testing.fixtures"]`. They are no entry point, which
would have pytest load this, and rewrite all of Syncline, in every project that merely depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from syncline.testing.pair import Pair, PairSettings, Templates


@pytest.fixture(scope="session")
def syncline_settings() -> PairSettings:
    """The app's own fixture of this name takes its place."""
    raise pytest.UsageError(
        "syncline_pair needs to know the app: write a fixture `syncline_settings` that returns "
        "syncline.testing.pair.PairSettings(configuration=…, schema=…)."
    )


@pytest.fixture(scope="session")
def syncline_templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """Databases that are provisioned once in a run."""
    from syncline.testing.pair import Templates

    return Templates(tmp_path_factory.mktemp("syncline"))


@pytest.fixture
def syncline_pair(syncline_settings: PairSettings, syncline_templates: Templates, tmp_path: Path) -> Iterator[Pair]:
    """A source, a real server and two devices, in step: see `syncline.testing.pair.Pair`."""
    from syncline.testing.pair import Pair

    folder = tmp_path / "syncline"
    folder.mkdir()
    with Pair(syncline_settings, folder, syncline_templates) as pair:
        yield pair
