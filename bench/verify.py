"""What a verification costs beside a first download of the same rows, by CPU time and on each side by itself.

python bench/verify.py [--rows 50000]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig
from syncline.protocol import frames
from syncline.protocol.cursor import digest_of
from syncline.protocol.verify import Verify
from syncline.replica.digests import TableReading
from syncline.testing.bench import Office, Phone

BUCKETS = 100
TABLES = """
CREATE TABLE patients(id TEXT PRIMARY KEY, name TEXT);
CREATE TABLE visits(
  id TEXT PRIMARY KEY, patient_id TEXT, a TEXT, b TEXT, c INTEGER, d REAL, e TEXT, f TEXT, g INTEGER, h TEXT);
CREATE INDEX visits_patient ON visits(patient_id);
"""
CONFIG = PlanConfig(
    (
        ScopeConfig(
            "caseload",
            {"visits": TableConfig((LinkConfig(parent="patients", on={"patient_id": "id"}),))},
            root="patients",
            grant="SELECT id FROM patients WHERE :sub <> ''",
        ),
    )
)


def fill(office: Office, rows: int) -> None:
    office.execute(
        f"INSERT INTO patients WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < {BUCKETS}) "
        "SELECT 'p' || i, 'name ' || i FROM n"
    )
    text = "hex(randomblob(24))"
    office.execute(
        f"INSERT INTO visits WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) "
        f"SELECT lower(hex(randomblob(16))), 'p' || (1 + i % {BUCKETS}), {text}, {text}, i, i / 7.0, "
        f"{text}, {text}, i, 'ok' FROM n"
    )


def cpu(work: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.process_time()
    result = work()
    return result, time.process_time() - begun


def download(office: Office, phone: Phone) -> tuple[float, float]:
    """CPU seconds of the server and of the device, until the device has everything."""
    phone.hello()
    server = device = 0.0
    more = True
    while more:
        request = phone.file.download_request(with_buckets=True)
        answer, spent = cpu(lambda: office.wait(collect(office.service.download(phone.identity, request))))  # noqa: B023
        server += spent
        _, spent = cpu(lambda: [phone.file.receive(frames.load(frame)) for frame in answer])  # noqa: B023
        device += spent
        last = frames.load(answer[-1])
        more = last["t"] == "pause" or bool(last.get("more"))
    return server, device


async def collect(answering: Any) -> list[bytes]:
    return [frame async for frame in await answering]


def verify(office: Office, phone: Phone) -> tuple[float, float]:
    table = phone.file.store.table("visits")
    reading = TableReading(phone.file.store, table)
    _, device = cpu(lambda: all(iter(reading.read, False)))
    reading.close()
    device_name = phone.file.state().device or ""
    question = Verify(
        device_name, reading.cursor or "", "visits", table.layout, digest_of(reading.buckets), reading.buckets
    )
    server, token = 0.0, None
    while True:
        message = {**question.dump(), "token": token}
        answer, spent = cpu(lambda: office.wait(collect(office.service.verify(phone.identity, message))))  # noqa: B023
        server += spent
        last = frames.load(answer[-1])
        if last["t"] == "verified":
            return server, device
        assert last["t"] == "pause", last
        token = last["token"]


def lines(rows: int) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        office = Office(Path(folder), TABLES, CONFIG)
        fill(office, rows)
        office.checkpoint()
        phone = office.phone("ann")
        first, again = download(office, phone), verify(office, phone)
        office.close()
    for side, loaded, verified in zip(("server", "device"), first, again, strict=True):
        yield (
            f"{side}: first download {rows / loaded:,.0f} rows/s, verification {rows / verified:,.0f} rows/s by CPU; "
            f"a verification costs {verified / loaded:.2f} of a first download"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    print("\n".join(lines(parser.parse_args().rows)))
