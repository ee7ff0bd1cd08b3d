"""The seeded simulation of the real code, and that it does find bugs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from syncline.replica import apply
from syncline.server import cut_frames, uploads
from syncline.source.sqlite import feed, upload
from syncline.testing.simulation import BrokenPromiseError, run


@pytest.mark.parametrize("seed", range(24))
def test_a_device_is_always_the_cut_of_its_cursor_plus_its_own_pending_changes(tmp_path: Path, seed: int) -> None:
    """P1, P2, P3, P4, P5, P6, P7, P8, P10, P22: messages dropped, doubled and reordered, lines that break, devices that crash,
    clocks that jump, terms that change, an office that writes and reassigns."""
    simulation = run(seed, tmp_path)
    assert simulation.stats["events"] == 160


def test_the_same_seed_is_the_same_history(tmp_path: Path) -> None:
    traces = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        traces.append(run(7, tmp_path / name, steps=80).trace.hexdigest())
    assert traces[0] == traces[1]


async def _nothing(*_: Any, **__: Any) -> None:
    """In place of a step that a planted bug leaves out."""


async def _never_a_repeat(self: Any, tx: Any, device: Any, group: Any, last: int) -> Any:
    return group.mutations


def _acknowledge_at_once(self: Any, device: str) -> int:
    row = self._db.execute("SELECT last FROM syncline_device WHERE device = ?", (device,)).fetchone()
    return int(row[0]) if row else 0


PLANTED: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "the server does not touch what it refused or did not take": (upload.SqliteWrite, "touch", _nothing),
    "a downloaded row overwrites pending columns": (apply._Apply, "_rebase", lambda *_: None),
    "the server applies whatever arrives": (uploads._Run, "_fresh", _never_a_repeat),
    "a download reads the last mutation live instead of the cut's": (
        feed.FeedReader,
        "_included",
        _acknowledge_at_once,
    ),
    "removes are not sent": (cut_frames, "_pieces", lambda rows: iter(())),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    owner, attribute, wrong = PLANTED[name]
    monkeypatch.setattr(owner, attribute, wrong)
    for seed in range(12):
        (tmp_path / str(seed)).mkdir()
        try:
            run(seed, tmp_path / str(seed))
        except BrokenPromiseError:
            return
        except Exception as error:  # the database's own constraints may notice first
            assert "UNIQUE" in str(error)
            return
    pytest.fail(f"not found: {name}")
