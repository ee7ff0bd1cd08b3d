"""Where each key of a TOML file stands, so that an error can name the line.

The text must already have been parsed by `tomllib`: the scanner relies on it being valid and only keeps count.
"""

from __future__ import annotations

import re
import tomllib
from typing import TypeAlias

Place: TypeAlias = "tuple[str | int, ...]"
"""A way into the parsed file: keys of tables and indexes of arrays."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"(?!"")|""(?!"))?'
    r"|'''.*?'''(?:'(?!'')|''(?!'))?"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'",
    re.DOTALL,
)
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)+")
_SCALAR = re.compile(r"[^,\]}\n#]+")


def find_positions(text: str) -> dict[Place, int]:
    """Line (from 1) of every key, table header and array element."""
    return _Scanner(text).scan()


def line_of(positions: dict[Place, int], place: Place) -> int | None:
    """The line of `place`, or of the nearest thing around it that stands in the file.

    Parts that the file does not have (an index that a shorter way of writing left out) are skipped.
    """
    found: Place = ()
    for part in place:
        if (*found, part) in positions:
            found = (*found, part)
    return positions.get(found)


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._at = 0
        self._line = 1
        self._line_from = 0
        self._array_lengths: dict[Place, int] = {}
        self._positions: dict[Place, int] = {}

    def scan(self) -> dict[Place, int]:
        table: Place = ()
        self._skip_space()
        while self._at < len(self._text):
            if self._text.startswith("[[", self._at):
                table = self._open_table(brackets=2)
            elif self._text.startswith("[", self._at):
                table = self._open_table(brackets=1)
            else:
                self._read_pair(table)
            self._skip_space()
        return self._positions

    def _open_table(self, brackets: int) -> Place:
        line = self._current_line()
        self._at += brackets
        keys = self._read_keys()
        self._at += brackets
        table: Place = ()
        for depth, key in enumerate(keys, 1):
            table = (*table, key)
            if depth == len(keys) and brackets == 2:
                self._array_lengths[table] = self._array_lengths.get(table, 0) + 1
            self._positions.setdefault(table, line)
            if table in self._array_lengths:
                table = (*table, self._array_lengths[table] - 1)
                self._positions.setdefault(table, line)
        return table

    def _read_pair(self, table: Place) -> None:
        line = self._current_line()
        keys = self._read_keys()
        for depth in range(1, len(keys) + 1):
            self._positions.setdefault((*table, *keys[:depth]), line)
        self._at += 1  # the equals sign
        self._skip_space()
        self._read_value((*table, *keys))

    def _read_value(self, place: Place) -> None:
        start = self._text[self._at]
        if start in "\"'":
            self._at = self._matched(_STRING).end()
        elif start == "[":
            self._read_elements(place, "]", pairs=False)
        elif start == "{":
            self._read_elements(place, "}", pairs=True)
        else:
            self._at = self._matched(_SCALAR).end()

    def _read_elements(self, place: Place, end: str, *, pairs: bool) -> None:
        self._at += 1
        self._skip_space()
        number = 0
        while self._text[self._at] != end:
            if pairs:
                self._read_pair(place)
            else:
                self._positions.setdefault((*place, number), self._current_line())
                self._read_value((*place, number))
                number += 1
            self._skip_space()
            if self._text[self._at] == ",":
                self._at += 1
                self._skip_space()
        self._at += 1

    def _read_keys(self) -> tuple[str, ...]:
        keys: list[str] = []
        while True:
            self._skip_space()
            if self._text[self._at] in "\"'":
                found = self._matched(_STRING)
                keys.append(tomllib.loads(f"key = {found[0]}")["key"])
            else:
                found = self._matched(_BARE)
                keys.append(found[0])
            self._at = found.end()
            self._skip_space()
            if self._text[self._at] != ".":
                return tuple(keys)
            self._at += 1

    def _matched(self, pattern: re.Pattern[str]) -> re.Match[str]:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise AssertionError(f"not valid TOML at character {self._at}")
        return found

    def _skip_space(self) -> None:
        found = _SPACE.match(self._text, self._at)
        if found:
            self._at = found.end()

    def _current_line(self) -> int:
        self._line += self._text.count("\n", self._line_from, self._at)
        self._line_from = self._at
        return self._line
