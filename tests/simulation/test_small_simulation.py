"""The seeded simulation of the real code, and that it does find bugs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from syncline.replica import apply, stage
from syncline.server import cut_frames, downloads, fanout, job_token, uploads
from syncline.source.sqlite import feed, generations, pages, sequencer, upload
from syncline.testing.simulation import BrokenPromiseError, run

SEEDS_MAX = 15
"""A planted bug is found within so many histories."""
HAPPENS = (
    *("stage new", "stage resume", "progress", "pause", "broken answers", "crashes", "stale cuts"),
    *("live messages", "replanned", "raised", "replace", "restarts", "prunes", "drop_bucket"),
)
"""Names in a history's `stats`."""


LIVE: dict[str, Any] = {
    "often": {"reassign": 8, "go_live": 20, "tell": 20, "listen": 20, "migrate": 0, "wait": 0, "prune": 0},
    "page_rows": 40,
}
DROPS: dict[str, Any] = {"often": {"reassign": 12, "download": 25, "office": 20, "checkpoint": 20}, "page_rows": 2}


@pytest.mark.parametrize("seed", range(16))
def test_a_device_is_always_the_cut_of_its_cursor_plus_its_own_pending_changes(tmp_path: Path, seed: int) -> None:
    """P1, P2, P3, P4, P5, P6, P7, P8, P10, P20, P22: messages dropped, doubled and reordered, answers and streams that
    break, downloads in pages hours apart, devices that crash, clocks that jump, terms that change, an office that
    writes, reassigns, migrates and reconfigures, and a server that forgets what is old."""
    simulation = run(seed, tmp_path)
    assert simulation.stats["events"] == 160


@pytest.mark.parametrize("seed", range(4))
def test_streams_are_told_what_is_granted_while_grants_come_and_go(tmp_path: Path, seed: int) -> None:
    """P1, P6, P8: also where a patient is lost and granted again while a cut is being read."""
    assert run(seed, tmp_path, **LIVE).stats["live messages"] > 0


def test_the_same_seed_is_the_same_history(tmp_path: Path) -> None:
    traces = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        traces.append(run(7, tmp_path / name, steps=80).traffic.trace.hexdigest())
    assert traces[0] == traces[1]


def test_all_that_may_happen_does_happen(tmp_path: Path) -> None:
    """Pages, breaks, streams, migrations, restarts and prunes, within a few histories."""
    stats: Counter[str] = Counter()
    for seed in range(SEEDS_MAX):
        (tmp_path / str(seed)).mkdir()
        stats.update(run(seed, tmp_path / str(seed), often={"migrate": 3, "reassign": 6}).stats)
        if all(stats[what] for what in HAPPENS):
            return
    pytest.fail(f"never happened: {[what for what in HAPPENS if not stats[what]]}")


# ---------------------------------------------------------------- planted bugs
async def _nothing(*_: Any, **__: Any) -> None:
    """In place of a step that a planted bug leaves out."""


async def _never_a_repeat(self: Any, tx: Any, device: Any, group: Any, last: int) -> Any:
    return group.mutations


def _acknowledge_at_once(self: Any, device: str) -> int:
    row = self._db.execute("SELECT last FROM syncline_device WHERE device = ?", (device,)).fetchone()
    return int(row[0]) if row else 0


def _last_frames_first(staged: Any, cut: Any) -> Iterator[Any]:
    yield from reversed([frame for _, frame in staged.frames()] if cut.is_paged else cut.tail.frames)


def _only_the_names(self: Any, names: Any) -> None:
    rows = [(name,) for name in names]
    self._store.connection.executemany("DELETE FROM syncline_job_bucket WHERE name = ?", rows)


def _one_key_further(place: str | None, keys: Any, _parse: Callable[..., Any] = pages.parse_page_place) -> Any:
    at = _parse(place, keys)
    if at is None or not at[1]:
        return at
    table, (key,) = at
    return table, (key[:-1] + chr(ord(key[-1]) + 1),)


def _drop_and_move_on(
    self: Any, position: Any, dropped: Any, survey: Any, _drop: Any = downloads.Downloads._drop_only, **named: Any
) -> Any:
    head = (survey.head.term, survey.head.checkpoint)
    return _drop(self, replace(position, cursor=head), dropped, survey, stage=None)


def _nobody_lost_anything(
    self: Any, delta: Any, users: Any, _concerned: Any = fanout.FanOut._concerned
) -> tuple[Any, Any, Any]:
    news, _, alone = _concerned(self, delta, users)
    return news, {}, alone


Plant = tuple[tuple[Any, str, Callable[..., Any]], ...]
PLANTED: dict[str, Plant] = {
    "the server does not touch what it refused or did not take": ((upload.SqliteWrite, "touch", _nothing),),
    "a downloaded row overwrites pending columns": ((apply._Apply, "_rebase", lambda *_: None),),
    "the server applies whatever arrives": ((uploads._Run, "_fresh", _never_a_repeat),),
    "a download reads the last mutation live instead of the cut's": (
        (feed.FeedReader, "_included", _acknowledge_at_once),
    ),
    "removes are not sent": ((cut_frames, "_pieces", lambda rows: iter(())),),
    "the last frames of a paged download are applied before what was staged": ((apply, "body_of", _last_frames_first),),
    "what was staged of a bucket that was lost stays in the file": ((stage.Stage, "forget_buckets", _only_the_names),),
    "a page goes on one row too late": ((pages, "parse_page_place", _one_key_further),),
    "a token is kept without its page": ((stage.Stage, "_keep", lambda *_: None),),
    "a paged download goes on although a table was raised": (
        (job_token.JobToken, "fits", lambda self, survey: survey.valid),
    ),
    "only the changed table is sent anew, not those whose paths run through it": tuple(
        (module, "raised_by", lambda plan, tables: frozenset(tables) & frozenset(plan.tables))
        for module in (generations, sequencer)
    ),
    "a cut that only drops moves the cursor": ((downloads.Downloads, "_drop_only", _drop_and_move_on),),
    "cursors behind the horizon are taken": ((feed, "read_horizon", lambda _: 0),),
    "the fan-out goes on telling one who has lost the bucket": ((fanout.FanOut, "_concerned", _nobody_lost_anything),),
}


MIGRATES: dict[str, Any] = {"often": {"migrate": 5, "migrate_on": 10, "office": 15, "download": 25, "checkpoint": 20}}
PRUNES: dict[str, Any] = {"often": {"prune": 6, "office": 15, "checkpoint": 20, "download": 25}}
FOCUSED = {
    "a paged download goes on although a table was raised": {**MIGRATES, "page_rows": 2},
    "only the changed table is sent anew, not those whose paths run through it": MIGRATES,
    "cursors behind the horizon are taken": PRUNES,
    "the fan-out goes on telling one who has lost the bucket": LIVE,
    "a cut that only drops moves the cursor": DROPS,
}
"""Of these planted bugs: what happens more often than usual, so that a few histories are enough."""


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for owner, attribute, wrong in PLANTED[name]:
        monkeypatch.setattr(owner, attribute, wrong)
    for seed in range(SEEDS_MAX):
        (tmp_path / str(seed)).mkdir()
        try:
            run(seed, tmp_path / str(seed), **FOCUSED.get(name, {}))
        except BrokenPromiseError:
            return
        except Exception as error:  # the database's own constraints may notice first
            assert "UNIQUE" in str(error)
            return
    pytest.fail(f"not found: {name}")
