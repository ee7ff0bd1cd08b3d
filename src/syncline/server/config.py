"""`syncline.toml`: read, checked, and turned into `Settings`.

    load_settings(path)              the file and the environment -> Settings, or ConfigError with file and line
    load_plan(settings, source)      held against the live database -> Plan, or ConfigError with file and line
    locate(error, settings)          puts the file and line in front of an error that the model raised

The shape is in `config_models`, what goes beyond it in `config_check`, what the environment overrides in
`config_options`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from syncline.errors import ConfigError
from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig, TableRules
from syncline.server.config_check import check_configuration
from syncline.server.config_errors import problems_of_validation, raise_problems
from syncline.server.config_grants import claims_in
from syncline.server.config_locate import locate
from syncline.server.config_models import Configuration, PathEntry, ScopeSection
from syncline.server.config_options import apply_environment, misspelt_variables
from syncline.server.config_plan import load_plan
from syncline.server.config_positions import find_positions
from syncline.server.config_settings import (
    AuthSettings,
    ConfigProblemsError,
    Document,
    ServeSettings,
    Settings,
    problems_of,
)
from syncline.server.config_source import normalised_urls

__all__ = [
    "AuthSettings",
    "ConfigProblemsError",
    "Settings",
    "claims_in",
    "load_plan",
    "load_settings",
    "locate",
    "parse_settings",
    "problems_of",
]

FILE_NAME = "syncline.toml"


def load_settings(path: str | Path = FILE_NAME, environment: Mapping[str, str] | None = None) -> Settings:
    """Read the file at `path`. `environment`: what overrides it, by default the process's."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        hint = "Run syncline init SOURCE_URL to write one, or name one with --config."
        raise ConfigError(f"There is no configuration at {path}.", hint=hint, code="config_missing") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text.", hint="Save it as UTF-8.", code="config_syntax") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", code="config_missing") from error
    return parse_settings(text, name=str(path), folder=path.parent, environment=environment)


def parse_settings(
    text: str, *, name: str = FILE_NAME, folder: Path, environment: Mapping[str, str] | None = None
) -> Settings:
    """Like `load_settings`, from text. `name` is what errors call it; relative paths count from `folder`."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(name, text, error) from error
    environment = os.environ if environment is None else environment
    merged, overridden = apply_environment(raw, environment)
    document = Document(name, raw, find_positions(text), overridden)
    raise_problems(document, _misspelt(environment))
    try:
        configuration = Configuration.model_validate(merged)
    except ValidationError as error:
        raise_problems(document, problems_of_validation(document, error))
        raise
    raise_problems(document, check_configuration(document, configuration))
    source_url, direct_url = normalised_urls(document, configuration.source, folder)
    auth = configuration.auth
    return Settings(
        source_url=source_url,
        auth=AuthSettings(
            secret=auth.secret,
            jwks_url=auth.jwks_url,
            issuer=auth.issuer,
            audience=tuple(auth.audience or ()),
            user_claim=auth.user_claim,
            leeway_seconds=auth.leeway_seconds,
        ),
        plan_config=_plan_config(configuration),
        journal=configuration.source.journal,
        direct_url=direct_url,
        write_role=configuration.source.write_role or "",
        capture_role=configuration.source.capture_role,
        session=dict(configuration.source.session),
        retention_days=configuration.retention.days,
        serve=ServeSettings(**configuration.serve.model_dump()),
        document=document,
    )


def _misspelt(environment: Mapping[str, str]) -> list[ConfigError]:
    return [
        ConfigError(f"The variable {name} overrides nothing.", hint=f"Did you mean {meant}?", code="unknown_variable")
        for name, meant in misspelt_variables(environment).items()
    ]


def _syntax_error(name: str, text: str, error: tomllib.TOMLDecodeError) -> ConfigError:
    message, _, place = str(error).rpartition(" (at ")
    line = "".join(character for character in place.partition(",")[0] if character.isdigit())
    where = f"{name}:{line or text.count(chr(10)) + 1}"
    hint = "Text stands in quotes, a section's name in [brackets]." if line else "Is something not closed?"
    if "overwrite" in message or "twice" in message or "mutate" in message or "Cannot declare" in message:
        hint = "It stands there twice."
    return ConfigError(f"{where}: not TOML: {message or error}.", hint=hint, code="config_syntax")


def _plan_config(configuration: Configuration) -> PlanConfig:
    columns = configuration.columns
    return PlanConfig(
        scopes=tuple(_scope_config(name, scope) for name, scope in configuration.scope.items()),
        hide={table: tuple(entry.hide) for table, entry in columns.items() if entry.hide},
        keep={table: tuple(entry.keep) for table, entry in columns.items() if entry.keep is not None},
        rules={table: TableRules(keys=rules.keys) for table, rules in configuration.table.items()},
        merge={table: dict(policies) for table, policies in configuration.merge.items()},
    )


def _scope_config(name: str, scope: ScopeSection) -> ScopeConfig:
    return ScopeConfig(
        name=name,
        tables={table: _table_config(paths) for table, paths in scope.tables.items()},
        root=scope.root,
        grant=scope.grant,
        key=tuple(scope.key) if scope.key else None,
        where=scope.where,
        read_only=scope.read_only,
        refresh_seconds=scope.refresh,
        own_edit_may_leave=scope.own_edit_may_leave,
    )


def _table_config(paths: list[PathEntry]) -> TableConfig:
    links = tuple(
        LinkConfig(path.parent, path.referenced_by, dict(path.on) if path.on else None)
        for path in paths
        if path.parent is not None or path.referenced_by is not None
    )
    where = next((path.where for path in paths if path.where is not None), None)
    return TableConfig(links=links, where=where, read_only=any(path.read_only for path in paths))
