"""`python -m syncline.testing.relay --to HOST:PORT [--port PORT]`: a network that breaks when you type it.

One command a line: a fault's name, its number, a direction. `heal` ends a fault, `quit` or the end of the input all.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TextIO

from syncline.testing.relay import (
    Blackhole,
    Cut,
    Delay,
    Direction,
    Fault,
    Freeze,
    HalfClose,
    Relay,
    Trickle,
    Truncate,
    Unanswered,
)

FAULTS: dict[str, Any] = {
    "cut": Cut,
    "truncate": Truncate,
    "half-close": HalfClose,
    "delay": Delay,
    "trickle": Trickle,
    "freeze": Freeze,
    "blackhole": Blackhole,
    "unanswered": Unanswered,
}
HELP = """\
cut [BYTES] [up|down]         connections are reset, at once or after so many bytes
truncate [BYTES] [up|down]    they end in good order, in the middle of whatever it is
half-close [BYTES] [up|down]  that direction ends, the other goes on
delay SECONDS [up|down]       all arrives later
trickle BYTES [up|down]       so many bytes a second
freeze [up|down]              nothing is carried, and later goes on
blackhole [up|down]           nothing is carried, ever again
unanswered                    new connections are neither accepted nor refused
heal · hits · help · quit"""


def parse(line: str) -> Fault:
    """ValueError where it is no fault."""
    name, *words = line.split()
    if name not in FAULTS:
        raise ValueError(f'There is no fault "{name}".')
    told: list[float] = []
    ways: list[Direction] = []
    for word in words:
        if word in tuple(Direction):
            ways.append(Direction(word))
        else:
            told.append(_number(word, is_whole=name != "delay"))
    takes = [field.name for field in fields(FAULTS[name]) if field.name != "direction"]
    given: dict[str, Any] = dict(zip(takes, told, strict=False)) | dict(zip(["direction"], ways, strict=False))
    try:
        if len(given) < len(words):
            raise TypeError
        fault: Fault = FAULTS[name](**given)
    except TypeError as error:
        raise ValueError(f'That is not how "{name}" is told.') from error
    return fault


def _number(word: str, *, is_whole: bool) -> float:
    try:
        return int(word) if is_whole else float(word)
    except ValueError:
        kind = "whole number" if is_whole else "number"
        raise ValueError(f'"{word}" is neither a {kind} nor a direction (up, down).') from None


def obey(relay: Relay, commands: TextIO) -> None:
    for line in commands:
        command = line.strip()
        if command == "quit":
            return
        try:
            if command == "heal":
                relay.heal()
            elif command == "help":
                print(HELP, flush=True)
            elif command not in ("", "hits"):
                relay.begin(parse(command))
        except ValueError as error:
            print(f"{error} `help` lists what there is.", file=sys.stderr)
        print(
            f"{relay.opened} connections, {relay.hit_connections} of them and {relay.hit_bytes} bytes hit", flush=True
        )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m syncline.testing.relay", description=__doc__, epilog=HELP)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--to", required=True, metavar="HOST:PORT", help="the server")
    parser.add_argument("--port", type=int, default=0, help="the relay's own; 0 takes a free one")
    given = parser.parse_args(arguments)
    try:
        relay = Relay(given.to, port=given.port)
    except (ValueError, OSError, OverflowError) as error:
        print(f"The relay did not start: {error} Name a server, and a port that is free.", file=sys.stderr)
        return 1
    with relay:
        print(f"{relay.url} leads to {given.to}", flush=True)
        try:
            obey(relay, sys.stdin)
        except KeyboardInterrupt:
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
