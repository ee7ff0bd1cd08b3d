"""Too much at once is refused at the door, never queued without bound: with a time to come back that differs for each.

A request in work has a place from its first byte to the last one of its answer, except while a long poll only waits:
then, like a stream, it has a connection's place. Who is served already goes on.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import exp

from starlette.routing import request_response
from starlette.types import ASGIApp, Receive, Scope, Send

from syncline import limits
from syncline.clock import Clock
from syncline.errors import ServerError
from syncline.server.answers import error_answer
from syncline.server.config_settings import ServeSettings

CLOSE_CODE = 1013
"""RFC 6455 and its registry: try again later."""

RETRY_SECONDS_MIN = 1.0
RETRY_SECONDS_SPREAD_MIN = 2.0
RETRY_SECONDS_SPREAD_MAX = 30.0
MEMORY_SECONDS = 10.0
"""Over this time it is remembered how many were served and how many refused."""

USER_BURST_SECONDS = 10.0
"""A user may use up the allowance of so many seconds at once."""

USERS_REMEMBERED_MAX = 10_000
USER_REQUESTS_IN_WORK_MIN = 8
"""One user may have half of all places, and so many of a small server's."""

_PLACE = "syncline.place"


class OverloadedError(ServerError):
    """Come back in `retry_after_seconds`. `status`: 503, the server is busy; 429, this user asks for too much."""

    code = "overloaded"

    def __init__(self, message: str, *, hint: str, code: str, status: int, retry_after_seconds: float) -> None:
        super().__init__(message, hint=hint, code=code, retry_after_seconds=retry_after_seconds)
        self.status = status


@dataclass
class Allowance:
    """What a user may still ask for, and since when that is known (monotonic seconds)."""

    left: float
    since: float


@dataclass
class Faded:
    """A count that forgets, over MEMORY_SECONDS."""

    count: float = 0.0
    since: float = 0.0

    def at(self, now: float) -> float:
        self.count, self.since = self.count * exp((self.since - now) / MEMORY_SECONDS), now
        return self.count

    def add(self, now: float) -> None:
        self.count = self.at(now) + 1


class Place:
    """Of one request; given back twice, it is given back once."""

    def __init__(self, overload: Overload) -> None:
        self._overload = overload
        self._is_working = True
        self._works_for: str | None = None
        self._user: str | None = None
        overload.in_work += 1

    def work_for(self, user: str) -> None:
        self._overload.begin_work(user)
        self._works_for = user

    def rest(self) -> None:
        """From now on it only waits."""
        if self._is_working:
            self._is_working = False
            self._overload.in_work -= 1
        user, self._works_for = self._works_for, None
        if user is not None:
            self._overload.end_work(user)

    def connect(self, user: str) -> None:
        self._overload.connect(user)
        self._user = user

    def leave(self) -> None:
        self.rest()
        user, self._user = self._user, None
        if user is not None:
            self._overload.disconnect(user)


