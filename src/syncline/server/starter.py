"""The `syncline.toml` that `syncline init` writes: a proposal with comments, from the database's own keys."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator

from syncline.model.identifiers import quote
from syncline.model.new_keys import remark_on_keys
from syncline.model.schema import Schema
from syncline.server.config_options import OPTIONS
from syncline.server.postgres_url import has_password, is_postgres
from syncline.server.starter_guess import Guess, Join, guess, usable_tables

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SQL_WORDS_TEXT = """
    all and as by case check column commit create default delete desc distinct drop else end except exists for foreign
    from group having in index insert into is join key limit not null on or order primary references select set table
    then to transaction trigger union unique update using values view when where with analyze array asc both cast
    collate current_user do end fetch initially lateral leading offset only placing returning session_user some
    symmetric user window
"""
_SQL_WORDS = frozenset(_SQL_WORDS_TEXT.split())
_PRIVATE = re.compile(r"ssn|social_?security|passport|passw|secret|salary|iban|credit_?card|tax_?id", re.IGNORECASE)
SECRET_BYTES = 48


def starter_text(schema: Schema, source_url: str, secret: str | None = None) -> str:
    """The whole file. `source_url` is written as it is; without a `secret` a fresh random one is made."""
    proposal = guess(schema)
    lines = [
        "# Syncline's configuration. Everything that `syncline init` could not know is marked CHECK.",
        "# Next: syncline check, which holds this file against the database and changes nothing.",
        "",
        "[source]",
        *_source_lines(source_url),
        "",
        "[auth]",
        "# Who has the secret can be anybody: keep this file to yourself, or set SYNCLINE_AUTH_SECRET instead.",
        f"secret = {toml_string(secret or secrets.token_urlsafe(SECRET_BYTES))}",
        'user_claim = "sub"      # the claim of a token that names the user',
        "",
        *(_scope_lines(schema, proposal) if proposal else _empty_scope_lines(schema)),
        *_other_tables(schema, proposal),
        *_refused_tables(schema),
        "# [columns]             # what never leaves the server, for example:",
        *_hidden_lines(schema),
        "",
        *_merge_lines(schema, proposal),
        "",
        "[retention]",
        f"days = {_default('retention', 'days')}               # a device away for longer downloads its rows anew",
    ]
    return "\n".join(lines) + "\n"


def refusals(schema: Schema) -> list[dict[str, str]]:
    """Tables that cannot sync: {"table", "reason", "remedy"}."""
    return [
        {"table": table.name, "reason": table.refusal, "remedy": table.remedy}
        for _, table in sorted(schema.tables.items())
        if table.refusal
    ]


def toml_string(text: str) -> str:
    """A TOML string; a literal one where that spares backslashes."""
    if ('"' in text or "\\" in text) and "'" not in text and text.isprintable():
        return f"'{text}'"
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f")


def sql_name(name: str) -> str:
    """A name in SQL, quoted only where it must be."""
    plain = _PLAIN_IDENTIFIER.fullmatch(name) and name.lower() not in _SQL_WORDS
    return name if plain else quote(name)


class _Names:
    """Names in the SQL of a grant. Where tables have places, a table outside the default schema is named with its own,
    and PostgreSQL reads what is not quoted as lower case."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._folds = any(table.place for table in schema.tables.values())

    def column(self, name: str) -> str:
        return quote(name) if self._folds and name != name.lower() else sql_name(name)

    def table(self, name: str) -> str:
        place = self._schema.table(name).place
        return ".".join(map(self.column, place if name == ".".join(place) else (name,)))


def _default(section: str, key: str) -> str:
    return next(option.default_text for option in OPTIONS if option.place == (section, key))


def _source_lines(source_url: str) -> Iterator[str]:
    if has_password(source_url):
        yield "# The database's password stands here: keep this file to yourself. Or leave it out, and give it"
        yield "# as PGPASSWORD or in ~/.pgpass; SYNCLINE_SOURCE_URL overrides the whole line."
    yield f"url = {toml_string(source_url)}"
    if is_postgres(source_url):
        yield '# direct_url = "…"      # where url leads to a pooler in transaction mode: the database itself'
        yield '# write_role = "…"      # uploads are written with this role\'s rights, and by its row security'
        yield "# [source.session]       # settings that the database's own triggers and policies read during an upload"
        yield '# "app.user_id" = ":sub"'


