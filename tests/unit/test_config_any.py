"""Whatever stands in `syncline.toml`, it is either settings or a ConfigError that names its line: never a traceback."""

from __future__ import annotations

import contextlib
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from syncline.errors import ConfigError
from syncline.server.config import parse_settings, problems_of
from syncline.server.config_positions import find_positions
from syncline.server.starter import toml_key

GOOD: dict[str, Any] = {
    "source": {"url": "sqlite:///a.db", "journal": "wal"},
    "auth": {"secret": "s" * 40, "user_claim": "sub", "leeway_seconds": 3},
    "scope": {
        "care": {
            "root": "patients",
            "grant": "SELECT a FROM b WHERE c = :sub",
            "key": ["region"],
            "refresh": "60s",
            "tables": {
                "visits": [{"parent": "patients", "on": {"a": "b"}, "where": "x"}],
                "notes": {"parent": "visits"},
            },
        },
        "all": {"tables": ["medications"], "read_only": True},
    },
    "columns": {"patients": {"hide": ["ssn"]}},
    "table": {"visits": {"keys": "natural"}},
    "merge": {"notes": {"count": "add"}},
    "retention": {"days": 30},
}
names = st.sampled_from(
    ["a", "visits", "parent", "referenced_by", "on", "where", "root", "grant", "hide", "url", "é", "a b", ""]
)
values = st.recursive(
    st.one_of(st.booleans(), st.integers(-5, 500), st.floats(allow_nan=False), st.text(max_size=8), names),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=5,
)


def places(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if place:
        yield place
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, child in pairs:
        yield from places(child, (*place, part))


def changed(value: Any, place: tuple[str | int, ...], new: Any) -> Any:
    """A copy of `value` with `new` at `place`."""
    if not place:
        return new
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = changed(value[place[0]], place[1:], new)
    return copy


def inline(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=True)
    if isinstance(value, float):
        return repr(value) if any(mark in repr(value) for mark in ".einf") else f"{value!r}.0"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{toml_key(key)} = {inline(item)}" for key, item in value.items()) + " }"
    return str(value)


def as_toml(document: dict[str, Any]) -> str:
    """The document with a section per table where that is possible."""
    text = "".join(
        f"{toml_key(key)} = {inline(item)}\n" for key, item in document.items() if not isinstance(item, dict)
    )
    for name, table in document.items():
        if isinstance(table, dict):
            lines = "".join(f"{toml_key(key)} = {inline(item)}\n" for key, item in table.items())
            text += f"[{toml_key(name)}]\n{lines}\n"
    return text


@given(st.sampled_from(list(places(GOOD))), values)
def test_one_wrong_thing_anywhere_is_told_with_its_line(place: tuple[str | int, ...], value: Any) -> None:
    text = as_toml(changed(GOOD, place, value))
    try:
        parse_settings(text, folder=Path(), environment={})
    except ConfigError as error:
        for problem in problems_of(error):
            assert problem.message.startswith("syncline.toml:")
            assert problem.error_code


@given(st.dictionaries(names, values, max_size=4))
def test_every_place_has_a_line(document: dict[str, Any]) -> None:
    text = as_toml(document)
    with contextlib.suppress(tomllib.TOMLDecodeError):
        parsed = tomllib.loads(text)
        assert set(places(parsed)) <= set(find_positions(text))


@given(st.text(max_size=60))
def test_any_text_is_told_apart(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_settings(text, folder=Path(), environment={"SYNCLINE_SOURCE_URL": "sqlite:///a.db"})
