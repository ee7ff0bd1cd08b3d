"""Small values of the configuration: spans of time, and the address of the source."""

from __future__ import annotations

import re
from pathlib import Path

from syncline.errors import ConfigError
from syncline.model.identifiers import nearest
from syncline.server.postgres_url import SCHEMES, is_postgres, normalise_postgres_url, without_postgres_password

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NOT_YET = ("mariadb", "mysql")
_PASSWORD = re.compile(r"(//[^/@:]*:)[^/@]*@")


def duration_seconds(text: str) -> float | None:
    """`"60s"`, `"90m"`, `"8h"`, `"7d"` in seconds; None if it is not written so."""
    found = _DURATION.fullmatch(text.strip())
    return float(found[1]) * _UNIT_SECONDS[found[2]] if found else None


def normalise_source_url(url: str, folder: Path) -> str:
    """The URL of a file with an absolute path, a relative one counts from `folder`; that of a PostgreSQL database with
    the scheme `postgresql`. ConfigError for what is no usable source."""
    scheme, separator, _ = url.partition("://")
    if not separator:
        hint = f'Write "sqlite:///{url}".' if scheme != "sqlite" else 'Write "sqlite:///clinic.db".'
        raise ConfigError(f'The source "{without_password(url)}" is not an address.', hint=hint, code="source_url")
    kind = scheme.partition("+")[0].lower()
    if kind in _NOT_YET:
        raise ConfigError(
            f'A source of kind "{scheme}" is not in this version yet.',
            hint="This version syncs SQLite files and PostgreSQL databases.",
            code="not_yet",
        )
    if is_postgres(url):
        return normalise_postgres_url(url)
    if kind != "sqlite":
        known = nearest(kind, ("sqlite", *SCHEMES, *_NOT_YET))
        hint = (known or ' Write "sqlite:///clinic.db" or "postgresql://user@host/database".').strip()
        raise ConfigError(f'There is no source of kind "{scheme}".', hint=hint, code="source_url")
    return f"sqlite:///{(folder / sqlite_path_of(url)).resolve()}"


def sqlite_path_of(url: str) -> Path:
    """`sqlite:///clinic.db` -> clinic.db, `sqlite:////data/clinic.db` -> /data/clinic.db."""
    rest = url.partition("://")[2]
    if not rest.startswith("/"):
        raise ConfigError(
            f'The source "{url}" names a host.',
            hint=f'A file has three slashes: "sqlite:///{rest}".',
            code="source_url",
        )
    path = rest[1:]
    if path in ("", ":memory:"):
        raise ConfigError(f'The source "{url}" names no file.', hint='Write "sqlite:///clinic.db".', code="source_url")
    return Path(path)


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    return without_postgres_password(url) if is_postgres(url) else _PASSWORD.sub(r"\1…@", url)
