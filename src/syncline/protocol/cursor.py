"""Cursors and bucket digests: how a device says what it has in a few bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def cursor_text(term: str, checkpoint: int) -> str:
    """Opaque to devices: the term of the sequencer and a checkpoint in it."""
    return f"{term}.{checkpoint}"


def parse_cursor(cursor: str | None) -> tuple[str, int] | None:
    """Term and checkpoint, or None where there is no cursor or it is not one of ours."""
    term, dot, number = (cursor or "").rpartition(".")
    if not dot or not term or not number.isascii() or not number.isdigit() or len(number) > 16:
        return None
    return term, int(number)


def digest_of(buckets: Iterable[str]) -> str:
    """Order-free digest of bucket names."""
    hasher = hashlib.sha256()
    for bucket in sorted(buckets):
        hasher.update(bucket.encode() + b"\0")
    return hasher.hexdigest()[:32]
