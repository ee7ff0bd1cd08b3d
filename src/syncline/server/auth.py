"""Bearer tokens: JWTs signed with `[auth] secret` (HS256)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from syncline.errors import AuthError, ConfigError
from syncline.log import logger
from syncline.model.scopes import PlanConfig
from syncline.server.config_grants import claims_in
from syncline.server.config_settings import AuthSettings, Settings

USER_CHARACTERS_MAX = 200

_log = logger("auth")


@dataclass(frozen=True)
class Identity:
    """Who a verified token speaks for. `expires_at`: seconds since 1970, None if the token never ends."""

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


def bearer_token(header: str | None) -> str:
    """The token in an `Authorization` header; AuthError `token_missing` if there is none."""
    scheme, _, token = (header or "").strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise AuthError(
            "The request carries no token.", hint="Send Authorization: Bearer TOKEN.", code="token_missing", status=401
        )
    return token.strip()


class Verifier:
    """Checks tokens. `needed` are the claims that grants name (claim -> scope): a token without one is refused."""

    def __init__(self, auth: AuthSettings, needed: Mapping[str, str] | None = None) -> None:
        """ConfigError `secret_missing` if there is nothing to check signatures with."""
        self._auth = auth
        self._secret = require_secret(auth)
        self._needed = dict(needed or {})
        self._endless_reported: set[str] = set()

    @classmethod
    def of(cls, settings: Settings) -> Verifier:
        """For a server's settings, with the claims that its grants name."""
        return cls(settings.auth, claims_of_grants(settings.plan_config))

    def verify(self, token: str) -> Identity:
        """Who the token speaks for; AuthError: token_invalid, token_expired (401), claim_missing (403)."""
        claims = self._decode(token)
        identity = identity_of(claims, self._auth.user_claim, self._needed)
        if identity.expires_at is None and identity.user not in self._endless_reported:
            if len(self._endless_reported) < 1000:
                self._endless_reported.add(identity.user)
            _log.warning("A token without exp was accepted: it is valid for ever. Issue tokens that expire.")
        return identity

    def _decode(self, token: str) -> dict[str, Any]:
        try:
            return jwt.decode(
                token,
                self._secret,
                algorithms=list(self._auth.algorithms),
                leeway=self._auth.leeway_seconds,
                options={"verify_aud": False, "verify_iss": False, "verify_sub": False, "verify_jti": False},
            )
        except jwt.ExpiredSignatureError as error:
            raise AuthError("The token has expired.", hint="Sign in again.", code="token_expired") from error
        except jwt.ImmatureSignatureError as error:
            hint = "Compare the clocks of the server and of who issued it."
            raise AuthError("The token is not valid yet.", hint=hint, code="token_invalid") from error
        except jwt.InvalidAlgorithmError as error:
            hint = f"Sign it with {' or '.join(self._auth.algorithms)}."
            raise AuthError(
                "The token is signed in a way that is not accepted.", hint=hint, code="token_invalid"
            ) from error
        except jwt.InvalidSignatureError as error:
            hint = "It was signed with another secret than [auth] secret."
            raise AuthError("The token's signature is wrong.", hint=hint, code="token_invalid") from error
        except (jwt.InvalidTokenError, UnicodeError, ValueError) as error:
            hint = "Make one with syncline token --sub USER."
            raise AuthError("The token is not a valid JWT.", hint=hint, code="token_invalid") from error


def identity_of(claims: Mapping[str, Any], user_claim: str, needed: Mapping[str, str] | None = None) -> Identity:
    """Claims that somebody has verified -> Identity; AuthError `claim_missing` if one that is needed is not usable."""
    user = claims.get(user_claim)
    if isinstance(user, bool) or not isinstance(user, str | int) or not str(user).strip():
        hint = f'Issue tokens with "{user_claim}", or set [auth] user_claim.'
        raise AuthError(
            f'The token\'s claim "{user_claim}" names no user.', hint=hint, code="claim_missing", status=403
        )
    if len(str(user)) > USER_CHARACTERS_MAX:
        text = f'The token\'s claim "{user_claim}" is longer than {USER_CHARACTERS_MAX} characters.'
        raise AuthError(text, code="token_invalid")
    for claim, scope in (needed or {}).items():
        if not isinstance(claims.get(claim), str | int | float):
            what = "has no claim" if claims.get(claim) is None else "has no single value in its claim"
            hint = f"The grant of [scope.{scope}] needs it; issue tokens that carry it."
            raise AuthError(f'The token {what} "{claim}".', hint=hint, code="claim_missing", status=403)
    expires = claims.get("exp")
    return Identity(str(user), claims, float(expires) if isinstance(expires, int | float) else None)


def require_secret(auth: AuthSettings) -> str:
    """The secret, or ConfigError that says how to get one."""
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
        identity_of(payload, settings.auth.user_claim, claims_of_grants(settings.plan_config))
    except AuthError as error:
        missing = _missing_claims(payload, settings)
        hint = f"Add {' '.join(f'--claim {claim}=…' for claim in missing)}." if missing else error.hint
        raise ConfigError(f"This token would be refused. {error.message}", hint=hint, code=error.error_code) from error
    return jwt.encode(payload, require_secret(settings.auth), algorithm=settings.auth.algorithms[0])


def _missing_claims(payload: Mapping[str, Any], settings: Settings) -> list[str]:
    needed: Iterable[str] = (settings.auth.user_claim, *claims_of_grants(settings.plan_config))
    return [claim for claim in dict.fromkeys(needed) if payload.get(claim) is None]
