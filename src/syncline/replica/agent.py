"""The thread in which an engine runs."""

from __future__ import annotations

import threading
from collections.abc import Callable

from syncline.replica.engine import Engine
from syncline.replica.goal import Goal
from syncline.replica.session import Event

PATIENCE_SECONDS = 0.2
"""A request that takes longer is broken off; what it did is found out with the next `hello`."""


class Agent:
    """Runs from its making on. `goal`: what its first round is for."""

    def __init__(self, engine: Engine, goal: Goal | None = None) -> None:
        self.engine = engine
        self._ended = threading.Lock()
        self._then: Callable[[], None] | None = None
        self._is_over = False
        if goal is not None:
            engine.add(goal)
        self._thread = threading.Thread(target=self._run, name="syncline", daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive() and not self._is_over

    @property
    def is_current(self) -> bool:
        """The caller is a callback of this agent's."""
        return self._thread is threading.current_thread()

    def _run(self) -> None:
        self.engine.run()
        with self._ended:
            self._is_over = True
            then = self._then
        if then is not None:
            then()

    def end(self, seconds: float, then: Callable[[], None] | None = None) -> bool:
        """Tells the thread to end and waits so long; False where a request is still under way. `then` is called once it
        has ended, here or there."""
        self.engine.post(Event.STOP)
        if not self.is_current:
            self._thread.join(min(seconds, PATIENCE_SECONDS))
            if self._thread.is_alive():
                self.engine.abort()
                self._thread.join(seconds)
        with self._ended:
            if not self._is_over:
                self._then = then
                return False
        if then is not None:
            then()
        return True
