"""pgbench's own tables under pgbench's own load, while three devices are connected: directly, and through PgBouncer."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.acceptance.lab import Device, wait_until
from tests.postgres.applications.office import Office

BRANCHES = 3
"""Each with ten tellers and 100,000 accounts."""
SECONDS = 3
SCOPES = """
[scope.branch]
root = "pgbench_branches"
grant = "SELECT bid FROM pgbench_branches WHERE bid <= 2"

[scope.branch.tables]
pgbench_tellers = { parent = "pgbench_branches", on = { bid = "bid" } }
pgbench_accounts = { parent = "pgbench_branches", on = { bid = "bid" }, where = "aid BETWEEN 99001 AND 101000" }
"""
SELECTS = {
    "pgbench_branches": "SELECT * FROM pgbench_branches WHERE bid <= 2 AND %(sub)s <> ''",
    "pgbench_tellers": "SELECT * FROM pgbench_tellers WHERE bid <= 2 AND %(sub)s <> ''",
    "pgbench_accounts": "SELECT * FROM pgbench_accounts WHERE bid <= 2 AND aid BETWEEN 99001 AND 101000 AND %(sub)s <> ''",
}


def pgbench(office: Office, url: str, *arguments: str) -> str:
    programs = office.database.server.installation.programs
    if not (programs / "pgbench").exists():
        pytest.skip(f"pgbench is not among the programs of {programs}")
    return office.database.server.run("pgbench", *arguments, url).stdout


def make_tables(office: Office) -> None:
    pgbench(office, office.database.url, "-i", "-q", "-s", str(BRANCHES), "--foreign-keys")
    # For the join, as `check` asks for.
    office.write(
        "CREATE INDEX ON pgbench_accounts(bid)",
        "CREATE INDEX ON pgbench_tellers(bid)",
    )


@contextmanager
def connected(office: Office, devices: list[Device]) -> Iterator[None]:
    with ExitStack() as stack:
        for device in devices:
            stack.enter_context(office.running(device))
        yield


def work_beside(office: Office, *, load: str, protocol: str) -> None:
    """Three devices follow pgbench's load and end with exactly the source's rows; so does one that comes afterwards."""
    with office.serving():
        devices = office.devices(one="one", two="two", three="three")
        office.sync(*devices)
        with connected(office, devices):
            told = pgbench(office, load, "-n", "-c", "4", "-j", "2", "-T", str(SECONDS), "-M", protocol)
            assert "number of failed transactions: 0 (0.000%)" in told
            ((total,),) = office.ask("SELECT sum(tbalance)::bigint FROM pgbench_tellers WHERE bid <= 2")
            for device in devices:
                wait_until(
                    lambda device=device: device.rows("SELECT sum(tbalance) FROM pgbench_tellers") == [(total,)],  # type: ignore[misc]
                    "the device reaches the last transaction without being asked",
                )
        assert office.ask("SELECT count(*) > 100 FROM pgbench_history") == [(1,)]
        (late,) = office.devices(late="late")
        office.sync(*devices, late)
        office.in_step(SELECTS, *devices, late)


@pytest.mark.slow
def test_devices_follow_pgbench(office: Office) -> None:
    """P1, P2, P7, P15: every committed transaction, and no failed one; the history has no key and is refused."""
    make_tables(office)
    schema = office.schema_dump()
    office.configure(SCOPES)
    refused = {entry["table"]: entry["reason"] for entry in office.must("check", "--json").json["refused_tables"]}
    assert refused.keys() == {"pgbench_history"}
    assert "no primary key" in refused["pgbench_history"]
    office.must("provision")
    work_beside(office, load=office.database.url, protocol="prepared")
    office.must("deprovision", "--yes")
    assert office.schema_dump() == schema


@pytest.mark.slow
def test_a_scope_over_the_history_is_refused_by_name(office: Office) -> None:
    """P15: before anything is installed."""
    make_tables(office)
    office.configure(SCOPES + 'pgbench_history = { parent = "pgbench_branches", on = { bid = "bid" } }\n')
    for command in ("check", "provision"):
        told = office.syncline(command)
        assert told.status == 2
        assert "pgbench_history" in told.err and "primary key" in told.err
    assert office.ask("SELECT count(*) FROM pg_namespace WHERE nspname = 'syncline'") == [(0,)]


# ---------------------------------------------------------------- through a pooler
POOLER = """
[databases]
* = host={folder} port={port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
unix_socket_dir =
auth_type = any
auth_file = {users}
pool_mode = transaction
max_client_conn = 500
default_pool_size = 8
logfile = {log}
pidfile = {pid}
user = {user}
"""


@contextmanager
def pooler(office: Office, folder: Path) -> Iterator[str]:
    """PgBouncer in transaction mode before the office's server; its URL."""
    found = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    if not found:
        pytest.skip("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
    server = office.database.server
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        own = listener.getsockname()[1]
    folder.mkdir()
    users = folder / "users"
    users.write_text('"postgres" ""\n')
    configuration = folder / "pgbouncer.ini"
    owner = server.folder.owner()
    values: Mapping[str, object] = {
        "folder": server.folder,
        "port": server.port,
        "own": own,
        "users": users,
        "log": folder / "log",
        "pid": folder / "pid",
        "user": owner,
    }
    configuration.write_text(POOLER.format(**values))
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, owner)
    for parent in folder.parents:  # pytest's own, which nobody else may enter
        if parent.name.startswith(("pytest-", "popen-", "test_")):
            parent.chmod(parent.stat().st_mode | 0o011)
    process = subprocess.Popen([found, "-q", str(configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: process.poll() is not None or listens(own), "the pooler listens", 20)
        assert process.poll() is None, (folder / "log").read_text()
        yield f"postgresql://postgres@127.0.0.1:{own}/{office.database.name}"
    finally:
        process.terminate()
        process.wait(20)


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
def test_devices_follow_pgbench_through_a_pooler(office: Office, tmp_path: Path) -> None:
    """P1, P2, P15: PgBouncer in transaction mode, for the company's load and for us; what needs a session goes
    directly."""
    make_tables(office)
    schema = office.schema_dump()
    with pooler(office, tmp_path / "pooler") as url:
        office.configure(SCOPES, {"url": url})
        told = office.syncline("provision")
        assert told.status == 1 and "direct_url" in told.err and "[source_pooler]" in told.err, told
        office.configure(SCOPES, {"url": url, "direct_url": office.database.tcp_url})
        office.must("check")
        office.must("provision")
        work_beside(office, load=url, protocol="extended")
        office.must("deprovision", "--yes")
    assert office.schema_dump() == schema
