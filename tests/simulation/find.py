"""Looks for every planted bug, and prints a Markdown table: which checker found it, with which seed, after how many.

`python -m tests.simulation.find [--profile focused|general] [--seeds N] [--processes P] [--only TEXT]`
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.simulation.bugs import BUGS, Bug

from syncline.testing.simulation.oracle import BrokenPromiseError
from syncline.testing.simulation.runner import MEMORY, silence

Found = tuple[str, int | None, str]
"""The bug, the first seed that finds it, and which checker did; None and "" where none does."""


def find(name: str, seeds: int, *, is_focused: bool) -> Found:
    """The history that finds it must end well without it."""
    bug = BUGS[name]
    with silence():
        for seed in range(seeds):
            with pytest.MonkeyPatch.context() as monkeypatch:
                bug.plant(monkeypatch)
                error = _found_by(bug, seed, is_focused=is_focused)
            if error is not None:
                anyway = _found_by(bug, seed, is_focused=is_focused)
                return name, seed, error.checker if anyway is None else f"(without it, too: {anyway.checker})"
    return name, None, ""


def _found_by(bug: Bug, seed: int, *, is_focused: bool) -> BrokenPromiseError | None:
    parent = MEMORY if os.access(MEMORY, os.W_OK) else None
    with TemporaryDirectory(prefix="syncline-find-", dir=parent) as folder:
        return bug.found_by(seed, Path(folder), is_focused=is_focused)


def _find_all(names: list[str], seeds: int, processes: int, *, is_focused: bool) -> Iterator[Found]:
    look = partial(find, seeds=seeds, is_focused=is_focused)
    if processes == 1:
        yield from map(look, names)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(look, names)


def main() -> int:
    """1 where a bug was not found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=("focused", "general"), default="focused")
    parser.add_argument("--seeds", type=int, default=300, metavar="N")
    parser.add_argument("--processes", type=int, default=1, metavar="P")
    parser.add_argument("--only", default="", metavar="TEXT", help="bugs with this in their names")
    told = parser.parse_args()
    names = [name for name in BUGS if told.only in name]
    print("| planted bug | found by | first seed | histories |", "|---|---|---|---|", sep="\n")
    missed = 0
    for name, seed, checker in _find_all(names, told.seeds, told.processes, is_focused=told.profile == "focused"):
        missed += seed is None
        played = told.seeds if seed is None else seed + 1
        print(f"| {name} | {checker or 'nothing'} | {'' if seed is None else seed} | {played} |", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
