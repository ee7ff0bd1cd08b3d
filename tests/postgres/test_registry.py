"""Devices as `hello` meets them on PostgreSQL, and the office's records: on our tables alone, without capture."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from importlib.resources import files
from typing import TypeVar

import asyncpg
import pytest
from tests.postgres.conftest import HostDatabase

from syncline.errors import AuthError, NotProvisionedError
from syncline.source.port import RecordFilter, Registration
from syncline.source.postgres import registry
from syncline.source.postgres.connections import Connections
from syncline.testing.world import VirtualClock

T = TypeVar("T")


class Office:
    """Our tables in a database, and the registry on them."""

    def __init__(self, database: HostDatabase) -> None:
        self.database = database
        self.clock = VirtualClock()
        self._names = itertools.count(1)

    def provision(self) -> None:
        self.database.execute(files("syncline.source.postgres").joinpath("tables.sql").read_text(encoding="utf-8"))
        self.database.execute("INSERT INTO syncline.meta VALUES('installation', 'abc')")

    def draw(self) -> str:
        return f"drawn{next(self._names)}"

    def run(self, *works: Callable[[asyncpg.Connection], Awaitable[T]]) -> list[T]:
        """Each in a transaction of its own, all at once."""

        async def one(connections: Connections, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
            async with connections.transaction() as db:
                return await work(db)

        async def every() -> list[T]:
            connections = Connections(self.database.url)
            try:
                return list(await asyncio.gather(*(one(connections, work) for work in works)))
            finally:
                await connections.close()

        return asyncio.run(every())

    def register(self, device: str | None, nonce: str | None, user: str = "ann", included: int = 0) -> Registration:
        return self.run(
            lambda db: registry.Registry(db, self.clock, self.draw).register(
                device, nonce, user, included, {"engine": "x"}
            )
        )[0]


@pytest.fixture
def office(postgres: HostDatabase) -> Iterator[Office]:
    made = Office(postgres)
    made.provision()
    yield made


def test_a_phone_keeps_its_identity_by_the_nonce_it_used_and_by_the_one_issued_after_it(office: Office) -> None:
    first = office.register(None, None)
    assert (first.identity, first.number, first.device) == ("new", 1, "abc-drawn1")
    again = office.register(first.device, first.nonce)
    lost = office.register(first.device, first.nonce)
    assert (again.identity, lost.identity) == ("known", "known"), "the answer was lost, and it asks once more"
    office.register(first.device, lost.nonce)
    copied = office.register(first.device, first.nonce)
    assert (copied.identity, copied.reoffer_sent) == ("new", False)
    assert [row["replaces"] for row in office.run(registry.list_devices)[0]] == [None, first.device]


def test_a_phone_of_a_lost_time_gets_a_new_identity_and_offers_again(office: Office) -> None:
    phone = office.register(None, None)
    ahead = office.register(phone.device, phone.nonce, included=5)
    assert (ahead.identity, ahead.reoffer_sent) == ("new", True)
    assert office.register("abc-unknown", "n").reoffer_sent, "of this installation: it was known once"
    assert not office.register("other-unknown", "n").reoffer_sent, "of another one: what it sent is in the rows"


def test_a_phone_of_another_user_is_refused(office: Office) -> None:
    phone = office.register(None, None)
    with pytest.raises(AuthError) as refused:
        office.register(phone.device, phone.nonce, user="ben")
    assert refused.value.error_code == "other_user"


def test_phones_that_say_hello_at_once_get_numbers_of_their_own(office: Office) -> None:
    def hello(db: asyncpg.Connection) -> Awaitable[Registration]:
        return registry.Registry(db, office.clock, office.draw).register(None, None, "ann", 0, {})

    found = office.run(*[hello] * 8)
    assert sorted(each.number for each in found) == list(range(1, 9))


def test_the_last_mutation_is_known_by_its_id(office: Office) -> None:
    phone = office.register(None, None)
    office.database.execute(
        "UPDATE syncline.device SET last = 3, last_stamp = 7; UPDATE syncline.pulse SET floor_us = 11;"
        f"INSERT INTO syncline.outcome(device, number, id) VALUES('{phone.device}', 3, '\\x0a0b')"
    )
    known = office.register(phone.device, phone.nonce, included=3)
    assert (known.last, known.last_id) == (3, b"\x0a\x0b")
    row = office.run(lambda db: registry.find_device(db, phone.device))[0]
    assert row is not None
    assert (row.number, row.user, row.last, row.last_stamp_us, row.newest_us) == (1, "ann", 3, 7, 11)
    assert office.run(lambda db: registry.find_device(db, "nobody", lock=True)) == [None]


def test_every_process_gets_the_same_seal_key(office: Office) -> None:
    keys = set(office.run(*[registry.seal_key] * 5))
    assert len(keys) == 1 and len(keys.pop()) == 64


def test_records_are_listed_newest_first_for_a_user_or_a_device(office: Office) -> None:
    office.database.execute(
        "INSERT INTO syncline.conflict(device, number, owner, table_name, key, column_name, kind, rule, base, server, "
        "device_value, row_values, at_us) "
        """SELECT 'd' || n, n, u, 'visits', '["v1"]', 'note', 'lost', 'latest', '["a"]', '[null]', '["c"]', NULL, n """
        "FROM (VALUES(1, 'ann'), (2, 'ben')) AS made(n, u);"
        "INSERT INTO syncline.rejection(device, number, owner, table_name, key, op, code, reason, row_values, at_us) "
        """VALUES('d1', 9, 'ann', 'visits', '["v1"]', 'U', 'scope', 'no', '{"note": "x"}', 5)"""
    )

    def conflicts(**wanted: str) -> list[dict[str, object]]:
        return office.run(lambda db: registry.list_conflicts(db, RecordFilter(**wanted)))[0]  # type: ignore[arg-type]

    assert [row["user"] for row in conflicts()] == ["ben", "ann"]
    assert [row["user"] for row in conflicts(user="ann")] == ["ann"]
    assert [row["number"] for row in conflicts(device="d2")] == [2]
    first = conflicts()[0]
    assert (first["key"], first["base"], first["server"], first["device_value"], first["row"]) == (
        ["v1"],
        "a",
        None,
        "c",
        None,
    )
    rejection = office.run(lambda db: registry.list_rejections(db, RecordFilter()))[0][0]
    assert (rejection["operation"], rejection["key"], rejection["values"]) == ("U", ["v1"], {"note": "x"})


@pytest.mark.parametrize(
    "work", [registry.list_devices, registry.seal_key, lambda db: registry.list_conflicts(db, RecordFilter())]
)
def test_before_provisioning_one_is_told_to(postgres: HostDatabase, work: Callable[..., Awaitable[object]]) -> None:
    with pytest.raises(NotProvisionedError):
        Office(postgres).run(work)
