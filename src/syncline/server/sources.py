"""From `[source] url` to the source that it names."""

from __future__ import annotations

from urllib.parse import unquote

from syncline.errors import ConfigError
from syncline.server.config_settings import Settings
from syncline.source.port import Source
from syncline.source.sqlite.source import SqliteSource


def open_source(settings: Settings) -> Source:
    """ConfigError for a kind of database that this version does not know."""
    scheme, _, rest = settings.source_url.partition("://")
    if scheme == "sqlite":
        return SqliteSource(sqlite_path(rest), journal=settings.journal)
    raise ConfigError(
        f'This version cannot use a "{scheme}" database as its source.',
        hint='Use "sqlite:///FILE"; PostgreSQL and MariaDB come in later versions.',
        code="source_kind",
    )


def sqlite_path(rest: str) -> str:
    """What stands behind `sqlite://`: `/clinic.db` is relative, `//data/clinic.db` absolute, as in SQLAlchemy."""
    return unquote(rest.removeprefix("/"))
