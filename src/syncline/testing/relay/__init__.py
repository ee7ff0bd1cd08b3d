"""A TCP relay between devices and a server: a network that breaks when a test says so.

`python -m syncline.testing.relay --to HOST:PORT` is one that breaks when you type it.
"""

from syncline.testing.relay.faults import (
    Blackhole,
    Cut,
    Delay,
    Fault,
    Freeze,
    HalfClose,
    Trickle,
    Truncate,
    TruncateAll,
    Unanswered,
)
from syncline.testing.relay.lanes import Direction
from syncline.testing.relay.relay import Relay

__all__ = [
    "Blackhole",
    "Cut",
    "Delay",
    "Direction",
    "Fault",
    "Freeze",
    "HalfClose",
    "Relay",
    "Trickle",
    "Truncate",
    "TruncateAll",
    "Unanswered",
]
