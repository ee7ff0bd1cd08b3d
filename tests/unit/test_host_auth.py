"""Authentication by the host: every way in which a function may say yes or no."""

from __future__ import annotations

import asyncio
import threading
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
    assert identify(lambda request: {**ANN, "exp": 1_800_000_000}).expires_at == 1_800_000_000.0


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
