"""What a grant reads of a token."""

from __future__ import annotations

from typing import Any

from syncline.errors import AuthError, SourceError
from syncline.source.port import Claims


class GrantFailsError(SourceError):
    """What a grant says to one user cannot be told: its SQL, or the data that it reads, makes it fail. The user's
    devices keep what they have, and try again."""

    code = "grant_fails"
    retry = True

    def __init__(self, scope: str, fault: str) -> None:
        """`fault`: what is known of it without any value."""
        super().__init__(
            f'The grant of scope "{scope}" fails for a user: {fault}.',
            hint="Mend the grant or the data that it reads; devices try again.",
        )


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
