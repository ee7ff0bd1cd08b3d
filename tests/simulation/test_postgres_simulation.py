"""The same simulation with the company on PostgreSQL. Its answers take what time they take, so histories are not
repeatable to the letter, and streams, whose turns are counted, stay out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from syncline.testing.postgres_database import PostgresDatabase
from syncline.testing.postgres_dialect import POSTGRES
from syncline.testing.postgres_server import PostgresServer
from syncline.testing.simulation import acts, run

WITHOUT_STREAMS: dict[str, Any] = {"office": 14, "go_live": 0, "tell": 0, "listen": 0, "hang_up": 0, "beat": 0}
MIGRATES: dict[str, Any] = {**WITHOUT_STREAMS, "migrate": 4, "migrate_on": 10, "reassign": 6}


@pytest.mark.parametrize("often", [WITHOUT_STREAMS, MIGRATES], ids=["", "migrates"])
@pytest.mark.parametrize("seed", range(3))
def test_a_device_is_always_the_cut_of_its_cursor_plus_its_own_pending_changes(
    postgres_server: PostgresServer, tmp_path: Path, seed: int, often: dict[str, Any]
) -> None:
    """P1, P2, P3, P4, P5, P6, P7, P8, P10, P20, P22. Transactions of the company commit out of the order in which they
    began."""
    database = PostgresDatabase(postgres_server, tmp_path)
    try:
        simulation = run(seed, tmp_path, often=often, database=database, dialect=POSTGRES)
    finally:
        database.close()
    assert simulation.report.events >= acts.STEPS
    assert simulation.report.operations["office writes that overlap"]
