"""What a pair is made of: the app's schema, its syncline.toml, and who has the devices."""

from __future__ import annotations

import hashlib
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import jwt

from syncline.errors import ConfigError
from syncline.server.config import parse_settings
from syncline.server.config_settings import AuthSettings, Settings

SECRET = "the-secret-of-a-pair-in-a-test-which-signs-for-this-machine-alone"
TOKEN_SECONDS = 24 * 3600

Schema: TypeAlias = "str | Path | Callable[[Path], object]"
User: TypeAlias = "str | Mapping[str, Any]"


@dataclass(frozen=True)
class PairSettings:
    """`configuration`: a syncline.toml, by its path or as text. Its source and its sign-in are the pair's own; all else
    is as it says.

    `schema`: SQL as text, the path of a script (".sql") or of a database that is copied, or a function that is given a
    path and makes the database there. `users`: who holds the devices, by name, or as the claims of a token (the user's
    claim among them); one user may hold both. `replica`: more arguments of `Replica`.
    """

    configuration: str | Path
    schema: Schema
    users: tuple[User, ...] = ("ann", "ben")
    replica: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, told, ending in (("configuration", self.configuration, ".toml"), ("schema", self.schema, ".sql")):
            if isinstance(told, str) and told.strip().endswith(ending) and "\n" not in told:
                raise ConfigError(f'`{name}` of PairSettings is text, "{told}".', hint=f"A file is Path({told!r}).")
            if isinstance(told, Path) and not told.is_file():
                hint = "A path counts from the folder in which pytest runs; Path(__file__).parent is the test's own."
                raise ConfigError(f'`{name}` of PairSettings names no file: "{told.absolute()}".', hint=hint)

    @property
    def text(self) -> str:
        if isinstance(self.configuration, Path):
            return self.configuration.read_text(encoding="utf-8")
        return self.configuration

    @property
    def script(self) -> str | None:
        """The schema's SQL, where it is SQL."""
        if isinstance(self.schema, str):
            return self.schema
        if isinstance(self.schema, Path) and self.schema.suffix == ".sql":
            return self.schema.read_text(encoding="utf-8")
        return None

    @property
    def identity(self) -> object:
        """The same for settings whose database is the same."""
        what: object = self.script if self.script is not None else self.schema
        if isinstance(what, Path):
            what = hashlib.sha256(what.read_bytes()).hexdigest()
        return self.text, what

    def serving(self, database: Path) -> Settings:
        """As the server is told: this file, tokens of `token`, and no limit to how often a test may ask."""
        text = self.text
        environment = {"SYNCLINE_SOURCE_URL": f"sqlite:///{database}"}
        if "jwks_url" not in tomllib.loads(text).get("auth", {}):
            environment["SYNCLINE_AUTH_SECRET"] = SECRET
        name = str(self.configuration) if isinstance(self.configuration, Path) else "syncline.toml"
        settings = parse_settings(text, name=name, folder=database.parent, environment=environment)
        return replace(
            settings,
            auth=AuthSettings(secret=SECRET, user_claim=settings.auth.user_claim),
            serve=replace(settings.serve, user_requests_per_second_max=1e6),
        )

    def claims_of(self, user: User) -> dict[str, Any]:
        return {self._user_claim: user} if isinstance(user, str) else dict(user)

    def token(self, user: User) -> str:
        """What the user's app would have got when he signed in."""
        claims = {**self.claims_of(user), "exp": int(time.time()) + TOKEN_SECONDS}
        return jwt.encode(claims, SECRET, algorithm="HS256")

    @property
    def _user_claim(self) -> str:
        return str(tomllib.loads(self.text).get("auth", {}).get("user_claim", "sub"))
