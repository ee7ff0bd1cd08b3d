"""What every session of ours is limited to: the hosts' sake. P15."""

from __future__ import annotations

import asyncpg
from tests.postgres.capturing import clinic_on
from tests.postgres.conftest import HostDatabase

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
