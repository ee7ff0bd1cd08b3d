"""What is on the disk when a process dies or the power goes: a database file and its write-ahead log, as bytes."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, replace
from pathlib import Path

SUFFIXES = ("-wal", "-shm", "-journal")
_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24


@dataclass(frozen=True)
class Mark:
    """A place in a log: what stands before it has been synced. `salt` names the life of the log: when it begins anew,
    everything before is in the database file, and synced."""

    salt: bytes
    end: int


@dataclass(frozen=True)
class Image:
    """The bytes of a database file and of its log. The index of the log is left out: it is made anew."""

    database: bytes
    log: bytes


def take_image(path: Path) -> Image:
    """As another program would copy them at this very moment."""
    return Image(_bytes_of(path), _bytes_of(_log_of(path)))


def put_image(path: Path, image: Image) -> None:
    """In the place of what is there. Nobody may have the file open."""
    for suffix in SUFFIXES:
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    path.write_bytes(image.database)
    if image.log:
        _log_of(path).write_bytes(image.log)


def mark_of(path: Path) -> Mark:
    """Where the newest whole transaction of the log ends now."""
    return evaluate_mark(_bytes_of(_log_of(path)))


def evaluate_mark(log: bytes) -> Mark:
    """SQLite's file format, section 4: a frame of this life of the log carries the header's salt, and the last one of
    a transaction the size of the database."""
    if len(log) < _HEADER_BYTES:
        return Mark(b"", 0)
    salt = log[16:24]
    (page_bytes,) = struct.unpack(">I", log[8:12])
    end, at, frame_bytes = _HEADER_BYTES, _HEADER_BYTES, _FRAME_HEADER_BYTES + page_bytes
    while at + frame_bytes <= len(log) and log[at + 8 : at + 16] == salt:
        at_commit = log[at + 4 : at + 8] != b"\0\0\0\0"
        at += frame_bytes
        if at_commit:
            end = at
    return Mark(salt, end)


def tear(image: Image, synced: Mark, rng: random.Random) -> Image:
    """The power went: of the log only what is before `synced` is sure to be there. What follows ends somewhere, and
    now and then something else stands in its place."""
    same = image.log[16:24] == synced.salt
    sure = min(synced.end if same else _HEADER_BYTES, len(image.log))
    cut = rng.randint(sure, len(image.log))
    rest = rng.randbytes(len(image.log) - cut) if rng.random() < 0.5 else b""
    return replace(image, log=image.log[:cut] + rest)


def size_of_log(path: Path) -> int:
    """In bytes."""
    log = _log_of(path)
    return log.stat().st_size if log.exists() else 0


def _log_of(path: Path) -> Path:
    return Path(f"{path}-wal")


def _bytes_of(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
