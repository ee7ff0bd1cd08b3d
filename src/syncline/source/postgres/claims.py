"""Grants: which buckets the company's own SQL says that a user may hold.

A grant is run as it stands; its parameters are the claims of a verified token. What type each has is what PostgreSQL
infers from the query, asked once per plan; a claim is bound as text and cast to it, so that it is data and nothing
else. A claim that is none of its type matches nothing. A grant that fails, for what the company's data hold or what its
SQL makes of a claim, says nothing at all: who is told that nothing is granted would lose what they hold.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
from asyncpg.exceptions import InsufficientPrivilegeError

from syncline.log import logger
from syncline.model.identifiers import literal, quote
from syncline.model.schema import Column, Table
from syncline.model.scopes import Plan, Scope, bucket_name
from syncline.source.claims import GrantFailsError, required_claim
from syncline.source.port import Claims
from syncline.source.postgres.attempts import attempted, castable, is_checked
from syncline.source.postgres.binding import INTEGER_BITS, UNKNOWN, bind
from syncline.source.postgres.column_types import Types
from syncline.source.postgres.layout import PlanSql
from syncline.source.postgres.parameters import positional, split
from syncline.source.postgres.rows_sql import key_json
from syncline.source.postgres.trouble import is_data_fault
from syncline.source.postgres.types import canonical, cast_sql, value_of, value_sql
from syncline.values import Value

Bound = tuple["str | None", ...]
"""The claims that a grant reads, as the texts of its parameters, in order."""

_log = logger("source")
_TYPES = """
WITH RECURSIVE wanted(oid) AS (
  SELECT unnest($1::oid[])
  UNION
  SELECT part.oid FROM wanted w JOIN pg_catalog.pg_type t ON t.oid = w.oid
  CROSS JOIN LATERAL (VALUES (t.typbasetype), (t.typelem)) part(oid) WHERE part.oid <> 0)
SELECT t.oid, n.nspname AS schema, t.typname AS name, t.typtype::text AS sort, t.typbasetype AS base,
  t.typtypmod AS modifier, t.typelem AS element, t.typarray AS array_id
FROM wanted w JOIN pg_catalog.pg_type t ON t.oid = w.oid JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
"""
_USER = "syncline_user"
"""No company calls a table so: inside a grant it names the line of claims that it is asked for."""


@dataclass(frozen=True)
class Form:
    """A type that PostgreSQL named: its kind (`types`), and how SQL names it."""

    kind: str
    sql: str


@dataclass(frozen=True)
class Grant:
    """A scope's grant as PostgreSQL understands it. `text`: its SQL; `names` and `forms`: its parameters; `answers`:
    its columns."""

    scope: Scope
    text: str
    names: tuple[str, ...]
    forms: tuple[Form, ...]
    answers: tuple[Form, ...]

    def bind(self, claims: Claims) -> Bound | None:
        """None where a claim is none of its type: it matches nothing. AuthError where one is missing."""
        values = [required_claim(claims, name, self.scope.name) for name in self.names]
        try:
            return tuple([claim_text(form.kind, value) for form, value in zip(self.forms, values, strict=True)])
        except ValueError:
            return None

    def query(self, place: Callable[[int], str]) -> str:
        """Its SQL with each parameter's place cast to the parameter's type."""
        numbers = {name: number for number, name in enumerate(self.names)}
        return "".join(
            text if name is None else f"CAST({place(numbers[name])}::text AS {self.forms[numbers[name]].sql})"
            for text, name in split(self.text)
        )

    async def fits(self, db: asyncpg.Connection, bound: Bound) -> bool:
        """Whether PostgreSQL can cast the claims of which only it can tell."""
        holds_all = db.get_settings().server_encoding == "UTF8"
        unsure = [number for number, form in enumerate(self.forms) if not (holds_all and is_checked(form.kind))]
        return await castable(db, [bound[number] for number in unsure], [self.forms[number].sql for number in unsure])


# ---------------------------------------------------------------- what is offered
def grant_parameters(query: str) -> tuple[str, ...]:
    """The claims that a grant names: `:sub`, `:tenant`."""
    return positional(query)[1]


async def granted(db: asyncpg.Connection, sql: PlanSql, claims: Claims) -> frozenset[str]:
    """The buckets that a user with these claims may hold, on the rows that `db` sees. After a GrantFailsError the
    transaction is lost."""
    found: set[str] = set()
    for scope in sql.plan.scopes.values():
        try:
            found |= await granted_in(db, sql, scope, claims)
        except GrantFailsError as error:
            _log.warning("%s", error)
            raise
    return frozenset(found)


async def granted_in(db: asyncpg.Connection, sql: PlanSql, scope: Scope, claims: Claims) -> frozenset[str]:
    """Those of them that are the scope's."""
    if scope.grant is None:
        return frozenset({bucket_name(scope.name, ())})
    if scope.name in sql.plan.unfit_grants:
        raise GrantFailsError(scope.name, "the database does not take it")
    grant = await grant_of(db, sql, scope)
    bound = grant.bind(claims)
    if bound is None or not await grant.fits(db, bound):
        return frozenset()
    try:
        return (await _Answers(db, sql.plan, grant).read([bound]))[0]
    except Exception as error:
        if not _fails(error):
            raise
        raise GrantFailsError(scope.name, f"SQLSTATE {getattr(error, 'sqlstate', None)}") from error


