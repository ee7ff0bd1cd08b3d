"""A table for every type, filled with the values at its edges.

Each case is a table `torture_<name>(id integer PRIMARY KEY, v <type>)` whose row n holds the n-th value, and one more
row that holds NULL.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

EVERY_CHARACTER = "''||" + "||".join(
    f"chr({code})" for code in (*range(1, 48), 91, 92, 93, 127, 128, 0xE9, 0x20AC, 0x2028, 0xFFFD, 0x1F600, 0x10FFFF)
)
DIGITS = "1234567890" * 100
UNREAL = ("NaN", "Infinity", "-Infinity")
UNUSUAL_SETTINGS = {
    "timezone": "America/St_Johns",
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "bytea_output": "escape",
    "extra_float_digits": "-3",
    "xmloption": "document",
    "array_nulls": "off",
    "standard_conforming_strings": "off",
    "transform_null_equals": "on",
}
"""Of the company's database: they change how values are written for everybody but us."""


@dataclass(frozen=True)
class Case:
    """`values` are SQL expressions of the type; `setup` what it needs first; `needs` names what not every server has:
    citext, xml, icu, or the least major version as text; `writable`: every value can be written back exactly."""

    name: str
    type: str
    values: tuple[str, ...]
    setup: tuple[str, ...] = ()
    needs: str = ""
    writable: bool = True

    @property
    def table(self) -> str:
        return f"torture_{self.name}"

    @property
    def statements(self) -> tuple[str, ...]:
        rows = [*self.values, "NULL"]
        inserts = (f"INSERT INTO {self.table} VALUES ({number}, {value})" for number, value in enumerate(rows, 1))
        return (*self.setup, f"CREATE TABLE {self.table} (id integer PRIMARY KEY, v {self.type})", *inserts)


def _quoted(*texts: str) -> tuple[str, ...]:
    return tuple("'" + text.replace("'", "''") + "'" for text in texts)


