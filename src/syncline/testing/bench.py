"""A source, a server and devices in one process and thread, without a network: for scenario tests.

office = Office(folder, TABLES, CONFIG)  # on SQLite; on any other database with `database=`
phone = office.phone("ann")
phone.execute("UPDATE visits SET status = 'done'")
phone.sync()
office.execute("SELECT status FROM visits")
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Awaitable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from syncline.model.scopes import PlanConfig
from syncline.protocol import frames
from syncline.replica.file import ReplicaFile
from syncline.replica.records import read_conflicts, read_rejections
from syncline.server.auth import Identity
from syncline.server.downloads import BucketsNeededError
from syncline.server.service import Service
from syncline.source.port import RecordFilter, Source
from syncline.testing.company_database import CompanyDatabase, SqliteDatabase, statements_of
from syncline.testing.plans import plan_for
from syncline.testing.world import SECOND_US, Determinism, VirtualClock

T = TypeVar("T")
ROUNDS_MAX = 20


class Served(Protocol):
    """What a phone needs of the office that serves it. `wait` runs a coroutine of the source or the service."""

    folder: Path
    clock: VirtualClock
    service: Service

    @property
    def source(self) -> Source: ...

    def wait(self, awaitable: Awaitable[T]) -> T: ...

    def checkpoint(self) -> object: ...


class Office:
    """The company's database with Syncline beside it, on a virtual clock. `execute` is the company's own connection."""

    def __init__(
        self,
        folder: Path,
        tables: str | Iterable[str],
        config: PlanConfig,
        *,
        seed: int = 1,
        database: CompanyDatabase | None = None,
    ) -> None:
        """`tables`: statements, or one script of them in SQLite's words. A `database` that is given is its giver's to
        close."""
        self.folder = folder
        self.clock = VirtualClock()
        self.determinism = Determinism(self.clock, random.Random(seed))
        self.database: CompanyDatabase = database or SqliteDatabase(folder)
        self._owns_database = database is None
        for statement in statements_of(tables) if isinstance(tables, str) else tables:
            self.database.execute(statement)
        self.source: Source = self.database.open(self.determinism)
        self.phones: list[Phone] = []
        self.term = ""
        self._terms = 0
        self.reconfigure(config)

    def reconfigure(self, config: PlanConfig) -> None:
        """Provision for a configuration and serve it, as after a restart."""
        if self._terms:
            self.wait(self.source.end_term(self.term))
        plan = self.wait(plan_for(self.source, config))
        self.wait(self.source.provision(plan))
        self.wait(self.source.attach(plan))
        self.service = Service(self.source, plan, self.clock, wait_for_marker=self._pass_marker)
        self._terms += 1
        self.term = f"term-{self._terms}"
        assert self.wait(self.source.begin_term(self.term))

    def wait(self, awaitable: Awaitable[T]) -> T:
        return self.database.wait(awaitable)

    async def _pass_marker(self) -> None:
        await self.source.put_marker()
        await self.source.take_checkpoint(self.term)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """A write of the company's; a millisecond passes."""
        self.clock.advance(1_000)
        return self.database.execute(sql, parameters)

    def checkpoint(self) -> None:
        self.wait(self.source.take_checkpoint(self.term))

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(int(seconds * SECOND_US))

    def phone(self, user: str, *, skew_seconds: float = 0, **claims: Any) -> Phone:
        """A new device of a user, not yet synced."""
        phone = Phone(self, f"{user}-{len(self.phones) + 1}", user, {"sub": user, **claims}, skew_seconds)
        self.phones.append(phone)
        return phone

    def conflicts(self) -> list[dict[str, Any]]:
        return self.wait(self.source.conflicts(RecordFilter()))

    def rejections(self) -> list[dict[str, Any]]:
        return self.wait(self.source.rejections(RecordFilter()))

    def close(self) -> None:
        for phone in self.phones:
            phone.file.close()
        if self._owns_database:
            self.database.close()


