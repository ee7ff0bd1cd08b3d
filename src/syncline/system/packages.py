"""Packages that an installation may lack."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from syncline.errors import ConfigError


@contextmanager
def needs_extra(extra: str, message: str) -> Iterator[None]:
    """Around imports: a missing package becomes a ConfigError that says what to install. `message` names the package
    where it has `{package}`."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "syncline":
            raise
        raise ConfigError(
            message.format(package=package), hint=f'Run: pip install "syncline[{extra}]".', code="extra_missing"
        ) from error
