"""From `[source] url` to the source that it names."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from syncline.errors import ConfigError
from syncline.server.config_settings import Settings
from syncline.server.postgres_url import EXAMPLE, is_postgres, normalise_postgres_url, user_of
from syncline.source.port import Source
from syncline.source.sqlite.source import SqliteSource
from syncline.system.packages import needs_extra

Tell = Callable[[str], None]


def _silent(text: str) -> None:
    return


def open_source(
    settings: Settings, *, owner_url: str | None = None, for_owner: bool = False, tell: Tell = _silent
) -> Source:
    """`owner_url`: sign in as somebody who may change the schema, and give the role of `[source]` the rights that
    serving needs; `for_owner`: nobody like that is here, but will run the script. `tell` hears of what takes long.
    ConfigError for a kind of database that this version does not know."""
    if owner_url is not None and not settings.is_postgres:
        raise ConfigError(
            "--owner-url is for PostgreSQL: a file has no owner's login.", hint="Leave it out.", code="usage"
        )
    if settings.is_postgres:
        return _open_postgres(settings, owner_url, for_owner or owner_url is not None, tell)
    scheme = settings.source_url.partition("://")[0]
    if scheme == "sqlite":
        return SqliteSource(settings.source_path, journal=settings.journal)
    raise ConfigError(
        f'This version cannot use a "{scheme}" database as its source.',
        hint='Use "sqlite:///FILE" or "postgresql://user@host/database"; MariaDB comes in a later version.',
        code="source_kind",
    )


def _open_postgres(settings: Settings, owner_url: str | None, has_owner: bool, tell: Tell) -> Source:
    service_role = user_of(settings.direct_url or settings.source_url) if has_owner else ""
    if owner_url is None:
        url, direct_url = settings.source_url, settings.direct_url
    elif is_postgres(owner_url):
        url, direct_url = normalise_postgres_url(owner_url), None
    else:
        raise ConfigError("--owner-url names no PostgreSQL database.", hint=f'Write "{EXAMPLE}".', code="source_url")
    with postgres_extra():
        from syncline.source.postgres.source import PostgresSource
    return PostgresSource(
        url,
        direct_url=direct_url,
        write_role=settings.write_role,
        capture_role=settings.capture_role,
        session=settings.session,
        service_role=service_role,
        tell=tell,
    )


def postgres_extra() -> AbstractContextManager[None]:
    """Around what needs the driver."""
    return needs_extra("postgres", 'A PostgreSQL source needs the package "{package}", which is not installed.')
