"""What is said of a code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """`remedy`: what to do next. `again`: it may pass by itself, and Syncline tries again where it runs on its own.
    `http`: the statuses that carry it from the server to a device. `exit`: what a command that meets it ends with."""

    code: str
    meaning: str
    remedy: str
    again: bool = False
    http: tuple[int, ...] = ()
    exit: tuple[int, ...] = (1,)


@dataclass(frozen=True, slots=True)
class Section:
    """Codes that belong together. `seen_by`: to whom they are shown."""

    title: str
    seen_by: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class CloseCode:
    """`again`: what the device does next."""

    number: int
    meaning: str
    again: str
