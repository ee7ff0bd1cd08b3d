"""Values for PostgreSQL that no database has to be asked about."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncline.model.schema import Column, Table
from syncline.source.postgres.names import NAME_BYTES_MAX, object_name, ours, table_sql
from syncline.source.postgres.rows_sql import image_json, values_list
from syncline.source.postgres.types import UNKNOWN, bind, canonical, cast_sql, json_sql, local_type, value_sql
from syncline.values import RawText, Value


def column(kind: str, base: str = "", name: str = "v") -> Column:
    return Column(name, kind, kind=kind, base=base or f'"pg_catalog"."{kind}"')


BOUND = [
    ("integer", 5, "5"),
    ("integer", 5.0, "5"),
    ("integer", " +5 ", "5"),
    ("integer", "5.0", "5"),
    ("boolean", 1, "true"),
    ("boolean", "F", "false"),
    ("boolean", 0.0, "false"),
    ("double", math.inf, "Infinity"),
    ("double", "-inf", "-Infinity"),
    ("double", 0.1, "0.1"),
    ("double", 3, "3"),
    ("numeric", "1.50", "1.50"),
    ("numeric", "1e3", "1000"),
    ("numeric", 0.1, "0.1"),
    ("numeric", "-0.00", "0.00"),
    ("numeric", "nan", "NaN"),
    ("text", 5, "5"),
    ("text", "", ""),
    ("uuid", "6F9619FF8B86D011B42D00CF4FC964FF", "6f9619ff-8b86-d011-b42d-00cf4fc964ff"),
    ("uuid", bytes(16), "00000000-0000-0000-0000-000000000000"),
    ("timestamp", "2026-11-22T20:31:05Z", "2026-11-22T20:31:05Z"),
    ("bytes", b"\0\xff", b"\0\xff"),
    ("integer[]", "[1, null, [2]]".replace("[2]", "2"), '{"1",NULL,"2"}'),
    ("text[]", '["a\\"b", "NULL", null, "", "\\\\", "ä"]', '{"a\\"b","NULL",NULL,"","\\\\","ä"}'),
    ("numeric[]", "[1.10, 123456789012345678901234567890]", '{"1.10","123456789012345678901234567890"}'),
    ("boolean[]", "[true, 0]", '{"true","false"}'),
    ("text[]", "[[], []]", "{}"),
    ("text[]", '[["a"], ["b"]]', '{{"a"},{"b"}}'),
    ("jsonb", None, None),
]


@pytest.mark.parametrize(("kind", "value", "parameter"), BOUND)
def test_what_devices_write_is_bound_as_text(kind: str, value: Value, parameter: Any) -> None:
    assert bind(column(kind), value) == parameter


IMPOSSIBLE = [
    ("smallint", 32768),
    ("integer", "five"),
    ("integer", 1.5),
    ("integer", "٣"),
    ("bigint", 2**63),
    ("oid", -1),
    ("boolean", 2),
    ("boolean", "perhaps"),
    ("double", "1_0"),
    ("numeric", "1_0"),
    ("numeric", "12 monkeys"),
    ("numeric", "1e999999999"),
    ("text", "a\0b"),
    ("text", "\ud800"),
    ("text", b"bytes"),
    ("text", RawText(b"\xff")),
    ("bytes", "text"),
    ("bytes", RawText(b"\xff")),
    ("uuid", "12"),
    ("timestamp", "2026-11-22 20:31:05+05:30"),
    ("integer[]", "no JSON"),
    ("integer[]", '{"a": 1}'),
    ("integer[]", "[[1], [2, 3]]"),
    ("integer[]", "[[1], 2]"),
    ("integer[]", "[[[[[[[1]]]]]]]"),
    ("integer[]", "[NaN]"),
    ("integer[]", "[" * 100_000),
    ("text[]", '[{"a": 1}]'),
    ("text[]", '["\\u0000"]'),
]


@pytest.mark.parametrize(("kind", "value"), IMPOSSIBLE, ids=[str(number) for number in range(len(IMPOSSIBLE))])
def test_what_cannot_be_of_the_type_is_refused_before_the_database_is_asked(kind: str, value: Value) -> None:
    with pytest.raises(ValueError):
        bind(column(kind), value)
    assert canonical(column(kind), value) is UNKNOWN


FORESEEN = [
    ("integer", "", "1", 1),
    ("boolean", "", "true", 1),
    ("double", "", "nan", "NaN"),
    ("double", "", -0.0, 0.0),
    ("real", "", 0.1, 0.1),
    ("real", "", 0.123456789, UNKNOWN),
    ("real", "", 1e39, UNKNOWN),
    ("numeric", "", "1.50", "1.50"),
    ("numeric", "", "1e-2", "0.01"),
    ("numeric", '"pg_catalog"."numeric"(10,2)', "1.5", "1.50"),
    ("numeric", '"pg_catalog"."numeric"(10,2)', "-0.005", "-0.01"),
    ("numeric", '"pg_catalog"."numeric"(10,2)', "-0.004", "0.00"),
    ("numeric", '"pg_catalog"."numeric"(5,-2)', "1234", UNKNOWN),
    ("trimmed", "", "1.500", "1.5"),
    ("trimmed", "", "100", "100"),
    ("text", '"pg_catalog"."varchar"(3)', "abc", "abc"),
    ("text", '"pg_catalog"."varchar"(3)', "abc ", UNKNOWN),
    ("char", '"pg_catalog"."bpchar"(3)', "a ", "a"),
    ("date", "", "2026-11-22T00:00:00", "2026-11-22"),
    ("date", "", "0044-03-15 BC", UNKNOWN),
    ("time", "", "20:31", "20:31:00.000000"),
    ("timestamp", "", "2026-11-22T20:31:05Z", "2026-11-22 20:31:05.000000"),
    ("timestamp", "", "2026-11-22 20:31:05.1234567", UNKNOWN),
    ("timestamp", '"pg_catalog"."timestamp"(0)', "2026-11-22 20:31:05.7", UNKNOWN),
    ("instant", "", "2026-11-22T20:31:05+01:00", "2026-11-22 19:31:05.000000"),
    ("instant", "", "Infinity", "infinity"),
    ("uuid", "", "6F9619FF8B86D011B42D00CF4FC964FF", "6f9619ff-8b86-d011-b42d-00cf4fc964ff"),
    ("jsonb", "", "{}", UNKNOWN),
    ("interval", "", "1 day", UNKNOWN),
    ("integer[]", "", "[1]", UNKNOWN),
    ("jsonb", "", None, None),
]


@pytest.mark.parametrize(("kind", "base", "value", "back"), FORESEEN)
def test_what_the_database_will_make_of_it(kind: str, base: str, value: Value, back: Value) -> None:
    found = canonical(column(kind, base), value)
    assert found == back and type(found) is type(back)
    if isinstance(found, float):
        assert math.copysign(1, found) == 1


@given(
    st.recursive(
        st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), st.lists, max_leaves=20
    )
)
def test_json_arrays_are_bound_or_refused(value: Any) -> None:
    try:
        bound = bind(column("text[]"), json.dumps(value))
    except ValueError:
        return
    assert isinstance(bound, str) and bound[0] + bound[-1] == "{}"


def test_lengths_are_left_to_the_column_so_that_nothing_is_cut_off() -> None:
    assert cast_sql(column("text", '"pg_catalog"."varchar"(5)'), "$1") == 'CAST($1::text AS "pg_catalog"."varchar")'
    assert (
        cast_sql(column("text[]", '"pg_catalog"."varchar"(5)[]'), "$1") == 'CAST($1::text AS "pg_catalog"."varchar"[])'
    )
    assert (
        cast_sql(column("numeric", '"pg_catalog"."numeric"(5,2)'), "$1")
        == 'CAST($1::text AS "pg_catalog"."numeric"(5,2))'
    )
    assert cast_sql(column("bytes", '"pg_catalog"."bytea"'), "$1") == 'CAST($1::bytea AS "pg_catalog"."bytea")'


def test_what_a_kind_that_nobody_knows_is() -> None:
    assert (local_type("other"), local_type("integer[]"), local_type("bytes")) == ("TEXT", "TEXT", "BLOB")
    assert value_sql(column("other"), "x") == "x::text"
    assert json_sql(column("other"), "x") == "coalesce(to_json(x::text)::text, 'null')"


def test_rows_as_sql() -> None:
    table = Table("t", (column("integer", name="id"), column("uuid", name='a"b')), ("id",), place=("s", 'x"y'))
    assert table_sql(table) == '"s"."x""y"'
    assert values_list(table, ["id", 'a"b'], "t.") == 't."id", t."a""b"::text'
    assert image_json(table, ["id"]) == """('[' || coalesce("id"::text, 'null') || ']')"""
    assert image_json(table, []) == "'[]'"


@given(st.text(min_size=1, max_size=80), st.text(min_size=1, max_size=80))
def test_names_fit_and_no_two_tables_share_one(first: str, second: str) -> None:
    try:
        names = object_name("changelog", first), object_name("changelog", second)
    except UnicodeEncodeError:
        return
    assert all(len(name.encode()) <= NAME_BYTES_MAX for name in names)
    assert (names[0] == names[1]) == (first == second)


def test_names_are_readable_where_they_fit() -> None:
    assert object_name("changelog", "visits") == "changelog_visits"
    assert object_name("changelog", Table("a.b", (), (), place=("a", "b"))) == "changelog_a.b"
    assert object_name("changelog", "ä" * 60).startswith("changelog_äää")
    assert ours('a"b') == '"syncline"."a""b"'
