"""One change, told to many connected devices: how long until the last of them knows.

`python bench/fan_out.py --devices 1000 --repeats 10`

A real `syncline serve` process; the devices are WebSockets of another process that speak `hello` and `open`; the
change is made with plain sqlite3. Printed per kind of change: milliseconds from before the COMMIT until the first, the
median and the last device had it, and CPU milliseconds of the server; at the end the server's memory.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import sqlite3
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import jwt

import syncline
from syncline.protocol import frames
from syncline.protocol.cursor import digest_of

SECRET = "a-secret-of-the-benchmark-of-more-than-32-bytes"
CONFIGURATION = f"""
[source]
url = "sqlite:///clinic.db"
[auth]
secret = "{SECRET}"
[scope.caseload]
root = "patients"
grant = "SELECT patient_id FROM assignments WHERE nurse = :sub"
[scope.caseload.tables]
visits = {{ parent = "patients" }}
[scope.formulary]
tables = ["medications"]
read_only = true
"""
TABLES = """
CREATE TABLE patients(id TEXT PRIMARY KEY, name TEXT);
CREATE TABLE visits(id TEXT PRIMARY KEY, patient_id TEXT REFERENCES patients(id), status TEXT);
CREATE TABLE medications(id TEXT PRIMARY KEY, name TEXT);
CREATE TABLE assignments(nurse TEXT, patient_id TEXT, PRIMARY KEY(nurse, patient_id));
CREATE INDEX visits_by_patient ON visits(patient_id);
INSERT INTO patients VALUES('shared', 'Known to all');
INSERT INTO visits VALUES('v-shared', 'shared', 'planned');
INSERT INTO medications VALUES('m1', 'Aspirin');
"""


KINDS = ("one", "everybody", "bucket", "revoked")
"""Of changes: what one device has, all have as reference data, all share as a bucket, and what one loses."""


@dataclass
class Told:
    """When each device got the commit of the round that is under way."""

    at: list[float] = field(default_factory=list)
    wanted: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def begin(self, wanted: int) -> None:
        self.at, self.wanted, self.done = [], wanted, asyncio.Event()

    def tell(self) -> None:
        self.at.append(time.perf_counter())
        if len(self.at) == self.wanted:
            self.done.set()


class Device(asyncio.Protocol):
    """A WebSocket by hand, so that the benchmark measures the server and not a client library."""

    def __init__(self, request: bytes, opening: bytes, told: Told) -> None:
        self._request = request
        self._opening = opening
        self._told = told
        self._buffer = b""
        self._is_shaken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_shaken:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            assert b" 101 " in head.split(b"\r\n")[0], head
            self._is_shaken, self._buffer = True, rest
            self.transport.write(_masked(self._opening))
        while (message := self._message()) is not None:
            if b'"t":"commit"' in message:
                self._told.tell()

    def _message(self) -> bytes | None:
        if len(self._buffer) < 2:
            return None
        size, start = self._buffer[1] & 127, 2
        if size == 126 and len(self._buffer) >= 4:
            size, start = struct.unpack_from(">H", self._buffer, 2)[0], 4
        elif size == 127 and len(self._buffer) >= 10:
            size, start = struct.unpack_from(">Q", self._buffer, 2)[0], 10
        if (size in (126, 127) and start == 2) or len(self._buffer) < start + size:
            return None
        message, self._buffer = self._buffer[start : start + size], self._buffer[start + size :]
        return message


def _masked(message: bytes) -> bytes:
    """A client's binary frame; the mask of zeros leaves the bytes as they are."""
    size = len(message)
    head = bytes([0x82, 0x80 | size]) if size < 126 else bytes([0x82, 0xFE]) + struct.pack(">H", size)
    return head + bytes(4) + message


def token(user: str) -> str:
    return jwt.encode({"sub": user, "exp": int(time.time()) + 36_000}, SECRET, algorithm="HS256")


