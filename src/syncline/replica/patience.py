"""Waiting for the agent: how long, and what ends it besides the goal."""

from __future__ import annotations

import math
import threading
import time

from syncline.errors import ConfigError, SynclineError, UnreachableError
from syncline.replica.agent import Agent
from syncline.replica.goal import Goal


def checked_seconds(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if not isinstance(timeout, int | float) or math.isnan(timeout) or timeout < 0:
        raise ConfigError(f"A time-out is a number of seconds, or None, not {timeout!r}.", code="timeout")
    return None if timeout > threading.TIMEOUT_MAX else float(timeout)


def wait_for(goal: Goal, agent: Agent, ends: float | None) -> bool:
    """False where the time ran out. An agent that is no more fulfils nothing."""
    while True:
        left = 1.0 if ends is None else min(ends - time.monotonic(), 1.0)
        if goal.reached.wait(max(left, 0.0)):
            return True
        if ends is not None and time.monotonic() >= ends:
            return False
        if not agent.is_running and not goal.reached.is_set():
            goal.error = UnreachableError("The sync agent was stopped.", code="stopped")
            return True


def was_overtaken(goal: Goal, agent: Agent, now: Agent | None) -> bool:
    """`start()` put another agent in the place of the one that worked for this goal."""
    stopped = isinstance(goal.error, SynclineError) and goal.error.code == "stopped"
    return stopped and now is not None and now is not agent and now.is_running
