"""The replica on an event loop: the same, with `await`, and nothing that holds the loop up or is left running."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.replica.office import PROGRAM, Office, execute

from syncline import AsyncReplica, Receipt, ReplicaError, SyncTimeoutError


def run(work: Coroutine[Any, Any, None]) -> None:
    """On a loop that says how long anything held it up."""

    async def watched() -> None:
        worst = 0.0

        async def beat() -> None:
            nonlocal worst
            while True:
                before = time.monotonic()
                await asyncio.sleep(0.01)
                worst = max(worst, time.monotonic() - before)

        beating = asyncio.create_task(beat())
        try:
            await asyncio.wait_for(work, 60)
        finally:
            beating.cancel()
        assert worst < HELD_UP_SECONDS, "the loop was held up"

    before = set(threading.enumerate())
    asyncio.run(watched())
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive(), thread.name


HELD_UP_SECONDS = 4.0
"""Less than any of the waits below; a slow machine is not meant."""


@pytest.fixture
def made(tmp_path: Path, office: Office) -> AsyncReplica:
    return AsyncReplica(tmp_path / "nurse.db", "https://x.org", "token", transport=office, program=PROGRAM.dump())


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    while not await condition():  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.01)


async def state_is(replica: AsyncReplica, state: str) -> bool:
    return (await replica.status).state == state


def test_a_day_with_await(made: AsyncReplica, office: Office) -> None:
    async def day() -> None:
        receipts: list[Receipt] = []
        seen = asyncio.Event()

        async def on_receipt(receipt: Receipt) -> None:
            await asyncio.sleep(0)
            receipts.append(receipt)
            seen.set()

        async with made as replica:
            replica.on("receipt", on_receipt)
            assert (await replica.sync(timeout=20)).first_sync
            async with replica.transaction() as db:
                db.execute("UPDATE visits SET status = 'done'")
                db.execute("INSERT INTO visits (id, patient) VALUES (?, 'p-2')", (await replica.new_key("visits"),))
            assert (await replica.status).pending == 2
            await replica.start()
            await seen.wait()
            assert receipts[0].reached == 2 and await replica.receipt == receipts[0]
            await until(lambda: state_is(replica, "live"))
            assert await replica.rejections() == [] == await replica.conflicts()
            with closing(replica.connect()) as db:
                assert db.execute("SELECT count(*) FROM visits").fetchone() == (2,)
        assert office.rows[1][2] == "done"

    run(day())


def test_what_was_refused(made: AsyncReplica, office: Office) -> None:
    async def day() -> None:
        async with made as replica:
            await replica.sync(timeout=20)
            office.refuses = lambda mutation: "check"
            for status in ("bad", "worse"):
                execute(replica.path, "UPDATE visits SET status = ?", status)
            await replica.sync(timeout=20)
            first, second = await replica.rejections()
            assert await replica.dismiss(first) and not await replica.dismiss(first)
            await replica.retry(second, {"status": "good"})
            assert (await replica.status).pending == 1

    run(day())


def test_live_queries_with_async_for(made: AsyncReplica, office: Office) -> None:
    async def day() -> None:
        async with made as replica:
            shown: list[Any] = []
            async for rows in replica.watch("SELECT status FROM visits WHERE id = ?", (1,)):
                shown.append(rows)
                if len(shown) == 1:
                    await replica.sync(timeout=20)
                elif len(shown) == 2:
                    execute(replica.path, "UPDATE visits SET status = 'done'")
                else:
                    break
            assert shown == [[], [("planned",)], [("done",)]]
            for wrong, code in (("SELEC 1", "bad_query"), ("DELETE FROM visits", "query_writes")):
                with pytest.raises(ReplicaError, match=code):
                    async with replica.watch(wrong):
                        pass

    run(day())


def test_many_screens_wait_without_a_thread_each(made: AsyncReplica) -> None:
    async def day() -> None:
        async with made as replica:
            watches = [replica.watch("SELECT count(*) FROM visits") for _ in range(40)]
            assert await asyncio.gather(*(anext(watch) for watch in watches)) == [[(0,)]] * 40
            waiting = [asyncio.ensure_future(anext(watch)) for watch in watches]
            await asyncio.sleep(0.3)
            assert len([t for t in threading.enumerate() if t.name.startswith("syncline")]) <= 2
            execute(replica.path, "INSERT INTO visits (id) VALUES (1)")
            assert await asyncio.gather(*waiting) == [[(1,)]] * 40
            ended = [asyncio.ensure_future(anext(watch)) for watch in watches]
            await asyncio.sleep(0)
            await replica.stop()
            assert {type(each) for each in await asyncio.gather(*ended, return_exceptions=True)} == {StopAsyncIteration}

    run(day())


def test_a_sync_that_is_cancelled_leaves_nothing_running(made: AsyncReplica, office: Office) -> None:
    async def day() -> None:
        async with made as replica:
            await replica.sync(timeout=20)
            office.holds_checkpoints = True
            execute(replica.path, "UPDATE visits SET status = 'done'")
            with pytest.raises(SyncTimeoutError):
                await replica.sync(timeout=0.2)
            syncing = asyncio.create_task(replica.sync(timeout=50))
            await until(lambda: asyncio.sleep(0, office.last == 1))
            syncing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await syncing
            assert (await replica.status).state == "stopped"
            assert not [t for t in threading.enumerate() if t.name == "syncline"]
            office.holds_checkpoints = False
            office.included, office.head = 1, office.head + 1
            assert (await replica.sync(timeout=20)).pending == 0

    run(day())


def test_a_live_query_that_is_cancelled_can_be_asked_again(made: AsyncReplica) -> None:
    async def day() -> None:
        async with made as replica:
            endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
            for sql in (endless, "SELECT count(*) FROM visits"):
                async with replica.watch(sql) as watch:
                    if sql is not endless:
                        await anext(watch)
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(anext(watch), 0.2)
                    if sql is not endless:
                        execute(replica.path, "INSERT INTO visits (id) VALUES (1)")
                        assert await anext(watch) == [(1,)]

    run(day())


def test_transactions_wait_for_each_other_and_not_for_themselves(made: AsyncReplica) -> None:
    async def day() -> None:
        async with made as replica:

            async def write(number: int) -> None:
                async with replica.transaction() as db:
                    db.execute("INSERT INTO visits (id) VALUES (?)", (number,))
                    await asyncio.sleep(0.01)

            await asyncio.gather(*(write(number) for number in range(1, 13)))
            assert execute(replica.path, "SELECT count(*) FROM visits") == [(12,)]
            async with replica.transaction():
                with pytest.raises(ReplicaError, match="transaction_nested"):
                    async with replica.transaction():
                        pass
            with pytest.raises(ZeroDivisionError):
                async with replica.transaction() as db:
                    db.execute("DELETE FROM visits")
                    raise ZeroDivisionError
            assert execute(replica.path, "SELECT count(*) FROM visits") == [(12,)]

    run(day())


def test_a_cancelled_transaction_is_rolled_back(made: AsyncReplica) -> None:
    async def day() -> None:
        async with made as replica:
            begun = asyncio.Event()

            async def write() -> None:
                async with replica.transaction() as db:
                    db.execute("INSERT INTO visits (id) VALUES (1)")
                    begun.set()
                    await asyncio.sleep(50)

            task = asyncio.create_task(write())
            await begun.wait()
            waiting = asyncio.create_task(write())
            await asyncio.sleep(0.05)
            waiting.cancel()
            task.cancel()
            for each in (task, waiting):
                with pytest.raises(asyncio.CancelledError):
                    await each
            with closing(sqlite3.connect(replica.path, timeout=0)) as db, db:
                assert db.execute("SELECT count(*) FROM visits").fetchone() == (0,)
                db.execute("INSERT INTO visits (id) VALUES (2)")

    run(day())


def test_errors_are_those_of_the_replica(tmp_path: Path, office: Office) -> None:
    async def day() -> None:
        with pytest.raises(ReplicaError, match="open_failed"):
            async with AsyncReplica(tmp_path / "no" / "such.db", "https://x.org", "t", transport=office):
                pass
        replica = AsyncReplica(tmp_path / "nurse.db", "https://x.org", "t", transport=office)
        await replica.stop()
        with pytest.raises(ValueError, match="no event"):
            replica.on("change", print)
        with pytest.raises(TypeError):
            replica.on("changed", 5)  # type: ignore[arg-type]
        seen: list[Any] = []
        replica.on("changed", seen.append)
        take_off = replica.on("changed", seen.append)
        take_off()
        await replica.sync(timeout=20)
        await asyncio.sleep(0)
        assert seen == [["visits"]]
        await replica.stop()

    run(day())
