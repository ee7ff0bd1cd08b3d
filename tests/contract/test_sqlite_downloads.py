"""The SQLite source passes the contract of paged downloads: P1, P8, P22."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.test_sqlite_source import SqliteLab

from syncline.testing.contract_downloads import DownloadContract


class TestSqliteDownloads(DownloadContract):
    @pytest.fixture
    def lab(self, tmp_path: Path) -> Iterator[SqliteLab]:  # type: ignore[override]
        lab = SqliteLab(tmp_path)
        yield lab
        lab.close()
