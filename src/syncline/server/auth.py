"""Bearer tokens: JWTs signed with `[auth] secret` (HS256), or with a key of an identity provider (`jwks_url`)."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jwt
from starlette.requests import HTTPConnection

from syncline.errors import AuthError, ConfigError
from syncline.log import logger
from syncline.model.scopes import PlanConfig
from syncline.server.config_grants import claims_in
from syncline.server.config_settings import AuthSettings, Settings
from syncline.server.jwks import ALGORITHMS, KeySet

USER_CHARACTERS_MAX = 200
_INTEGERS = range(-(2**63), 2**63)

_log = logger("auth")


@dataclass(frozen=True)
class Identity:
    """Who a verified token speaks for. `expires_at`: seconds since 1970 from which it is refused, None: never."""

    user: str
    claims: Mapping[str, Any]
    expires_at: float | None = None


def claims_of_grants(config: PlanConfig) -> dict[str, str]:
    """Every claim that a grant names -> the first scope that names it."""
    needed: dict[str, str] = {}
    for scope in config.scopes:
        for claim in claims_in(scope.grant or ""):
            needed.setdefault(claim, scope.name)
    return needed


def needed_claims(settings: Settings) -> dict[str, str]:
    """Every claim that a token must carry -> what needs it, in words."""
    needed = {claim: f"The grant of [scope.{scope}]" for claim, scope in claims_of_grants(settings.plan_config).items()}
    for setting, text in settings.session.items():
        if text.startswith(":"):
            needed.setdefault(text[1:], f'The setting "{setting}" of [source.session]')
    return needed


def bearer_token(header: str | None) -> str:
    """The token in an `Authorization` header; AuthError `token_missing` if there is none."""
    scheme, _, token = (header or "").strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise AuthError(
            "The request carries no token.", hint="Send Authorization: Bearer TOKEN.", code="token_missing", status=401
        )
    return token.strip()


class Authenticator(Protocol):
    """Says who is asking. `open` and `close` frame the time in which it is asked."""

    async def identify(self, connection: HTTPConnection) -> Identity:
        """For a request or a WebSocket; AuthError if it may not, ServerError if that cannot be told now."""
        ...

    def open(self) -> None: ...

    async def close(self) -> None: ...


class Verifier:
    """Checks JWTs. `needed`: claims (claim -> what needs it) without which a token is refused; with `lists` one may
    hold several values."""

    def __init__(
        self,
        auth: AuthSettings,
        needed: Mapping[str, str] | None = None,
        keys: KeySet | None = None,
        *,
        lists: bool = False,
    ) -> None:
        """ConfigError `secret_missing` if there is nothing to check signatures with."""
        self._auth = auth
        self._keys = keys or (KeySet(auth.jwks_url) if auth.jwks_url else None)
        self._secret = "" if self._keys else require_secret(auth)
        self._needed = dict(needed or {})
        self._lists = lists
        self._endless_reported: set[str] = set()

    @classmethod
    def of(cls, settings: Settings) -> Verifier:
        """For a server's settings, with the claims that it needs."""
        return cls(settings.auth, needed_claims(settings), lists=settings.is_postgres)

    def open(self) -> None:
        if self._keys is None:
            return
        if not self._auth.audience:
            _log.warning(
                "[auth] audience is not set: a token that %s issued for another application is accepted, too.",
                self._auth.issuer or "the identity provider",
            )
        self._keys.ask_ahead()

    async def close(self) -> None:
        if self._keys is not None:
            await self._keys.close()

    async def identify(self, connection: HTTPConnection) -> Identity:
        return await self.verify(bearer_token(connection.headers.get("authorization")))

    async def verify(self, token: str) -> Identity:
        """Who the token speaks for; AuthError: token_invalid, token_expired (401), claim_missing (403).

        KeysUnreachableError if the identity provider has to be asked and does not answer.
        """
        with _as_auth_errors(self._auth):
            claims = await self._claims(token)
        identity = identity_of(
            claims, self._auth.user_claim, self._needed, self._auth.leeway_seconds, lists=self._lists
        )
        if identity.expires_at is None and identity.user not in self._endless_reported:
            if len(self._endless_reported) < 1000:
                self._endless_reported.add(identity.user)
            _log.warning("A token without exp was accepted: it is valid for ever. Issue tokens that expire.")
        return identity

    async def _claims(self, token: str) -> dict[str, Any]:
        if self._keys is None:
            return self._decode(token, self._secret, self._auth.algorithms)
        header = jwt.get_unverified_header(token)
        algorithm = str(header.get("alg"))
        if algorithm not in ALGORITHMS:
            raise jwt.InvalidAlgorithmError(algorithm)
        keys = await self._keys.keys_for(header.get("kid"), algorithm)
        for place, key in enumerate(keys, 1):
            try:
                return self._decode(token, key, (algorithm,))
            except jwt.InvalidSignatureError:
                if place == len(keys):
                    raise
        raise AuthError(
            "The token is signed with a key that the identity provider does not list.",
            hint="Sign in again.",
            code="token_invalid",
        )

    def _decode(self, token: str, key: str | jwt.PyJWK, algorithms: Sequence[str]) -> dict[str, Any]:
        """The claims of a token signed with `key` and one of `algorithms`, which never come from the token alone."""
        return jwt.decode(
            token,
            key,
            algorithms=list(algorithms),
            issuer=self._auth.issuer,
            audience=list(self._auth.audience) or None,
            leeway=self._auth.leeway_seconds,
            options={
                "verify_sub": False,
                "verify_jti": False,
                "verify_aud": bool(self._auth.audience),
                "verify_iss": self._auth.issuer is not None,
            },
        )


