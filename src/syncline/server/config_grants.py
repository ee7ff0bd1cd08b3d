"""The claims that a grant names: its only parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator

from syncline.model.identifiers import nearest

_TOKENS = re.compile(
    r"""--[^\n]*|/\*.*?(?:\*/|$)"""
    r"""|'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[A-Za-z_][^\]]*\]"""
    r"""|(?P<cast>::)|:(?P<claim>\w+)|(?P<other>\?\d*|@\w+|\$\w+)""",
    re.DOTALL,
)
_NUMBERED = re.compile(r"\$\d+", re.ASCII)
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)

TIME_CLAIMS = ("exp", "iat", "nbf")
WELL_KNOWN_CLAIMS = (
    "sub", "tenant", "role", "region", "team", "name", "email", "iss", "aud", "jti", "azp", "org", "tid", "oid", "uid",
    "scope", "site", "group", "department", "user_id", "org_id", "tenant_id", "client_id", "preferred_username",
)  # fmt: skip


def claims_in(grant: str) -> tuple[str, ...]:
    """The claims that a grant names as `:claim`, each once, in order; text in quotes and comments counts not."""
    found = (match["claim"] for match in _TOKENS.finditer(grant))
    return tuple(dict.fromkeys(claim for claim in found if claim is not None))


def check_parameters(grant: str, in_postgres: bool = False) -> Iterator[tuple[str, str]]:
    """(message, hint) for every parameter that can be no claim. In PostgreSQL `?` and `@…` are operators."""
    for match in _TOKENS.finditer(grant):
        claim, other = match["claim"], match["other"]
        if other is not None and in_postgres and not _NUMBERED.fullmatch(other):
            continue
        if other is not None:
            yield f'has the parameter "{other}".', "Claims of the token are the only parameters: write :sub, :tenant, …"
        elif claim is not None and not _NAME.fullmatch(claim):
            yield (
                f'has the parameter ":{claim}", which no claim can be called.',
                "Name a claim of the token: :sub, :tenant, …",
            )
        elif claim in TIME_CLAIMS:
            yield (
                f'compares with ":{claim}", which is different in every token.',
                "Use claims that say who the user is.",
            )


def doubts_about(grant: str, user_claim: str) -> Iterator[str]:
    """What is allowed and probably not meant."""
    claims = claims_in(grant)
    if not claims:
        yield "names no claim of the token: every user gets the same."
    known = (user_claim, *WELL_KNOWN_CLAIMS)
    for claim in claims:
        if claim not in known and nearest(claim, known):
            yield f'names the claim ":{claim}".{nearest(claim, known)} Every token must carry it.'
