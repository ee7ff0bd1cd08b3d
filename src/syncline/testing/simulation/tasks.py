"""Whose tasks are whose on one event loop: what a process began dies with it, and nothing else does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")
_owner: ContextVar[Tasks | None] = ContextVar("owner", default=None)


class Tasks:
    """One process's: every task that was begun by `begin`, and what those began."""

    def __init__(self) -> None:
        self._open: dict[asyncio.Task[Any], None] = {}

    def begin(self, act: Callable[[], T]) -> T:
        """Whatever tasks this starts are the process's."""
        token = _owner.set(self)
        try:
            return act()
        finally:
            _owner.reset(token)

    def add(self, task: asyncio.Task[Any]) -> None:
        self._open[task] = None
        task.add_done_callback(lambda done: self._open.pop(done, None))

    async def kill(self) -> None:
        """All at once, in the order in which they began."""
        while self._open:
            tasks = list(self._open)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def keep_owners(loop: asyncio.AbstractEventLoop) -> None:
    """From now on each new task of this loop has an owner."""

    def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
        owner = _owner.get()
        if owner is not None:
            owner.add(task)
        return task

    loop.set_task_factory(make)
