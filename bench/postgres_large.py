"""H4 and L1: what is large. Putting capture on a table of millions of rows, beside a host that writes to it; and one
statement that changes a million rows, by the memory of everybody who has to do with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from bench.postgres_stage import Cluster, Result, configured, everything, sequencing
from bench.processes import syncline

ACCOUNTS = '[scope.everything]\ntables = ["pgbench_accounts"]\n'
SEQUENCER = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND granted AND database = " + (
    "(SELECT oid FROM pg_database WHERE datname = current_database())"
)
SAMPLE_SECONDS = 0.02


def provision(cluster: Cluster, scale: int) -> Result:
    """H4: putting capture on tables that are full, and taking it off, while the host writes row by row."""
    result = Result(
        "H4", f"provision on {scale * 100_000:,} rows, and how long a host's single-row UPDATE took at most"
    )
    address = cluster.database()
    cluster.make_accounts(address, scale)
    update = "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 1"
    with configured(address, ACCOUNTS) as folder, cluster.session(address) as session:
        with longest(lambda: session.execute(update)) as alone:
            time.sleep(3)  # about as long as what it is compared with
        result.figures["longest UPDATE before, ms"] = round(alone[0] * 1000, 1)
        for command, options in (("provision", ()), ("deprovision", ("--yes",))):
            with longest(lambda: session.execute(update)) as waited:
                begun = time.perf_counter()
                syncline(folder, command, *options)
                result.figures[f"{command} seconds"] = round(time.perf_counter() - begun, 2)
            result.figures[f"longest UPDATE during {command}, ms"] = round(waited[0] * 1000, 1)
        begun = time.perf_counter()
        syncline(folder, "--version")
        result.figures["a command that does nothing"] = round(time.perf_counter() - begun, 2)
    return result


@contextmanager
def longest(deed: Callable[[], object]) -> Iterator[list[float]]:
    """Does it again and again in a thread; the answer holds the seconds of the longest."""
    found, stop = [0.0], threading.Event()

    def work() -> None:
        while not stop.is_set():
            begun = time.perf_counter()
            deed()
            found[0] = max(found[0], time.perf_counter() - begun)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def large_statement(cluster: Cluster, rows: int) -> Result:
    """L1: one UPDATE of so many rows, plain and captured, and the cut that takes it. MiB are what each process has of
    its own at most (RssAnon), shared buffers apart."""
    result = Result("L1", f"one UPDATE of {rows:,} rows: seconds, and memory of each process")
    update = f"UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid <= {rows}"
    scale = max(1, rows // 100_000)
    plain, captured = cluster.database(), cluster.database()
    for address in (plain, captured):
        cluster.make_accounts(address, scale)
    with cluster.session(plain) as session:
        result.figures |= watched("plain", session, update)
    with sequencing(captured.url, everything("pgbench_accounts")) as work:
        sequencer = int(cluster.ask(captured, SEQUENCER))
        with cluster.session(captured) as session:
            result.figures |= watched("captured", session, update)
        with peak(sequencer) as backend, peak("self") as own:
            begun = time.perf_counter()
            taken = work.drain()
            seconds = time.perf_counter() - begun
        assert taken >= rows, taken
        result.figures["cut: seconds"] = round(seconds, 1)
        result.figures["cut: changes/s"] = round(taken / seconds)
        result.figures["cut: backend MiB"] = backend[0]
        result.figures["cut: our process MiB more than before"] = own[0] - own[1]
    return result


def watched(label: str, session: psycopg.Connection[Any], statement: str) -> dict[str, float]:
    with peak(session.info.backend_pid) as memory:
        begun = time.perf_counter()
        session.execute(statement.encode())
        seconds = time.perf_counter() - begun
    return {f"{label}: seconds": round(seconds, 1), f"{label}: backend MiB": memory[0]}


@contextmanager
def peak(process: int | str) -> Iterator[list[float]]:
    """MiB of the process's own memory: at most, and at the beginning."""
    found, stop = [own_mib(process)] * 2, threading.Event()

    def look() -> None:
        while not stop.wait(SAMPLE_SECONDS):
            found[0] = max(found[0], own_mib(process))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def own_mib(process: int | str) -> float:
    for line in Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0
