"""The configuration as the rest of the server uses it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syncline import limits
from syncline.errors import ConfigError
from syncline.model.scopes import PlanConfig
from syncline.server.config_options import AUTH_LEEWAY_SECONDS_DEFAULT
from syncline.server.config_positions import Place, line_of
from syncline.server.config_values import sqlite_path_of, without_password

SECRET_BYTES_MIN = 32
"""HS256 is as strong as its secret; RFC 7518 section 3.2 asks for the length of the hash."""


@dataclass(frozen=True)
class AuthSettings:
    """How tokens are checked. `secret` is None where the host application authenticates (`install(authenticate=…)`)."""

    secret: str | None = field(default=None, repr=False)
    user_claim: str = "sub"
    algorithms: tuple[str, ...] = ("HS256",)
    leeway_seconds: float = AUTH_LEEWAY_SECONDS_DEFAULT


@dataclass(frozen=True)
class Document:
    """The file behind the settings: where each key stands, and which options the environment took over."""

    name: str = "syncline.toml"
    raw: dict[str, Any] = field(default_factory=dict, repr=False)
    positions: dict[Place, int] = field(default_factory=dict, repr=False)
    overridden: dict[tuple[str, str], str] = field(default_factory=dict)

    def where(self, place: Place) -> str:
        """`syncline.toml:12`, the variable that overrides the place, or only the file."""
        for section, variable in self.overridden.items():
            if place[:2] == section:
                return variable
        line = line_of(self.positions, place)
        return f"{self.name}:{line}" if line else self.name


@dataclass(frozen=True)
class Settings:
    """Everything that `syncline.toml` and the environment say. `source_url` has an absolute path.

    `journal`: "wal" or "keep". `retention_days`: how long the feed keeps what changed.
    """

    source_url: str = field(repr=False)
    auth: AuthSettings = field(default_factory=AuthSettings)
    plan_config: PlanConfig = field(default_factory=lambda: PlanConfig(()))
    journal: str = "wal"
    retention_days: int = limits.RETENTION_DAYS_DEFAULT
    document: Document = field(default_factory=Document, compare=False)

    @property
    def source_path(self) -> Path:
        """The file of an SQLite source."""
        return sqlite_path_of(self.source_url)

    @property
    def source_label(self) -> str:
        """The source as messages may show it: without a password."""
        return without_password(self.source_url)


class ConfigProblemsError(ConfigError):
    """Several mistakes in one file; `problems` holds each as an error of its own, in the order of the file."""

    def __init__(self, name: str, problems: tuple[ConfigError, ...]) -> None:
        lines = "".join(f"\n  {problem}" for problem in problems)
        super().__init__(f"{name} has {len(problems)} mistakes:{lines}\n", hint="Nothing was started.")
        self.problems = problems


def problems_of(error: ConfigError) -> tuple[ConfigError, ...]:
    """The single mistakes that an error stands for."""
    return error.problems if isinstance(error, ConfigProblemsError) else (error,)
