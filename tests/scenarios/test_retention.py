"""The service prunes what is older than the retention (P11); what a source makes of it is in its contract."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from syncline.testing.bench import Office
from syncline.testing.contract_downloads import CONFIG, TABLES
from syncline.testing.world import SECOND_US

DAY = 86_400


@pytest.fixture
def office(open_office: Callable[..., Office]) -> Office:
    office = open_office(TABLES, CONFIG)
    office.service.sequencer.term = office.term
    return office


def test_the_service_prunes_by_its_own_clock(office: Office) -> None:
    office.execute("UPDATE visits SET n = n + 1")
    office.checkpoint()

    async def prune() -> None:
        steps = []

        async def step(term: str, before_us: int) -> bool:
            steps.append((term, before_us))
            return False

        office.service.source.prune = step  # type: ignore[method-assign]
        await office.service.prune()
        assert steps == [(office.term, office.clock.now_us() - 90 * DAY * SECOND_US)]
        office.service.sequencer.term = ""
        await office.service.prune()
        assert len(steps) == 1, "another process holds the sequencer"

    office.wait(prune())
