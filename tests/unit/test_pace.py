"""How much of the time Syncline leaves a busy source to the company's programs, on a clock of the tests' own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

import pytest

from syncline.server import sequencer as pacing
from syncline.server.hub import Hub
from syncline.server.sequencer import Sequencer, evaluate_pause
from syncline.server.uploads import evaluate_run
from syncline.source.port import Checkpoint, Head, Source, UploadPace
from syncline.source.sqlite.writing import REST_SECONDS_MAX, REST_SECONDS_MIN, Rest


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its clock jumps to the next timer when nothing else is to be done."""

    _now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        scheduled = self._scheduled  # type: ignore[attr-defined]
        if scheduled and not self._ready:  # type: ignore[attr-defined]
            self._now = max(self._now, scheduled[0].when())
        super()._run_once()  # type: ignore[misc]


def run(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(work)


class BusySource:
    """A checkpoint takes 5 ms. `commits`: when the host committed what no checkpoint has taken; `waits`: how long each
    commit waited for its checkpoint to begin; `sizes`: how many commits each took."""

    def __init__(self) -> None:
        self.commits: list[float] = []
        self.waits: list[float] = []
        self.sizes: list[int] = []
        self._changed = asyncio.Event()

    def commit(self) -> None:
        self.commits.append(asyncio.get_running_loop().time())
        self._changed.set()

    async def begin_term(self, term: str) -> Head:
        return Head(term, 0, 0)

    async def end_term(self, term: str) -> None: ...

    async def take_checkpoint(self, term: str) -> Checkpoint | None:
        taken, self.commits = self.commits, []
        self._changed.clear()
        if not taken:
            return None
        now = asyncio.get_running_loop().time()
        self.waits += [now - commit for commit in taken]
        self.sizes.append(len(taken))
        await asyncio.sleep(0.005)
        return Checkpoint(Head(term, len(self.sizes), 0), frozenset(), frozenset(), frozenset())

    async def wait_for_change(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return False
        return True


class Unheard:
    def publish(self, checkpoint: Checkpoint) -> None: ...


async def busy_second(source: BusySource, between_seconds: float) -> None:
    sequencer = Sequencer(cast(Source, source), cast(Hub, Unheard()))
    sequencer.start()
    await asyncio.sleep(0.1)
    for _ in range(round(1 / between_seconds)):
        source.commit()
        await asyncio.sleep(between_seconds)
    await sequencer.stop()


def test_under_a_steady_stream_one_checkpoint_takes_several_commits() -> None:
    async def play() -> None:
        source = BusySource()
        await busy_second(source, 0.001)
        assert 45 <= len(source.sizes) <= 55 and sum(source.sizes) >= 970
        assert max(source.waits) < 0.005 + pacing.PAUSE_SECONDS_MAX + 0.001

    run(play())


def test_a_change_after_a_quiet_time_is_taken_at_once() -> None:
    async def play() -> None:
        source = BusySource()
        await busy_second(source, 0.05)
        assert source.sizes == [1] * 20 and source.waits == [0.0] * 20

    run(play())


@pytest.mark.parametrize(("took", "pause"), [(0.0, 0.004), (0.003, 0.009), (2.0, 0.020)])
def test_the_pause_grows_with_what_a_checkpoint_took(took: float, pause: float) -> None:
    assert evaluate_pause(took) == pytest.approx(pause)


class TestUploadsInARow:
    def play(self, *, waited: float, held: float) -> list[float]:
        """The gaps between four uploads."""
        now, gaps = [0.0], list[float]()

        def sleep(seconds: float) -> None:
            gaps.append(seconds)
            now[0] += seconds

        rest = Rest(lambda: now[0], sleep)
        for _ in range(4):
            rest.take()
            rest.begin(waited)
            now[0] += held
            rest.end()
        return gaps

    def test_leave_a_gap(self) -> None:
        assert self.play(waited=0.0, held=0.010) == pytest.approx([REST_SECONDS_MIN] * 3)

    def test_leave_as_much_as_they_take_while_others_write(self) -> None:
        assert self.play(waited=0.001, held=0.010) == pytest.approx([0.010] * 3)
        assert self.play(waited=0.001, held=0.5) == pytest.approx([REST_SECONDS_MAX] * 3)

    def test_no_longer_when_nobody_has_written_for_a_while(self) -> None:
        now, gaps = [0.0], list[float]()
        rest = Rest(lambda: now[0], gaps.append)
        rest.begin(0.001)
        rest.end()
        now[0] = 5.0
        rest.take()
        rest.begin(0.0)
        now[0] += 0.010
        rest.end()
        rest.take()
        assert gaps == pytest.approx([REST_SECONDS_MIN])


def test_a_slow_source_gets_smaller_pieces_and_a_fast_one_larger() -> None:
    pace = UploadPace(hold_seconds=0.015, run_min=4, run_first=50, run_max=200)
    size = pace.run_first
    for _ in range(10):
        size = evaluate_run(pace, size, size, size * 0.0005)
    assert size * 0.0005 == pytest.approx(pace.hold_seconds, rel=0.1)
    for _ in range(20):
        size = evaluate_run(pace, size, size, size * 1e-5)
    assert size >= pace.run_max - 1
    assert evaluate_run(pace, size, 0, 1.0) == size
    for _ in range(10):
        size = evaluate_run(pace, size, size, size * 1.0)
    assert size == pace.run_min
