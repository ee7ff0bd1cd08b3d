"""A lab per test; whatever it started is ended with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.acceptance.lab import Lab

MakeLab = Callable[[Path], Lab]


@pytest.fixture
def lab_of(tmp_path: Path) -> Iterator[MakeLab]:
    """`lab_of(file)`: a lab with that source, or with a copy of it if it lies elsewhere."""
    made: list[Lab] = []

    def make(source: Path) -> Lab:
        if source.parent != tmp_path:
            copy = tmp_path / "source.db"
            copy.write_bytes(source.read_bytes())
            source = copy
        made.append(Lab(tmp_path, source))
        return made[-1]

    yield make
    for lab in made:
        lab.close()
