"""A process with one or more devices, driven by lines of JSON (see `processes.Child`).

Orders: `sync` (answers the report), `edit` (that many offline edits), `start` (stay connected), `watch` (answer when
all devices show a value of a row's summary, with the moment of the last one), `stop`.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from typing import Any

from bench.processes import cost_of
from syncline import Replica

LOOK_SECONDS = 0.0005
WATCH_SECONDS_MAX = 30.0


class Devices:
    def __init__(self, paths: list[str], url: str, token: str) -> None:
        self._replicas = [Replica(path, url, token=token) for path in paths]
        self._readers: list[sqlite3.Connection] = []

    def sync(self, order: dict[str, Any]) -> dict[str, Any]:
        begun, cpu = time.perf_counter(), time.process_time()
        reports = [replica.sync(timeout=order.get("timeout", 600)) for replica in self._replicas]
        return {
            "seconds": time.perf_counter() - begun,
            "cpu_seconds": time.process_time() - cpu,
            "peak_mib": cost_of(os.getpid()).peak_mib,
            "downloaded_rows": sum(report.downloaded_rows for report in reports),
            "uploaded_mutations": sum(report.uploaded_mutations for report in reports),
            "rejected": sum(report.rejected for report in reports),
        }

    def edit(self, order: dict[str, Any]) -> dict[str, Any]:
        """Updates of two columns, each its own statement, committed by the hundred."""
        for replica in self._replicas:
            db = replica.connect()
            keys = [row[0] for row in db.execute("SELECT id FROM visits ORDER BY id LIMIT ?", (order["count"],))]
            for start in range(0, len(keys), 100):
                with db:
                    db.executemany(
                        "UPDATE visits SET summary = 'seen', status = 'done' WHERE id = ?",
                        [(key,) for key in keys[start : start + 100]],
                    )
            db.close()
        return {"edited": order["count"]}

    def start(self, order: dict[str, Any]) -> dict[str, Any]:
        for replica in self._replicas:
            replica.start()
        for replica in self._replicas:
            while replica.status.state != "live":
                time.sleep(0.05)
        self._readers = [replica.connect() for replica in self._replicas]
        return {"live": len(self._replicas)}

    def watch(self, order: dict[str, Any]) -> dict[str, Any]:
        """`at`: CLOCK_MONOTONIC, which all processes of a machine share, when each device showed the value."""
        waiting = list(self._readers)
        ends = time.monotonic() + WATCH_SECONDS_MAX
        moments: list[float] = []
        versions: dict[sqlite3.Connection, int] = {}
        while waiting and time.monotonic() < ends:
            for reader in list(waiting):
                version = reader.execute("PRAGMA data_version").fetchone()[0]
                if versions.get(reader) == version:
                    continue
                versions[reader] = version
                row = reader.execute("SELECT summary FROM visits WHERE id = ?", (order["key"],)).fetchone()
                if row and row[0] == order["value"]:
                    moments.append(time.monotonic())
                    waiting.remove(reader)
            time.sleep(LOOK_SECONDS)
        return {"at": moments, "missing": len(waiting)}

    def stop(self, order: dict[str, Any]) -> dict[str, Any]:
        for reader in self._readers:
            reader.close()
        self._readers = []
        for replica in self._replicas:
            replica.stop()
        return {}


def main() -> None:
    options = json.loads(sys.argv[1])
    devices = Devices(options["paths"], options["url"], options["token"])
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(getattr(devices, order["do"])(order)), flush=True)


if __name__ == "__main__":
    main()
