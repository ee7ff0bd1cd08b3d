"""Putting the starter configuration into a file."""

from __future__ import annotations

import os
from pathlib import Path

from syncline.errors import ConfigError
from syncline.model.schema import Schema
from syncline.server.config import parse_settings
from syncline.server.config_settings import Settings
from syncline.server.config_values import normalise_source_url, sqlite_path_of
from syncline.server.postgres_url import is_postgres, normalise_postgres_url
from syncline.server.starter import starter_text


def settings_of_url(source_url: str, folder: Path) -> Settings:
    """Settings that know nothing but the source; a relative path counts from `folder`."""
    return Settings(source_url=normalise_source_url(source_url, folder))


def url_in_file(source_url: str, config: Path) -> str:
    """The URL as the file shall hold it: what was relative to here becomes relative to the file's folder. A password in
    it stays: the file is its owner's alone, and holds the secret of the tokens anyway."""
    if is_postgres(source_url):
        return normalise_postgres_url(source_url)
    path = sqlite_path_of(source_url)
    if path.is_absolute():
        return source_url
    folder = config.resolve().parent
    return f"sqlite:///{Path(os.path.relpath(path.resolve(), folder)).as_posix()}"


def write_starter(schema: Schema, source_url: str, config: Path, *, force: bool = False) -> None:
    """Write the file, readable by its owner only: it holds a secret. ConfigError if it is there and `force` is not."""
    text = starter_text(schema, url_in_file(source_url, config))
    parse_settings(text, name=str(config), folder=config.resolve().parent, environment={})  # what is written must load
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        descriptor = os.open(config, flags, 0o600)
    except FileExistsError:
        hint = "Name another file with --config, or overwrite it with --force."
        raise ConfigError(f"{config} is there already.", hint=hint, code="config_exists") from None
    except OSError as error:
        raise ConfigError(f"{config} cannot be written: {error.strerror}.", code="file_unwritable") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, 0o600)  # one that was overwritten may have been everybody's to read
        file.write(text)
