"""kill -9 of the server and of apps that write, at seeded points of a mixed workload; then nobody touches anything until
all is quiet.

SYNCLINE_TEST_KILLS and SYNCLINE_TEST_SEED make longer and other runs; `make kills` is one of two hundred points.
"""

from __future__ import annotations

import random

import pytest
from tests.integration.company import Company
from tests.integration.killing import KILLS, SEED, Workload, play


@pytest.mark.slow
@pytest.mark.timeout(240 + 20 * KILLS)
def test_kill_9_loses_nothing_and_doubles_nothing(company: Company) -> None:
    """P1, P2, P3, P4, P5, P7, P15."""
    play(Workload(company, random.Random(SEED)))