@contextlib.contextmanager
def _as_auth_errors(auth: AuthSettings) -> Iterator[None]:
    """What a JWT library finds wrong with a token, in words for whoever sees the answer."""
    try:
        yield
    except jwt.ExpiredSignatureError as error:
        raise AuthError("The token has expired.", hint="Sign in again.", code="token_expired") from error
    except jwt.ImmatureSignatureError as error:
        raise _invalid("is not valid yet", "Compare the clocks of the server and of who issued it.") from error
    except jwt.InvalidAlgorithmError as error:
        accepted = ALGORITHMS if auth.jwks_url else auth.algorithms
        raise _invalid("is signed in a way that is not accepted", f"Sign it with {' or '.join(accepted)}.") from error
    except jwt.InvalidSignatureError as error:
        other = (
            "It was signed with another key."
            if auth.jwks_url
            else "It was signed with another secret than [auth] secret."
        )
        raise AuthError("The token's signature is wrong.", hint=other, code="token_invalid") from error
    except jwt.InvalidIssuerError as error:
        raise _invalid("comes from another issuer", f'[auth] issuer is "{auth.issuer}".') from error
    except jwt.InvalidAudienceError as error:
        raise _invalid("is meant for another audience", f"[auth] audience is {_quoted(auth.audience)}.") from error
    except jwt.MissingRequiredClaimError as error:
        raise _invalid(f'has no claim "{error.claim}"', "[auth] issuer and audience ask for it.") from error
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:  # the last two: times that are none
        hint = (
            "Does it come from the identity provider?" if auth.jwks_url else "Make one with syncline token --sub USER."
        )
        raise AuthError("The token is not a valid JWT.", hint=hint, code="token_invalid") from error


def _invalid(what: str, hint: str) -> AuthError:
    return AuthError(f"The token {what}.", hint=hint, code="token_invalid")


def _quoted(names: Sequence[str]) -> str:
    return " or ".join(f'"{name}"' for name in names)


