"""Damages a message: somewhere in its JSON, or in its bytes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

CANARY = "canary-5f2e"
"""In every value of a row, and in every value that an attacker sends: no error and no log repeats it."""

CASE_BYTES_MAX = 1_000_000
"""What is too large for any frame is attacked by hand, in test_attacks.py: it takes too long here."""

ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        255,
        2**31,
        2**53,
        2**53 + 1,
        2**62,
        2**63,
        -(2**63) - 1,
        10**30,
        1.5,
        -0.0,
        1e308,
    ),
    *("", "x", CANARY, CANARY * 40, "\0", "é\0💥", "%s%n", "../..", "-1", "1e9", "NaN"),
    *([], {}, [[]], [{}], {"t": "rows"}, [None] * 40, [[[[[[[[[[[[[[]]]]]]]]]]]]]]),
    *(["i", "9223372036854775807"], ["i", "1_0"], ["i", "9" * 5_000], ["f", "inf"], ["f", "nan"], ["f", "1e999"]),
    *(["b", "AP8="], ["b", "A"], ["t", "/w=="], ["t", "eA=="], ["x", "y"], ["i", 1], ["b", CANARY], [CANARY, CANARY]),
    *("' OR 1=1 --", '"; DROP TABLE notes; --', "x'); DELETE FROM patients; --", "?1", ":sub", "$1", "\\", '"', "[x]"),
)
"""What goes wrong at the edges of types, numbers, SQL and JSON."""


def text_of(document: Any) -> bytes:
    """JSON as an attacker writes it: half characters, infinities and all."""
    return json.dumps(document, separators=(",", ":")).encode()


class Mutator:
    """Draws from `rng`. `words`: names and keys of the target's own world, to be put where others stand."""

    def __init__(self, rng: random.Random, words: Sequence[Any]) -> None:
        self._rng = rng
        self._odd = (*ODD, *words, *words)

    def mutate(self, content: bytes, other: bytes) -> bytes:
        """A damaged copy of a JSON text, with now and then something of another one in it."""
        if self._rng.random() < 0.1:
            return self.scramble(content)
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            return self.scramble(content)
        for _ in range(self._rng.choice((1, 1, 1, 2, 3, 6))):
            document = self._change(document, other)
        found = text_of(document)
        return found if len(found) <= CASE_BYTES_MAX else self.scramble(content)

    def scramble(self, content: bytes) -> bytes:
        """Bytes cut, doubled, turned and thrown in."""
        data, rng = bytearray(content), self._rng
        for _ in range(rng.choice((1, 1, 2, 5))):
            at = rng.randrange(len(data) + 1)
            kind = rng.randrange(5)
            if kind == 0:
                del data[at : at + rng.choice((1, 2, 10, 100))]
            elif kind == 1:
                data[at:at] = rng.randbytes(rng.choice((1, 2, 8)))
            elif kind == 2 and at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 3:
                data[at:at] = data[at : at + 50] * rng.choice((1, 2, 20))
            else:
                data[at:at] = rng.choice((b"\\ud800", b"NaN", b"[" * 2_000, b"1e999", b"\xff", b"\0", b"9" * 5_000))
        return bytes(data)

    # ------------------------------------------------------------ inside a document
    def _change(self, document: Any, other: bytes) -> Any:
        rng = self._rng
        places = _places(document)
        if not places:
            return self._odd_one()
        parent, step = rng.choice(places)
        kind = rng.randrange(8)
        if kind <= 2:
            parent[step] = self._odd_one()
        elif kind == 3:
            del parent[step]
        elif kind == 4:
            self._double(parent, step)
        elif kind == 5:
            parent[step] = self._near(parent[step])
        elif kind == 6:
            elsewhere, place = rng.choice(places)
            parent[step] = json.loads(json.dumps(elsewhere[place]))
        else:
            parent[step] = self._piece_of(other)
        return document

    def _odd_one(self) -> Any:
        """A copy: a case must not change the next one's."""
        found = self._rng.choice(self._odd)
        return json.loads(json.dumps(found)) if type(found) in (list, dict) else found

    def _double(self, parent: Any, step: Any) -> None:
        if type(parent) is list:
            parent[step:step] = [json.loads(json.dumps(parent[step]))] * self._rng.choice((1, 1, 3, 30))
        else:
            parent[f"{step}{self._rng.choice(('', 's', ' '))}"] = parent.pop(step)

    def _near(self, value: Any) -> Any:
        """Of the same kind."""
        rng = self._rng
        nearby: dict[type, Callable[[], Any]] = {
            bool: lambda: not value,
            int: lambda: value + rng.choice((-1, 1, 1, 2, 100, 2**40)),
            float: lambda: value * rng.choice((-1, 2, 1e9)),
            str: lambda: rng.choice((value[:-1], value + "x", value[::-1], value.upper(), value * 3)),
            list: lambda: rng.choice((value[::-1], value[:1], value + value, [value])),
            dict: lambda: dict(list(value.items())[::-1][:-1]),
        }
        return nearby.get(type(value), lambda: 0)()

    def _piece_of(self, other: bytes) -> Any:
        try:
            places = _places(json.loads(other))
        except (ValueError, RecursionError):
            return None
        if not places:
            return None
        parent, step = self._rng.choice(places)
        return parent[step]


def _places(document: Any, most: int = 400) -> list[tuple[Any, Any]]:
    """(container, index or name) of what is inside, outermost first."""
    found: list[tuple[Any, Any]] = []
    waiting = [document]
    while waiting and len(found) < most:
        container = waiting.pop(0)
        steps = list(container) if type(container) is dict else range(len(container)) if type(container) is list else ()
        for step in list(steps)[:60]:
            found.append((container, step))
            if type(container[step]) in (dict, list):
                waiting.append(container[step])
    return found
