"""From settings to a plan: the configuration held against the live database."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from syncline.errors import ConfigError
from syncline.model.resolving import resolve
from syncline.model.schema import Schema
from syncline.model.scopes import Plan, QueryReads, ScopeConfig
from syncline.server.config_grants import doubts_about
from syncline.server.config_kept import KeptReads
from syncline.server.config_locate import locate
from syncline.server.config_positions import Place
from syncline.server.config_settings import Settings


class Reader(Protocol):
    """The part of a Source that resolving needs."""

    async def introspect(self) -> Schema: ...

    async def reads_of_query(self, query: str) -> QueryReads: ...

    async def reads_of_filter(self, table: str, where: str) -> QueryReads: ...


async def load_plan(settings: Settings, source: Reader, kept: KeptReads | None = None) -> Plan:
    """The plan, with warnings; ConfigError, with file and line, for what does not fit the database. With `kept`, what
    the database took before and does not take now is `unfit` instead."""
    kept = kept or KeptReads()
    kept.begin()
    try:
        schema = await source.introspect()
        grant_reads: dict[str, QueryReads] = {}
        filter_reads: dict[tuple[str, str], QueryReads] = {}
        warnings: list[str] = []
        for scope in settings.plan_config.scopes:
            if scope.grant is not None:
                grant_reads[scope.name] = await _read_grant(settings, source, scope, kept)
                doubts = doubts_about(scope.grant, settings.auth.user_claim)
                warnings.extend(f"[scope.{scope.name}] grant {doubt}" for doubt in doubts)
            for (table, where), place in _filters_of(settings, scope, schema).items():
                filter_reads[table, where] = await _read_filter(settings, source, schema, (table, where), place, kept)
        plan = resolve(settings.plan_config, schema, grant_reads, filter_reads)
    except _LocatedError as error:
        raise error.error from error
    except ConfigError as error:
        raise locate(error, settings) from error
    if not plan.scopes:
        warnings.append("There is no scope: nothing syncs.")
    return dataclasses.replace(
        plan, warnings=(*plan.warnings, *warnings), unfit=kept.unfit, unfit_grants=kept.unfit_grants
    )


class _LocatedError(Exception):
    """Carries an error that names its line already past `locate`."""

    def __init__(self, error: ConfigError) -> None:
        super().__init__(str(error))
        self.error = error


def _at(settings: Settings, place: Place, here: str, error: ConfigError) -> _LocatedError:
    message = error.message if error.message.startswith("[") else f"{here}: {error.message}"
    text = f"{settings.document.where(place)}: {message}"
    return _LocatedError(ConfigError(text, hint=error.hint, code=error.error_code))


async def _read_grant(settings: Settings, source: Reader, scope: ScopeConfig, kept: KeptReads) -> QueryReads:
    place: Place = ("scope", scope.name, "grant")
    here = f"[scope.{scope.name}] grant"
    try:
        try:
            reads = await source.reads_of_query(scope.grant or "")
        except ConfigError as error:
            return kept.instead_of_grant(scope.name, error)
        if reads.volatile and scope.refresh_seconds is None:
            raise ConfigError(
                f"{here} uses {reads.volatile[0]}(), whose value changes without a write.",
                hint='Add refresh = "60s" to ask it again by the clock.',
                code="grant_volatile",
            )
    except ConfigError as error:
        raise _at(settings, place, here, error) from error
    return kept.keep_grant(scope.name, reads)


def _filters_of(settings: Settings, scope: ScopeConfig, schema: Schema) -> dict[tuple[str, str], Place]:
    """(table, where) by the table's own spelling, and where each stands."""
    filters: dict[tuple[str, str], Place] = {}
    for name, member in scope.tables.items():
        if member.where:
            entry: Place = ("scope", scope.name, "tables", name)
            places = (place for place in settings.document.positions if place[:4] == entry and place[-1] == "where")
            filters[schema.table(name).name, member.where] = next(places, entry)
    if scope.root and scope.where:
        filters[schema.table(scope.root).name, scope.where] = ("scope", scope.name, "where")
    return filters


async def _read_filter(
    settings: Settings, source: Reader, schema: Schema, filter_: tuple[str, str], place: Place, kept: KeptReads
) -> QueryReads:
    table, where = filter_
    try:
        try:
            return kept.keep_filter(table, where, await source.reads_of_filter(table, where))
        except ConfigError as error:
            return kept.instead_of_filter(table, where, schema, error)
    except ConfigError as error:
        raise _at(settings, place, f'[scope.{place[1]}] where of "{table}"', error) from error
