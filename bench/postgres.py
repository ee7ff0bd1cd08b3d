"""What Syncline costs a PostgreSQL host: `python -m bench.postgres [--quick] [--only H1,S1] [--json]`.

Ratios come of one run. The server is one of the benchmark's own, with fsync and autovacuum on. H: what the host pays ·
L: one large statement · S: what the sequencer does · Q: the queue and the doorbell · D: until a device shows it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial

from bench import postgres_large as large
from bench import postgres_workloads as workloads
from bench.postgres_stage import Cluster, Result
from syncline.testing.postgres_server import installed

Job = tuple[str, Callable[[Cluster], Result]]


def jobs(*, quick: bool) -> Iterator[Job]:
    """Name and workload; the quick ones are smaller."""
    scale = 2 if quick else 10
    seconds = 3 if quick else 10
    for durable in (True, False):
        yield "H1", partial(workloads.host_tps, scale=scale, seconds=seconds, durable=durable)
    yield "H2", partial(workloads.bulk_update, rows=100_000)
    yield "H3", partial(workloads.cost_per_change, scale=scale, seconds=2 * seconds)
    yield "H4", partial(large.provision, scale=5 if quick else 50)
    yield "L1", partial(large.large_statement, rows=100_000 if quick else 1_000_000)
    yield "S1", partial(workloads.throughput, changes=100_000 if quick else 1_000_000)
    yield "Q1", partial(workloads.bloat, changes=100_000 if quick else 1_000_000)
    yield "Q2", partial(workloads.doorbell, scale=scale, seconds=2 * seconds)
    yield "D1", partial(workloads.latency, changes=50 if quick else 200)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.postgres", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    parser.add_argument("--only", default="", help="workloads, for example H1,S1")
    parser.add_argument("--postgres", default="", help="major version (default: the newest that is installed)")
    parser.add_argument("--json", action="store_true", help="one JSON document at the end")
    options = parser.parse_args()
    version = options.postgres or max(installed(), key=int, default="")
    if version not in installed():
        parser.error(f"PostgreSQL {version} is not installed; there is: {', '.join(sorted(installed())) or 'none'}")
    wanted = {name for name in options.only.upper().split(",") if name}
    out = sys.stderr if options.json else sys.stdout
    results = []
    print(f"PostgreSQL {version}", file=out)
    for name, run in jobs(quick=options.quick):
        if wanted and name not in wanted:
            continue
        with Cluster(version) as cluster:
            result = run(cluster)
        results.append(result)
        print(f"{result.name}  {result.about}", file=out)
        for label, value in result.figures.items():
            print(f"      {label:<44}{value:>12,}", file=out, flush=True)
    if options.json:
        print(json.dumps({"postgres": version, "results": [asdict(result) for result in results]}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