def _scope_name(root: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", root).strip("_") or "main"


def _scope_lines(schema: Schema, proposal: Guess) -> Iterator[str]:
    name, root = _scope_name(proposal.root), proposal.root
    yield f"# CHECK: one bucket per row of {json.dumps(root, ensure_ascii=False)}; users are granted buckets."
    yield f"[scope.{name}]"
    yield f"root = {toml_string(root)}"
    yield from _grant_lines(schema, proposal)
    yield ""
    yield f"[scope.{name}.tables]"
    for table, ways in proposal.members.items():
        yield from _member_lines(
            schema, table, ways, is_granting=proposal.grant is not None and proposal.grant[0] == table
        )
    for join in proposal.upward:
        if join.declared:
            entry = f"{{ referenced_by = {toml_string(join.child)}, read_only = true }}"
            yield f"# {toml_key(join.parent)} = {entry}   # only the rows that {_shown(join.child)} points at"
    for table in (root, *proposal.members):
        if remark := remark_on_keys(schema.table(table)):
            yield f"# CHECK: {' '.join(remark.split())}"
    yield ""


def _grant_lines(schema: Schema, proposal: Guess) -> Iterator[str]:
    names = _Names(schema)
    key = ", ".join(names.column(column) for column in schema.table(proposal.root).key)
    root = names.table(proposal.root)
    if proposal.grant is None:
        yield "# CHECK: nobody is granted anything yet. Say which of them a user may hold, for example:"
        example = f"SELECT {key} FROM {root} WHERE owner = :sub"
        yield f"# grant = {toml_string(example)}"
        nobody = f"SELECT {key} FROM {root} WHERE 1 = 0 AND :sub <> ''"
        yield f"grant = {toml_string(nobody)}"
        return
    table, person, way = proposal.grant
    columns = ", ".join(names.column(column) for column in way.columns) if way else key
    sql = f"SELECT {columns} FROM {names.table(table)} WHERE {names.column(person.columns[0])} = :sub"
    yield f"# CHECK: this decides who sees what. :sub is the token's claim: here the key of {_shown(person.parent)}."
    if way:
        yield f"# A condition more is usual, for example: … = :sub AND {_ended(schema, table)} IS NULL"
    yield f"grant = {toml_string(sql)}"


def _ended(schema: Schema, table: str) -> str:
    """A column that looks like the end of an assignment."""
    ends = [name for name in schema.table(table).column_names if re.search(r"end|until|closed|stop", name.lower())]
    return _Names(schema).column(ends[0]) if ends else "ended_at"


def _member_lines(schema: Schema, table: str, ways: tuple[Join, ...], *, is_granting: bool) -> Iterator[str]:
    """`is_granting`: the grant reads the table, so that a device that wrote to it would grant itself more."""
    first, *more = [_entry(schema, way, is_granting) for way in ways]
    notes = [] if ways[0].declared else ["guessed from the column's name"]
    if is_granting:
        notes.append("the grant reads it: no device may write to it, and often none needs it")
    yield f"{toml_key(table)} = {first}" + (f"   # CHECK: {'; '.join(notes)}" if notes else "")
    for alternative in more:
        yield f"# {toml_key(table)} = {alternative}   # instead, or both: [ {{ … }}, {{ … }} ]"


def _entry(schema: Schema, way: Join, is_read_only: bool) -> str:
    rest = ", read_only = true" if is_read_only else ""
    same = [key for key in schema.table(way.child).foreign_keys if key.table == way.parent]
    if way.declared and len(same) == 1:
        return f"{{ parent = {toml_string(way.parent)}{rest} }}"
    pairs = ", ".join(
        f"{toml_key(own)} = {toml_string(theirs)}" for own, theirs in zip(way.columns, way.references, strict=True)
    )
    return f"{{ parent = {toml_string(way.parent)}, on = {{ {pairs} }}{rest} }}"


def _empty_scope_lines(schema: Schema) -> Iterator[str]:
    yield "# CHECK: no table refers to another by a foreign key, so there is no guess. A clinic would write:"
    yield "# [scope.caseload]"
    yield '# root  = "patients"'
    yield '# grant = "SELECT patient_id FROM assignments WHERE caregiver_id = :sub"'
    yield "# [scope.caseload.tables]"
    yield '# visits = { parent = "patients", on = { patient_id = "id" } }'
    yield ""


def _other_tables(schema: Schema, proposal: Guess | None) -> Iterator[str]:
    others = proposal.others if proposal else tuple(usable_tables(schema))
    if others:
        names = ", ".join(toml_string(name) for name in others)
        yield "# CHECK: these are in no scope. What everybody may read in full goes into a scope without a root:"
        yield "# [scope.reference]"
        yield f"# tables = [{names}]"
        yield "# read_only = true"
        yield ""


def _hidden_lines(schema: Schema) -> list[str]:
    """Columns whose names sound as if no device should hold them."""
    found = {
        table.name: [name for name in table.column_names if _PRIVATE.search(name) and name not in table.key]
        for table in usable_tables(schema).values()
    }
    lines = [
        f"# {toml_key(table)} = {{ hide = [{', '.join(map(toml_string, names))}] }}"
        for table, names in found.items()
        if names
    ]
    table, column = _some_column(schema, list(usable_tables(schema)))
    return lines or [f"# {toml_key(table)} = {{ hide = [{toml_string(column)}] }}"]


def _merge_lines(schema: Schema, proposal: Guess | None) -> list[str]:
    table, column = _some_column(schema, [*proposal.members, proposal.root] if proposal else [])
    return [
        f"# [merge.{toml_key(table)}]   # how a column that two people changed is merged: latest, server, add",
        f'# {toml_key(column)} = "server"',
    ]


def _some_column(schema: Schema, tables: list[str]) -> tuple[str, str]:
    """For an example: the last column of one of these tables that is no key; made up where there is none."""
    for name in tables:
        table = schema.table(name)
        taken = {*table.key, *(column for key in table.foreign_keys for column in key.columns)}
        free = [column for column in table.column_names if column not in taken]
        if free:
            return name, free[-1]
    return "visits", "note"


def _refused_tables(schema: Schema) -> Iterator[str]:
    found = refusals(schema)
    if found:
        yield "# These cannot sync as they are:"
        for refusal in found:
            text = " ".join(f"{_shown(refusal['table'])}: {refusal['reason']} {refusal['remedy']}".split())
            yield f"#   {text}"
        yield ""


def _shown(name: str) -> str:
    """A name in a comment, on one line whatever it holds."""
    return json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f")
