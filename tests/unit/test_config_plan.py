"""The configuration against a database: which error stands at which line, and what is only a warning."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from syncline.errors import ConfigError
from syncline.model.schema import Column, ForeignKey, Schema, Table
from syncline.model.scopes import Plan, QueryReads
from syncline.server.config import claims_in, load_plan, parse_settings

HEAD = 'source.url = "sqlite:///a.db"\n'


def table(name: str, columns: str, *keys: ForeignKey) -> Table:
    return Table(name, tuple(Column(column, "TEXT") for column in columns.split()), ("id",), keys)


SCHEMA = Schema(
    {
        table.name: table
        for table in (
            table("Patients", "id region ssn archived"),
            table("visits", "id patient_id status", ForeignKey(("patient_id",), "Patients", ("id",))),
            table("notes", "id visit body count", ForeignKey(("visit",), "visits", ("id",))),
            table("assignments", "id patient_id caregiver_id", ForeignKey(("patient_id",), "Patients", ("id",))),
        )
    }
    | {"logs": Table("logs", (Column("a", "TEXT"),), (), refusal="it has no key.", remedy="Give it a primary key.")},
    frozenset({"everything"}),
)


class FakeSource:
    """Reads nothing but what the test put in."""

    def __init__(self, volatile: tuple[str, ...] = ()) -> None:
        self.volatile = volatile
        self.filters: list[tuple[str, str]] = []

    async def introspect(self) -> Schema:
        return SCHEMA

    async def reads_of_query(self, query: str) -> QueryReads:
        if "SELEC " in query:
            raise ConfigError('The query does not parse: near "SELEC".', code="query_fails")
        return QueryReads({"assignments": frozenset({"patient_id"})}, self.volatile)

    async def reads_of_filter(self, table: str, where: str) -> QueryReads:
        self.filters.append((table, where))
        if "statsu" in where:
            raise ConfigError(
                f'Table "{table}" has no column "statsu".', hint='Did you mean "status"?', code="unknown_column"
            )
        return QueryReads({table: frozenset({where.split()[0]})})


def plan(text: str, source: FakeSource | None = None) -> Plan:
    settings = parse_settings(HEAD + text, folder=Path(), environment={})
    return asyncio.run(load_plan(settings, source or FakeSource()))


SCOPE = '[scope.caseload]\nroot = "patients"\ngrant = "SELECT patient_id FROM assignments WHERE caregiver_id = :sub"\n'
TABLES = SCOPE + "[scope.caseload.tables]\n"


def test_a_plan_is_made() -> None:
    source = FakeSource()
    found = plan(
        SCOPE
        + 'where = "archived = 0"\n[scope.caseload.tables]\nvisits = { parent = "patients", where = "status > 1" }\n',
        source,
    )
    assert set(found.tables) == {"Patients", "visits"}
    assert source.filters == [("visits", "status > 1"), ("Patients", "archived = 0")]
    assert found.grant_reads == {"caseload": frozenset({"assignments"})}


MISTAKES = {
    "root": ('[scope.x]\nroot = "patient"\ngrant = "SELECT 1 WHERE :sub"\n', 3, 'no table "patient"', '"Patients"'),
    "view": ('[scope.x]\ntables = [\n"everything"]\n', 4, '"everything" is a view', "tables"),
    "table": (TABLES + 'vists = { parent = "patients" }\n', 6, 'no table "vists"', '"visits"'),
    "parent": (
        TABLES + 'visits = { parent = "patients" }\nnotes = { parent = "vists" }\n',
        7,
        'no table "vists"',
        '"visits"',
    ),
    "parent on its own line": (
        TABLES + 'visits = { parent = "patients" }\n[scope.caseload.tables.notes]\nwhere = "1"\nparent = "vists"\n',
        9,
        'no table "vists"',
        '"visits"',
    ),
    "no key": (
        '[scope.x]\ntables = ["visits", "logs"]\n',
        3,
        'table "logs" cannot sync: it has no key.',
        "primary key",
    ),
    "key": (SCOPE + 'key = "regoin"\n', 5, 'Table "Patients" has no column "regoin"', '"region"'),
    "on": (
        TABLES + 'visits = { parent = "patients" }\nnotes = { parent = "visits", on = { vist = "id" } }\n',
        7,
        '"vist"',
        '"visit"',
    ),
    "no foreign key": (TABLES + 'notes = { parent = "patients" }\n', 6, "no foreign key", "on ="),
    "no path": (TABLES + "\nvisits = {}\n", 7, "no path to the root", "parent"),
    "outside": (TABLES + 'notes = { parent = "visits" }\n', 6, "does not hold it", "visits"),
    "hide": (SCOPE + '[columns]\npatients = { hide = [\n"snn"] }\n', 7, 'no column "snn"', '"ssn"'),
    "hide key": (SCOPE + '[columns]\npatients = { hide = ["id"] }\n', 6, "part of the key", ""),
    "section of another table": (SCOPE + "[table.notes]\n", 5, '[table] names "notes"', ""),
    "merge column": (SCOPE + '[merge.patients]\nregoin = "server"\n', 6, 'no column "regoin"', '"region"'),
    "merge type": (SCOPE + '[merge.patients]\nregion = "add"\n', 6, '"add" needs a numeric column', ""),
    "grant": (
        '[scope.x]\nroot = "patients"\ngrant = "SELEC 1 :sub"\n',
        4,
        "[scope.x] grant: The query does not parse",
        "",
    ),
    "where": (
        TABLES + 'visits = [{ parent = "patients" },\n{ parent = "patients", where = "statsu" }]\n',
        7,
        '"statsu"',
        '"status"',
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_the_database_does_not_have_is_named_by_line(name: str) -> None:
    text, line, message, hint = MISTAKES[name]
    with pytest.raises(ConfigError) as caught:
        plan(text)
    assert caught.value.message.startswith(f"syncline.toml:{line}: ")
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_grant_that_changes_by_the_clock_needs_refresh() -> None:
    with pytest.raises(ConfigError, match=r"syncline.toml:4: \[scope.caseload\] grant uses now\(\)") as caught:
        plan(SCOPE, FakeSource(volatile=("now",)))
    assert caught.value.error_code == "grant_volatile"
    assert plan(SCOPE + 'refresh = "60s"\n', FakeSource(volatile=("now",))).scopes["caseload"].refresh_seconds == 60


def test_doubtful_grants_are_warned_of() -> None:
    text = '[scope.a]\nroot = "patients"\ngrant = "SELECT id FROM Patients"\n'
    text += '[scope.b]\nroot = "patients"\ngrant = "SELECT :usb"\n'
    warnings = plan(text).warnings
    assert "[scope.a] grant names no claim of the token: every user gets the same." in warnings
    assert '[scope.b] grant names the claim ":usb". Did you mean "sub"? Every token must carry it.' in warnings


def test_no_scope_is_warned_of() -> None:
    assert plan("").warnings == ("There is no scope: nothing syncs.",)


@pytest.mark.parametrize(
    ("grant", "claims"),
    [
        ("SELECT a FROM t WHERE b = :sub AND c = :tenant AND d = :sub", ("sub", "tenant")),
        ("SELECT ':no', \"x:no\", `y:no`, [z:no] -- :no\n, :yes /* :no */", ("yes",)),
        ("SELECT a::text, 'it''s :no' WHERE b = :role", ("role",)),
        ("SELECT 1", ()),
    ],
)
def test_claims_are_found_in_sql(grant: str, claims: tuple[str, ...]) -> None:
    assert claims_in(grant) == claims
