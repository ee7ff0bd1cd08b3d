"""W1 to W5: each takes a folder of its own and answers a row of figures."""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import fan_out as streams
from bench import raw
from bench.common_row import NURSE, make_company, write_configuration
from bench.processes import Child, Server, syncline
from bench.wire import Relay

DEVICES_PER_PROCESS = 25


@dataclass
class Result:
    """`figures`: name -> value, in the order in which they are printed."""

    name: str
    about: str
    figures: dict[str, Any] = field(default_factory=dict)


class Stage:
    """A company with its server, and devices as processes of their own."""

    def __init__(self, folder: Path, visits: int, shape: str, *, count_bytes: bool = False) -> None:
        self.folder = folder
        self._stack = ExitStack()
        make_company(folder / "company.db", visits)
        write_configuration(folder, shape)
        syncline(folder, "provision")
        self.token = syncline(folder, "token", "--sub", NURSE, "--ttl", "8h").strip()
        self.server = self._stack.enter_context(Server(folder))
        self.url = self.server.url
        self.relay: Relay | None = None
        if count_bytes:
            self.relay = self._stack.enter_context(Relay(self.url))
            self.url = self.relay.url

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @contextmanager
    def devices(self, *names: str) -> Iterator[Child]:
        paths = [str(self.folder / f"{name}.db") for name in names]
        child = Child("bench.devices", paths=paths, url=self.url, token=self.token)
        try:
            yield child
        finally:
            child.close()

    def do(self, child: Child, order: str, **options: Any) -> dict[str, Any]:
        child.tell(do=order, **options)
        return child.hear()

    def host(self) -> sqlite3.Connection:
        return sqlite3.connect(self.folder / "company.db", isolation_level=None, timeout=30)


def first_sync(folder: Path, rows: int, shape: str) -> Result:
    """W1: all rows into an empty replica.

    "of raw insert by CPU" is what the other ratio tends to where each process has a core of its own: the one that
    works longer sets the pace. Unlike the other it hardly depends on what else the machine does.
    """
    result = Result("W1", f"first sync of {rows:,} rows, {shape}")
    inserted = raw.insert_rate(folder, rows)
    with Stage(folder, rows, shape) as stage:
        before = stage.server.cost()
        with stage.devices("first") as device:
            report = stage.do(device, "sync")
        after = stage.server.cost()
    assert report["downloaded_rows"] >= rows, report
    rate, server_cpu = rows / report["seconds"], after.cpu_seconds - before.cpu_seconds
    result.figures = {
        "rows/s": round(rate),
        "raw insert rows/s": round(inserted.rows_per_second),
        "of raw insert": round(rate / inserted.rows_per_second, 3),
        "raw insert CPU us/row": round(inserted.cpu_us, 1),
        "device CPU us/row": round(report["cpu_seconds"] * 1e6 / rows, 1),
        "server CPU us/row": round(server_cpu * 1e6 / rows, 1),
        "of raw insert by CPU": round(inserted.cpu_us * rows / 1e6 / max(report["cpu_seconds"], server_cpu), 3),
        "device peak MiB": round(report["peak_mib"]),
        "server peak MiB": round(after.peak_mib),
    }
    return result


def bytes_of_first_sync(folder: Path, rows: int, shape: str) -> Result:
    """W1 once more through a relay that counts: its own time is not told."""
    result = Result("W1", f"bytes of a first sync of {rows:,} rows, {shape}")
    with Stage(folder, rows, shape, count_bytes=True) as stage, stage.devices("first") as device:
        stage.do(device, "sync")
        assert stage.relay
        result.figures = {
            "down bytes/row": round(stage.relay.down / rows, 1),
            "up bytes": stage.relay.up,
            "replica bytes/row": round((folder / "first.db").stat().st_size / rows, 1),
        }
    return result


def upload(folder: Path, edits: int) -> Result:
    """W2: offline edits go up."""
    result = Result("W2", f"upload of {edits:,} offline edits")
    raw.insert_rate(folder, edits)
    updated = raw.update_rate(folder, edits)
    with Stage(folder, edits, "caseload", count_bytes=True) as stage, stage.devices("editor") as device:
        stage.do(device, "sync")
        stage.do(device, "edit", count=edits)
        assert stage.relay
        up, before = stage.relay.up, stage.server.cost()
        report = stage.do(device, "sync")
        after = stage.server.cost()
        up = stage.relay.up - up
    assert report["uploaded_mutations"] == edits and not report["rejected"], report
    rate = edits / report["seconds"]
    result.figures = {
        "edits/s": round(rate),
        "raw update rows/s": round(updated.rows_per_second),
        "of raw update": round(rate / updated.rows_per_second, 3),
        "device CPU s": round(report["cpu_seconds"], 2),
        "server CPU s": round(after.cpu_seconds - before.cpu_seconds, 2),
        "server peak MiB": round(after.peak_mib),
        "up bytes/edit": round(up / edits, 1),
    }
    return result


