"""The file that a `device` verb looks at."""

from __future__ import annotations

from pathlib import Path

from syncline.errors import ConfigError


def existing_replica(path: Path) -> Path:
    """The path, or ConfigError if nothing is there: looking at a replica must not make one."""
    if not path.is_file():
        hint = "Make one with syncline device sync, or name another with --db."
        raise ConfigError(f"There is no replica at {path}.", hint=hint, code="replica_missing")
    return path
