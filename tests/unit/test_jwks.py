"""An identity provider's keys: rotated, missing, forged, and a provider that is down or slow or lies."""

from __future__ import annotations

import asyncio
import base64
import http.server
import json
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from syncline.errors import AuthError, ConfigError
from syncline.server import jwks
from syncline.server.auth import Verifier
from syncline.server.config_settings import AuthSettings
from syncline.server.jwks import ALGORITHMS, ASK_AGAIN_SECONDS, FRESH_SECONDS, KeySet, KeysUnreachableError

URL = "https://login.example.org/keys"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
KEYS: dict[str, Any] = {
    "RS": RSA_KEY,
    "PS": RSA_KEY,
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def key_of(algorithm: str) -> Any:
    return KEYS.get(algorithm) or KEYS[algorithm[:2]]


def public(key: Any, kid: str | None = "k1", **more: Any) -> dict[str, Any]:
    """The public half as a provider publishes it."""
    made = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    made = jwt.algorithms.OKPAlgorithm if isinstance(key, ed25519.Ed25519PrivateKey) else made
    document = {**json.loads(made.to_jwk(key.public_key())), **more}  # type: ignore[attr-defined]
    document.pop("key_ops", None)
    return document if kid is None else {**document, "kid": kid}


def sign(key: Any, algorithm: str = "RS256", kid: str | None = "k1", **claims: Any) -> str:
    content = {"sub": "nurse-1", "exp": int(time.time()) + 60, **claims}
    return jwt.encode(content, key, algorithm=algorithm, headers={"kid": kid} if kid else {})


class Provider:
    """What `KeySet` asks, without a network; `now` is its clock."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys = list(keys)
        self.error: Exception | None = None
        self.asked = 0
        self.seconds = 1000.0
        self.key_set = KeySet(URL, self._fetch, lambda: self.seconds)
        self.verifier = Verifier(AuthSettings(jwks_url=URL), keys=self.key_set)

    async def _fetch(self, url: str) -> list[dict[str, Any]]:
        assert url == URL
        self.asked += 1
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        return self.keys

    async def user(self, token: str) -> str:
        return (await self.verifier.verify(token)).user

    async def refused(self, token: str) -> str:
        with pytest.raises(AuthError) as caught:
            await self.verifier.verify(token)
        assert (caught.value.error_code, caught.value.status) == ("token_invalid", 401)
        return caught.value.message


def runs(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


# ---------------------------------------------------------------- signatures
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_usual_algorithms_are_taken(algorithm: str) -> None:
    """A key that names no algorithm is taken for each that fits its kind."""
    provider = Provider(public(key_of(algorithm)))
    assert asyncio.run(provider.user(sign(key_of(algorithm), algorithm))) == "nurse-1"


@runs
async def test_nobody_can_sign_with_what_everybody_can_read() -> None:
    """P19: the public key as an HMAC secret, no signature at all, and a symmetric key in the set."""
    pem = RSA_KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT","kid":"k1"}').rstrip(b"=")
    claims = base64.urlsafe_b64encode(b'{"sub":"nurse-1"}').rstrip(b"=")
    import hmac

    signature = base64.urlsafe_b64encode(hmac.digest(pem, header + b"." + claims, "sha256")).rstrip(b"=")
    forged = b".".join((header, claims, signature)).decode()
    secret = b"0123456789abcdef0123456789abcdef"
    symmetric = {"kty": "oct", "k": base64.urlsafe_b64encode(secret).decode(), "kid": "k1"}
    provider = Provider(public(RSA_KEY), symmetric)
    assert "not accepted" in await provider.refused(forged)
    assert "not accepted" in await provider.refused(sign(secret, "HS256"))
    assert "not accepted" in await provider.refused(jwt.encode({"sub": "nurse-1"}, "", algorithm="none"))
    assert "not a valid JWT" in await provider.refused("nonsense")
    assert "signature is wrong" in await provider.refused(sign(OTHER_RSA_KEY))
    assert provider.asked == 1, "what is no token of this kind asks nobody"


@runs
async def test_a_key_verifies_only_what_it_is_meant_for() -> None:
    provider = Provider(
        public(RSA_KEY, "rs512", alg="RS512"),
        public(RSA_KEY, "encryption", use="enc"),
        {**public(RSA_KEY, "signing-only"), "key_ops": ["sign"]},
        {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"},
        {"kty": "alien", "kid": "alien"},
        public(KEYS["ES384"], "ec"),
    )
    assert await provider.user(sign(RSA_KEY, "RS512", "rs512")) == "nurse-1"
    for kid, algorithm, key in (
        ("rs512", "RS256", RSA_KEY),
        ("encryption", "RS256", RSA_KEY),
        ("signing-only", "RS256", RSA_KEY),
        ("broken", "RS256", RSA_KEY),
        ("alien", "RS256", RSA_KEY),
        ("ec", "ES256", KEYS["ES256"]),
    ):
        assert "does not list" in await provider.refused(sign(key, algorithm, kid))


@runs
async def test_keys_and_tokens_without_a_name() -> None:
    provider = Provider(public(OTHER_RSA_KEY, None), public(RSA_KEY, None))
    assert await provider.user(sign(RSA_KEY, kid=None)) == "nurse-1"
    assert await provider.user(sign(RSA_KEY, kid="whatever")) == "nurse-1"


# ---------------------------------------------------------------- rotation
@runs
async def test_a_rotated_key_is_fetched_when_the_first_token_names_it() -> None:
    provider = Provider(public(RSA_KEY, "old"))
    assert await provider.user(sign(RSA_KEY, kid="old")) == "nurse-1"
    provider.keys = [public(OTHER_RSA_KEY, "new")]
    provider.seconds += ASK_AGAIN_SECONDS
    assert await provider.user(sign(OTHER_RSA_KEY, kid="new")) == "nurse-1"
    assert "does not list" in await provider.refused(sign(RSA_KEY, kid="old")), "a withdrawn key is worth nothing"
    assert provider.asked == 2


@runs
async def test_a_withdrawn_key_ends_although_no_token_names_a_new_one() -> None:
    provider = Provider(public(RSA_KEY, "old"), public(OTHER_RSA_KEY, "new"))
    assert await provider.user(sign(RSA_KEY, kid="old")) == "nurse-1"
    provider.keys = provider.keys[1:]
    provider.seconds += FRESH_SECONDS + 1
    assert await provider.user(sign(RSA_KEY, kid="old")) == "nurse-1"  # asks in the background; nobody waits
    for _ in range(5):
        await asyncio.sleep(0)
    assert "does not list" in await provider.refused(sign(RSA_KEY, kid="old"))


@runs
async def test_made_up_key_names_do_not_hammer_the_provider() -> None:
    """P19."""
    provider = Provider(public(RSA_KEY))
    assert await provider.user(sign(RSA_KEY)) == "nurse-1"
    provider.seconds += ASK_AGAIN_SECONDS
    for number in range(50):
        assert "does not list" in await provider.refused(sign(RSA_KEY, kid=f"junk-{number}"))
    assert provider.asked == 2
    assert await provider.user(sign(RSA_KEY)) == "nurse-1"


@runs
async def test_many_devices_at_once_cause_one_request() -> None:
    provider = Provider(public(RSA_KEY))
    users = await asyncio.gather(*(provider.user(sign(RSA_KEY)) for _ in range(20)))
    assert set(users) == {"nurse-1"}
    assert provider.asked == 1


# ---------------------------------------------------------------- a provider that is down
@runs
async def test_known_keys_stay_in_use_while_the_provider_is_down() -> None:
    provider = Provider(public(RSA_KEY))
    assert await provider.user(sign(RSA_KEY)) == "nurse-1"
    provider.error = OSError("no route")
    for _ in range(3):
        provider.seconds += FRESH_SECONDS + 1
        assert await provider.user(sign(RSA_KEY)) == "nurse-1"
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert provider.asked == 4
    provider.keys = []
    provider.error = None
    provider.seconds += FRESH_SECONDS + 1
    assert await provider.user(sign(RSA_KEY)) == "nurse-1", "an empty set is a fault, not the end of all keys"
    await provider.key_set.close()


@runs
async def test_a_device_is_not_signed_out_because_the_provider_is_down() -> None:
    """It is told to try again: only a provider that answers can say that a key does not exist."""
    provider = Provider(public(RSA_KEY))
    provider.error = TimeoutError()
    for _ in range(5):
        with pytest.raises(KeysUnreachableError) as caught:
            await provider.verifier.verify(sign(RSA_KEY))
    assert caught.value.retry and caught.value.retry_after_seconds == jwks.FIRST_AGAIN_SECONDS
    assert provider.asked == 1
    provider.error = None
    provider.seconds += jwks.FIRST_AGAIN_SECONDS
    assert await provider.user(sign(RSA_KEY)) == "nurse-1"


@runs
async def test_the_operator_is_told_once_that_it_is_down_and_once_that_it_is_back() -> None:
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("syncline.auth")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        provider = Provider(public(RSA_KEY))
        provider.error = OSError("no route")
        for _ in range(3):
            with pytest.raises(KeysUnreachableError):
                await provider.user(sign(RSA_KEY))
            provider.seconds += ASK_AGAIN_SECONDS
        provider.error = None
        await provider.user(sign(RSA_KEY))
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    assert [message.split("; ")[0] for message in messages] == [
        f"{URL} cannot be read: no route",
        f"{URL} can be read again.",
    ]


# ---------------------------------------------------------------- over the network
@contextmanager
def serving(status: int, body: bytes, headers: dict[str, str] | None = None) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:
                pass

        def log_message(self, *arguments: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/keys"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def test_the_document_is_read() -> None:
    key = public(RSA_KEY)
    with serving(200, json.dumps({"keys": [key]}).encode()) as url:
        assert asyncio.run(jwks.fetch_keys(url)) == [key]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (500, b"{}", "status 500"),
        (302, b"", "status 302"),
        (200, b"<html>", "Expecting value"),
        (200, b'{"keys": 3}', "no key set"),
        (200, b"[]", "no key set"),
        (200, b'{"keys": [1]}', "no key set"),
        (200, b'{"keys": []}'.ljust(jwks.DOCUMENT_BYTES_MAX + 1), "larger than"),
        (200, json.dumps({"keys": [{}] * (jwks.KEYS_MAX + 1)}).encode(), "more than"),
    ],
)
def test_what_is_no_key_set_is_refused(status: int, body: bytes, said: str) -> None:
    headers = {"Location": "http://127.0.0.1:9/keys"} if status == 302 else {}
    with serving(status, body, headers) as url, pytest.raises(ValueError, match=said):
        asyncio.run(jwks.fetch_keys(url))


def test_a_provider_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "FETCH_SECONDS_MAX", 0.2)
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        key_set = KeySet(f"http://127.0.0.1:{silent.getsockname()[1]}/keys")
        with pytest.raises(KeysUnreachableError):
            asyncio.run(key_set.keys_for("k1", "RS256"))


def test_without_a_secret_no_token_is_issued() -> None:
    from syncline.server.auth import require_secret

    with pytest.raises(ConfigError, match="come from the identity provider"):
        require_secret(AuthSettings(jwks_url=URL))
