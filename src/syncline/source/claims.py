"""What a grant reads of a token."""

from __future__ import annotations

from typing import Any

from syncline.errors import AuthError
from syncline.source.port import Claims


def required_claim(claims: Claims, name: str, scope: str) -> Any:
    """AuthError if the token does not have it."""
    if name not in claims:
        raise AuthError(
            f'The token has no claim "{name}", which the grant of scope "{scope}" needs.',
            hint="Have the identity provider add it.",
            code="claim_missing",
            status=403,
        )
    return claims[name]