class Overload:
    """Counts for one process. `in_work`: requests; `connections`: streams and waiting long polls, per user."""

    def __init__(self, settings: ServeSettings, clock: Clock, draw: Callable[[], float] = random.random) -> None:
        self._settings = settings
        self._clock = clock
        self._draw = draw
        self._allowances: dict[str, Allowance] = {}
        self._served, self._refused = Faded(), Faded()
        self.in_work = 0
        self._works: Counter[str] = Counter()
        self.connections: Counter[str] = Counter()

    # ------------------------------------------------------------ requests
    def guard(self, endpoint: Callable[..., object]) -> ASGIApp:
        """The same endpoint, behind the door: who is refused there costs neither a token's check nor a body."""
        return Guard(self, request_response(endpoint))  # type: ignore[arg-type]

    def enter(self) -> Place:
        """OverloadedError where too many requests are in work."""
        if self.in_work >= self._settings.requests_in_work_max:
            raise self._refusal("The server has as many requests in work as it takes.")
        self._served.add(self._clock.monotonic_seconds())
        return Place(self)

    def work_for(self, scope: Scope, user: str) -> None:
        """Before the request's body is read. OverloadedError where this user has half of all places: one who sends
        slowly, or a program that runs wild, must not have them all."""
        if _PLACE in scope:
            scope[_PLACE].work_for(user)

    def begin_work(self, user: str) -> None:
        if self._works[user] >= max(self._settings.requests_in_work_max // 2, USER_REQUESTS_IN_WORK_MIN):
            raise self._refusal("This user has as many requests in work as one may have.", is_users=True)
        self._works[user] += 1

    def end_work(self, user: str) -> None:
        self._works[user] -= 1
        if self._works[user] <= 0:
            del self._works[user]

    def admit(self, scope: Scope, user: str, *, waits: bool) -> None:
        """Now that it is known whose request it is. `waits`: a long poll, that will need a connection's place."""
        self._charge(user)
        if waits and _PLACE in scope:
            scope[_PLACE].connect(user)

    def charge(self, user: str, items: int) -> None:
        """Before a message is read that has so many items: what it costs beyond an ordinary one. OverloadedError."""
        self._charge(user, items // limits.ITEMS_PER_CHARGE)

    def rest(self, scope: Scope) -> None:
        """The request only waits from now on."""
        if _PLACE in scope:
            scope[_PLACE].rest()

    # ------------------------------------------------------------ connections
    @contextmanager
    def connection(self, user: str) -> Iterator[None]:
        """While a stream is open. OverloadedError where there is no place."""
        self._charge(user)
        self.connect(user)
        try:
            yield
        finally:
            self.disconnect(user)

    def connect(self, user: str) -> None:
        if self.connections.total() >= self._settings.connections_max:
            raise self._refusal("The server has as many connections as it takes.")
        if self.connections[user] >= self._settings.user_connections_max:
            raise self._refusal("This user has as many connections as one may have.", is_users=True)
        self.connections[user] += 1

    def disconnect(self, user: str) -> None:
        self.connections[user] -= 1
        if self.connections[user] <= 0:
            del self.connections[user]

    # ------------------------------------------------------------ inside
    def _charge(self, user: str, count: int = 1) -> None:
        """OverloadedError where one user asks for more than the allowance, over a while. What is dear is let in while
        something is left, and is paid for afterwards."""
        rate, now = self._settings.user_requests_per_second_max, self._clock.monotonic_seconds()
        allowance = self._allowances.get(user)
        if allowance is None:
            if len(self._allowances) >= USERS_REMEMBERED_MAX:
                self._forget(now)
            allowance = self._allowances[user] = Allowance(rate * USER_BURST_SECONDS, now)
        allowance.left = min(allowance.left + (now - allowance.since) * rate, rate * USER_BURST_SECONDS)
        allowance.since = now
        if count and allowance.left < 1:
            raise self._refusal("This user asks too often.", is_users=True)
        allowance.left -= count

    def _forget(self, now: float) -> None:
        """Those who have their whole allowance again; if that does not help, everybody."""
        spent = {user: each for user, each in self._allowances.items() if now - each.since < USER_BURST_SECONDS}
        self._allowances = spent if len(spent) < USERS_REMEMBERED_MAX else {}

    def _refusal(self, message: str, *, is_users: bool = False) -> OverloadedError:
        now = self._clock.monotonic_seconds()
        self._refused.add(now)
        return OverloadedError(
            message,
            hint="Nothing is lost: the device comes back by itself.",
            code="too_many_requests" if is_users else "overloaded",
            status=429 if is_users else 503,
            retry_after_seconds=self.retry_seconds(now),
        )

    def retry_seconds(self, now: float) -> float:
        """Spread over the time that it will take to serve those who were refused of late."""
        needed = self._refused.at(now) / max(self._served.at(now), 1.0) * MEMORY_SECONDS
        spread = min(max(needed, RETRY_SECONDS_SPREAD_MIN), RETRY_SECONDS_SPREAD_MAX)
        return round(RETRY_SECONDS_MIN + self._draw() * spread, 3)


class Guard:
    """An ASGI endpoint that is entered only while there is a place."""

    def __init__(self, overload: Overload, endpoint: ASGIApp) -> None:
        self._overload = overload
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            place = self._overload.enter()
        except OverloadedError as error:
            await error_answer(error, error.status)(scope, receive, send)
            return
        scope[_PLACE] = place
        try:
            await self._endpoint(scope, receive, send)
        finally:
            place.leave()
