"""What the shape alone does not say: options that need, or exclude, one another; names that must be known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from syncline.errors import ConfigError
from syncline.model import merge
from syncline.server.config_auth import check_provider
from syncline.server.config_errors import problem, section_of
from syncline.server.config_grants import check_parameters
from syncline.server.config_models import SCOPE_NAME, Configuration, PathEntry, ScopeSection
from syncline.server.config_positions import Place
from syncline.server.config_settings import SECRET_BYTES_MIN, Document
from syncline.server.config_source import check_source_section
from syncline.server.postgres_url import is_postgres

Problems: TypeAlias = Iterator[ConfigError]


def check_configuration(document: Document, configuration: Configuration) -> Problems:
    """Every mistake that can be seen without the database."""
    yield from check_source_section(document, configuration.source)
    yield from _check_secret(document, configuration.auth.secret)
    yield from check_provider(document, configuration.auth)
    for name, scope in configuration.scope.items():
        yield from _check_scope(document, name, scope, is_postgres(configuration.source.url))
    for table, columns in configuration.columns.items():
        if columns.hide is not None and columns.keep is not None:
            yield problem(
                document, ("columns", table), f"[columns] {table} has both hide and keep.", "Use one of them."
            )
    yield from _check_case(document, ("columns",), tuple(configuration.columns))
    yield from _check_case(document, ("table",), tuple(configuration.table))
    yield from _check_case(document, ("merge",), tuple(configuration.merge))
    for table, policies in configuration.merge.items():
        for column, policy in policies.items():
            try:
                merge.policy(policy)
            except ConfigError as error:
                place = ("merge", table, column)
                yield problem(
                    document, place, f"[merge.{table}] {column}: {error.message}", error.hint, error.error_code
                )


def _check_secret(document: Document, secret: str | None) -> Problems:
    if secret is None:
        return
    length = len(secret.encode())
    if length < SECRET_BYTES_MIN:
        yield problem(
            document,
            ("auth", "secret"),
            f"[auth] secret is too short for HS256: {length} bytes of at least {SECRET_BYTES_MIN}.",
            "syncline init writes a fresh one; or: python -c 'import secrets; print(secrets.token_urlsafe(48))'.",
            "secret_short",
        )


def _check_scope(document: Document, name: str, scope: ScopeSection, in_postgres: bool) -> Problems:
    place: Place = ("scope", name)
    here = f"[scope.{name}]"
    if not SCOPE_NAME.fullmatch(name):
        hint = "Use letters without accents, digits, _ and -."
        yield problem(document, place, f'"{name}" cannot be the name of a scope.', hint, "scope_name")
    if scope.root is None:
        for option in ("grant", "key", "refresh", "where"):
            if getattr(scope, option) is not None:
                text = f"{here} has {option} but no root: a scope without a root goes to everybody, whole."
                yield problem(document, (*place, option), text, f'Add root = "…", or remove {option}.', "no_root")
        if not scope.tables:
            yield problem(
                document, place, f"{here} names no table.", 'Add root = "…" or tables = [...].', "empty_scope"
            )
    elif scope.grant is None:
        hint = f'Say which of "{scope.root}" a user may hold: grant = "SELECT … FROM … WHERE … = :sub".'
        yield problem(document, place, f"{here} has a root but no grant: nobody would get anything.", hint, "no_grant")
    else:
        for message, hint in check_parameters(scope.grant, in_postgres):
            yield problem(document, (*place, "grant"), f"{here} grant {message}", hint, "grant_parameter")
    yield from _check_case(document, (*place, "tables"), tuple(scope.tables))
    for table, paths in scope.tables.items():
        yield from _check_paths(document, (*place, "tables", table), scope, table, paths)


def _check_paths(document: Document, place: Place, scope: ScopeSection, table: str, paths: list[PathEntry]) -> Problems:
    here = section_of(place)
    is_root = scope.root is not None and table.lower() == scope.root.lower()
    for number, path in enumerate(paths):
        linked = [way for way in (path.parent, path.referenced_by) if way is not None]
        if len(linked) == 2:
            hint = "Write two paths: [ { parent = … }, { referenced_by = … } ]."
            yield problem(
                document, (*place, number), f"{here} has parent and referenced_by in one path.", hint, "bad_path"
            )
        if path.on and not linked:
            yield problem(
                document,
                (*place, number, "on"),
                f"{here} has on without parent or referenced_by.",
                "Say which table.",
                "bad_path",
            )
        if is_root and linked:
            hint = "Rows of the root are found by their own key."
            yield problem(
                document, (*place, number), f"{here} is the root of the scope and needs no path.", hint, "root_path"
            )
        if scope.root is None and linked:
            hint = 'Add root = "…" to the scope, or remove the path.'
            yield problem(document, (*place, number), f"{here} has a path, but the scope has no root.", hint, "no_root")
        if scope.root is not None and not is_root and not linked and len(paths) > 1:
            hint = 'Add parent = "…" or referenced_by = "…".'
            yield problem(document, (*place, number), f"{here}: path {number + 1} leads nowhere.", hint, "no_path")
    filters = {path.where for path in paths if path.where is not None}
    if len(filters) > 1 or (is_root and filters and scope.where):
        text = f"{here} has two where filters; a filter holds for the table however it is reached."
        yield problem(document, place, text, "Join them with AND in one where.", "two_filters")
    if len({path.read_only for path in paths if path.read_only is not None}) > 1:
        text = f"{here} is read_only in one path and not in another; it holds for the table however it is reached."
        yield problem(document, place, text, "Say it once.", "two_read_only")


def _check_case(document: Document, place: Place, names: tuple[str, ...]) -> Problems:
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(name.lower(), name)
        if first is not name:
            where = section_of((*place, name)) if place[0] == "scope" else f"[{place[0]}] {name}"
            yield problem(
                document, (*place, name), f'{where} stands there twice, the other time as "{first}".', "Join them."
            )
