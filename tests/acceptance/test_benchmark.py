"""The benchmark runs, each workload of its own process beside raw SQLite, and says what it promises to say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BYTES_PER_ROW_MAX = 90
"""Of the common row on the wire: it has about 250 bytes, and is packed."""


@pytest.mark.slow
def test_first_syncs_are_measured_beside_raw_sqlite() -> None:
    path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH", ""))))
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--rows", "2000", "--only", "W1", "--json"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results: list[dict[str, Any]] = json.loads(done.stdout)
    assert [result["about"] for result in results] == [
        "first sync of 200 rows, caseload",
        "first sync of 2,000 rows, caseload",
        "first sync of 2,000 rows, shared",
        "bytes of a first sync of 2,000 rows, caseload",
    ]
    for result in results[:3]:
        figures = result["figures"]
        assert figures["of raw insert"] == pytest.approx(figures["rows/s"] / figures["raw insert rows/s"], abs=0.002)
        assert figures["device CPU us/row"] > figures["raw insert CPU us/row"] > 0
        assert 20 < figures["device peak MiB"] < 200
        assert 20 < figures["server peak MiB"] < 300
    assert 20 < results[3]["figures"]["down bytes/row"] < BYTES_PER_ROW_MAX
