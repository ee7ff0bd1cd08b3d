"""What is wrong with `[source]`: addresses, and options that another kind of database would have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from syncline.errors import ConfigError
from syncline.server.config_errors import problem
from syncline.server.config_models import SourceSection
from syncline.server.config_settings import Document
from syncline.server.config_values import normalise_source_url
from syncline.server.postgres_url import EXAMPLE, is_postgres, normalise_postgres_url

_OF_SQLITE = ("journal",)
_OF_POSTGRES = ("direct_url", "write_role", "capture_role", "session")
_SETTING = re.compile(r"[A-Za-z_][\w$]*(?:\.[A-Za-z_][\w$]*)+", re.ASCII)


def check_source_section(document: Document, source: SourceSection) -> Iterator[ConfigError]:
    """Options of another kind of source, and settings that are not the company's own."""
    in_postgres = is_postgres(source.url)
    kind, theirs = ("a PostgreSQL", _OF_SQLITE) if in_postgres else ("a SQLite", _OF_POSTGRES)
    for option in theirs:
        if option in source.model_fields_set:
            text = f"[source] {option} means nothing for {kind} source."
            yield problem(document, ("source", option), text, "Remove it.", "source_option")
    if in_postgres and source.direct_url is not None and not is_postgres(source.direct_url):
        text = "[source] direct_url does not name a PostgreSQL database."
        yield problem(document, ("source", "direct_url"), text, f'Write "{EXAMPLE}".', "source_url")
    for name in source.session if in_postgres else ():
        if not _SETTING.fullmatch(name):
            text = f'[source.session] "{name}" is no setting of your own: only names with a dot are.'
            hint = 'For example "app.user_id" = ":sub".'
            yield problem(document, ("source", "session", name), text, hint, "session_setting")


def normalised_urls(document: Document, source: SourceSection, folder: Path) -> tuple[str, str | None]:
    """`url` and `direct_url` as they are used."""
    option, direct = "url", source.direct_url
    try:
        url = normalise_source_url(source.url, folder)
        option = "direct_url"
        return url, None if direct is None else normalise_postgres_url(direct)
    except ConfigError as error:
        text = f"[source] {option}: {error.message}"
        raise problem(document, ("source", option), text, error.hint, error.error_code) from error
