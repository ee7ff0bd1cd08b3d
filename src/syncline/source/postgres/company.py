"""Writing the company's tables: under its role, with the user's claims, and with stamps that capture notes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from asyncpg.exceptions import PostgresError

from syncline.errors import AuthError
from syncline.model.merge import Stamp
from syncline.source.port import Claims
from syncline.source.postgres.refusals import state_of
from syncline.source.postgres.trigger_sql import STAMP_SETTING, seal_sql

_STAMP = (
    f"set_config('{STAMP_SETTING}', concat_ws(':', $1::text, $2::text, "
    f"(SELECT {seal_sql('p.secret', '$1::text', '$2::text')} FROM syncline.pulse AS p)), true)"
)
_NO_SUCH_CHARACTER = {"22P05", "22021"}
PIECEMEAL_GROUPS = 100
"""So many groups of a table are written row by row after one in which the company's rules wrote its rows again."""


@dataclass(frozen=True)
class WriteOptions:
    """`role`: under whose rights the company's tables are written; ours, if empty. `session`: setting -> text, or
    `:claim`, for the company's own rules to read. `piecemeal`: table -> how many more groups are written row by row."""

    role: str = ""
    session: Mapping[str, str] = field(default_factory=dict)
    piecemeal: dict[str, int] = field(default_factory=dict)

    def settings(self, claims: Claims | None) -> dict[str, str]:
        """AuthError where the token lacks a claim."""
        return {name: _setting(name, text, claims or {}) for name, text in self.session.items()}


def _setting(name: str, text: str, claims: Claims) -> str:
    if not text.startswith(":"):
        return text
    claim = text[1:]
    if claim not in claims:
        raise AuthError(
            f'The token has no claim "{claim}", which the setting "{name}" of [source.session] needs.',
            hint="Have the identity provider add it.",
            code="claim_missing",
            status=403,
        )
    return _text(claims[claim])


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value.replace("\0", "")
    return json.dumps(value)


class Company:
    """One transaction's switch between our rights and the company's."""

    def __init__(self, connection: asyncpg.Connection, role: str) -> None:
        self._db = connection
        self.role = role
        self._is_on = False

    async def tell(self, settings: Mapping[str, str]) -> None:
        """For the whole transaction. AuthError for a text that the database cannot hold."""
        for name, text in settings.items():
            try:
                await self._db.execute("SELECT set_config($1, $2, true)", name, text)
            except PostgresError as error:
                if state_of(error) not in _NO_SUCH_CHARACTER:
                    raise
                raise AuthError(
                    f'The setting "{name}" of [source.session] has a character that the database cannot hold.',
                    hint="Have the identity provider send the claim in the characters of the database's encoding.",
                    code="claim_missing",
                    status=403,
                ) from error

    async def enter(self, stamp: Stamp | None = None) -> None:
        """What follows is done with the company's role, and carries the stamp."""
        wanted, arguments = [], []
        if stamp is not None:
            await self.leave()  # the company's role may not read what the stamp is sealed with
            wanted.append(_STAMP)
            arguments += [str(stamp.time_us), str(stamp.writer)]
        if self.role and not self._is_on:
            wanted.append(f"set_config('row_security', 'on', true), set_config('role', ${len(arguments) + 1}, true)")
            arguments.append(self.role)
        if wanted:
            await self._db.execute(f"SELECT {', '.join(wanted)}", *arguments)
        self._is_on = bool(self.role)

    async def leave(self) -> None:
        if self._is_on:
            await self._db.execute("SELECT set_config('role', 'none', true), set_config('row_security', 'off', true)")
        self._is_on = False

    def was_rolled_back(self) -> None:
        """To a savepoint, made with our rights: the settings went back with it."""
        self._is_on = False

    async def hides_rows(self, place: str) -> bool:
        """Whether policies decide which rows of a table the role may change."""
        if not self.role:
            return False
        await self.enter()
        try:
            return bool(await self._db.fetchval("SELECT row_security_active($1::text::regclass)", place))
        finally:
            await self.leave()
