"""Where the SQLite source's work runs: each connection on a thread of its own, or at once in the caller's (the
simulator)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Worker(Protocol):
    """Runs functions one after another. `waiting`: how many have been handed to it and are not done."""

    waiting: int

    async def run(self, function: Callable[[], T]) -> T: ...

    def close(self) -> None: ...


class ThreadWorker:
    """One thread."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"syncline-{name}")
        self.waiting = 0

    async def run(self, function: Callable[[], T]) -> T:
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, function)
        finally:
            self.waiting -= 1

    def close(self) -> None:
        self._executor.shutdown(wait=True)


class InlineWorker:
    """The caller's own thread: nothing is ever waited for, so a coroutine can be driven without an event loop."""

    waiting = 0

    async def run(self, function: Callable[[], T]) -> T:
        return function()

    def close(self) -> None:
        return


def drive(awaitable: Awaitable[T]) -> T:
    """The result of a coroutine that never waits."""
    assert isinstance(awaitable, Coroutine)
    coroutine: Coroutine[Any, Any, T] = awaitable
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise RuntimeError("a coroutine that must not wait did wait")
