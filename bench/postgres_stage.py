"""A PostgreSQL server of the benchmark's own, its databases, and what they cost."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Awaitable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import psycopg

from bench.processes import TICKS, Server, syncline
from syncline.model.scopes import PlanConfig, ScopeConfig, TableConfig
from syncline.source.port import Source
from syncline.source.postgres.source import PostgresSource
from syncline.testing.plans import plan_for
from syncline.testing.postgres_server import DatabaseAddress, PostgresServer, installed

T = TypeVar("T")

SECRET = "a-secret-of-the-benchmark-of-32-bytes-or-more"
TERM = "benchmark"
SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "8GB", "checkpoint_timeout": "1h", "max_connections": 100}
SINGLE_ROW = """\\set aid random(1, {accounts})
\\set delta random(-5000, 5000)
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
"""
ACCOUNTS_PER_SCALE = 100_000


@dataclass
class Result:
    """`figures`: name -> value, in the order in which they are printed."""

    name: str
    about: str
    figures: dict[str, Any] = field(default_factory=dict)


def everything(*tables: str, read_only: bool = False) -> PlanConfig:
    """One bucket with all rows of these tables."""
    return PlanConfig((ScopeConfig("everything", {table: TableConfig() for table in tables}, read_only=read_only),))


class Cluster:
    """The server, from entering to leaving the block; `durable`, with fsync and autovacuum, as a company runs it."""

    def __init__(self, version: str) -> None:
        self._server = PostgresServer(installed()[version], settings=SETTINGS, durable=True)
        self._stack = ExitStack()

    def __enter__(self) -> Cluster:
        self._stack.enter_context(self._server)
        # pgbench runs as the server's user, who cannot enter a folder of ours.
        self.folder = self._server.folder
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def database(self) -> DatabaseAddress:
        return self._server.create_database()

    @contextmanager
    def session(self, address: DatabaseAddress) -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(address.url, autocommit=True) as session:
            yield session

    def ask(self, address: DatabaseAddress, query: str) -> Any:
        """The one value of a query."""
        with self.session(address) as session:
            row = session.execute(query.encode()).fetchone()
            return row[0] if row else None

    def execute(self, address: DatabaseAddress, *statements: str) -> float:
        """Seconds that the last statement took."""
        with self.session(address) as session:
            for statement in statements:
                begun = time.perf_counter()
                session.execute(statement.encode())
            return time.perf_counter() - begun

    # ------------------------------------------------------------ pgbench
    def make_accounts(self, address: DatabaseAddress, scale: int) -> None:
        self._server.run("pgbench", "-i", "-q", "-s", str(scale), address.url)

    def single_row_updates(
        self, address: DatabaseAddress, scale: int, seconds: float, clients: int = 4, options: str = ""
    ) -> float:
        """Transactions per second."""
        script = self.folder / "single_row.sql"
        if not script.exists():
            script.write_text(SINGLE_ROW.format(accounts=scale * ACCOUNTS_PER_SCALE))
            script.chmod(0o644)
        url = f"{address.url}&options={options}" if options else address.url
        told = self._server.run(
            *("pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", "1", "-T", f"{seconds:.0f}"),
            *("-f", str(script), url),
        ).stdout
        found = re.search(r"^tps = ([\d.]+)", told, re.MULTILINE)
        assert found, told
        return float(found[1])

    # ------------------------------------------------------------ costs
    def cpu_seconds(self) -> float:
        """Of the server's processes, ended ones included."""
        postmaster = self._server.process
        total = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
            except OSError:
                continue
            if int(stat.parent.name) == postmaster:
                total += sum(int(value) for value in fields[11:15])
            elif int(fields[1]) == postmaster:
                total += int(fields[11]) + int(fields[12])
        return total / TICKS

    def wal_bytes(self, address: DatabaseAddress) -> int:
        return int(self.ask(address, "SELECT pg_current_wal_lsn() - '0/0'"))

    def dead_rows(self, address: DatabaseAddress) -> tuple[int, int]:
        """Updates and deletes so far: of the company's tables, and of ours."""
        self.ask(address, "SELECT pg_stat_clear_snapshot()")
        time.sleep(1.5)  # counters are told once a second
        query = (
            "SELECT coalesce(sum(n_tup_upd + n_tup_del) FILTER (WHERE schemaname <> 'syncline'), 0), "
            "coalesce(sum(n_tup_upd + n_tup_del) FILTER (WHERE schemaname = 'syncline'), 0) FROM pg_stat_all_tables "
            "WHERE schemaname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')"
        )
        with self.session(address) as session:
            row = session.execute(query.encode()).fetchone()
            assert row
            return int(row[0]), int(row[1])

    def our_bytes(self, address: DatabaseAddress, like: str = "%") -> int:
        return int(
            self.ask(
                address,
                "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c JOIN pg_namespace n ON "
                f"n.oid = relnamespace WHERE nspname = 'syncline' AND relkind = 'r' AND relname LIKE '{like}'",
            )
        )


class Sequencing:
    """A source in this process, provisioned for a configuration; checkpoints are taken one by one. Its event loop runs
    all the time: a sequencer that does not stir loses its session."""

    def __init__(self, url: str, config: PlanConfig) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sequencing")
        self._thread.start()
        self.source: Source = PostgresSource(url)
        plan = self.wait(plan_for(self.source, config))
        self.wait(self.source.provision(plan))
        self.wait(self.source.attach(plan))
        assert self.wait(self.source.begin_term(TERM))

    def wait(self, awaitable: Awaitable[T]) -> T:
        return asyncio.run_coroutine_threadsafe(_awaited(awaitable), self._loop).result()

    def checkpoint(self) -> int:
        """Changes taken; 0 if nothing waited."""
        taken = self.wait(self.source.take_checkpoint(TERM))
        return taken.changes if taken else 0

    def drain(self) -> int:
        total = 0
        while changes := self.checkpoint():
            total += changes
        return total

    def close(self) -> None:
        self.wait(self.source.end_term(TERM))
        self.wait(self.source.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable


@contextmanager
def sequencing(url: str, config: PlanConfig) -> Iterator[Sequencing]:
    made = Sequencing(url, config)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def configured(address: DatabaseAddress, scopes: str) -> Iterator[Path]:
    """A folder with a configuration for the database."""
    folder = Path(tempfile.mkdtemp(prefix="syncline-bench-"))
    text = f"[source]\nurl = {json.dumps(address.tcp_url)}\n[auth]\nsecret = {json.dumps(SECRET)}\n{scopes}"
    (folder / "syncline.toml").write_text(text, encoding="utf-8")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def serving(address: DatabaseAddress, scopes: str) -> Iterator[tuple[Path, Server]]:
    """Provisioned, and a server in a process of its own."""
    with configured(address, scopes) as folder:
        syncline(folder, "provision")
        with Server(folder) as server:
            yield folder, server
