"""Where `--token` gets the token from."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from syncline.errors import ConfigError


def token_source(text: str) -> Callable[[], str]:
    """`@FILE` and `$VARIABLE` are read anew at every call, so that a renewed token is used; anything else is the token.

    ConfigError at once if there is none to be had now.
    """
    if text.startswith("@"):
        read = _file_reader(Path(text[1:]))
    elif text.startswith("$"):
        read = _variable_reader(text[1:].strip("{}"))
    else:
        token = text.strip()
        if not token:
            hint = "In a shell, write '$VARIABLE' in single quotes, or @FILE."
            raise ConfigError("The token is empty.", hint=hint, code="token_missing")
        return lambda: token
    read()
    return read


def _file_reader(path: Path) -> Callable[[], str]:
    def read() -> str:
        try:
            token = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"The token file {path} cannot be read: {error}.", code="token_missing") from error
        if not token:
            raise ConfigError(f"The token file {path} is empty.", code="token_missing")
        return token

    return read


def _variable_reader(name: str) -> Callable[[], str]:
    def read() -> str:
        token = os.environ.get(name, "").strip()
        if not token:
            raise ConfigError(f"The variable {name} holds no token.", hint=f"Set {name}.", code="token_missing")
        return token

    return read