class Server:
    """`syncline serve` on a free port."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "syncline"]
        config = ["--config", str(folder / "syncline.toml")]
        environment = {**os.environ, "PYTHONPATH": str(Path(syncline.__file__).parents[1])}
        subprocess.run([*command, "provision", *config], env=environment, check=True, stdout=subprocess.DEVNULL)
        self._process = subprocess.Popen(
            [*command, "serve", "--port", "0", *config], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip().removeprefix("listening on ")
        self.port = int(self.url.rpartition(":")[2])

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mib(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        if self._process.stdout:
            self._process.stdout.close()


async def connect(server: Server, users: list[str], told: Told) -> list[Device]:
    """Says hello for each, opens its stream, and waits until it was told everything."""
    told.begin(len(users))
    devices = []
    loop = asyncio.get_running_loop()
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        for user in users:
            hello = {
                "protocol": 2, "device": None, "nonce": None, "engine": "bench", "sqlite": sqlite3.sqlite_version,
                "packings": ["zstd", "gzip"], "clock": int(time.time() * 1e6), "included": 0,
            }  # fmt: skip
            header = {"authorization": f"Bearer {token(user)}"}
            answer = await http.post("/v1/hello", content=frames.pack(frames.dump(hello), 0), headers=header)
            device = frames.load(frames.unpack(answer.content))["device"]
            opening = {"t": "open", "device": device, "cursor": None, "included": 0, "apply_count": 0,
                       "digest": digest_of(())}  # fmt: skip
            key = base64.b64encode(os.urandom(16)).decode()
            request = (
                f"GET /v1/live HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
                f"Authorization: Bearer {token(user)}\r\nX-Syncline-Packing: zstd\r\n\r\n"
            )
            message = frames.pack(frames.dump(opening), 0)
            _, protocol = await loop.create_connection(
                lambda r=request, m=message: Device(r.encode(), m, told),  # type: ignore[misc]
                "127.0.0.1",
                server.port,
            )
            devices.append(protocol)
    await asyncio.wait_for(told.done.wait(), 120)
    return devices


async def measure(
    server: Server, told: Told, wanted: int, repeats: int, change: Callable[[int], None]
) -> dict[str, float]:
    """Milliseconds, the median of the repeats."""
    loop = asyncio.get_running_loop()
    firsts, medians, lasts = [], [], []
    cpu = server.cpu_seconds()
    for number in range(repeats):
        told.begin(wanted)
        begun = time.perf_counter()
        await loop.run_in_executor(None, change, number)
        await asyncio.wait_for(told.done.wait(), 60)
        after = [(each - begun) * 1000 for each in told.at]
        firsts.append(after[0])
        medians.append(statistics.median(after))
        lasts.append(after[-1])
        await asyncio.sleep(0.05)
    spent = (server.cpu_seconds() - cpu) * 1000 / repeats
    return {
        "first_ms": statistics.median(firsts),
        "median_ms": statistics.median(medians),
        "last_ms": statistics.median(lasts),
        "worst_last_ms": max(lasts),
        "server_cpu_ms": spent,
    }


def commit(path: Path, sql: str, *parameters: object) -> None:
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as db:
        db.execute(sql, parameters)


async def run(folder: Path, devices: int, repeats: int) -> dict[str, object]:
    path = folder / "clinic.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(TABLES)
        users = [f"nurse-{number}" for number in range(devices)]
        db.executemany("INSERT INTO assignments VALUES(?, 'shared')", [(user,) for user in users])
        db.executemany("INSERT INTO patients VALUES(?, 'Own')", [(f"of-{user}",) for user in users])
        db.executemany("INSERT INTO assignments VALUES(?, ?)", [(user, f"of-{user}") for user in users])
        db.commit()
    (folder / "syncline.toml").write_text(CONFIGURATION, encoding="utf-8")
    server = Server(folder)
    told = Told()
    connected: list[Device] = []
    try:
        idle = server.memory_mib()
        connected = await connect(server, users, told)
        everybody = "UPDATE medications SET name = ?"
        bucket = "UPDATE visits SET status = ?"
        one = "UPDATE patients SET name = ? WHERE id = 'of-nurse-0'"
        revoke = "DELETE FROM assignments WHERE nurse = ? AND patient_id LIKE 'of-%'"
        found: dict[str, object] = {
            "devices": devices,
            "one": await measure(server, told, 1, repeats, lambda n: commit(path, one, f"n{n}")),
            "everybody": await measure(server, told, devices, repeats, lambda n: commit(path, everybody, f"n{n}")),
            "bucket": await measure(server, told, devices, repeats, lambda n: commit(path, bucket, f"n{n}")),
            "revoked": await measure(server, told, 1, min(repeats, devices), lambda n: commit(path, revoke, users[n])),
        }
        found["server_mib"] = server.memory_mib()
        found["server_kib_per_device"] = (server.memory_mib() - idle) * 1024 / devices
        return found
    finally:
        for device in connected:
            device.transport.abort()
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(run(Path(folder), options.devices, options.repeats))
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        told = value if not isinstance(value, dict) else "  ".join(f"{k} {v:.1f}" for k, v in value.items())
        print(f"{name}: {told}")


if __name__ == "__main__":
    main()