class Phone:
    """One device. `execute` is its app's own plain SQL; `sync` runs until nothing is pending and the head is
    reached."""

    def __init__(self, office: Served, name: str, user: str, claims: dict[str, Any], skew_seconds: float) -> None:
        self.office = office
        self.path = office.folder / f"{name}.db"
        self.clock = office.clock.skewed(int(skew_seconds * SECOND_US))
        self.identity = Identity(user, claims)
        self._prepare = Determinism(self.clock, random.Random(name))
        self.file = self._open()

    def _open(self) -> ReplicaFile:
        return ReplicaFile(self.path, clock=self.clock, prepare=self._prepare)

    def restart(self, file: bytes | None = None) -> None:
        """The app ends and starts again; with `file`, somebody has put this copy in the place of the file meanwhile."""
        self.file.close()
        if file is not None:
            self.path.write_bytes(file)
        self.file = self._open()

    def copy(self) -> bytes:
        """The file as a backup program would keep it."""
        self.restart()
        self.file.close()
        content = self.path.read_bytes()
        self.file = self._open()
        return content

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """One autocommitted statement of the app; a millisecond passes."""
        self.office.clock.advance(1_000)
        db = sqlite3.connect(self.path, isolation_level=None)
        try:
            self._prepare(db)
            db.execute("PRAGMA foreign_keys = ON")
            return db.execute(sql, parameters).fetchall()
        finally:
            db.close()

    def group(self, *statements: str) -> None:
        """Several statements as one marked group."""
        self.office.clock.advance(1_000)
        with self.file.transaction() as db:
            for statement in statements:
                db.execute(statement)

    # ------------------------------------------------------------ syncing
    def hello(self) -> str:
        """Answers the identity that the server gave: "known" or "new"."""
        sent = self.clock.now_us()
        self.office.clock.advance(2_000)
        request = frames.load(frames.dump(self.file.hello_request()))
        answer = self.office.wait(self.office.service.hello(self.identity, request, self.office.clock.now_us()))
        self.office.clock.advance(2_000)
        told = self.file.accept_hello(frames.load(frames.dump(answer.dump())), sent, self.clock.now_us())
        return told.identity

    def upload(self) -> bool:
        request = self.file.upload_request()
        if request is None:
            return False
        self.office.clock.advance(1_000)
        message = frames.load(frames.dump(request))
        self.file.accept_upload(self.office.wait(self.office.service.upload(self.identity, message)).dump())
        return True

    def download(self, *, with_buckets: bool = False) -> list[dict[str, Any]]:
        """Applies one cut and answers its frames."""

        async def collect() -> list[bytes]:
            request = self.file.download_request(with_buckets=with_buckets)
            return [frame async for frame in await self.office.service.download(self.identity, request)]

        try:
            received = [frames.load(frame) for frame in self.office.wait(collect())]
        except BucketsNeededError:
            return self.download(with_buckets=True)
        for frame in received:
            self.file.receive(frame)
        return received

    def sync(self) -> None:
        """AssertionError if it does not come to rest."""
        self.hello()
        for _ in range(ROUNDS_MAX):
            while self.upload():
                pass
            self.office.checkpoint()
            last = self.download()[-1]
            head = self.office.wait(self.office.source.read_head()).checkpoint
            state = self.file.state()
            at_head = (state.cursor or "").endswith(f".{head}")
            if not self.file.pending() and at_head and not last.get("more"):
                return
        raise AssertionError(f"{self.path.name} does not come to rest: {self.file.pending()} pending")

    # ------------------------------------------------------------ looking
    def rejections(self) -> list[dict[str, Any]]:
        return read_rejections(self.file.store.connection)

    def conflicts(self) -> list[dict[str, Any]]:
        return read_conflicts(self.file.store.connection)

    def bytes_on_disk(self) -> bytes:
        """Every byte of the database and its log."""
        names = [self.path, Path(f"{self.path}-wal"), Path(f"{self.path}-journal")]
        return b"".join(name.read_bytes() for name in names if name.exists())
