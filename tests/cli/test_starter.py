"""What `syncline init` proposes loads, resolves, and is safe where it guesses."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tomllib
from pathlib import Path

import pytest
from tests.cli.conftest import SCHEMA

from syncline.model.schema import Column, Schema, Table
from syncline.model.scopes import Plan
from syncline.server.config import Settings, load_plan, parse_settings
from syncline.server.starter import sql_name, starter_text, toml_key, toml_string
from syncline.source.sqlite.source import SqliteSource

DATA = Path(__file__).parents[3] / "shared" / "data"


def proposed(database: Path) -> tuple[str, Settings, Plan]:
    async def run() -> tuple[str, Settings, Plan]:
        source = SqliteSource(database)
        try:
            text = starter_text(await source.introspect(), "sqlite:///x.db")
            settings = parse_settings(text, folder=database.parent, environment={})
            return text, settings, await load_plan(settings, source)
        finally:
            await source.close()

    return asyncio.run(run())


def of_script(script: str, folder: Path) -> tuple[str, Settings, Plan]:
    connection = sqlite3.connect(folder / "x.db")
    connection.executescript(script)
    connection.close()
    return proposed(folder / "x.db")


def test_the_clinic(tmp_path: Path) -> None:
    text, settings, plan = of_script(SCHEMA, tmp_path)
    (scope,) = settings.plan_config.scopes
    assert (scope.name, scope.root) == ("patients", "patients")
    assert scope.grant == "SELECT patient_id FROM assignments WHERE caregiver_id = :sub"
    assert set(plan.tables) == {"patients", "assignments", "visits"}
    assert "ended_at IS NULL" in text
    assert '#   "log": it has no primary key' in text
    assert '# patients = { hide = ["ssn"] }' in text
    assert '# tables = ["caregivers", "medications"]' in text
    (line,) = [line for line in text.splitlines() if line.startswith("assignments = ")]
    assert "read_only = true" in line and "the grant reads it" in line
    assert "# [merge.assignments]" in text and '# ended_at = "server"' in text
    assert len(settings.auth.secret or "") >= 43
    assert starter_text(plan.schema, "x") != starter_text(plan.schema, "x"), "every secret is fresh"


def test_the_commented_proposals_are_valid_too(tmp_path: Path) -> None:
    text, _, _ = of_script(SCHEMA, tmp_path)
    opened = "\n".join(
        line.removeprefix("# ") if line.startswith(("# [", "# tables =", "# read_only", "# patients =")) else line
        for line in text.splitlines()
    )
    both = parse_settings(opened, folder=tmp_path, environment={})
    assert [scope.name for scope in both.plan_config.scopes] == ["patients", "reference"]
    assert both.plan_config.hide == {"patients": ("ssn",)}


def test_ambiguous_ways_are_written_out(tmp_path: Path) -> None:
    script = """CREATE TABLE people(id INTEGER PRIMARY KEY);
        CREATE TABLE orders(id INTEGER PRIMARY KEY, seller INTEGER REFERENCES people);
        CREATE TABLE lines(
          id INTEGER PRIMARY KEY, "order" INTEGER REFERENCES orders, instead INTEGER REFERENCES orders);"""
    text, settings, _ = of_script(script, tmp_path)
    assert 'lines = { parent = "orders", on = { order = "id" } }' in text
    assert '# lines = { parent = "orders", on = { instead = "id" } }' in text
    assert settings.plan_config.scopes[0].grant == "SELECT id FROM orders WHERE seller = :sub"


def test_where_nobody_can_be_guessed_nobody_gets_anything(tmp_path: Path) -> None:
    script = "CREATE TABLE a(id INTEGER PRIMARY KEY); CREATE TABLE b(id INTEGER PRIMARY KEY, a INTEGER REFERENCES a);"
    text, settings, _ = of_script(script, tmp_path)
    assert settings.plan_config.scopes[0].grant == "SELECT id FROM a WHERE 1 = 0 AND :sub <> ''"
    assert "CHECK: nobody is granted anything yet" in text
    assert "notes" not in text and "patients" not in text, "names that are nobody's here"


def test_without_any_reference_there_is_no_scope(tmp_path: Path) -> None:
    text, settings, _ = of_script("CREATE TABLE a(id INTEGER PRIMARY KEY);", tmp_path)
    assert settings.plan_config.scopes == ()
    assert "# [scope.caseload]" in text


def test_an_empty_database(tmp_path: Path) -> None:
    assert of_script("", tmp_path)[2].tables == {}


def test_circles_and_self_references(tmp_path: Path) -> None:
    script = """CREATE TABLE a(id INTEGER PRIMARY KEY, b INTEGER REFERENCES b, boss INTEGER REFERENCES a);
        CREATE TABLE b(id INTEGER PRIMARY KEY, a INTEGER REFERENCES a);"""
    assert set(of_script(script, tmp_path)[2].tables) == {"a", "b"}


def test_strange_names_survive(tmp_path: Path) -> None:
    script = """CREATE TABLE "Order Details ""é"(id INTEGER PRIMARY KEY, "my key" TEXT);
        CREATE TABLE "user"("select" TEXT PRIMARY KEY) WITHOUT ROWID;
        CREATE TABLE "a.b"(
          id INTEGER PRIMARY KEY, o INTEGER REFERENCES "Order Details ""é", u TEXT REFERENCES "user");"""
    _, settings, plan = of_script(script, tmp_path)
    assert 'Order Details "é' in plan.tables
    assert settings.plan_config.scopes[0].grant == 'SELECT o FROM "a.b" WHERE u = :sub'


@pytest.mark.parametrize("name", ["a", "a b", 'a"b', "a\nb", "é", "a\\b", "\x7f", "a'b\"c", ""])
def test_strings_and_keys_in_toml(name: str) -> None:
    assert tomllib.loads(f"{toml_key(name)} = {toml_string(name)}") == {name: name}


def test_names_in_sql_are_quoted_where_they_must_be() -> None:
    assert [sql_name(name) for name in ("visits", "order", "a b", "é", "1a")] == [
        "visits",
        '"order"',
        '"a b"',
        '"é"',
        '"1a"',
    ]


def test_a_newline_in_a_name_does_not_leave_its_comment() -> None:
    refused = Table("a\n[hooks]", (Column("x", "TEXT"),), (), refusal="no\nkey.", remedy="add\none.")
    text = starter_text(Schema({refused.name: refused}), "sqlite:///x.db")
    assert "hooks" not in tomllib.loads(text)


@pytest.mark.parametrize(
    ("file", "root", "grant"),
    [
        ("chinook/Chinook_Sqlite.sqlite", "Customer", "SELECT CustomerId FROM Customer WHERE SupportRepId = :sub"),
        ("synthea/synthea.sqlite", "patients", "SELECT patient FROM encounters WHERE provider = :sub"),
    ],
)
def test_real_databases(file: str, root: str, grant: str, tmp_path: Path) -> None:
    if not (DATA / file).is_file():
        pytest.skip(f"the sample database {file} is not here")
    shutil.copyfile(DATA / file, tmp_path / "x.db")
    _, settings, _ = proposed(tmp_path / "x.db")
    assert (settings.plan_config.scopes[0].root, settings.plan_config.scopes[0].grant) == (root, grant)
