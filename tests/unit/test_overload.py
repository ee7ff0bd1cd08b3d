"""Too much at once is refused at the door."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from syncline import ConfigError
from syncline.clock import CallableClock
from syncline.server.config import parse_settings
from syncline.server.config_settings import ServeSettings
from syncline.server.overload import Overload, OverloadedError

FEW = ServeSettings(
    requests_in_work_max=2, connections_max=3, user_connections_max=2, user_requests_per_second_max=10.0
)


class Steady:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.clock = CallableClock(wall=lambda: 0, steady=lambda: self.seconds)


@pytest.fixture
def steady() -> Steady:
    return Steady()


def refused(act: Callable[[], Any]) -> OverloadedError:
    with pytest.raises(OverloadedError) as caught:
        act()
    assert caught.value.retry and (caught.value.retry_after_seconds or 0) >= 1
    return caught.value


def test_requests_have_places(steady: Steady) -> None:
    overload = Overload(FEW, steady.clock)
    first, second = overload.enter(), overload.enter()
    assert (refused(overload.enter).status, refused(overload.enter).code) == (503, "overloaded")
    second.rest()
    third = overload.enter()
    second.leave()
    refused(overload.enter)
    for place in (first, third, third):
        place.leave()
    assert overload.in_work == 0


def test_connections_have_places_and_one_user_cannot_have_them_all(steady: Steady) -> None:
    overload = Overload(FEW, steady.clock)
    with overload.connection("ann"), overload.connection("ann"):
        error = refused(lambda: overload.connection("ann").__enter__())
        assert (error.status, error.code) == (429, "too_many_requests")
        with overload.connection("ben"):
            error = refused(lambda: overload.connection("cy").__enter__())
            assert (error.status, error.code) == (503, "overloaded")
    assert not overload.connections
    with overload.connection("cy"):
        assert overload.connections == {"cy": 1}


def test_one_user_has_an_allowance_and_others_do_not_pay_for_it(steady: Steady) -> None:
    overload = Overload(FEW, steady.clock)
    for _ in range(100):
        overload.admit({}, "wild", waits=False)
    assert refused(lambda: overload.admit({}, "wild", waits=False)).status == 429
    overload.admit({}, "ann", waits=False)
    steady.seconds += 1
    for _ in range(10):
        overload.admit({}, "wild", waits=False)
    refused(lambda: overload.admit({}, "wild", waits=False))


def test_users_are_not_remembered_without_bound(steady: Steady) -> None:
    overload = Overload(FEW, steady.clock)
    for number in range(25_000):
        overload.admit({}, f"user {number}", waits=False)
    assert len(overload._allowances) <= 10_000


def test_the_more_are_refused_the_wider_they_are_spread(steady: Steady) -> None:
    draw = random.Random(1).random
    overload = Overload(FEW, steady.clock, draw)
    first = [overload.enter() for _ in range(2)]
    few = [refused(overload.enter).retry_after_seconds or 0 for _ in range(3)]
    assert max(few) < 20
    many = [refused(overload.enter).retry_after_seconds or 0 for _ in range(1000)]
    assert max(many) > 25 and max(many) <= 31
    busiest = max(sum(second <= each < second + 1 for each in many) for second in range(32))
    assert busiest < 2 * 1000 / 30
    steady.seconds += 120
    assert (refused(overload.enter).retry_after_seconds or 0) <= 12, "and it is forgotten"
    del first


def call(overload: Overload, endpoint: Callable[[Request], Any]) -> list[Message]:
    """One request through the guard; what was sent."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}
    asyncio.run(overload.guard(endpoint)(scope, receive, send))  # type: ignore[arg-type]
    return sent


def test_the_guard_answers_in_the_servers_own_words(steady: Steady) -> None:
    overload = Overload(FEW, steady.clock)
    held = [overload.enter(), overload.enter()]
    started, body = call(overload, lambda request: Response())
    headers = dict(started["headers"])
    assert started["status"] == 503 and int(headers[b"retry-after"]) >= 1
    assert b'"code": "overloaded"' in body["body"] and b'"retry": true' in body["body"]
    for place in held:
        place.leave()


def test_a_place_is_given_back_whatever_happens(steady: Steady) -> None:
    overload = Overload(FEW, steady.clock)

    async def fail(request: Request) -> Response:
        overload.admit(request.scope, "ann", waits=True)
        assert overload.connections == {"ann": 1}
        raise RuntimeError("in the middle")

    for _ in range(5):
        with pytest.raises(RuntimeError):
            call(overload, fail)
    assert overload.in_work == 0 and not overload.connections


def test_the_limits_can_be_set_in_the_file_and_by_the_environment() -> None:
    head = f'[source]\nurl = "sqlite:///clinic.db"\n[auth]\nsecret = "{"s" * 40}"\n'
    text = head + '[scope.all]\ntables = ["a"]\n[serve]\nrequests_in_work_max = 7\nuser_requests_per_second_max = 2.5\n'
    settings = parse_settings(text, folder=Path(), environment={"SYNCLINE_SERVE_CONNECTIONS_MAX": "9"})
    assert settings.serve == ServeSettings(7, 9, ServeSettings().user_connections_max, 2.5)
    with pytest.raises(ConfigError, match="connections_max"):
        parse_settings(
            head + '[scope.all]\ntables = ["a"]\n[serve]\nconnections_max = 0\n', folder=Path(), environment={}
        )
