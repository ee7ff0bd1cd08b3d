"""From `[source] url` to the source that it names."""

from __future__ import annotations

from syncline.errors import ConfigError
from syncline.server.config_settings import Settings
from syncline.source.port import Source
from syncline.source.sqlite.source import SqliteSource


def open_source(settings: Settings) -> Source:
    """ConfigError for a kind of database that this version does not know."""
    scheme = settings.source_url.partition("://")[0]
    if scheme == "sqlite":
        return SqliteSource(settings.source_path, journal=settings.journal)
    raise ConfigError(
        f'This version cannot use a "{scheme}" database as its source.',
        hint='Use "sqlite:///FILE"; PostgreSQL and MariaDB come in later versions.',
        code="source_kind",
    )
