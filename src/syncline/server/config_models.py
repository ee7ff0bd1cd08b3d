"""The shape of `syncline.toml`: what pydantic checks before anything is made of it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from syncline import limits
from syncline.server.config_options import AUTH_LEEWAY_SECONDS_DEFAULT
from syncline.server.config_values import duration_seconds
from syncline.source.postgres.names import CAPTURE_ROLE_DEFAULT

RETENTION_DAYS_MAX = 3650
AUTH_LEEWAY_SECONDS_MAX = 600.0

SCOPE_NAME = re.compile(r"[A-Za-z0-9_-]+")


def refusal(message: str, hint: str = "", code: str = "config") -> PydanticCustomError:
    """An error of our own inside a validator: it keeps its hint and code on the way out."""
    return PydanticCustomError("syncline", "{message}", {"message": message, "hint": hint, "code": code})


def _tables_as_dict(value: Any) -> Any:
    """`["a", "b"]` -> `{"a": [{}], "b": [{}]}`."""
    if isinstance(value, list):
        wrong = [name for name in value if not isinstance(name, str)]
        if wrong:
            raise refusal(
                "A list of tables holds names.", 'Write tables = ["medications"], or a table with one line each.'
            )
        return {name: [{}] for name in value}
    if isinstance(value, dict):
        return value
    raise refusal(
        "tables must be a list of names or a table.",
        'Write tables = ["medications"], or [scope.NAME.tables] with a line each.',
    )


def _paths_as_list(value: Any) -> Any:
    if isinstance(value, str):
        raise refusal("a path is a table, not text.", f'Write {{ parent = "{value}" }}.', "wrong_type")
    return [value] if isinstance(value, dict) else value


def _key_as_list(value: Any) -> Any:
    if not isinstance(value, str | list):
        raise refusal("key must be a column's name or a list of them.", 'For example key = "region".', "wrong_type")
    return [value] if isinstance(value, str) else value


def _audience_as_list(value: Any) -> Any:
    if not isinstance(value, str | list):
        raise refusal("audience must be text or a list of texts.", 'For example audience = "syncline".', "wrong_type")
    return [value] if isinstance(value, str) else value


def _as_seconds(value: Any) -> Any:
    seconds = duration_seconds(value) if isinstance(value, str) else None
    if seconds is None or seconds < 1:
        raise refusal(
            f"refresh must be a time of at least one second, not {value!r}.", 'For example refresh = "60s" or "5m".'
        )
    return seconds


Name = Annotated[str, Field(min_length=1, max_length=limits.IDENTIFIER_CHARACTERS_MAX)]
Sql = Annotated[str, Field(min_length=1)]


class SectionModel(BaseModel):
    """Unknown keys are errors, and nothing is turned into another type silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SourceSection(SectionModel):
    url: Name
    journal: Literal["wal", "keep"] = "wal"
    direct_url: Name | None = None
    write_role: Name | None = None
    capture_role: Name = CAPTURE_ROLE_DEFAULT
    session: dict[Name, str] = Field(default_factory=dict)


class AuthSection(SectionModel):
    secret: str | None = None
    jwks_url: Name | None = None
    issuer: Name | None = None
    audience: Annotated[list[Name], BeforeValidator(_audience_as_list), Field(min_length=1)] | None = None
    user_claim: Name = "sub"
    leeway_seconds: float = Field(default=AUTH_LEEWAY_SECONDS_DEFAULT, ge=0, le=AUTH_LEEWAY_SECONDS_MAX)


class ServeSection(SectionModel):
    requests_in_work_max: int = Field(default=limits.REQUESTS_IN_WORK_MAX_DEFAULT, ge=1)
    connections_max: int = Field(default=limits.CONNECTIONS_MAX_DEFAULT, ge=1)
    user_connections_max: int = Field(default=limits.USER_CONNECTIONS_MAX_DEFAULT, ge=1)
    user_requests_per_second_max: float = Field(default=limits.USER_REQUESTS_PER_SECOND_MAX_DEFAULT, ge=1)


class RetentionSection(SectionModel):
    days: int = Field(default=limits.RETENTION_DAYS_DEFAULT, ge=1, le=RETENTION_DAYS_MAX)


class PathEntry(SectionModel):
    """One way of a table to its scope; `where` and `read_only` hold for the table, however it is reached."""

    parent: Name | None = None
    referenced_by: Name | None = None
    on: Annotated[dict[Name, Name], Field(min_length=1)] | None = None
    where: Sql | None = None
    read_only: bool | None = None


Paths = Annotated[list[PathEntry], BeforeValidator(_paths_as_list), Field(min_length=1)]


class ScopeSection(SectionModel):
    root: Name | None = None
    grant: Sql | None = None
    key: Annotated[list[Name], BeforeValidator(_key_as_list), Field(min_length=1)] | None = None
    where: Sql | None = None
    refresh: Annotated[float, BeforeValidator(_as_seconds)] | None = None
    read_only: bool = False
    own_edit_may_leave: bool = False
    tables: Annotated[dict[Name, Paths], BeforeValidator(_tables_as_dict)] = Field(default_factory=dict)


class ColumnsEntry(SectionModel):
    """`keep = []` keeps the key alone."""

    hide: list[Name] | None = None
    keep: list[Name] | None = None


class TableSection(SectionModel):
    keys: Literal["unique", "natural"] = "unique"
    delete: Literal["delete_wins"] = "delete_wins"


class Configuration(SectionModel):
    """The whole file."""

    source: SourceSection
    auth: AuthSection = AuthSection()
    retention: RetentionSection = RetentionSection()
    serve: ServeSection = ServeSection()
    scope: dict[str, ScopeSection] = Field(default_factory=dict)
    columns: dict[Name, ColumnsEntry] = Field(default_factory=dict)
    table: dict[Name, TableSection] = Field(default_factory=dict)
    merge: dict[Name, dict[Name, Name]] = Field(default_factory=dict)


SECTIONS: dict[tuple[str, ...], type[SectionModel]] = {
    (): Configuration,
    ("source",): SourceSection,
    ("auth",): AuthSection,
    ("retention",): RetentionSection,
    ("serve",): ServeSection,
    ("scope", "*"): ScopeSection,
    ("scope", "*", "tables", "*", "*"): PathEntry,
    ("columns", "*"): ColumnsEntry,
    ("table", "*"): TableSection,
}
"""Which model stands at which place; `*` is any name or index."""

NOT_YET: dict[tuple[str, ...], str] = {
    ("forward",): "Forwarding to an HTTP API",
    ("hooks",): "Hooks",
    ("columns", "*", "as_real"): "Reading numeric columns as REAL",
    ("columns", "*", "scaled"): "Reading numeric columns as scaled integers",
    ("table", "*", "write"): "Rules on writing",
}
"""What the design has and this version has not: refused by name, never ignored."""

VALUES_NOT_YET: dict[tuple[str, ...], tuple[str, ...]] = {("table", "*", "delete"): ("edit_wins", "latest")}
