"""docs/orms.md does what it says: its blocks are run in their order, on a replica of an office of their own."""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.docs.generate import ROOT
from tests.integration.company import SECRET, Company, environment, query

PAGE = (ROOT / "docs" / "orms.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
FIRST = uuid.UUID(int=1)

TABLES = f"""
CREATE TABLE visits(id TEXT PRIMARY KEY NOT NULL, starts_at TEXT NOT NULL, price TEXT NOT NULL, status TEXT NOT NULL, note TEXT);
INSERT INTO visits VALUES('{FIRST}', '2026-11-22 08:00:00.000000', '19.90', 'planned', NULL);
"""
CONFIGURATION = f"""
[source]
url = "sqlite:///clinic.db"
[auth]
secret = "{SECRET}"
[scope.all]
tables = ["visits"]
"""


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    company = Company(tmp_path, TABLES, CONFIGURATION)
    company.serve()
    yield company
    company.close()


def test_every_block_of_the_guide_runs(company: Company) -> None:
    with company.device("ann") as nurse:
        nurse.sync(timeout=60)
        names: dict[str, Any] = {"__name__": "guide", "path": str(nurse.path), "first": FIRST}
        names["office_url"] = f"sqlite:///{company.path}"
        try:
            for block in BLOCKS:
                if "django" in block:  # it has one configuration for its whole life
                    code = f"path = {str(nurse.path)!r}\n{block}"
                    surroundings = environment() | {"PYTHONWARNINGS": "default"}
                    subprocess.run([sys.executable, "-c", code], env=surroundings, check=True, timeout=60)
                else:
                    exec(compile(block, "docs/orms.md", "exec", dont_inherit=True), names)
        finally:
            for name in ("engine", "office"):
                if name in names:
                    names[name].dispose()
        nurse.sync(timeout=60)
    rows = query(company.path, "SELECT price, status, note FROM visits ORDER BY note")
    assert rows == [("19.90", "done", None), ("19.90", "done", "after 0 others")]


def test_what_drivers_wait_is_what_the_guide_says(company: Company) -> None:
    """Their defaults are theirs to change: then the table is wrong."""
    import sqlite3

    import apsw
    import sqlalchemy as sa

    waits = {}
    plain = sqlite3.connect(company.path)
    waits["`sqlite3` (Python)"] = plain.execute("PRAGMA busy_timeout").fetchone()[0]
    plain.close()
    engine = sa.create_engine(f"sqlite:///{company.path}")
    with engine.connect() as db:
        waits["SQLAlchemy"] = db.execute(sa.text("PRAGMA busy_timeout")).scalar()
    engine.dispose()
    other = apsw.Connection(str(company.path))
    waits["APSW"] = other.execute("PRAGMA busy_timeout").fetchone()[0]
    other.close()
    with company.device("ann") as nurse:
        ours = nurse.connect()
        waits["`replica.connect()`, `replica.transaction()`"] = ours.execute("PRAGMA busy_timeout").fetchone()[0]
        ours.close()
    for name, milliseconds in waits.items():
        told = f"{milliseconds // 1000} s" if milliseconds else "**not at all**"
        assert f"| {name} | {told} |" in PAGE, name
