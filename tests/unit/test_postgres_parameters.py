"""Where a colon begins a parameter, and where it is only a colon."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncline.source.postgres.parameters import bare, positional, split

PIECES = {
    "SELECT :sub": ("SELECT $1", ("sub",)),
    "SELECT :a, :b, :a": ("SELECT $1, $2, $1", ("a", "b")),
    "SELECT :a::text": ("SELECT $1::text", ("a",)),
    "SELECT x::int, y :: text": ("SELECT x::int, y :: text", ()),
    "SELECT ':a', ''':b'": ("SELECT ':a', ''':b'", ()),
    r"SELECT E'\':a', e'\\', :b": (r"SELECT E'\':a', e'\\', $1", ("b",)),
    r"SELECT '\', :a, 'x'": (r"SELECT '\', $1, 'x'", ("a",)),
    r"SELECT date'2026-01-01', type'\', :a": (r"SELECT date'2026-01-01', type'\', $1", ("a",)),
    'SELECT ":a", """:b" FROM t': ('SELECT ":a", """:b" FROM t', ()),
    "SELECT $$:a$$, $x$ :b $$ $x$, :c": ("SELECT $$:a$$, $x$ :b $$ $x$, $1", ("c",)),
    "SELECT a$b$, :c": ("SELECT a$b$, $1", ("c",)),
    "SELECT 1 -- :a\n, :b": ("SELECT 1 -- :a\n, $1", ("b",)),
    "SELECT /* :a /* :b */ :c */ :d": ("SELECT /* :a /* :b */ :c */ $1", ("d",)),
    "SELECT t[1:2], t[a:b], t[a.x:b], t[f(1):b], t[(:n):b]": ("SELECT t[1:2], t[a:b], t[a.x:b], t[f(1):b], t[($1):b]", ("n",)),
    "SELECT t[:n], ARRAY[:a, :b], ARRAY[CASE WHEN true THEN :c END]": ("SELECT t[$1], ARRAY[$2, $3], ARRAY[CASE WHEN true THEN $4 END]", ("n", "a", "b", "c")),
    "SELECT t[(SELECT x WHERE y = :a)], ARRAY[1 + :b]": ("SELECT t[(SELECT x WHERE y = $1)], ARRAY[1 + $2]", ("a", "b")),
    "SELECT f(x => :a), f(y := 1)": ("SELECT f(x => $1), f(y := 1)", ("a",)),
    "SELECT :größe": ("SELECT $1", ("größe",)),
    "SELECT 'never ends :a": ("SELECT 'never ends :a", ()),
    "SELECT 12:30": ("SELECT 12:30", ()),
}  # fmt: skip


@pytest.mark.parametrize("query", PIECES)
def test_a_query_with_its_parameters_numbered(query: str) -> None:
    assert positional(query) == PIECES[query]


@given(st.lists(st.sampled_from(list("ab:'\"$[]()/*-\\E \n,1")), max_size=40).map("".join))
def test_the_pieces_of_any_text_are_the_text(query: str) -> None:
    assert "".join(text for text, _ in split(query)) == query
    assert all(text == f":{name}" for text, name in split(query) if name is not None)


def test_bare_leaves_what_is_code() -> None:
    assert bare("""a LIKE 'x%' AND "b" = E'\\'' -- LIKE\n OR $$LIKE$$ = c""") == """a LIKE '' AND "" = ''   OR '' = c"""