async def grant_of(db: asyncpg.Connection, sql: PlanSql, scope: Scope) -> Grant:
    """Asked of PostgreSQL once per plan."""
    known = sql.grants.get(scope.name)
    if known is None:
        known = sql.grants[scope.name] = await read_grant(db, scope)
    return known


async def ask(db: asyncpg.Connection, plan: Plan, grant: Grant, users: Sequence[Bound]) -> list[frozenset[str] | None]:
    """What the grant says to each of the users, all in one query where it fails for none; None to whom it fails."""
    told = await _ask_parts(db, _Answers(db, plan, grant), grant, users)
    if failures := told.count(None):
        _log.warning('the grant of scope "%s" fails for %d of %d users', grant.scope.name, failures, len(users))
    return told


async def _ask_parts(
    db: asyncpg.Connection, reader: _Answers, grant: Grant, users: Sequence[Bound]
) -> list[frozenset[str] | None]:
    """Halved until those for whom it fails are alone: they are few."""
    if not users or (len(users) == 1 and not await grant.fits(db, users[0])):
        return [frozenset()] * len(users)
    found = await attempted(db, lambda: reader.read(users), _fails)
    if found is not None:
        return list(found)
    if len(users) == 1:
        return [None]
    middle = len(users) // 2
    first = await _ask_parts(db, reader, grant, users[:middle])
    return [*first, *await _ask_parts(db, reader, grant, users[middle:])]


def _fails(error: BaseException) -> bool:
    """Whether it is the grant's own trouble: what the data hold, or a right on what it reads."""
    return is_data_fault(error) or isinstance(error, InsufficientPrivilegeError)


# ---------------------------------------------------------------- claims as parameters
def claim_text(kind: str, value: Any) -> str | None:
    """A claim as the text of a parameter; ValueError where it is none of its kind.

    A list is an array, or JSON where no array is due; a single value is an array of one.
    """
    if value is None:
        return None
    if kind.endswith("[]"):
        parts = value if isinstance(value, list) else [value]
        return _bound_text(kind, json.dumps([_part(part) for part in parts], ensure_ascii=False))
    if isinstance(value, list | dict) or kind in ("json", "jsonb"):
        text = json.dumps(value, ensure_ascii=False)
        if "\\u0000" in text:
            raise ValueError("PostgreSQL's text holds no character 0")
        return _bound_text("text" if kind in ("json", "jsonb") else kind, text)
    return _bound_text(kind, _part(value))


def _part(value: Any) -> Any:
    """JSON's true is no number, but the word that PostgreSQL reads as one."""
    if isinstance(value, list):
        return [_part(part) for part in value]
    return ("true" if value else "false") if isinstance(value, bool) else value


def _bound_text(kind: str, value: Any) -> str | None:
    if kind in INTEGER_BITS and value in ("true", "false"):
        value = int(value == "true")
    found = bind("text" if kind == "bytes" else kind, value)
    return found.hex() if isinstance(found, bytes) else found


# ---------------------------------------------------------------- what PostgreSQL makes of a grant
async def read_grant(db: asyncpg.Connection, scope: Scope) -> Grant:
    text = (scope.grant or "").strip().rstrip(";").rstrip()
    query, names = positional(text)
    statement = await db.prepare(query, name="")
    parameters = [each.oid for each in statement.get_parameters()]
    answers = [each.type.oid for each in statement.get_attributes()]
    types = Types(await db.fetch(_TYPES, [*parameters, *answers]))

    def forms(oids: Sequence[int]) -> tuple[Form, ...]:
        return tuple([Form(types.kind(oid), types.sql(oid, -1)) for oid in oids])

    return Grant(scope, text, names, forms(parameters), forms(answers))


