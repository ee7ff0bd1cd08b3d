"""Authentication by the host: every way in which a function may say yes or no."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from syncline.errors import AuthError, ServerError
from syncline.server.auth import Identity
from syncline.server.config import Settings, parse_settings
from syncline.server.host_auth import Authenticate, HostAuthenticator


def settings() -> Settings:
    """No [auth] at all: nothing is signed, and the grant needs a tenant."""
    text = """source.url = "sqlite:///a.db"
        scope.care = { root = "r", grant = "SELECT a FROM b WHERE c = :sub AND d = :tenant" }"""
    return parse_settings(text, folder=Path(), environment={})


def identify(authenticate: Authenticate, **headers: str) -> Identity:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    connection = HTTPConnection({"type": "http", "headers": raw, "path": "/", "query_string": b""})
    return asyncio.run(HostAuthenticator(authenticate, settings()).identify(connection))


def refused(authenticate: Authenticate) -> AuthError:
    with pytest.raises(AuthError) as caught:
        identify(authenticate)
    return caught.value


ANN = {"sub": "ann", "tenant": "acme"}


def plain(request: HTTPConnection) -> dict[str, Any]:
    return {**ANN, "sub": request.headers["x-user"]}


async def asynchronous(request: HTTPConnection) -> dict[str, Any]:
    await asyncio.sleep(0)
    return plain(request)


class Sessions:
    async def __call__(self, request: HTTPConnection) -> dict[str, Any]:
        return plain(request)


def deferred(request: HTTPConnection) -> Awaitable[dict[str, Any]]:
    return asynchronous(request)


@pytest.mark.parametrize("authenticate", [plain, asynchronous, Sessions(), deferred])
def test_a_function_of_any_kind_names_the_user(authenticate: Authenticate) -> None:
    identity = identify(authenticate, **{"x-user": "ann"})
    assert (identity.user, identity.claims["tenant"], identity.expires_at) == ("ann", "acme", None)


def test_a_plain_function_does_not_hold_the_event_loop_up() -> None:
    threads: list[threading.Thread] = []

    def ask_a_database(request: HTTPConnection) -> dict[str, Any]:
        threads.append(threading.current_thread())
        return ANN

    identify(ask_a_database)
    assert threads[0] is not threading.main_thread()


def test_the_claim_exp_ends_the_session() -> None:
    ends = time.time() + 3600
    assert identify(lambda request: {**ANN, "exp": ends}).expires_at == ends
    assert identify(lambda request: {**ANN, "exp": int(ends)}).expires_at == int(ends)
    assert identify(lambda request: {**ANN, "exp": None}).expires_at is None


@pytest.mark.parametrize("ends", [0, 1.5, -1, 1_500_000_000])
def test_a_session_that_is_over_is_refused(ends: float) -> None:
    error = refused(lambda request: {**ANN, "exp": ends})
    assert (error.error_code, error.status) == ("token_expired", 401)


@pytest.mark.parametrize("ends", ["4102444800", True, math.nan, math.inf, 10**400, [4102444800], {}])
def test_an_exp_that_is_no_time_is_not_taken_for_never(ends: Any) -> None:
    error = refused(lambda request: {**ANN, "exp": ends})
    assert (error.error_code, error.status) == ("token_invalid", 401)


@pytest.mark.parametrize("claim", ["sub", "tenant"])
@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 1 << 20_000, "\ud800"], ids=["above", "below", "far", "half"])
def test_a_claim_that_no_database_can_be_asked_with_is_refused(claim: str, value: Any) -> None:
    error = refused(lambda request: {**ANN, claim: value})
    assert (error.error_code, error.status) == ("token_invalid", 401)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_claim_of_a_grant_is_a_finite_number(value: float) -> None:
    assert refused(lambda request: {**ANN, "tenant": value}).error_code == "token_invalid"
    assert identify(lambda request: {**ANN, "tenant": 2.5}).claims["tenant"] == 2.5


@pytest.mark.parametrize("user", ["", "  ", None, True, 1.5, math.nan, b"ann"])
def test_a_user_has_a_name(user: Any) -> None:
    assert refused(lambda request: {**ANN, "sub": user}).error_code in ("claim_missing", "token_invalid")


def test_a_number_of_64_bits_names_a_user() -> None:
    assert identify(lambda request: {**ANN, "sub": 2**63 - 1}).user == str(2**63 - 1)


@pytest.mark.parametrize("answer", [None, "ann", ["ann"], 3])
def test_who_is_no_claims_is_nobody(answer: Any) -> None:
    error = refused(lambda request: answer)
    assert (error.error_code, error.status) == ("not_authenticated", 401)


def test_an_exception_is_nobody_and_stands_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def broken(request: HTTPConnection) -> dict[str, Any]:
        raise KeyError("badge")

    error = refused(broken)
    assert (error.error_code, error.status) == ("not_authenticated", 401)
    assert "badge" not in error.message
    assert "badge" in caplog.text


@pytest.mark.parametrize(("raised", "status"), [(401, 401), (403, 403), (418, 401)])
def test_the_hosts_own_refusals_keep_their_words(raised: int, status: int) -> None:
    def refuse(request: HTTPConnection) -> dict[str, Any]:
        raise HTTPException(raised, "Badge is blocked.")

    error = refused(refuse)
    assert (error.message, error.status) == ("Badge is blocked.", status)


def test_trouble_of_the_hosts_that_will_pass_does_not_sign_the_device_out() -> None:
    def busy(request: HTTPConnection) -> dict[str, Any]:
        raise ServerError("The directory does not answer.")

    with pytest.raises(ServerError):
        identify(busy)


def test_claims_that_grants_need_must_be_there() -> None:
    error = refused(lambda request: {"sub": "ann"})
    assert (error.error_code, error.status) == ("claim_missing", 403)
