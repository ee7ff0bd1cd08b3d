"""The machine's clock."""

from __future__ import annotations

import time

from syncline.clock import CallableClock, Clock

SYSTEM_CLOCK: Clock = CallableClock(wall=lambda: time.time_ns() // 1000, steady=time.monotonic)
