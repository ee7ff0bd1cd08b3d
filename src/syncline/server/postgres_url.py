"""Addresses of PostgreSQL databases: what may stand in one, and what may be shown of one.

    postgresql://user:password@host:5432/database?sslmode=verify-full
    postgresql://user@/database?host=/var/run/postgresql        by a Unix socket
    postgresql://user@one:5432,two:5432/database?target_session_attrs=read-write

Messages never hold the part before the `@`, nor what came apart because a password was not percent-encoded.
"""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from syncline.errors import ConfigError
from syncline.model.identifiers import nearest

SCHEMES = ("postgresql", "postgres")
DRIVER = "asyncpg"
EXAMPLE = "postgresql://user@host/database"

KNOWN = frozenset(
    {
        "host", "port", "user", "password", "passfile", "dbname", "database", "sslmode", "sslcert", "sslkey",
        "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation", "ssl_min_protocol_version",
        "ssl_max_protocol_version", "target_session_attrs", "service", "krbsrvname", "gsslib", "application_name",
        "options",
    }
)  # fmt: skip
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[^\[\]:/@,\s]*)(?::(?P<port>\d{1,5}))?")
_SECRETS = re.compile(r"([?&](?:password|sslpassword)=)[^&#]*", re.IGNORECASE)
_ENCODE = "Characters such as @ : / ? # in a name or password are written in per cent: %40 %3A %2F %3F %23."


def is_postgres(url: str) -> bool:
    return url.partition("://")[0].partition("+")[0].lower() in SCHEMES


def normalise_postgres_url(url: str) -> str:
    """The address with the scheme `postgresql`; ConfigError for what is none, or would not be heeded."""
    scheme, _, rest = url.partition("://")
    driver = scheme.partition("+")[2]
    if driver and driver != DRIVER:
        raise _wrong(f'names the driver "{driver}", and Syncline uses {DRIVER}', f'Write "{EXAMPLE}".')
    try:
        parts = urlsplit(f"postgresql://{rest}")
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise _wrong("cannot be read as one", _ENCODE) from None
    authority = parts.netloc
    hosts = authority.rpartition("@")[2]
    if authority.count("@") > 1 or parts.fragment or not all(map(_is_host, hosts.split(","))):
        raise _wrong("cannot be read as one", _ENCODE)
    _check_options(options)
    if not (parts.path.strip("/") or {"dbname", "database", "service"} & options.keys()):
        raise _wrong("names no database", f'Write "{EXAMPLE}".')
    return f"postgresql://{rest}"


def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text)
    return found is not None and int(found["port"] or 0) <= 65535


def _check_options(options: Mapping[str, str]) -> None:
    for name in options.keys() - KNOWN:
        hint = nearest(name, KNOWN).strip() or "Remove it."
        raise _wrong(f'has the option "{name}", which would not be heeded', hint)
    mode = options.get("sslmode", "prefer")
    if mode not in SSL_MODES:
        raise _wrong(f'has sslmode "{mode}"', f"It is one of {', '.join(SSL_MODES)}.")
    ports = options.get("port", "").split(",")
    if any(port and not port.isdecimal() for port in ports):
        raise _wrong("has a port that is no number", "Write a number, 5432 by default.")


def _wrong(what: str, hint: str) -> ConfigError:
    return ConfigError(f"The address of the PostgreSQL database {what}.", hint=hint, code="source_url")


def without_postgres_password(url: str) -> str:
    """The address as it may be shown."""
    scheme, separator, rest = url.partition("://")
    account, at, place = rest.rpartition("@")
    user, colon, _ = account.partition(":")
    shown = f"{user}{colon}{'…' if colon else ''}{at}{place}"
    return scheme + separator + _SECRETS.sub(r"\1…", shown)


def has_password(url: str) -> bool:
    return is_postgres(url) and without_postgres_password(url) != url


def user_of(url: str, environment: Mapping[str, str] = os.environ) -> str:
    """The role that an address signs in as: the one that it names, else PGUSER, else the user of this process."""
    parts = urlsplit(url)
    named = dict(parse_qsl(parts.query)).get("user", "")
    account, at, _ = parts.netloc.rpartition("@")
    if at and account:
        named = unquote(account.partition(":")[0]) or named
    return named or environment.get("PGUSER", "") or getpass.getuser()
