"""What every session of ours is limited to: the hosts' sake. P15."""

from __future__ import annotations

import asyncio

import asyncpg
from tests.postgres.capturing import clinic_on
from tests.postgres.conftest import HostDatabase

from syncline.source.postgres.connections import Connections

LIMITS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")


async def limits_of(db: asyncpg.Connection) -> tuple[str, ...]:
    return tuple([await db.fetchval(f"SHOW {name}") for name in LIMITS])


def test_limits_of_sessions(postgres: HostDatabase) -> None:
    """Whatever the company has set for the database. The sequencer's one statement may be a million rows long."""
    with clinic_on(postgres) as clinic:
        clinic.execute(*(f'ALTER DATABASE "{postgres.name}" SET {name} = 0' for name in LIMITS))
        clinic.provision()
        clinic.wait(clinic.source.attach(clinic.plan))
        assert clinic.wait(clinic.source.begin_term("one"))
        connections, sequencer = clinic.source._db, clinic.source._sequencer

        async def pooled() -> tuple[str, ...]:
            async with connections.snapshot() as db:
                return await limits_of(db)

        async def direct() -> tuple[str, ...]:
            db = await connections.direct()
            try:
                return await limits_of(db)
            finally:
                await db.close()

        async def of_sequencer() -> tuple[str, ...]:
            async with sequencer._lease.session() as db:
                return await limits_of(db)

        assert clinic.wait(pooled()) == ("30s", "800ms", "30s")
        assert clinic.wait(direct()) == ("10min", "800ms", "30s")
        assert clinic.wait(of_sequencer()) == ("0", "800ms", f"{sequencer._lease.silence_seconds:.0f}s")
        clinic.wait(clinic.source.end_term("one"))
        assert clinic.wait(clinic.source.deprovision())


def test_a_read_that_is_given_up_twice_leaves_no_transaction_begun(postgres: HostDatabase) -> None:
    """As when a device goes while its stream is being ended: the session goes back to the pool only afterwards."""
    told: list[str] = []

    async def read(connections: Connections) -> None:
        async with connections.snapshot() as db:
            await db.execute("SELECT pg_sleep(30)")

    async def give_up() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(str(context["message"])))
        connections = Connections(postgres.url)
        for turns in range(12):
            reading = asyncio.create_task(read(connections))
            await asyncio.sleep(0.1)
            reading.cancel()
            for _ in range(turns):
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        await connections.close()

    asyncio.run(give_up())
    assert told == []
