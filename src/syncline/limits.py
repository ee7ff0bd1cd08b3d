"""Every limit, with its unit in its name, enforced on both sides of the wire."""

from __future__ import annotations

FRAME_BYTES_MAX = 16 * 1024 * 1024
"""One frame, after decompression."""

ROW_BYTES_MAX = 12 * 1024 * 1024
"""One row's image as JSON text: 12 million characters of text, or a BLOB of 9 million bytes. A larger row is on no
device, and the server's log names it."""

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
JSON_ITEMS_MAX = 6_000_000
"""Commas of one message, and three for each bracket, but for those in texts: that is what reading costs, and some bytes
that inflate well would otherwise keep a reader busy for seconds. An upload that has more is larger than a request may
be, whatever its columns."""

SHORT_MESSAGE_ITEMS_MAX = 250_000
"""The same of every request but an upload: a list of 20,000 buckets has fewer."""

STREAM_MESSAGE_BYTES_MAX = 64 * 1024
"""What a device may say on a stream once it has opened it."""

ITEMS_PER_CHARGE = 1_000
"""So many count as one more request of the user's allowance."""

BUCKETS_PER_USER_MAX = 20_000
IDENTIFIER_CHARACTERS_MAX = 200

LONG_POLL_SECONDS_MAX = 60.0
HEARTBEAT_SECONDS = 20.0
SILENCE_SECONDS_MAX = 50.0
"""A live connection on which nothing was heard for this long is taken for dead, by either side."""

HEAD_SECONDS_MAX = 20.0
"""A connection on which the next request's head is not there by then is closed."""

LIVE_FRAMES_QUEUED_MAX = 200
LIVE_MESSAGE_BYTES_TARGET = 256 * 1024
"""Frames of a live cut are sent bundled; a bundle is closed when it passes this."""

LIVE_MESSAGE_BYTES_MAX = FRAME_BYTES_MAX + 64 * 1024
"""One binary message of a WebSocket: a frame at its limit, or a bundle."""

LIVE_ROWS_MAX = 5_000
"""What one checkpoint changed in a bucket is told to all its connected devices alike, up to this many rows."""

LOADED_ROWS_COPIED_MAX = 1_000
"""So few rows of a first download are copied to where they stay; more of them get there by a change of name."""

LIVE_EXACT_READS_MAX = 8
"""How many connected devices' own cuts are read at once; the others wait their turn."""

BACKOFF_SECONDS_MIN = 0.5
BACKOFF_SECONDS_MAX = 60.0

REQUESTS_IN_WORK_MAX_DEFAULT = 128
"""Per process: the next one is refused with a time to come back."""

CONNECTIONS_MAX_DEFAULT = 10_000
"""Streams and waiting long polls, per process."""

USER_CONNECTIONS_MAX_DEFAULT = 5_000
USER_REQUESTS_PER_SECOND_MAX_DEFAULT = 500.0
"""On average over some seconds: stops a program that runs wild, and no device."""

RETRY_AFTER_SECONDS_MAX = 3600.0
"""A device waits no longer than this, whatever it is asked for."""

CLOCK_TRAVEL_SECONDS_MAX = 60.0
"""A clock offset measured at `hello` is believed as long as requests seem to travel no longer than this."""

RETENTION_DAYS_DEFAULT = 90
SENT_DAYS = 7
"""How long a device keeps acknowledged mutations, for a server that is restored from a backup."""

PAGE_ROWS_MAX = 5_000
PAGE_BYTES_TARGET = 4 * 1024 * 1024
"""A page of a paged download is read in one short snapshot, and ends with the frame that passes one of these. What fits
into one page is no paged download; a device loads the rows of a paged one without triggers and indexes."""

PROGRESS_BYTES_TARGET = 1024 * 1024
"""How much of a paged download comes between two points from which it can go on."""

ANSWER_SECONDS_MAX = 20.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""After one of these the answer to a paged download pauses, and the device asks again."""

ANSWER_BYTES_TAKEN_MAX = 4 * ANSWER_BYTES_MAX
"""A device breaks an answer off, and leaves a page or a cut aside, that is larger than this: no server of ours sends
one."""

ERROR_BYTES_MAX = 64 * 1024
"""So much of an answer that is an error is read."""

STAGE_TOKEN_CHARACTERS_MAX = 100_000
BUCKET_LISTS_NAMES_MAX = 200_000
"""How many names of buckets the server remembers, so that a digest will do for them."""

COUNT_SECONDS_MAX = 0.25
"""How long the rows of a paged download are counted at its beginning; after that its size stays unknown."""

VERIFY_KEYS_MAX = 2_000
"""Keys with pending changes that one table's verification leaves out; a table with more waits for another time."""

VERIFY_PAGE_ROWS_MAX = 1_000
VERIFY_PAGE_BYTES_TARGET = 512 * 1024
VERIFY_ANSWER_SECONDS_MAX = 2.0
"""An answer to a verification pauses after this, and the device asks again when it has nothing better to do."""

VERIFIED_TABLES_MAX = 2_000
REPAIR_BUCKETS_MAX = 100
REPAIR_NAMES_CHARACTERS_MAX = 20_000
"""A table is repaired in so many buckets at a time: their names travel in the token of a paged download."""

PRUNE_FIRST_SECONDS = 60.0
PRUNE_SECONDS = 3600.0
"""How long after its start, and how often, a server forgets what is older than the retention."""

PRUNE_STEP_SECONDS_MAX = 0.02
"""Retention deletes in write transactions of at most this length."""