CASES = (
    Case("smallint", "smallint", ("-32768", "0", "32767")),
    Case("integer", "integer", ("-2147483648", "0", "2147483647")),
    Case(
        "bigint",
        "bigint",
        ("-9223372036854775808", "9223372036854775807", "9007199254740991", "9007199254740992", "9007199254740993", "-9007199254740992", "-9007199254740993", "0"),
    ),
    Case("oid", "oid", ("0", "4294967295")),
    Case("boolean", "boolean", ("true", "false")),
    Case(
        "real",
        "real",
        _quoted("0", "0.1", "1", "16777217", "3.4028235e38", "1e-45", "1.17549435e-38", "123456.79", "-1.5e-7", *UNREAL),
    ),
    Case(
        "double",
        "double precision",
        _quoted("0", "0.1", "1", "-1e15", "1e16", "123456789012345678", "1.7976931348623157e308", "5e-324", "1e-5", "2.2250738585072014e-308", "0.30000000000000004", "1234567890123456.5", "1e22", "1e23", *UNREAL),
    ),
    Case("negative_zero", "double precision", _quoted("-0"), writable=False),
    Case(
        "numeric",
        "numeric",
        ("0", "0.00", "1.50", "1.5", "-0.000000000000000000001", DIGITS, f"-{DIGITS}.{DIGITS}", "1e100", "'NaN'"),
    ),
    Case("numeric_infinity", "numeric", _quoted("Infinity", "-Infinity"), needs="14"),
    Case("numeric_scaled", "numeric(10,2)", ("0", "1.5", "-99999999.99", "99999999.99", "'NaN'")),
    Case("numeric_rounded", "numeric(5,-2)", ("0", "1234567", "-100"), needs="15"),
    Case("money", "money", ("0", "'1234.5'", "'-92233720368547758.08'", "'92233720368547758.07'")),
    Case("text", "text", ("''", "' '", "'NULL'", "'null'", "'{}'", EVERY_CHARACTER, "repeat('ä', 100000)")),
    Case("varchar", "varchar(5)", _quoted("", "abcde", "äöü€😀", "  ")),
    Case("char", "char(5)", _quoted("", "ab", "abcde", " x", "äöü")),
    Case("byte_char", '"char"', _quoted("", "x", " ")),
    Case("name", "name", _quoted("", "x" * 63)),
    Case(
        "bytea",
        "bytea",
        (
            "''",
            "'\\x00'",
            "decode(string_agg_of_bytes(), 'hex')",
            "decode(repeat('ff', 100000), 'hex')",
            "convert_to('text', 'UTF8')",
        ),
        setup=(
            "CREATE FUNCTION string_agg_of_bytes() RETURNS text LANGUAGE sql IMMUTABLE AS "
            "$$SELECT string_agg(lpad(to_hex(n), 2, '0'), '' ORDER BY n) FROM generate_series(0, 255) n$$",
        ),
    ),
    Case(
        "uuid",
        "uuid",
        _quoted(
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "6F9619FF8B86D011B42D00CF4FC964FF",
        ),
    ),
    Case(
        "enum",
        "torture_mood",
        _quoted("happy", "so so", "it's", 'quo"te', "\\", "", "größe", "NULL"),
        setup=(
            "CREATE TYPE torture_mood AS ENUM "
            "('happy', 'so so', 'it''s', 'quo\"te', '\\', '', 'größe', 'NULL', 'a,b', '{x}')",
        ),
    ),
    Case(
        "date",
        "date",
        _quoted("4713-01-01 BC", "0044-03-15 BC", "0001-01-01", "1582-10-10", "2024-02-29", "9999-12-31", "10000-01-01")
        + _quoted("5874897-12-31", "infinity", "-infinity"),
    ),
    Case("time", "time", _quoted("00:00", "20:31:05", "23:59:59.999999", "24:00:00", "12:00:00.1")),
    Case("time_rounded", "time(3)", _quoted("00:00", "23:59:59.999")),
    Case("timetz", "timetz", _quoted("00:00+00", "23:59:59.999999-15:59", "12:30+05:30")),
    Case(
        "timestamp",
        "timestamp",
        _quoted("4713-01-01 00:00:00 BC", "0044-03-15 12:00:00.5 BC", "0001-01-01 00:00", "2024-02-29 23:59:59.999999")
        + _quoted("9999-12-31 23:59:59.999999", "10000-01-01 00:00", "294276-12-31 23:59:59.999999", "1970-01-01")
        + _quoted("0001-12-31 23:59:59.999999 BC", "12345-01-02 03:04:05.6", "infinity", "-infinity"),
    ),
    Case("timestamp_rounded", "timestamp(0)", _quoted("2024-02-29 23:59:59", "1970-01-01", "infinity")),
    Case(
        "instant",
        "timestamptz",
        _quoted("4713-01-01 00:00:00+00 BC", "0001-01-01 00:00+00", "2026-11-22 20:31:05.123456+05:30", "infinity")
        + _quoted("2026-03-29 02:30 Europe/Berlin", "2026-10-25 02:30+01", "9999-12-31 23:59:59.999999+00")
        + _quoted("10000-01-01 00:00+00", "294276-12-31 23:59:59.999999+00", "0001-01-01 00:00+14", "-infinity"),
    ),
    Case(
        "interval",
        "interval",
        _quoted("0", "1 mon", "30 days", "1 year 2 mons -3 days 04:05:06.7", "-1 year +1 day", "178000000 years")
        + _quoted("-178000000 years", "00:00:00.000001", "-00:00:00.000001", "1 day -00:00:01", "2147483647 days"),
    ),
    Case("interval_infinity", "interval", _quoted("infinity", "-infinity"), needs="17"),
    Case(
        "json",
        "json",
        _quoted('{"b": 1,  "a": [1.10, 1e400, 12345678901234567890], "a": null}', "null", '"\\u00e9"', " [] "),
    ),
    Case(
        "jsonb",
        "jsonb",
        _quoted('{"b": 1,  "a": [1.10, 1e400, 12345678901234567890], "a": null}', "null", '"\\u00e9😀\\n"', "[]", "1.50"),
    ),
    Case("bit", "bit(9)", ("B'000000000'", "B'101010101'")),
    Case("varbit", "bit varying", ("B''", "B'1'", "B'0'", f"B'{'10' * 500}'")),
    Case("int4range", "int4range", _quoted("empty", "[1,5)", "(,)", "[1,]", "[-2147483648,2147483647)")),
    Case("numrange", "numrange", _quoted("empty", "[1.50,2.5]", "(,1.0)")),
    Case("tstzrange", "tstzrange", _quoted("[2026-01-01 00:00+00, infinity)", "(,2026-01-01 00:00:00.5+02]")),
    Case("int4multirange", "int4multirange", _quoted("{}", "{[1,3),[5,7)}"), needs="14"),
    Case("inet", "inet", _quoted("10.0.0.1", "10.0.0.1/8", "::1", "2001:db8::/32", "::ffff:1.2.3.4")),
    Case("cidr", "cidr", _quoted("10.0.0.0/8", "::/0")),
    Case("macaddr", "macaddr", _quoted("08:00:2b:01:02:03")),
    Case("macaddr8", "macaddr8", _quoted("08:00:2b:01:02:03:04:05")),
    Case("point", "point", _quoted("(0,0)", "(1e-300,-1.7976931348623157e308)", "(NaN,Infinity)", "(0.1,0.2)")),
    Case("polygon", "polygon", _quoted("((0,0),(1,0.1),(1,1))")),
    Case("box", "box", _quoted("(1,1),(0,0)")),
    Case("tsvector", "tsvector", _quoted("'a':1A 'it''s':2 'b c'", "")),
    Case("tsquery", "tsquery", _quoted("'a' & !'b':*A")),
    Case("pg_lsn", "pg_lsn", _quoted("0/0", "FFFFFFFF/FFFFFFFF")),
    Case(
        "composite",
        "torture_pair",
        ("ROW(1, 'a,\"b')", "ROW(NULL, '')", "ROW(NULL, NULL)"),
        setup=("CREATE TYPE torture_pair AS (n numeric, t text)",),
    ),
    Case(
        "domain",
        "torture_domain_outer",
        ("1.50", "99.00"),
        setup=(
            "CREATE DOMAIN torture_domain_inner AS numeric(4,2) CHECK (VALUE > 0)",
            "CREATE DOMAIN torture_domain_outer AS torture_domain_inner CHECK (VALUE < 100)",
        ),
    ),
    Case(
        "domain_of_array",
        "torture_tags",
        _quoted("{}", '{a,"b c",NULL}'),
        setup=("CREATE DOMAIN torture_tags AS text[] CHECK (cardinality(VALUE) < 10)",),
    ),
    Case(
        "array_of_domain",
        "torture_price[]",
        _quoted("{}", "{1.50,NULL}"),
        setup=("CREATE DOMAIN torture_price AS numeric(10,2) CHECK (VALUE >= 0)",),
    ),
    Case("smallints", "smallint[]", _quoted("{}", "{1,NULL,-32768}")),
    Case("integers", "integer[]", _quoted("{}", "{1,NULL,-2147483648}", "{{1,2},{3,NULL}}", "{{{1}},{{2}}}")),
    Case("bigints", "bigint[]", _quoted("{9223372036854775807,-9223372036854775808}")),
    Case("booleans", "boolean[]", _quoted("{t,f,NULL}")),
    Case("doubles", "double precision[]", _quoted("{0,-0,0.1,1e300,5e-324,NaN,Infinity,-Infinity,NULL}")),
    Case("reals", "real[]", _quoted("{0.1,1e38,NaN}")),
    Case("numerics", "numeric[]", _quoted("{1.50,1.5,NaN,NULL}", "{" + DIGITS + "}")),
    Case("moneys", "money[]", _quoted("{1234.50,NULL}")),
    Case(
        "texts",
        "text[]",
        (*_quoted('{a,NULL,"NULL",null,"",",","{}","\\"","\\\\"," x "}', "{{a,b},{c,NULL}}", "{😀,ä}"), f"ARRAY[{EVERY_CHARACTER}]"),
    ),
    Case("varchars", "varchar(3)[]", _quoted("{abc,NULL}")),
    Case("chars", "char(3)[]", _quoted("{a,abc,NULL}")),
    Case("uuids", "uuid[]", _quoted("{6F9619FF8B86D011B42D00CF4FC964FF,NULL}")),
    Case(
        "enums", "torture_size[]", _quoted('{S,"X L",NULL}'), setup=("CREATE TYPE torture_size AS ENUM ('S', 'X L')",)
    ),
    Case("byteas", "bytea[]", ("ARRAY['\\x00ff'::bytea, '', NULL]",)),
    Case("dates", "date[]", _quoted("{2024-02-29,infinity,NULL,0044-03-15 BC,5874897-12-31}")),
    Case("times", "time[]", _quoted("{20:31,23:59:59.999999,12:00:00.1,24:00,NULL}")),
    Case(
        "timestamps",
        "timestamp[]",
        _quoted('{2024-02-29,"2024-02-29 12:00:00.5",infinity,NULL,"0044-03-15 12:00 BC","294276-12-31 23:59:59.999999"}'),
    ),
    Case(
        "instants",
        "timestamptz[]",
        _quoted('{"2024-02-29 00:00+05:30","2024-02-29 12:00:00.123456Z",-infinity,NULL,"0044-03-15 12:00+00 BC"}'),
    ),
    Case("intervals", "interval[]", _quoted('{"1 mon -1 day",NULL}')),
    Case("jsons", "json[]", ("ARRAY['{\"a\":  [1.10]}'::json, 'null', '[1,2]', NULL]",)),
    Case("jsonbs", "jsonb[]", ("ARRAY['{\"a\":  [1.10]}'::jsonb, 'null', '[1,2]', NULL]",)),
    Case("inets", "inet[]", _quoted("{10.0.0.1,10.0.0.1/8,::1,2001:db8::/32,::ffff:1.2.3.4/32,NULL}")),
    Case("ranges", "int4range[]", _quoted('{"[1,5)",empty,NULL}')),
    Case("composites", "torture_two[]", ("ARRAY[ROW(1,'a\",b')::torture_two]",), ("CREATE TYPE torture_two AS (n int, t text)",)),
    Case("bounds", "integer[]", _quoted("[5:6]={1,2}", "[0:1][-1:0]={{1,2},{3,4}}"), writable=False),
    Case("citext", "citext", _quoted("Anna", "anna", ""), ("CREATE EXTENSION IF NOT EXISTS citext",), needs="citext"),
    Case("xml", "xml", _quoted("<a>ä&amp;</a>", "text", "<?xml version='1.0'?><a/>"), needs="xml"),
    Case(
        "icu",
        "text COLLATE torture_icu",
        _quoted("Anna", "anna"),
        ("CREATE COLLATION torture_icu (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",),
        needs="icu",
    ),
)  # fmt: skip


def cases(have: Collection[str], version: int) -> Iterator[Case]:
    """Those of a server of this major version that has these (of citext, xml, icu)."""
    for case in CASES:
        if is_possible(case, have, version):
            yield case


def is_possible(case: Case, have: Collection[str], version: int) -> bool:
    if case.needs.isdigit():
        return version >= int(case.needs)
    return not case.needs or case.needs in have


def features(host: Any) -> set[str]:
    """Which of citext, xml and icu the server has."""
    have = {name for (name,) in host.execute("SELECT name FROM pg_available_extensions WHERE name = 'citext'")}
    have |= {"icu" for _ in host.execute("SELECT 1 FROM pg_collation WHERE collname = 'und-x-icu'")}
    try:
        return have | {"xml" for _ in host.execute("SELECT xml '<a/>'")}
    except psycopg.errors.FeatureNotSupported:
        return have


def unusual_settings(database: str) -> Iterator[str]:
    """The statements that give a database `UNUSUAL_SETTINGS`, from the next connection on."""
    for name, value in UNUSUAL_SETTINGS.items():
        yield f"ALTER DATABASE {database} SET {name} = '{value}'"
