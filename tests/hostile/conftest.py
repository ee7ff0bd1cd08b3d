"""The small home-care company of the scenarios, on each kind of database, and the replica's file of tests/replica."""

from __future__ import annotations

from tests.replica.conftest import app, bench, make_bench, open_files
from tests.scenarios.conftest import dialect, lab, make_office, office, open_office

__all__ = ["app", "bench", "dialect", "lab", "make_bench", "make_office", "office", "open_files", "open_office"]
