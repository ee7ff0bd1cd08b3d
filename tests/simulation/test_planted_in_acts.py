"""That the acts world does find bugs: each of these is planted, and found within a few histories."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from syncline.model import merge
from syncline.replica import apply, file, stage
from syncline.server import cut_frames, downloads, fanout, job_token, uploads
from syncline.source.sqlite import feed, generations, pages, registry, retention, sequencer, upload
from syncline.testing.simulation import BrokenPromiseError, run

SEEDS_MAX = 15
"""A planted bug is found within so many histories."""
LIVE: dict[str, Any] = {
    "often": {"reassign": 8, "go_live": 20, "tell": 20, "listen": 20, "migrate": 0, "wait": 0, "prune": 0},
    "page_rows": 40,
}
DROPS: dict[str, Any] = {"often": {"reassign": 12, "download": 25, "office": 20, "checkpoint": 20}, "page_rows": 2}
DEATHS: dict[str, Any] = {"often": {"die": 14, "die_server": 20, "upload": 20, "migrate": 0, "restore_server": 0}}
COPIES: dict[str, Any] = {"often": {"back_up": 3, "restore": 3, "clone": 3, "app": 24, "upload": 20, "hello": 5}}
SETTLED: dict[str, Any] = {
    "often": dict.fromkeys(
        ("migrate", "prune", "wait", "skew", "skew_server", "clone", "restore", "restore_server", "reconfigure"), 0.0
    )
}
RIVALS: dict[str, Any] = {"often": {**SETTLED["often"], "app": 40, "office": 40, "reassign": 0, "go_live": 0}}


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


async def _never_a_clone(self: Any, tx: Any, device: Any, group: Any, last: int) -> Any:
    return tuple(mutation for mutation in group.mutations if mutation.number > last)


@contextmanager
def _each_statement_for_itself(connection: Any) -> Iterator[None]:
    yield


async def _finish_later(self: Any, *arguments: Any, _finish: Any = upload.SqliteWrite.finish_device) -> None:
    self._db.execute("COMMIT")
    self._db.execute("BEGIN IMMEDIATE")
    await _finish(self, *arguments)


def _device_wins(name: str, _policy: Callable[..., Any] = merge.policy) -> Any:
    found = _policy(name)
    if name != "latest":
        return found
    return replace(found, decide=lambda change: merge.Merged(change.new, raise_stamp=True))


def _any_nonce(self: Any, device: Any, nonce: Any, user: str, included: int, details: Any) -> Any:
    row = self._db.execute("SELECT nonce_issued FROM syncline_device WHERE device = ?", (device,)).fetchone()
    return _register(self, device, row[0] if row else nonce, user, included, details)


_register = registry.Registry.register


Plant = tuple[tuple[Any, str, Any], ...]
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
    "a cut is applied statement by statement": ((apply, "immediate", _each_statement_for_itself),),
    "a checkpoint is written statement by statement": ((sequencer, "write_transaction", _each_statement_for_itself),),
    "an upload's effect is committed apart from its number": ((upload.SqliteWrite, "finish_device", _finish_later),),
    "whoever arrives last wins": ((merge, "policy", _device_wins),),
    "what lost is not recorded": ((upload, "conflict_lines", lambda *_: iter(())),),
    "nothing is ever forgotten": ((retention, "SWEEPS", ()),),
    "two copies of a file are one device": (
        (registry.Registry, "register", _any_nonce),
        (uploads._Run, "_fresh", _never_a_clone),
        *((module, "refuse_another_copy", lambda *_: None) for module in (apply, file)),
    ),
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
    "a cut is applied statement by statement": DEATHS,
    "a checkpoint is written statement by statement": DEATHS,
    "an upload's effect is committed apart from its number": DEATHS,
    "whoever arrives last wins": RIVALS,
    "what lost is not recorded": RIVALS,
    "two copies of a file are one device": COPIES,
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
    pytest.fail(f"not found: {name}")
