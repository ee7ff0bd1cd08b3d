"""Writes that end in the middle while the process lives on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

try:
    import resource
except ImportError:  # a system without such limits
    resource = None  # type: ignore[assignment]


@contextmanager
def ending_at(size_bytes: int | None) -> Iterator[None]:
    """Until then the system lets no file of this process grow past the size: of a write that begins before it only the
    first part is written (setrlimit(2), RLIMIT_FSIZE), and SQLite tells an I/O error. None: as ever."""
    if size_bytes is None or resource is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
