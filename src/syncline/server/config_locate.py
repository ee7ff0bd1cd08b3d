"""Finding the line that an error of resolving is about: the model knows tables and scopes, not files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from syncline.errors import ConfigError
from syncline.server.config_positions import Place
from syncline.server.config_settings import Settings

_SECTION = re.compile(r"\[(scope|table|merge|columns)(?:\.([^\]\s]+))?\]")
_OPTION = re.compile(r"\[scope\.([^\]\s]+)\] (grant|key|where|refresh)\b(?! of)")
_QUOTED = re.compile(r'"([^"]+)"')


def locate(error: ConfigError, settings: Settings) -> ConfigError:
    """The same error with `file:line:` in front: the place that shares the most names with its message.

    An option that the message begins with is the place. Else only the section in brackets and what stands in quotes
    counts; without any match it is the file alone.
    """
    document = settings.document
    section = _SECTION.search(error.message)
    prefix = tuple(part for part in section.groups() if part) if section else ()
    names = [name.lower() for name in _QUOTED.findall(error.message)]
    option = _OPTION.match(error.message)
    if option and ("scope", *option.groups()) in document.positions:
        text = f"{document.where(('scope', *option.groups()))}: {error.message}"
        return ConfigError(text, hint=error.hint, code=error.error_code)
    best: tuple[int, int, Place] = (0, 0, ())
    for place, value in _places(document.raw):
        if _lowered(place)[: len(prefix)] != tuple(part.lower() for part in prefix):
            continue
        score = _score(place, value, names)
        if (score, -len(place)) > best[:2]:
            best = (score, -len(place), place)
    place = best[2] or prefix
    return ConfigError(f"{document.where(place)}: {error.message}", hint=error.hint, code=error.error_code)


def _score(place: Place, value: Any, names: list[str]) -> int:
    """How well a place fits: the names that its path holds, and most of all the one at its end or in its value.

    Among equals the later name counts more: `Table "patients" has no column "regoin"` is about the column.
    """
    path = _lowered(place)
    score = 2 * len(set(names) & set(path))
    if path[-1] in names:
        score += 1
    if isinstance(value, str) and value.lower() in names:
        score += 3 + names.index(value.lower())
    return score


def _lowered(place: Place) -> tuple[str | int, ...]:
    return tuple(part.lower() if isinstance(part, str) else part for part in place)


def _places(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    if place:
        yield place, value
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, child in pairs:
        yield from _places(child, (*place, part))
