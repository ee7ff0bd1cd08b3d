"""The configuration as the rest of the server uses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syncline import limits
from syncline.errors import ConfigError
from syncline.model.scopes import PlanConfig
from syncline.server.config_options import AUTH_LEEWAY_SECONDS_DEFAULT
from syncline.server.config_positions import Place, line_of
from syncline.server.config_values import sqlite_path_of, without_password
from syncline.server.postgres_url import is_postgres
from syncline.source.postgres.names import CAPTURE_ROLE_DEFAULT

SECRET_BYTES_MIN = 32
"""HS256 is as strong as its secret; RFC 7518 section 3.2 asks for the length of the hash."""


@dataclass(frozen=True)
class AuthSettings:
    """How tokens are checked: by `secret`, or by the keys at `jwks_url`; neither where the host application
    authenticates (`install(authenticate=…)`). `issuer` and `audience` are compared with a token's `iss` and `aud`
    where they are set; one of several audiences is enough."""

    secret: str | None = field(default=None, repr=False)
    jwks_url: str | None = None
    issuer: str | None = None
    audience: tuple[str, ...] = ()
    user_claim: str = "sub"
    algorithms: tuple[str, ...] = ("HS256",)
    leeway_seconds: float = AUTH_LEEWAY_SECONDS_DEFAULT


@dataclass(frozen=True)
class ServeSettings:
    """What one process takes at once; the rest is refused with a time to come back. Connections are streams and
    waiting long polls."""

    requests_in_work_max: int = limits.REQUESTS_IN_WORK_MAX_DEFAULT
    connections_max: int = limits.CONNECTIONS_MAX_DEFAULT
    user_connections_max: int = limits.USER_CONNECTIONS_MAX_DEFAULT
    user_requests_per_second_max: float = limits.USER_REQUESTS_PER_SECOND_MAX_DEFAULT


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

    `journal`: "wal" or "keep". `retention_days`: how long the feed keeps what changed. `direct_url`, `write_role`,
    `capture_role` and `session` (setting -> value with claims in it) are of a PostgreSQL source.
    """

    source_url: str = field(repr=False)
    auth: AuthSettings = field(default_factory=AuthSettings)
    plan_config: PlanConfig = field(default_factory=lambda: PlanConfig(()))
    journal: str = "wal"
    direct_url: str | None = field(default=None, repr=False)
    write_role: str = ""
    capture_role: str = CAPTURE_ROLE_DEFAULT
    session: Mapping[str, str] = field(default_factory=dict)
    retention_days: int = limits.RETENTION_DAYS_DEFAULT
    serve: ServeSettings = field(default_factory=ServeSettings)
    document: Document = field(default_factory=Document, compare=False)

    @property
    def is_postgres(self) -> bool:
        return is_postgres(self.source_url)

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
