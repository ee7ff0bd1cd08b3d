"""`python -m examples.homecare`: the home-care company, live. `--once` runs one day and proves that all agree."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM ends the demonstration as ^C does. While it is taking itself down a second one changes nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    """The imports take half a second; ^C in that time is as clean as later."""
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        from examples.homecare.command import run_command_line

        return run_command_line()
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