def identity_of(
    claims: Mapping[str, Any],
    user_claim: str,
    needed: Mapping[str, str] | None = None,
    leeway_seconds: float = 0.0,
    *,
    lists: bool = False,
) -> Identity:
    """Claims that somebody has verified -> Identity. `lists`: a database with arrays can be asked with one.

    AuthError `claim_missing` where the user or a claim that a grant needs is not there, `token_invalid` where one of
    them is nothing that a database can be asked with, or `exp` is no time. Whether that is over is not looked at.
    """
    user = claims.get(user_claim)
    for claim in (user_claim, *(needed or ())):
        _require_bindable(claim, claims.get(claim))
    if isinstance(user, bool) or not isinstance(user, str | int) or not str(user).strip():
        hint = f'Issue tokens with "{user_claim}", or set [auth] user_claim.'
        raise AuthError(
            f'The token\'s claim "{user_claim}" names no user.', hint=hint, code="claim_missing", status=403
        )
    if len(str(user)) > USER_CHARACTERS_MAX:
        text = f'The token\'s claim "{user_claim}" is longer than {USER_CHARACTERS_MAX} characters.'
        raise AuthError(text, code="token_invalid")
    for claim, needs in (needed or {}).items():
        value = claims.get(claim)
        if not isinstance(value, str | int | float) and not (lists and isinstance(value, list | dict)):
            what = "has no claim" if value is None else "has no single value in its claim"
            hint = f"{needs} needs it; issue tokens that carry it."
            raise AuthError(f'The token {what} "{claim}".', hint=hint, code="claim_missing", status=403)
    expires = _expiry(claims.get("exp"))
    return Identity(str(user), claims, None if expires is None else expires + leeway_seconds)


def _require_bindable(claim: str, value: object) -> None:
    if isinstance(value, int) and value not in _INTEGERS:
        raise _invalid(f'has a number beyond 64 bits in its claim "{claim}"', "Issue it as text.")
    if isinstance(value, float) and not math.isfinite(value):
        raise _invalid(f'has no finite number in its claim "{claim}"', "Issue tokens with a usable one.")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise _invalid(f'has half a character in its claim "{claim}"', "Issue it as valid UTF-8.") from error


def _expiry(value: object) -> float | None:
    if value is None:
        return None
    is_time = isinstance(value, float) and math.isfinite(value)
    if isinstance(value, int) and not isinstance(value, bool):
        is_time = value in _INTEGERS
    if not is_time:
        raise _invalid('has no time in its claim "exp"', "exp is a number: seconds since 1970, UTC.")
    return float(value)  # type: ignore[arg-type]


def require_current(identity: Identity) -> Identity:
    """AuthError `token_expired` if its time is over."""
    if identity.expires_at is not None and identity.expires_at <= time.time():
        raise AuthError("The sign-in has expired.", hint="Sign in again.", code="token_expired")
    return identity


def require_secret(auth: AuthSettings) -> str:
    """The secret, or ConfigError that says how to get one."""
    if auth.secret is None and auth.jwks_url is not None:
        raise ConfigError(
            "Tokens come from the identity provider of [auth] jwks_url; there is no secret to sign one with.",
            hint="Get one there.",
            code="secret_missing",
        )
    if auth.secret is None:
        raise ConfigError(
            "There is no secret to check tokens with.",
            hint="Set [auth] secret or SYNCLINE_AUTH_SECRET to 32 or more random bytes; syncline init writes one.",
            code="secret_missing",
        )
    return auth.secret


def issue_token(
    settings: Settings, sub: str, claims: Mapping[str, Any] | None = None, ttl_seconds: float | None = 8 * 3600.0
) -> str:
    """A development token for `sub`, signed with the secret. `ttl_seconds` None: it never expires."""
    now = int(time.time())
    payload: dict[str, Any] = {"sub": sub, "iat": now, **(claims or {})}
    if ttl_seconds is not None:
        payload["exp"] = int(now + ttl_seconds)
    try:
        identity_of(payload, settings.auth.user_claim, needed_claims(settings), lists=settings.is_postgres)
    except AuthError as error:
        missing = _missing_claims(payload, settings)
        hint = f"Add {' '.join(f'--claim {claim}=…' for claim in missing)}." if missing else error.hint
        raise ConfigError(f"This token would be refused. {error.message}", hint=hint, code=error.error_code) from error
    return jwt.encode(payload, require_secret(settings.auth), algorithm=settings.auth.algorithms[0])


def _missing_claims(payload: Mapping[str, Any], settings: Settings) -> list[str]:
    needed: Iterable[str] = (settings.auth.user_claim, *needed_claims(settings))
    return [claim for claim in dict.fromkeys(needed) if payload.get(claim) is None]