def live(folder: Path, devices: int, changes: int) -> Result:
    """W3 and W4: one row changed in the source by plain SQL, until the devices' files show it."""
    name = "W3" if devices == 1 else "W4"
    result = Result(
        name, f"one changed row, until {devices} connected device{'s show' if devices > 1 else ' shows'} it"
    )
    last: list[float] = []
    with Stage(folder, 1_000, "caseload") as stage, ExitStack() as stack:
        children = []
        for start in range(0, devices, DEVICES_PER_PROCESS):
            names = [f"device-{number}" for number in range(start, min(start + DEVICES_PER_PROCESS, devices))]
            children.append(stack.enter_context(stage.devices(*names)))
        for child in children:
            stage.do(child, "sync")
        for child in children:
            stage.do(child, "start")
        host = stage.host()
        stack.callback(host.close)
        keys = [row[0] for row in host.execute("SELECT id FROM visits ORDER BY id")]
        before = stage.server.cost()
        for change in range(changes):
            value, key = f"change {change}", keys[change % len(keys)]
            for child in children:
                child.tell(do="watch", key=key, value=value)
            time.sleep(0.05)
            changed_at = time.monotonic()
            host.execute("UPDATE visits SET summary = ? WHERE id = ?", (value, key))
            answers = [child.hear() for child in children]
            assert not any(answer["missing"] for answer in answers), answers
            last.append((max(max(answer["at"]) for answer in answers) - changed_at) * 1000)
        after = stage.server.cost()
        for child in children:
            stage.do(child, "stop")
    cuts = statistics.quantiles(last, n=100, method="inclusive")
    result.figures = {
        "p50 ms": round(statistics.median(last), 1),
        "p95 ms": round(cuts[94], 1),
        "p99 ms": round(cuts[98], 1),
        "changes": changes,
        "server CPU ms/change": round((after.cpu_seconds - before.cpu_seconds) * 1000 / changes, 1),
    }
    return result


def fan_out(folder: Path, devices: int, repeats: int) -> Result:
    """W4b: one change, told to many streams, of one process; see `bench/fan_out.py`."""
    result = Result("W4b", f"{devices:,} streams, {repeats} changes of each kind: ms until the last was told")
    found = asyncio.run(streams.run(folder, devices, repeats))
    for kind in streams.KINDS:
        measured = found[kind]
        assert isinstance(measured, dict)
        result.figures[f"{kind}: last ms"] = round(measured["last_ms"], 1)
        result.figures[f"{kind}: server CPU ms"] = round(measured["server_cpu_ms"], 1)
    for name in ("server_mib", "server_kib_per_device"):
        result.figures[name.replace("_", " ")] = round(float(str(found[name])), 1)
    return result


def catch_up(folder: Path, changed: int, rows: int) -> Result:
    """W5: what the office changed while the device was away."""
    result = Result("W5", f"catch-up of {changed:,} changed rows of {rows:,}")
    raw.insert_rate(folder, rows)
    updated = raw.update_rate(folder, rows)
    with Stage(folder, rows, "caseload", count_bytes=True) as stage, stage.devices("away") as device:
        stage.do(device, "sync")
        host = stage.host()
        host.execute(
            "UPDATE visits SET summary = 'moved', day = '2026-12-24' "
            "WHERE id IN (SELECT id FROM visits ORDER BY id LIMIT ?)",
            (changed,),
        )
        host.close()
        time.sleep(1)
        assert stage.relay
        down = stage.relay.down
        report = stage.do(device, "sync")
        down = stage.relay.down - down
    assert report["downloaded_rows"] == changed, report
    result.figures = {
        "seconds": round(report["seconds"], 3),
        "rows/s": round(changed / report["seconds"]),
        "of raw update": round(changed / report["seconds"] / updated.rows_per_second, 3),
        "down bytes/row": round(down / changed, 1),
    }
    return result
