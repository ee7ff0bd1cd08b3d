"""H1 to D1: what Syncline costs a PostgreSQL host, and what it does in a second. Each answers a row of figures."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from bench.common_row import COMPANY, NURSE, PATIENTS, SHAPES, make_rows, patient_key
from bench.postgres_stage import Cluster, Result, Sequencing, configured, everything, sequencing, serving
from bench.processes import Child, syncline
from syncline.testing.postgres_server import DatabaseAddress

ACCOUNTS = '[scope.everything]\ntables = ["pgbench_accounts"]\n'
ROUNDS = 5
UNFLUSHED = "-c%20synchronous_commit%3Doff"
CHANNEL = "syncline"
"""Where capture rings; see DESIGN.md, "doorbell"."""


def host_tps(cluster: Cluster, scale: int, seconds: float, *, durable: bool) -> Result:
    """H1: by pgbench, in turns on three databases, so that what else the machine does falls on all."""
    options = "" if durable else UNFLUSHED
    result = Result("H1", f"pgbench single-row updates, {'each commit flushed' if durable else 'no commit flushed'}")
    plain, captured, followed = (cluster.database() for _ in range(3))
    for address in (plain, captured, followed):
        cluster.make_accounts(address, scale)
    with configured(captured, ACCOUNTS) as folder:
        syncline(folder, "provision")
    found: dict[str, list[float]] = {"plain": [], "captured": [], "followed": []}
    with serving(followed, ACCOUNTS):
        for _ in range(ROUNDS):
            for name, address in (("plain", plain), ("captured", captured), ("followed", followed)):
                found[name].append(cluster.single_row_updates(address, scale, seconds, options=options))
    tps = {name: statistics.median(each) for name, each in found.items()}
    result.figures = {
        "plain tps": round(tps["plain"]),
        "captured tps": round(tps["captured"]),
        "with the sequencer tps": round(tps["followed"]),
        "captured of plain": round(tps["captured"] / tps["plain"], 3),
        "with the sequencer of plain": round(tps["followed"] / tps["plain"], 3),
    }
    return result


def bulk_update(cluster: Cluster, rows: int) -> Result:
    """H2: one UPDATE of many rows; without capture, captured read-only, captured writable."""
    result = Result("H2", f"one UPDATE of {rows:,} rows")
    seconds: dict[str, list[float]] = {"plain": [], "read-only": [], "writable": []}
    made = {name: cluster.database() for name in seconds}
    for name, address in made.items():
        cluster.make_accounts(address, 1)
        if name != "plain":
            with configured(address, ACCOUNTS + f"read_only = {str(name == 'read-only').lower()}\n") as folder:
                syncline(folder, "provision")
    for _ in range(ROUNDS):
        for name, address in made.items():
            cluster.execute(address, "VACUUM pgbench_accounts")
            update = f"UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid <= {rows}"
            seconds[name].append(cluster.execute(address, update))
    median = {name: statistics.median(each) for name, each in seconds.items()}
    result.figures = {
        "plain seconds": round(median["plain"], 3),
        "read-only of plain": round(median["read-only"] / median["plain"], 2),
        "writable of plain": round(median["writable"] / median["plain"], 2),
    }
    return result


def cost_per_change(cluster: Cluster, scale: int, seconds: float) -> Result:
    """H3: what a change costs the primary besides its own: WAL, CPU, dead rows; capture, sequencer and all."""
    result = Result("H3", "the primary's cost per single-row change, plain and with the sequencer on")
    plain, followed = cluster.database(), cluster.database()
    for address in (plain, followed):
        cluster.make_accounts(address, scale)

    def measure(address: DatabaseAddress, settle: float) -> tuple[float, float, float]:
        before = cluster.wal_bytes(address), cluster.cpu_seconds(), cluster.dead_rows(address)
        cluster.single_row_updates(address, scale, seconds)
        time.sleep(settle)
        after = cluster.wal_bytes(address), cluster.cpu_seconds(), cluster.dead_rows(address)
        changes = after[2][0] - before[2][0]
        return (
            (after[0] - before[0]) / changes,
            (after[1] - before[1]) * 1e6 / changes,
            (after[2][1] - before[2][1]) / changes,
        )

    cluster.execute(plain, "CHECKPOINT")
    own = measure(plain, 0)
    with serving(followed, ACCOUNTS):
        cluster.execute(followed, "CHECKPOINT")
        ours = measure(followed, 5)
    for name, was, now in zip(("WAL bytes", "CPU us", "dead rows of ours"), own, ours, strict=True):
        if was:
            result.figures[f"{name}, plain"] = round(was, 1)
        result.figures[f"{name}, with us"] = round(now, 2)
    result.figures["WAL of plain"] = round(ours[0] / own[0], 2)
    result.figures["CPU of plain"] = round(ours[1] / own[1], 2)
    return result


def throughput(cluster: Cluster, changes: int) -> Result:
    """S1: row changes per second that the sequencer takes: of one statement, and of many small transactions."""
    result = Result("S1", f"the sequencer takes {changes:,} waiting row changes")
    address = cluster.database()
    cluster.make_accounts(address, max(1, changes // 100_000))
    with sequencing(address.url, everything("pgbench_accounts")) as work:
        for name in ("first", "again"):
            cluster.execute(
                address, f"UPDATE pgbench_accounts SET abalance = abalance + 1, filler = 'x' WHERE aid <= {changes}"
            )
            begun, cpu = time.perf_counter(), time.process_time()
            taken = work.drain()
            seconds = time.perf_counter() - begun
            assert taken >= changes, taken
            result.figures[f"one statement, {name}: changes/s"] = round(taken / seconds)
            result.figures[f"one statement, {name}: own CPU us/change"] = round(
                (time.process_time() - cpu) * 1e6 / taken, 1
            )
        cluster.single_row_updates(address, 1, max(5, changes / 50_000))
        begun = time.perf_counter()
        taken = work.drain()
        result.figures["small transactions waiting"] = taken
        result.figures["small transactions: changes/s"] = round(taken / (time.perf_counter() - begun))
    return result


def bloat(cluster: Cluster, changes: int) -> Result:
    """Q1: the queue under churn: what it holds and what an idle poll costs afterwards, without and with a long
    reader that keeps vacuum from cleaning."""
    result = Result("Q1", f"the queue after {changes:,} changes taken as they come")
    for reader in (False, True):
        address = cluster.database()
        cluster.make_accounts(address, 1)
        label = "with a long reader" if reader else "without a reader"
        with ExitStack() as stack:
            work = stack.enter_context(sequencing(address.url, everything("pgbench_accounts")))
            if reader:
                session = stack.enter_context(cluster.session(address))
                session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
                session.execute("SELECT count(*) FROM pgbench_branches")
            done = churn(cluster, address, work, changes)
            result.figures[f"{label}: changes/s"] = round(done[0] / done[1])
            result.figures[f"{label}: queue MiB"] = round(cluster.our_bytes(address, "changelog%") / 2**20, 1)
            result.figures[f"{label}: all of ours MiB"] = round(cluster.our_bytes(address) / 2**20, 1)
            result.figures[f"{label}: idle poll ms"] = round(idle_poll_ms(work), 2)
    return result


def churn(cluster: Cluster, address: DatabaseAddress, work: Sequencing, changes: int) -> tuple[int, float]:
    """Statements of 500 rows each, and a checkpoint whenever there is work; changes and seconds."""
    stop = threading.Event()

    def write() -> None:
        with cluster.session(address) as session:
            for turn in range(changes // 500):
                low = (turn * 500) % 100_000
                session.execute(
                    "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid > %s AND aid <= %s", (low, low + 500)
                )
        stop.set()

    writer = threading.Thread(target=write)
    begun = time.perf_counter()
    writer.start()
    total = 0
    while not stop.is_set():
        taken = work.checkpoint()
        total += taken
        if not taken:
            time.sleep(0.005)
    writer.join()
    total += work.drain()
    return total, time.perf_counter() - begun


def idle_poll_ms(work: Sequencing, polls: int = 50) -> float:
    costs = []
    for _ in range(polls):
        begun = time.perf_counter()
        assert not work.checkpoint()
        costs.append((time.perf_counter() - begun) * 1000)
    return statistics.median(costs)


def doorbell(cluster: Cluster, scale: int, seconds: float) -> Result:
    """Q2: NOTIFYs of the host's transactions while there is load, and after it has been quiet."""
    result = Result("Q2", "how often capture rings the doorbell")
    address = cluster.database()
    cluster.make_accounts(address, scale)
    with serving(address, ACCOUNTS), cluster.session(address) as session:
        session.execute(f"LISTEN {CHANNEL}")
        time.sleep(4)  # long enough to fall asleep

        def rings(deed: Callable[[], object]) -> int:
            deed()
            time.sleep(0.2)
            return sum(1 for _ in session.notifies(timeout=0.5))

        update = "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 1"
        result.figures["one change after quiet"] = rings(lambda: cluster.execute(address, update))
        tps: list[float] = []
        result.figures["under load"] = rings(
            lambda: tps.append(
                cluster.single_row_updates(address, scale, seconds, options="-c%20synchronous_commit%3Doff")
            )
        )
        result.figures["commits under load"] = round(tps[0] * seconds)
    return result


