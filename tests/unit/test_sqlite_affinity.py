"""Our affinity is SQLite's."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncline.source.sqlite.affinity import apply_affinity
from syncline.values import encode_value

TYPES = [
    "INTEGER",
    "INT",
    "TEXT",
    "VARCHAR(20)",
    "BLOB",
    "",
    "REAL",
    "DOUBLE PRECISION",
    "NUMERIC",
    "DECIMAL(10,2)",
    "BOOLEAN",
]
NUMBERS = [
    "12",
    " 12 ",
    "1.0",
    "1e3",
    "-0.5",
    "+7",
    "abc",
    "",
    "0x10",
    "1_000",
    "inf",
    "nan",
    "9223372036854775808",
    "1.",
    ".5",
    ".",
]
VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False).map(lambda number: number + 0.0),  # SQLite has no negative zero
    st.text(max_size=6).filter(lambda text: "\x00" not in text and text.isprintable()),
    st.sampled_from(NUMBERS),
    st.binary(max_size=4),
)


@pytest.mark.parametrize("declared", TYPES)
@given(value=VALUES)
def test_a_grants_value_becomes_what_the_column_would_hold(declared: str, value: object) -> None:
    db = sqlite3.connect(":memory:")
    db.execute(f"CREATE TABLE t(c {declared})")
    db.execute("INSERT INTO t VALUES(?)", (value,))
    (stored,) = db.execute("SELECT c FROM t").fetchone()
    db.close()
    applied = apply_affinity(value, declared)  # type: ignore[arg-type]
    if isinstance(value, float) and isinstance(stored, str):
        return  # how SQLite prints a float is its own; a float is no sensible key of text
    assert encode_value(applied) == encode_value(stored)
