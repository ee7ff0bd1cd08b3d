"""The benchmark on a SQLite source: `python -m bench [--quick] [--rows N] [--only W1,W3] [--json]`."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

from bench import workloads
from bench.workloads import Result

Job = tuple[str, Callable[[Path], Result]]


def jobs(*, quick: bool, rows: int) -> Iterator[Job]:
    """Name and workload; the quick ones are smaller."""
    sizes = [rows // 10, rows] if quick else [rows // 10, rows, rows * 10]
    for size in sizes:
        yield "W1", partial(workloads.first_sync, rows=size, shape="caseload")
    yield "W1", lambda folder: workloads.first_sync(folder, rows, "shared")
    yield "W1", lambda folder: workloads.bytes_of_first_sync(folder, min(rows, 10_000), "caseload")
    yield "W2", lambda folder: workloads.upload(folder, 2_000 if quick else 10_000)
    yield "W3", lambda folder: workloads.live(folder, 1, 50 if quick else 200)
    yield "W4", lambda folder: workloads.live(folder, 100, 5 if quick else 20)
    yield "W4B", lambda folder: workloads.fan_out(folder, 1_000, 3 if quick else 10)
    yield "W5", lambda folder: workloads.catch_up(folder, 1_000, 10_000)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    parser.add_argument("--rows", type=int, help="rows of the first sync (default: 100000, with --quick 50000)")
    parser.add_argument("--only", default="", help="workloads, for example W1,W3")
    parser.add_argument("--json", action="store_true", help="one JSON document at the end")
    options = parser.parse_args()
    rows = options.rows or (50_000 if options.quick else 100_000)
    wanted = {name for name in options.only.upper().split(",") if name}
    results = []
    for name, run in jobs(quick=options.quick, rows=rows):
        if wanted and name not in wanted:
            continue
        folder = Path(tempfile.mkdtemp(prefix="syncline-bench-"))
        try:
            result = run(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        results.append(result)
        print(f"{result.name}  {result.about}", file=sys.stderr if options.json else sys.stdout)
        for label, value in result.figures.items():
            print(f"      {label:<24}{value:>12,}", file=sys.stderr if options.json else sys.stdout, flush=True)
    if options.json:
        print(json.dumps([asdict(result) for result in results], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
