"""What is wrong with `[auth]` where it names an identity provider."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from syncline.errors import ConfigError
from syncline.server.config_errors import problem
from syncline.server.config_models import AuthSection
from syncline.server.config_settings import Document


def check_provider(document: Document, auth: AuthSection) -> Iterator[ConfigError]:
    """A secret beside it, an address that is none, or one that anybody on the way could answer for."""
    if auth.jwks_url is None:
        return
    place = ("auth", "jwks_url")
    if auth.secret is not None:
        text = "[auth] has both secret and jwks_url: whoever knows the secret could pass for any user of the provider."
        yield problem(document, place, text, "Remove one of them; is SYNCLINE_AUTH_SECRET set?", "auth_two_ways")
    scheme, host = _parts(auth.jwks_url)
    if scheme not in ("http", "https") or not host:
        text = f'[auth] jwks_url "{auth.jwks_url}" is not an address.'
        yield problem(
            document, place, text, 'For example "https://login.example.org/.well-known/jwks.json".', "jwks_url"
        )
    elif scheme == "http" and not _is_loopback(host):
        text = "[auth] jwks_url must begin with https: keys that travel unprotected can be exchanged on the way."
        yield problem(document, place, text, "Only this machine itself may be asked by http.", "jwks_url")


def _parts(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
        return parts.scheme.lower(), parts.hostname or ""
    except ValueError:
        return "", ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
