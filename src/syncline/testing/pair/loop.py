"""An event loop in a thread of its own, asked from other threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

ASK_SECONDS = 60.0


class LoopThread:
    """Runs until `close`."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def ask(self, work: Coroutine[Any, Any, T], seconds: float = ASK_SECONDS) -> T:
        """What the coroutine returns or raises; TimeoutError, and it is cancelled, after so long."""
        asked = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return asked.result(seconds)
        except TimeoutError:
            asked.cancel()
            raise

    def close(self) -> None:
        if self.loop.is_closed():
            return
        self.ask(self.loop.shutdown_asyncgens())
        self.ask(self.loop.shutdown_default_executor())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
