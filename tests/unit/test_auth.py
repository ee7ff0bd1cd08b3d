"""Who is asking: what a token must be, and what it says when it is not."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from syncline.errors import AuthError, ConfigError
from syncline.server.auth import Identity, Verifier, bearer_token, claims_of_grants, identity_of, issue_token
from syncline.server.config import AuthSettings, Settings, parse_settings

DAY_SECONDS = 86_400  # some tokens below are made when the tests are collected, long before theirs runs
SECRET = "0123456789abcdef0123456789abcdef"
AUTH = AuthSettings(secret=SECRET, leeway_seconds=5)


def token(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    return jwt.encode({"sub": "nurse-1", "exp": int(time.time()) + DAY_SECONDS, **claims}, secret, algorithm=algorithm)


def settings(grant: str = "SELECT a FROM b WHERE c = :sub", user_claim: str = "sub") -> Settings:
    text = f"""source.url = "sqlite:///a.db"
        auth = {{ secret = "{SECRET}", user_claim = "{user_claim}" }}
        scope.care = {{ root = "r", grant = "{grant}" }}"""
    return parse_settings(text, folder=Path(), environment={})


def verify(verifier: Verifier, text: str) -> Identity:
    return asyncio.run(verifier.verify(text))


def refused(text: str, verifier: Verifier | None = None) -> AuthError:
    with pytest.raises(AuthError) as caught:
        verify(verifier or Verifier(AUTH), text)
    return caught.value


def test_a_good_token_names_its_user() -> None:
    identity = verify(Verifier(AUTH), token(tenant="acme", aud="anybody", iss="somebody"))
    assert (identity.user, identity.claims["tenant"]) == ("nurse-1", "acme")
    assert identity.expires_at is not None
    assert identity.expires_at > time.time()


def test_a_user_may_be_a_number_in_another_claim() -> None:
    auth = AuthSettings(secret=SECRET, user_claim="uid")
    assert verify(Verifier(auth), token(uid=17, sub=3)).user == "17"


def test_an_expired_token_says_so_after_the_leeway() -> None:
    assert verify(Verifier(AUTH), token(exp=int(time.time()) - 2)).user == "nurse-1"
    error = refused(token(exp=int(time.time()) - 20))
    assert (error.error_code, error.status) == ("token_expired", 401)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (token(secret="x" * 32), "signature is wrong"),
        (token(secret="x" * 64, algorithm="HS512"), "not accepted"),
        (jwt.encode({"sub": "nurse-1"}, "", algorithm="none"), "not accepted"),
        (token(nbf=int(time.time()) + 80_000), "not valid yet"),
        (token(exp="soon"), "not a valid JWT"),
        ("nonsense", "not a valid JWT"),
        ("a.b.c", "not a valid JWT"),
        ("é.é.é", "not a valid JWT"),
        ("", "not a valid JWT"),
    ],
)
def test_other_tokens_are_invalid(text: str, said: str) -> None:
    error = refused(text)
    assert (error.error_code, error.status) == ("token_invalid", 401)
    assert said in error.message


def test_a_token_without_end_is_accepted_and_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    verifier = Verifier(AUTH)
    endless = jwt.encode({"sub": "nurse-1"}, SECRET, algorithm="HS256")
    with caplog.at_level(logging.WARNING, "syncline.auth"):
        assert verify(verifier, endless).expires_at is None
        verify(verifier, endless)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "nurse-1" not in caplog.text


@pytest.mark.parametrize("user", [None, "", "  ", True, 1.5, ["a"], {"a": 1}])
def test_a_user_claim_that_names_nobody_is_forbidden(user: Any) -> None:
    error = refused(token(sub=user))
    assert (error.error_code, error.status) == ("claim_missing", 403)


def test_a_user_name_has_a_limit() -> None:
    assert refused(token(sub="x" * 201)).error_code == "token_invalid"


def test_a_claim_that_a_grant_names_must_be_there() -> None:
    verifier = Verifier.of(settings("SELECT a FROM b WHERE c = :sub AND d = :region"))
    error = refused(token(), verifier)
    assert (error.error_code, error.status) == ("claim_missing", 403)
    assert '"region"' in error.message
    assert "[scope.care]" in error.hint
    assert refused(token(region=["north"]), verifier).error_code == "claim_missing"
    assert verify(verifier, token(region="north")).claims["region"] == "north"


def test_claims_that_the_host_verified_pass_the_same_rules() -> None:
    assert identity_of({"sub": "a"}, "sub").user == "a"
    with pytest.raises(AuthError):
        identity_of({}, "sub")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer  ", "Basic abc"])
def test_a_request_without_a_token(header: str | None) -> None:
    with pytest.raises(AuthError) as caught:
        bearer_token(header)
    assert (caught.value.error_code, caught.value.status) == ("token_missing", 401)


def test_issuer_and_audience_are_compared_where_they_are_set() -> None:
    verifier = Verifier(AuthSettings(secret=SECRET, issuer="https://login", audience=("syncline", "mobile")))
    assert verify(verifier, token(iss="https://login", aud=["other", "mobile"])).user == "nurse-1"
    for claims, said in (
        ({"iss": "https://evil", "aud": "syncline"}, "comes from another issuer"),
        ({"iss": "https://login", "aud": "payroll"}, "is meant for another audience"),
        ({"iss": "https://login"}, 'has no claim "aud"'),
        ({"aud": "syncline"}, 'has no claim "iss"'),
    ):
        error = refused(token(**claims), verifier)
        assert (error.error_code, error.status) == ("token_invalid", 401)
        assert said in error.message


def test_the_token_of_a_header() -> None:
    assert bearer_token("bearer  abc ") == "abc"


def test_without_a_secret_nothing_is_checked_or_issued() -> None:
    with pytest.raises(ConfigError) as caught:
        Verifier(AuthSettings())
    assert caught.value.error_code == "secret_missing"


def test_an_issued_token_is_accepted() -> None:
    issued = issue_token(settings(), "nurse-17", {"tenant": "acme"}, ttl_seconds=60)
    identity = verify(Verifier.of(settings()), issued)
    assert (identity.user, identity.claims["tenant"]) == ("nurse-17", "acme")
    assert identity.expires_at is not None
    leeway = settings().auth.leeway_seconds
    assert 50 < identity.expires_at - leeway - time.time() <= 60, "it is refused when the leeway is over, too"


def test_a_token_that_the_server_would_refuse_is_not_issued() -> None:
    with pytest.raises(ConfigError, match=r"Add --claim region=…"):
        issue_token(settings("SELECT :region"), "nurse-17")
    with pytest.raises(ConfigError, match=r"Add --claim uid=…"):
        issue_token(settings(user_claim="uid"), "nurse-17")


def test_claims_of_grants_name_their_scope() -> None:
    assert claims_of_grants(settings().plan_config) == {"sub": "care"}
