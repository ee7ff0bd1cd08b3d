"""The public keys of an identity provider: fetched once, asked for again now and then, and kept while it is down.

A token may name a key that is not known yet (the provider has rotated its keys): then the provider is asked, but not
oftener than every `ASK_AGAIN_SECONDS`, so that made-up names cannot be used to hammer it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

import httpx
import jwt

from syncline.errors import ServerError
from syncline.log import logger

FETCH_SECONDS_MAX = 5.0
DOCUMENT_BYTES_MAX = 256 * 1024
KEYS_MAX = 100
FRESH_SECONDS = 600.0
"""Older keys are used on, while the provider is asked in the background."""
ASK_AGAIN_SECONDS = 10.0
FIRST_AGAIN_SECONDS = 1.0
"""Between two attempts while no key is known at all."""

_BY_TYPE: dict[tuple[str, str | None], tuple[str, ...]] = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("OKP", "Ed448"): ("EdDSA",),
}
"""Which algorithms a key of a type may verify. Symmetric keys ("oct") are in no list: a set that everybody can read
must not be able to sign."""

ALGORITHMS = tuple(dict.fromkeys(name for names in _BY_TYPE.values() for name in names))

KeyDocument: TypeAlias = Mapping[str, Any]
Fetch: TypeAlias = Callable[[str], Awaitable[Sequence[KeyDocument]]]

_log = logger("auth")


class KeysUnreachableError(ServerError):
    """The provider does not answer, and what it would say matters now: the device tries again, and stays signed in."""

    code = "keys_unreachable"


class KeySet:
    """The keys behind one URL. `fetch` and `now` (seconds) are replaced in tests."""

    def __init__(self, url: str, fetch: Fetch | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._fetch = fetch or fetch_keys
        self._now = now
        self._documents: tuple[KeyDocument, ...] = ()
        self._built: dict[tuple[int, str], jwt.PyJWK | None] = {}
        self._fetched_at = self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self._is_down = False

    def ask_ahead(self) -> None:
        """Begin to fetch, so that the first device does not wait and a wrong address is in the log at once."""
        self._ask()

    async def close(self) -> None:
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def keys_for(self, name: str | None, algorithm: str) -> list[jwt.PyJWK]:
        """The keys that may have signed a token with this `kid` and `alg`; empty if the provider has none.

        KeysUnreachableError if the provider would have to be asked and does not answer.
        """
        found = self._matching(name, algorithm)
        if found:
            if self._now() - self._fetched_at > FRESH_SECONDS:
                self._ask()
            return found
        asking = self._ask()
        if asking is not None:
            await asyncio.shield(asking)
            found = self._matching(name, algorithm)
        if not found and self._is_down:
            raise KeysUnreachableError(
                "The identity provider's keys cannot be read.", hint="Try again.", retry_after_seconds=self._pause()
            )
        return found

    def _matching(self, name: str | None, algorithm: str) -> list[jwt.PyJWK]:
        named = [place for place, key in enumerate(self._documents) if name is None or key.get("kid") == name]
        places = named or [place for place, key in enumerate(self._documents) if key.get("kid") is None]
        return [key for place in places if (key := self._key(place, algorithm)) is not None]

    def _key(self, place: int, algorithm: str) -> jwt.PyJWK | None:
        if (place, algorithm) not in self._built:
            self._built[place, algorithm] = _build(self._documents[place], algorithm)
        return self._built[place, algorithm]

    # ------------------------------------------------------------ asking
    def _ask(self) -> asyncio.Task[None] | None:
        """The request that is under way, perhaps begun now; None if it is too early for another one."""
        if self._asking is not None and not self._asking.done():
            return self._asking
        if self._now() - self._asked_at < self._pause():
            return None
        self._asked_at = self._now()
        self._asking = asyncio.create_task(self._refresh(), name="syncline-keys")
        return self._asking

    def _pause(self) -> float:
        return ASK_AGAIN_SECONDS if self._documents else FIRST_AGAIN_SECONDS

    async def _refresh(self) -> None:
        try:
            documents = tuple(key for key in await self._fetch(self._url) if _algorithms_of(key))
            if not documents:
                raise ValueError("no key in it can verify a signature")
        except (httpx.HTTPError, OSError, ValueError, TimeoutError) as error:
            if not self._is_down:
                kept = (
                    f"{len(self._documents)} known keys stay in use" if self._documents else "no token can be checked"
                )
                _log.warning("%s cannot be read: %s; %s.", self._url, _in_words(error), kept)
            self._is_down = True
            return
        if self._is_down:
            _log.info("%s can be read again.", self._url)
        self._documents, self._built = documents, {}
        self._fetched_at, self._is_down = self._now(), False


def _in_words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _algorithms_of(key: KeyDocument) -> tuple[str, ...]:
    """What a key may verify: nothing if it is for something else, or symmetric."""
    operations = key.get("key_ops")
    if key.get("use") not in (None, "sig") or (isinstance(operations, list) and "verify" not in operations):
        return ()
    kind = str(key.get("kty"))
    fitting = _BY_TYPE.get((kind, None if kind == "RSA" else str(key.get("crv"))), ())
    named = key.get("alg")
    return fitting if named is None else tuple(name for name in fitting if name == named)


def _build(document: KeyDocument, algorithm: str) -> jwt.PyJWK | None:
    if algorithm not in _algorithms_of(document):
        return None
    try:
        return jwt.PyJWK(dict(document), algorithm)
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        _log.warning("A key of the identity provider is left aside: %s", _in_words(error))
        return None


async def fetch_keys(url: str) -> list[KeyDocument]:
    """The document at `url` as a list of JWKs. Bounded in time and size; a redirect is an error.

    httpx.HTTPError, TimeoutError, or ValueError if what came is no key set.
    """
    body = bytearray()
    async with asyncio.timeout(FETCH_SECONDS_MAX), httpx.AsyncClient(timeout=FETCH_SECONDS_MAX) as client:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        async with client.stream("GET", url, headers=headers) as response:
            if response.status_code != 200:
                raise ValueError(f"it answers with status {response.status_code}")
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > DOCUMENT_BYTES_MAX:
                    raise ValueError(f"it is larger than {DOCUMENT_BYTES_MAX} bytes")
    document = json.loads(body)
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise ValueError('it is no key set ({"keys": [...]})')
    if len(keys) > KEYS_MAX:
        raise ValueError(f"it has more than {KEYS_MAX} keys")
    return keys
