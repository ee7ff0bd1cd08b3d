"""What the contract suite stands on: one database of the kind under test, its dialect, and devices at the other end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import pytest

from syncline.errors import SchemaChangedError
from syncline.model.identifiers import quote
from syncline.model.scopes import Plan, PlanConfig
from syncline.server.service import Service
from syncline.source.port import Checkpoint, Cut, Source, WriteTransaction
from syncline.system.clock import SYSTEM_CLOCK
from syncline.testing.bench import Phone
from syncline.testing.company_database import CompanyDatabase
from syncline.testing.dialect import Dialect
from syncline.testing.plans import plan_for
from syncline.testing.world import VirtualClock

T = TypeVar("T")


class SourceLab(CompanyDatabase, Protocol):
    """One database of the kind under test. `reconnect` opens the host's own connection anew with other settings."""

    dialect: Dialect

    def reconnect(self, *settings: str) -> None: ...

    def attach_to_another(self, name: str, *statements: str) -> None:
        """The host's own connection is now one to another database, made by `statements`, with ours beside it as
        `name`."""
        ...

    def dump_schema(self) -> str: ...


@dataclass
class Bench:
    """A provisioned source under test, with the verbs that the tests speak in."""

    lab: SourceLab
    source: Source
    plan: Plan
    term: str = "term-1"
    checkpoints: list[Checkpoint] = field(default_factory=list)

    def checkpoint(self) -> Checkpoint | None:
        taken = self.lab.wait(self.source.take_checkpoint(self.term))
        if taken:
            self.checkpoints.append(taken)
        return taken

    def cut(self, claims: Mapping[str, Any], held: Iterable[str], after: int = 0, device: str = "none") -> Cut:
        return self.lab.wait(self.source.read_cut(device, claims, frozenset(held), (self.term, after), 0, None))

    def write(self, work: Callable[[WriteTransaction], Awaitable[T]]) -> T:
        return self.lab.wait(self.source.write(work))


class MachineClock(VirtualClock):
    """The machine's clock where a virtual one is expected: the source under test keeps its own time."""

    def now_us(self) -> int:
        return SYSTEM_CLOCK.now_us() + self.skew_us

    def monotonic_seconds(self) -> float:
        return SYSTEM_CLOCK.monotonic_seconds()

    def skewed(self, skew_us: int) -> MachineClock:
        return MachineClock(skew_us=skew_us)

    def advance(self, microseconds: int) -> None:
        return


class Company:
    """A database being served, and devices: what the company writes goes through capture, checkpoint and feed into a
    device's file.

        company = Company(lab, tables, config)
        ann = company.phone("ann")
        company.execute("UPDATE visits SET status = 'done'")
        company.agrees(ann, visits="patient_id = 'ada'")
    """

    def __init__(self, lab: SourceLab, statements: Iterable[str], config: PlanConfig) -> None:
        for statement in statements:
            lab.execute(statement)
        self.lab = lab
        self.folder = lab.folder
        self.clock: VirtualClock = MachineClock()
        self._config = config
        self.source = lab.open()
        self.plan = self.wait(plan_for(self.source, config))
        self.wait(self.source.provision(self.plan))
        self.wait(self.source.attach(self.plan))
        self.service = Service(self.source, self.plan, self.clock, wait_for_marker=self._pass_marker)
        assert self.wait(self.source.begin_term("term-1"))
        self._phones: list[Phone] = []

    def wait(self, awaitable: Awaitable[T]) -> T:
        return self.lab.wait(awaitable)

    async def _pass_marker(self) -> None:
        await self.source.put_marker()
        await self.source.take_checkpoint("term-1")

    def execute(self, *statements: str) -> None:
        """The company's own SQL, each statement as a transaction of its own unless it says BEGIN."""
        for statement in statements:
            self.lab.execute(statement)

    def checkpoint(self) -> Checkpoint | None:
        """As the server does: where the schema has changed, capture is put back first, for a plan made anew."""
        try:
            return self.wait(self.source.take_checkpoint("term-1"))
        except SchemaChangedError:
            self.plan = self.wait(plan_for(self.source, self._config))
            self.wait(self.source.adopt(self.plan))
            self.service = Service(self.source, self.plan, self.clock, wait_for_marker=self._pass_marker)
            return self.wait(self.source.take_checkpoint("term-1"))

    def new_phone(self, user: str) -> Phone:
        """A device that has never asked for anything."""
        phone = Phone(self, f"{user}-{len(self._phones) + 1}", user, {"sub": user}, 0)
        self._phones.append(phone)
        return phone

    def phone(self, user: str) -> Phone:
        """A device that is in step."""
        phone = self.new_phone(user)
        phone.sync()
        return phone

    def rows(self, table: str, where: str = "1 = 1") -> list[str]:
        """The table's rows as the plan shows them to devices, in no order that means anything."""
        synced = self.plan.tables[table]
        columns = ", ".join(self.lab.dialect.quote(column) for column in synced.columns)
        query = f"SELECT {columns} FROM {self.lab.dialect.quote(table)} WHERE {where}"
        return sorted(map(repr, self.lab.execute(query)))

    def agrees(self, phone: Phone, wanted: Mapping[str, str] | None = None, **more: str) -> None:
        """After a sync the phone holds of each named table exactly the rows that the condition names."""
        phone.sync()
        for table, where in {**(wanted or {}), **more}.items():
            synced = self.plan.tables[table]
            columns = ", ".join(quote(column) for column in synced.columns)
            held = sorted(map(repr, phone.execute(f"SELECT {columns} FROM {quote(table)}")))
            assert held == self.rows(table, where), f"{table!r} on the phone"

    def close(self) -> None:
        for phone in self._phones:
            phone.file.close()


class ContractFixtures:
    """What the subjects of the suite share. An adapter's test class gives the fixture `lab`."""

    @pytest.fixture
    def lab(self) -> SourceLab:
        raise NotImplementedError("give the fixture `lab`")

    @pytest.fixture
    def dialect(self, lab: SourceLab) -> Dialect:
        return lab.dialect

    @pytest.fixture
    def make_company(self, lab: SourceLab) -> Iterator[Callable[..., Company]]:
        """`make_company(statements, config)`: a database of these tables, served."""
        made: list[Company] = []

        def make(statements: Iterable[str], config: PlanConfig) -> Company:
            made.append(Company(lab, statements, config))
            return made[-1]

        yield make
        for company in made:
            company.close()
