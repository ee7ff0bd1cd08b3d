"""Every limit, with its unit in its name, enforced on both sides of the wire."""

from __future__ import annotations

FRAME_BYTES_MAX = 8 * 1024 * 1024
"""One frame, after decompression."""

FRAME_COMPRESS_BYTES_MIN = 1024
"""Smaller frames travel as they are."""

ROWS_PER_FRAME_MAX = 2_000
ROWS_FRAME_BYTES_TARGET = 256 * 1024
"""A `rows` frame is closed when it passes this."""

REQUEST_BYTES_MAX = 16 * 1024 * 1024
"""One request body, after decompression."""

UPLOAD_MUTATIONS_MAX = 2_000
"""Per request, except that a marked group is never split."""

UPLOAD_BYTES_TARGET = 2 * 1024 * 1024
UPLOAD_GROUPS_PER_TRANSACTION_MAX = 50
GROUP_MUTATIONS_MAX = 500
"""A run of neighbouring unmarked mutations is tried together in pieces of at most this many."""

MARKED_GROUP_MUTATIONS_MAX = 10_000

VALUE_BYTES_MAX = 4 * 1024 * 1024
JSON_DEPTH_MAX = 12
BUCKETS_PER_USER_MAX = 20_000
IDENTIFIER_CHARACTERS_MAX = 200

LONG_POLL_SECONDS_MAX = 60.0
HEARTBEAT_SECONDS = 20.0
SILENCE_SECONDS_MAX = 50.0
"""A live connection on which nothing was heard for this long is taken for dead, by either side."""

LIVE_FRAMES_QUEUED_MAX = 200

BACKOFF_SECONDS_MIN = 0.5
BACKOFF_SECONDS_MAX = 60.0

CLOCK_TRAVEL_SECONDS_MAX = 60.0
"""A clock offset measured at `hello` is believed as long as requests seem to travel no longer than this."""

RETENTION_DAYS_DEFAULT = 90
SENT_DAYS = 7
"""How long a device keeps acknowledged mutations, for a server that is restored from a backup."""