# ---------------------------------------------------------------- answers as buckets
class _Answers:
    """Asks a grant for one or many users and names the buckets: in SQL where the answer's types surely become those of
    the root's key, else value by value."""

    def __init__(self, db: asyncpg.Connection, plan: Plan, grant: Grant) -> None:
        self._db = db
        self._grant = grant
        self._scope = grant.scope
        self._root: Table | None = plan.schema.table(grant.scope.root) if grant.scope.root else None
        self._columns = [self._root.column(name) for name in grant.scope.key] if self._root else []

    async def read(self, users: Sequence[Bound]) -> list[frozenset[str]]:
        """In the order of `users`."""
        if not self._grant.names:
            return await self._read_one(()) * len(users)
        return await (self._read_one(users[0]) if len(users) == 1 else self._read_many(users))

    async def _read_one(self, bound: Bound) -> list[frozenset[str]]:
        rows = await self._db.fetch(self._select("0", lambda number: f"${number + 1}"), *bound)
        return await self._told(rows, 1)

    async def _read_many(self, users: Sequence[Bound]) -> list[frozenset[str]]:
        names = [f"claim_{number}" for number in range(1, len(self._grant.names) + 1)]
        lists = ", ".join(f"${number}::text[]" for number in range(1, len(names) + 1))
        answer = self._select("0", lambda number: f"{_USER}.{names[number]}")
        rows = await self._db.fetch(
            f"SELECT {_USER}.n - 1, answer.* FROM unnest({lists}) WITH ORDINALITY AS {_USER}({', '.join(names)}, n) "
            f"CROSS JOIN LATERAL ({answer}) AS answer",
            *[list(values) for values in zip(*users, strict=True)],
        )
        return await self._told([(row[0], *row[2:]) for row in rows], len(users))

    def _select(self, user: str, place: Callable[[int], str]) -> str:
        """Rows: `user`, then the bucket's name, or the texts of its key."""
        query = self._grant.query(place)
        if not self._columns:
            return f"SELECT {user} AS of, {literal(bucket_name(self._scope.name, ()))} WHERE EXISTS (\n{query}\n)"
        columns = [f"k_{number}" for number in range(1, len(self._grant.answers) + 1)]
        source = f"(\n{query}\n) AS g({', '.join(columns)})"
        if len(columns) < len(self._columns):
            return f"SELECT {user} AS of WHERE false"
        whole = " AND ".join(f"g.{name} IS NOT NULL" for name in columns[: len(self._columns)])
        if not self._is_direct:
            texts = ", ".join(f"CAST(g.{name} AS text)" for name in columns[: len(self._columns)])
            return f"SELECT {user} AS of, {texts} FROM {source} WHERE {whole}"
        assert self._root is not None
        cast = ", ".join(
            f"CAST(g.{name} AS {_TYPMOD.sub('', column.base)}) AS {quote(column.name)}"
            for name, column in zip(columns, self._columns, strict=False)
        )
        bucket = f"{literal(self._scope.name)} || {key_json(self._root, self._scope.key, 'r.')}"
        return f"SELECT {user} AS of, {bucket} FROM (SELECT {cast} FROM {source} WHERE {whole}) AS r"

    @property
    def _is_direct(self) -> bool:
        return all(_becomes(answer, column) for answer, column in zip(self._grant.answers, self._columns, strict=False))

    async def _told(self, rows: Sequence[Any], users: int) -> list[frozenset[str]]:
        found: list[set[str]] = [set() for _ in range(users)]
        if not self._columns or self._is_direct:
            for of, bucket in rows:
                found[of].add(bucket)
            return [frozenset(buckets) for buckets in found]
        known: dict[tuple[str, ...], str | None] = {}
        for of, *texts in rows:
            key = tuple(texts)
            if key not in known:
                known[key] = await self._bucket(key)
            if (bucket := known[key]) is not None:
                found[of].add(bucket)
        return [frozenset(buckets) for buckets in found]

    async def _bucket(self, texts: Sequence[str]) -> str | None:
        """None where a text is none of the key's type."""
        key: list[Value] = []
        for text, column in zip(texts, self._columns, strict=True):
            value = await self._key_value(column, text)
            if value is None:
                return None
            key.append(value)
        return bucket_name(self._scope.name, tuple(key))

    async def _key_value(self, column: Column, text: str) -> Value:
        try:
            bind("text" if column.kind == "bytes" else column.kind, text)
        except ValueError:
            return None
        value = UNKNOWN if column.kind == "bytes" else canonical(column, text)
        if value is not UNKNOWN:
            return value
        place = "convert_to($1, 'UTF8')" if column.kind == "bytes" else "$1"
        mend = value_of(column)
        query = f"SELECT {value_sql(column, cast_sql(column, place))}"
        found: Value = await attempted(self._db, lambda: self._db.fetchval(query, text))
        return mend(found) if mend else found


_TYPMOD = re.compile(r"\([0-9,-]+\)(?=(?:\[\])?$)")
_WHOLE_NUMBERS = ("smallint", "integer", "bigint")


def _becomes(answer: Form, column: Column) -> bool:
    """Whether every value of the answer's type is one of the column's, with one text."""
    if column.kind in ("text", "char"):
        return True
    if answer.kind in _WHOLE_NUMBERS and column.kind in _WHOLE_NUMBERS:
        return _WHOLE_NUMBERS.index(answer.kind) <= _WHOLE_NUMBERS.index(column.kind)
    return answer.sql == column.base
