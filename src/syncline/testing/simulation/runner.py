"""Many histories, over several processes: what each did, which failed, and the shortest history that fails in the same
way."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from syncline.testing.simulation.oracle import BrokenPromiseError
from syncline.testing.simulation.report import Report, nothing_yet
from syncline.testing.simulation.script import Script
from syncline.testing.simulation.shrink import shrink
from syncline.testing.simulation.workloads import workload

MEMORY = Path("/dev/shm")
"""Where files need no disk, on systems that have it: durability is simulated, so nothing has to be waited for."""


ATTEMPTS_MAX = 300
"""So many shorter histories are tried for each failure that is shrunk."""


@dataclass(frozen=True)
class Failure:
    """A checker found something: `checker` says which and of what promise, `differed` what it saw."""

    checker: str
    differed: str


@dataclass(frozen=True)
class Played:
    """One history, to its end, or with its story to where it failed."""

    script: Script
    report: Report
    failure: Failure | None


def play(script: Script) -> Played:
    """In a folder of its own, of which nothing is left."""
    with _folder() as folder, silence(), _no_collections():
        try:
            report = workload(script.workload).play(script, folder)
            report.story.clear()
            return Played(script, report, None)
        except BrokenPromiseError as error:
            differed = ", ".join(str(each) for each in error.args[1:])
            return Played(script, error.report or nothing_yet(), Failure(error.checker, differed))


@contextmanager
def _folder() -> Iterator[Path]:
    parent = MEMORY if os.access(MEMORY, os.W_OK) else None
    with TemporaryDirectory(prefix="syncline-simulate-", dir=parent) as folder:
        yield Path(folder)


@contextmanager
def silence() -> Iterator[None]:
    """What server and devices log about faults that are meant is of no use to anybody."""
    log = logging.getLogger("syncline")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)


@contextmanager
def _no_collections() -> Iterator[None]:
    """A history makes little garbage, and each collection looks at all modules."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
            gc.collect()


def play_seed(name: str, seed: int) -> Played:
    return play(workload(name).draw(seed))


def play_seeds(name: str, first: int, count: int, processes: int) -> Iterator[Played]:
    """In the order of the seeds, whoever is done first. Those that failed have their story."""
    seeds = range(first, first + count)
    if processes == 1:
        yield from map(partial(play_seed, name), seeds)
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        try:
            yield from pool.map(partial(play_seed, name), seeds)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def shortest(failed: Played, note: Callable[[Script], None] = lambda _: None) -> Played:
    """The same failure, by as few steps and faults as can be. `note` is told of each script that is tried."""

    def fails(script: Script) -> bool:
        note(script)
        found = play(script).failure
        return found is not None and failed.failure is not None and found.checker == failed.failure.checker

    return play(shrink(failed.script, fails, ATTEMPTS_MAX))
