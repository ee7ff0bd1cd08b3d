"""What a PostgreSQL database says of its tables: its own catalogue, asked once for all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import asyncpg

from syncline.errors import ConfigError
from syncline.model.identifiers import PREFIX
from syncline.model.schema import Column, ForeignKey, Index, Schema, Table
from syncline.source.postgres.catalogue import queries
from syncline.source.postgres.column_types import Types, inexact, local_default
from syncline.source.postgres.names import SCHEMA
from syncline.source.postgres.types import local_type

VERSION_MIN = 13
Row = Mapping[str, Any]
_INTEGERS = ("smallint", "integer", "bigint")
_VIEWS = ("v", "m")
_LEAVE = "or leave it out of the scope."


async def introspect(db: asyncpg.Connection) -> Schema:
    """All tables but PostgreSQL's, ours and those of extensions, with the reason for each that cannot sync. Tables
    outside the current schema are called `schema.table`. ConfigError where the database itself cannot be a source."""
    home = await require_fit(db)
    relations = await db.fetch(queries("introspect.sql")["relations"])
    names = _local_names(relations, home)
    tables = {row["oid"]: row for row in relations if row["kind"] not in _VIEWS}
    oids = list(tables)
    columns = _by_relation(await db.fetch(queries("introspect.sql")["columns"], oids))
    types = Types(await db.fetch(queries("introspect.sql")["types"], oids))
    indexes = _by_relation(await db.fetch(queries("introspect.sql")["indexes"], oids))
    links = _by_relation(await db.fetch(queries("introspect.sql")["foreign_keys"], oids))
    found = {
        oid: _table(names[oid], row, columns[oid], indexes[oid], types) for oid, row in tables.items() if oid in names
    }
    numbers = {oid: {row["number"]: row["name"] for row in columns[oid]} for oid in tables}
    for oid, table in found.items():
        found[oid] = replace(table, foreign_keys=_foreign_keys(oid, links[oid], found, numbers))
    views = {row["oid"] for row in relations if row["kind"] in _VIEWS}
    shown = {table.name: table for table in _with_keys(found.values())}
    clashing = {row["oid"]: row for row in relations if row["oid"] not in names}
    return Schema({**shown, **_left_out(clashing, shown)}, frozenset(names[oid] for oid in views & names.keys()))


async def require_fit(db: asyncpg.Connection) -> str:
    """The name of the current schema; ConfigError where Syncline cannot stand beside this database."""
    server = await db.fetchrow(queries("introspect.sql")["server"])
    assert server is not None
    if server["version"] // 10_000 < VERSION_MIN:
        raise ConfigError(
            f"The database is PostgreSQL {server['version_text']}; version {VERSION_MIN} or newer is needed.",
            hint="Upgrade the server.",
            code="source_version",
        )
    if server["standby"]:
        raise ConfigError(
            "The database is a standby: it only repeats what its primary does, and capture has to write.",
            hint="Name the primary in [source] url.",
            code="source_standby",
        )
    if server["encoding"] == "SQL_ASCII":
        raise ConfigError(
            "The database has the encoding SQL_ASCII: nobody can tell which characters its bytes stand for.",
            hint="Move it into a database made with ENCODING 'UTF8'.",
            code="source_encoding",
        )
    if server["home"] == SCHEMA:
        raise ConfigError(
            f"The role's search_path finds the schema \"{SCHEMA}\", which is Syncline's, before yours: "
            'it is the role\'s own name, and the path begins with "$user".',
            hint="ALTER ROLE … SET search_path = public (or your schema), or take a role of another name.",
            code="source_search_path",
        )
    return str(server["home"] or "")


def _by_relation(rows: list[Any]) -> defaultdict[int, list[Row]]:
    found: defaultdict[int, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["relation"]].append(row)
    return found


# ---------------------------------------------------------------- names
def local_name(schema: str, name: str, home: str) -> str:
    """What the configuration, the feed and a replica call a table."""
    return name if schema == home else f"{schema}.{name}"


def _local_names(relations: list[Any], home: str) -> dict[int, str]:
    """oid -> name. Of two that would have the same one, that in the current schema has it."""
    taken: dict[str, int] = {}
    for row in sorted(relations, key=lambda row: row["schema"] != home):
        taken.setdefault(local_name(row["schema"], row["name"], home), row["oid"])
    return {oid: name for name, oid in taken.items()}


def _left_out(clashing: Mapping[int, Row], shown: Collection[str]) -> dict[str, Table]:
    """Tables whose name another one has; they are listed by their quoted name."""
    found = {}
    for row in clashing.values():
        place = (row["schema"], row["name"])
        name = '"{}"."{}"'.format(*place)
        if name not in shown:
            why = f'another table is called "{row["schema"]}.{row["name"]}" too.'
            found[name] = Table(name, (), (), refusal=why, remedy=f"Rename one of them, {_LEAVE}", place=place)
    return found


# ---------------------------------------------------------------- one table
def _table(name: str, relation: Row, rows: list[Row], index_rows: list[Row], types: Types) -> Table:
    columns = tuple(_column(row, types) for row in rows)
    by_number = {row["number"]: row["name"] for row in rows}
    indexes = [(row, tuple(by_number[number] for number in row["columns"])) for row in index_rows]
    not_null = {column.name for column in columns if column.not_null}
    key: tuple[str, ...] = next((names for row, names in indexes if row["is_primary"]), ())
    if not key:
        unique = [names for row, names in indexes if row["is_unique"] and set(names) <= not_null]
        key = min(unique, key=len, default=())
    identities = {row["name"] for row in rows if row["identity"]}
    return Table(
        name=name,
        columns=columns,
        key=key,
        indexes=tuple(Index(row["name"], names, row["is_unique"]) for row, names in indexes),
        generated_key=_is_generated(key, columns, identities),
        refusal=(refused := _refusal(relation))[0],
        remedy=refused[1],
        place=(relation["schema"], relation["name"]),
    )


def _column(row: Row, types: Types) -> Column:
    kind = types.kind(row["type_id"])
    base = types.sql(row["type_id"], row["modifier"])
    domains = types.domains(row["type_id"])
    default = "GENERATED AS IDENTITY" if row["identity"] else None
    if not row["identity"] and not row["generated"]:
        texts = (row["default_text"], *(domain["default_text"] for domain in domains))
        default = local_default(kind, base, next((text for text in texts if text is not None), None))
    own_collation = types.base(row["type_id"], -1)[0]["collation_id"]
    collate = f'"{row["collation_schema"]}"."{row["collation"]}"' if row["collation_id"] != own_collation else ""
    return Column(
        name=row["name"],
        type=row["type"],
        not_null=row["not_null"] or any(domain["not_null"] for domain in domains),
        default=default,
        generated=bool(row["generated"]),
        collation=row["collation"] if row["is_loose"] else "",
        local_type=local_type(kind),
        kind=kind,
        base=base,
        collate=collate,
        computed_from=None if row["computed_from"] is None else tuple(row["computed_from"]),
    )


def _is_generated(key: tuple[str, ...], columns: tuple[Column, ...], identities: set[str]) -> bool:
    """The database numbers the rows: by an identity, a serial, or a sequence of its own."""
    if len(key) != 1:
        return False
    column = next(column for column in columns if column.name == key[0])
    counted = column.name in identities or (column.default or "").startswith("CAST(nextval(")
    return counted and column.kind in _INTEGERS


def _refusal(relation: Row) -> tuple[str, str]:
    """Why a relation of this sort cannot sync, whatever its key is; empty if it can."""
    if relation["kind"] == "f":
        return "it is a foreign table: its changes cannot be noticed.", f"Sync it where it is kept, {_LEAVE}"
    if relation["has_foreign"]:
        why = "one of its partitions is a foreign table: its changes cannot be noticed."
        return why, f"Detach that partition, {_LEAVE}"
    if relation["kind"] != "p" and relation["has_children"]:
        return "other tables inherit from it, and their rows are its rows too.", f"Use partitions instead, {_LEAVE}"
    if relation["has_parents"]:
        why = "it inherits from another table: what is written through that one cannot be noticed here."
        return why, f"Use partitions instead, {_LEAVE}"
    if relation["persistence"] == "u":
        why = "it is UNLOGGED: a crash of the server empties it, and nobody is told."
        return why, f"Type ALTER TABLE … SET LOGGED, {_LEAVE}"
    return "", ""


def _foreign_keys(
    oid: int, rows: list[Row], tables: Mapping[int, Table], numbers: Mapping[int, Mapping[int, str]]
) -> tuple[ForeignKey, ...]:
    return tuple(
        ForeignKey(
            tuple(numbers[oid][number] for number in row["columns"]),
            tables[row["parent"]].name,
            tuple(numbers[row["parent"]][number] for number in row["references"]),
        )
        for row in rows
        if row["parent"] in tables
    )


# ---------------------------------------------------------------- keys
def _with_keys(tables: Collection[Table]) -> list[Table]:
    """Their numeric keys, and what refers to them, without zeros at the end; and why a key cannot be one."""
    trimmed = _trimmed({table.name: table for table in tables})
    return [_checked(table, trimmed) for table in tables]


def _checked(table: Table, trimmed: set[tuple[str, str]]) -> Table:
    columns = []
    for column in table.columns:
        kind = "trimmed" if (table.name, column.name) in trimmed else column.kind
        vague = inexact(kind, column.base, bool(column.collation), column.collation)
        if column.computed_from is not None:
            vague = vague or "no value of its own: it is computed whenever it is read"
        columns.append(replace(column, kind=kind, inexact=vague))
    refusal, remedy = table.refusal, table.remedy
    if not refusal:
        refusal, remedy = _key_refusal(table.name, table.key, {column.name: column for column in columns})
    return replace(table, columns=tuple(columns), refusal=refusal, remedy=remedy)


def _trimmed(tables: Mapping[str, Table]) -> set[tuple[str, str]]:
    """(table, column) of numerics that name rows and may be written in several ways: without a scale, or referring to
    a column with another one. 1.5 and 1.50 are one key."""
    found = {
        (table.name, name)
        for table in tables.values()
        for name in table.key
        if table.column(name).kind == "numeric" and not table.column(name).base.endswith(")")
    }
    pairs = [
        ((table.name, own), (link.table, theirs))
        for table in tables.values()
        for link in table.foreign_keys
        for own, theirs in zip(link.columns, link.references, strict=True)
        if table.column(own).kind == tables[link.table].column(theirs).kind == "numeric"
    ]
    for pair in pairs:
        bases = {tables[name].column(column).base for name, column in pair}
        if len(bases) > 1 or not bases.pop().endswith(")"):
            found.update(pair)
    growing = True
    while growing:
        more = {end for pair in pairs if found & set(pair) for end in pair} - found
        found |= more
        growing = bool(more)
    return found


def _key_refusal(name: str, key: tuple[str, ...], columns: Mapping[str, Column]) -> tuple[str, str]:
    """Why a table with this key cannot sync, and what to do; empty if it can."""
    if name.lower().startswith(PREFIX):
        return f"names that begin with {PREFIX} are ours on a device.", f"Rename it, {_LEAVE}"
    if not key:
        why = "it has no primary key, and no unique columns that are NOT NULL."
        return why, f"Give it a primary key (duplicates have to go first), {_LEAVE}"
    for column in map(columns.__getitem__, key):
        if column.inexact:
            return f'its key "{column.name}" has {column.inexact}.', f"Give it a key that compares exactly, {_LEAVE}"
        if column.generated:
            return f'its key "{column.name}" is computed by the database.', f"Give it a key that is stored, {_LEAVE}"
    return "", ""
