"""The options that may also come from the environment: one table for the file, the environment and the docs."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from syncline import limits
from syncline.source.postgres.names import CAPTURE_ROLE_DEFAULT

Section: TypeAlias = "tuple[str, str]"

AUTH_LEEWAY_SECONDS_DEFAULT = 10.0


@dataclass(frozen=True, slots=True)
class Option:
    """One option. `default` None: there is none; `kind` is the Python type of its value."""

    section: str
    key: str
    kind: type[str] | type[int] | type[float]
    default: str | int | float | None
    help: str

    @property
    def place(self) -> Section:
        return (self.section, self.key)

    @property
    def environment(self) -> str:
        """The variable that overrides the file: `SYNCLINE_SOURCE_URL` for `[source] url`."""
        return f"SYNCLINE_{self.section}_{self.key}".upper()

    @property
    def default_text(self) -> str:
        return "" if self.default is None else str(self.default)

    def read(self, text: str) -> str | int | float:
        """The value in a variable's text; text that is no number stays text, for the validation to refuse by name."""
        if self.kind is str:
            return text
        try:
            return self.kind(text)
        except ValueError:
            return text


OPTIONS = (
    Option("source", "url", str, None, 'the database: "sqlite:///clinic.db" or "postgresql://user@host/database"'),
    Option("source", "journal", str, "wal", '"wal": provision switches an SQLite file to WAL; "keep": leaves it'),
    Option("source", "direct_url", str, None, "PostgreSQL behind a pooler in transaction mode: the database itself"),
    Option("source", "write_role", str, None, "PostgreSQL: the role that uploads write as (SET LOCAL ROLE)"),
    Option("source", "capture_role", str, CAPTURE_ROLE_DEFAULT, "PostgreSQL: the role that owns capture's functions"),
    Option("auth", "secret", str, None, "what tokens are signed with (HS256): at least 32 bytes"),
    Option(
        "auth",
        "jwks_url",
        str,
        None,
        "where an identity provider publishes its keys (RS256, ES256, …)",
    ),
    Option("auth", "issuer", str, None, "the `iss` that tokens must have"),
    Option("auth", "audience", str, None, "the `aud` that tokens must have; in the file also a list: one is enough"),
    Option("auth", "user_claim", str, "sub", "the claim of a token that names the user"),
    Option(
        "auth", "leeway_seconds", float, AUTH_LEEWAY_SECONDS_DEFAULT, "how far clocks may differ when a token expires"
    ),
    Option(
        "serve",
        "requests_in_work_max",
        int,
        limits.REQUESTS_IN_WORK_MAX_DEFAULT,
        "requests that a process works on at once; more are told to come back later",
    ),
    Option(
        "serve",
        "connections_max",
        int,
        limits.CONNECTIONS_MAX_DEFAULT,
        "streams and waiting long polls of a process",
    ),
    Option("serve", "user_connections_max", int, limits.USER_CONNECTIONS_MAX_DEFAULT, "the same, of one user"),
    Option(
        "serve",
        "user_requests_per_second_max",
        float,
        limits.USER_REQUESTS_PER_SECOND_MAX_DEFAULT,
        "requests of one user, on average over ten seconds; a long message counts as one more for each thousand of its "
        "commas, and of its brackets three times",
    ),
    Option("retention", "days", int, limits.RETENTION_DAYS_DEFAULT, "a device away for longer downloads its rows anew"),
)


def apply_environment(
    raw: Mapping[str, Any], environment: Mapping[str, str]
) -> tuple[dict[str, Any], dict[Section, str]]:
    """A copy of the parsed file with the variables put over it, and which places they took. Empty ones count not."""
    merged = copy.deepcopy(dict(raw))
    overridden: dict[Section, str] = {}
    for option in OPTIONS:
        text = environment.get(option.environment)
        section = merged.setdefault(option.section, {}) if text else None
        if text and isinstance(section, dict):
            section[option.key] = option.read(text)
            overridden[option.place] = option.environment
    return merged, overridden


def misspelt_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that override nothing and look as if they should -> the one that was probably meant."""
    known = [option.environment for option in OPTIONS]
    unknown = [name for name in environment if name.startswith("SYNCLINE_") and name not in known]
    close = {name: difflib.get_close_matches(name, known, n=1, cutoff=0.85) for name in unknown}
    return {name: found[0] for name, found in close.items() if found}


def environment_table() -> str:
    """The table of docs/cli.md, in Markdown."""
    lines = ["| variable | overrides | default | what it is |", "|---|---|---|---|"]
    for option in OPTIONS:
        default = f"`{option.default_text}`" if option.default is not None else "none"
        lines.append(f"| `{option.environment}` | `[{option.section}] {option.key}` | {default} | {option.help} |")
    return "\n".join(lines)
