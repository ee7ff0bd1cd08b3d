"""`syncline verify` beside a running server: what it prints, how it ends, and what the server counts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from tests.cli.conftest import Syncline, Told
from tests.cli.test_serve import serving


class Checked:
    """A synced replica of nurse-1, and the command for it."""

    def __init__(self, folder: Path, url: str, syncline: Syncline) -> None:
        self.db, self.url = folder / "nurse.db", url
        (folder / "token").write_text(syncline("token", "--sub", "nurse-1").out, encoding="utf-8")
        self._options = ("--server", url, "--token", f"@{folder / 'token'}")
        self._syncline = syncline
        assert syncline("device", "sync", "--db", str(self.db), *self._options).status == 0

    def verify(self, *more: str) -> Told:
        return self._syncline("verify", "--device-db", str(self.db), *self._options, *more)

    def damage(self, sql: str) -> None:
        """With capture silenced, as by a program that turns triggers off."""
        db = sqlite3.connect(self.db, isolation_level=None)
        for statement in ("UPDATE syncline_state SET applying = 1", sql, "UPDATE syncline_state SET applying = 0"):
            db.execute(statement)
        db.close()

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        db = sqlite3.connect(self.db)
        try:
            return db.execute(sql).fetchall()
        finally:
            db.close()

    def metrics(self) -> dict[str, int]:
        with urlopen(f"{self.url}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return {name: int(value) for name, value in (line.split() for line in lines if not line.startswith("#"))}


@pytest.fixture
def nurse(configured: Path, syncline: Syncline) -> Iterator[Checked]:
    assert syncline("provision").status == 0
    with serving(configured) as (_, url):
        yield Checked(configured, url, syncline)


DIFFERENCE: dict[str, Any] = {
    "table": "visits",
    "bucket": 'patients["p1"]',
    "rows_here": 1,
    "rows_there": 2,
    "repaired": False,
}


def test_a_replica_is_compared_and_mended(nurse: Checked) -> None:
    """P1."""
    told = nurse.verify("--json")
    assert (told.status, told.err) == (0, "")
    assert told.json == {
        "ok": True, "tables": 3, "rows": 6, "pending": 0, "changed": 0, "not_compared": [], "differences": [],
    }  # fmt: skip
    assert nurse.verify().out.splitlines() == ["3 tables compared, 6 rows on the device.", "Nothing differs."]

    nurse.damage("DELETE FROM visits WHERE id = 'v1'")
    told = nurse.verify("--json")
    assert (told.status, told.json["ok"]) == (1, False)
    (found,) = told.json["differences"]
    assert found == DIFFERENCE | {"bucket": found["bucket"]} and '"p1"' in found["bucket"]
    told = nurse.verify("--repair")
    assert told.status == 0
    assert "1 row here, 2 in the source, repaired." in told.out
    assert nurse.verify("--json").json["differences"] == []

    metrics = nurse.metrics()
    (told_head,) = nurse.execute("SELECT base FROM syncline_state")[0]
    assert metrics.pop("syncline_head") == told_head
    assert metrics == {
        "syncline_verifications_total": 5,
        "syncline_verified_rows_total": 6 + 6 + 5 + 5 + 6,
        "syncline_verify_differences_total": 2,
        "syncline_verify_repaired_total": 1,
    }


def test_there_has_to_be_a_replica(clinic: Path, syncline: Syncline) -> None:
    """A new file would only be compared with what was just downloaded into it."""
    told = syncline("verify", "--device-db", "none.db", "--server", "http://127.0.0.1:9", "--token", "T")
    assert told.status == 1 and "[no_file]" in told.err
    assert not (clinic / "none.db").exists()
