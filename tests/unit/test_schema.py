"""Tables as databases describe them, and their names inside our SQL."""

from __future__ import annotations

import sqlite3

import pytest

from syncline.errors import ConfigError
from syncline.model.identifiers import literal, nearest, quote, quote_list
from syncline.model.schema import Column, Index, Schema, Table

VISITS = Table(
    name="Visits",
    columns=tuple(Column(name, "TEXT") for name in ("id", "Day", "day_part", "nurse", "site")),
    key=("id",),
    indexes=(Index("by_nurse", ("nurse", "Day")), Index("by_site", ("site",))),
)
SCHEMA = Schema(
    {"Visits": VISITS, "notes": Table("notes", (), ()), "NOTES": Table("NOTES", (), ())}, frozenset({"Open"})
)


def test_names_are_found_in_any_case_but_the_exact_one_first() -> None:
    assert SCHEMA.table("visits") is VISITS
    assert SCHEMA.table("NOTES").name == "NOTES"
    assert VISITS.column("DAY").name == "Day"


def test_of_two_columns_that_differ_by_case_the_exact_one_is_found() -> None:
    table = Table("t", (Column("a", "TEXT"), Column("A", "TEXT")), ())
    assert table.column("A").name == "A"


@pytest.mark.parametrize(("name", "hint"), [("vists", 'Did you mean "Visits"?'), ("zzzzz", "")])
def test_an_unknown_table_is_answered_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SCHEMA.table(name)
    assert (caught.value.code, caught.value.hint) == ("unknown_table", hint)
    assert f'"{name}"' in caught.value.message


def test_an_unknown_column_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        VISITS.column("nurs")
    assert (caught.value.code, caught.value.hint) == ("unknown_column", 'Did you mean "nurse"?')


def test_a_view_is_refused_as_what_it_is() -> None:
    with pytest.raises(ConfigError) as caught:
        SCHEMA.table("OPEN")
    assert caught.value.code == "view_cannot_sync"


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (("id",), True),
        (("nurse",), True),
        (("nurse", "Day"), True),
        (("Day", "nurse"), True),
        (("Day",), False),
        (("site",), True),
        (("site", "nurse"), False),
        (("id", "nurse"), False),
        (("day_part",), False),
    ],
)
def test_an_index_helps_if_the_columns_lead_it(columns: tuple[str, ...], found: bool) -> None:
    assert VISITS.has_index_on(columns) is found


NAMES = ["visits", "START", "a b", 'say "hi"', "it's", "naïve", "select", "x;--", "[a]", "`b`", "🩺", "a.b", ""]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_one_identifier(name: str) -> None:
    """P19: whatever a company calls its columns, SQL of ours means that column."""
    database = sqlite3.connect(":memory:")
    database.execute(f"CREATE TABLE t (x, {quote(name)} DEFAULT 7)")
    database.execute("INSERT INTO t (x) VALUES (1)")
    found = database.execute(f"SELECT {quote_list(['x', name], 't.')} FROM t")
    assert found.description[1][0] == name
    assert found.fetchone() == (1, 7)
    database.close()


@pytest.mark.parametrize("text", [*NAMES, "'", "''", "\\'", "a\nb"])
def test_any_text_is_one_literal(text: str) -> None:
    database = sqlite3.connect(":memory:")
    assert database.execute(f"SELECT {literal(text)}").fetchone() == (text,)
    database.close()


def test_the_nearest_name_is_told_as_it_is_written() -> None:
    assert nearest("VISIT", ["Visits", "notes"]) == ' Did you mean "Visits"?'
    assert nearest("x", []) == nearest("zzz", ["notes"]) == ""
