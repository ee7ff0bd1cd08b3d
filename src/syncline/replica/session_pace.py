"""How long a session waits: plain arithmetic, so that neither an unsteady network nor a fleet that comes back at once
becomes a flood."""

from __future__ import annotations

from syncline import limits

WAIT_SECONDS = 20.0
"""How long a download is held while the server has nothing and own mutations still wait to be included."""

REST_SECONDS = 0.05
REST_SECONDS_MAX = 2.0
"""Between two downloads that brought nothing although they were to be held."""

SIGNED_OUT_SECONDS = 60.0

RECONNECT_SECONDS = 3.0
"""Streams that broke at one moment, because a server went down, come back spread over this time."""

SIGNAL_SECONDS_MIN = 1.0
SIGNAL_SECONDS_MAX = 32.0
"""Between two rounds that are begun because the network came back."""

NOTED_SECONDS = 60.0
"""A request that fails within this time after a signal may have been sent into the gap before it: none is under way for
longer, but for streams."""

SIGNALS_STABLE_SECONDS = 90.0
"""A network that was quiet for this long is trusted again."""

STREAM_SECONDS_MIN = 10.0
"""A WebSocket that ended sooner, or on which nothing ever came, counts as one that did not get through."""

STREAM_BLOCKED_MAX = 2
STREAM_SHORT_MAX = 3
"""After so many WebSockets in a row that were refused, or did not last, long polls stand in."""

STALE_MAX = 3
"""After so many streams in a row that only sent the device back to a download, it pauses."""

UPLOADS_MAX = 8
"""After so many uploads in a row what the server has is fetched: a large outbox gets smaller as it is sent."""

POLL_SECONDS = 600.0
"""How long, until a WebSocket is tried again."""


def backoff_seconds(attempts: int, jitter: float) -> float:
    """Doubles with each attempt, and is spread over half of itself so that a fleet does not come back as one."""
    full = min(limits.BACKOFF_SECONDS_MIN * 2.0 ** min(attempts - 1, 30), limits.BACKOFF_SECONDS_MAX)
    return full * (0.5 + jitter / 2)


def retry_seconds(retry_after: float, jitter: float) -> float:
    """What the server asked for, and up to half more; a number that makes no sense is bounded."""
    asked = retry_after if retry_after >= 0 else 0.0  # also where it is no number
    return min(asked, limits.RETRY_AFTER_SECONDS_MAX) * (1 + jitter / 2)


def signal_seconds(signals: int) -> float:
    """The pause after the last of so many rounds that signals began."""
    if signals == 0:
        return 0.0
    return float(min(SIGNAL_SECONDS_MIN * 2.0 ** min(signals - 1, 30), SIGNAL_SECONDS_MAX))


def rest_seconds(rests: int) -> float:
    """The pause after so many downloads in a row that came back empty at once."""
    return float(min(REST_SECONDS * 2.0 ** min(max(rests - 2, 0), 30), REST_SECONDS_MAX))