def latency(cluster: Cluster, changes: int) -> Result:
    """D1: a row changed in the source by plain SQL, until a connected device's file shows it."""
    result = Result("D1", "from commit to device")
    address = cluster.database()
    cluster.execute(address, *filter(str.strip, COMPANY.replace("REAL", "double precision").split(";")))
    with cluster.session(address) as session:
        with session.cursor() as cursor:
            patients = [(patient_key(number), f"Patient {number}") for number in range(PATIENTS)]
            cursor.executemany("INSERT INTO patients VALUES (%s, %s)", patients)
            cursor.executemany("INSERT INTO assignments VALUES (%s, %s)", [(NURSE, key) for key, _ in patients])
            rows = list(make_rows(1_000))
            cursor.executemany(f"INSERT INTO visits VALUES ({', '.join(['%s'] * 10)})".encode(), rows)
        keys = sorted(str(row[0]) for row in rows)
        with serving(address, SHAPES["caseload"]) as (folder, server):
            token = syncline(folder, "token", "--sub", NURSE, "--ttl", "8h").strip()
            child = Child("bench.devices", paths=[str(folder / "device.db")], url=server.url, token=token)
            try:
                for order in ("sync", "start"):
                    child.tell(do=order)
                    child.hear()
                for label, pause in (("while things move", 0.05), ("after quiet", 3.0)):
                    found = [
                        change_until_shown(session, child, keys[turn % len(keys)], f"{label} {turn}", pause)
                        for turn in range(changes if pause < 1 else max(5, changes // 20))
                    ]
                    cuts = statistics.quantiles(found, n=100, method="inclusive")
                    result.figures[f"{label}: p50 ms"] = round(statistics.median(found), 1)
                    result.figures[f"{label}: p95 ms"] = round(cuts[94], 1)
                child.tell(do="stop")
                child.hear()
            finally:
                child.close()
    return result


def change_until_shown(session: object, child: Child, key: str, value: str, pause: float) -> float:
    """Milliseconds."""
    child.tell(do="watch", key=key, value=value)
    time.sleep(pause)
    begun = time.monotonic()
    session.execute("UPDATE visits SET summary = %s WHERE id = %s", (value, key))  # type: ignore[attr-defined]
    answer = child.hear()
    assert not answer["missing"], answer
    return float((max(answer["at"]) - begun) * 1000)
