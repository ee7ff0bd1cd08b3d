"""The catalogue of errors is what the sources raise: no code is missing, none is idle, and each has one meaning."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from tests.docs import generate_errors
from tests.mishaps.codes import classes, kinds_of, trees, used_codes

from syncline.error_catalogue import CATALOGUE, CLOSE_CODES, SECTIONS, remedy_of
from syncline.errors import ConfigError, SynclineError

USED = used_codes()
TYPERS_OWN = {"usage"}
"""Told by the command line itself, with typer's words."""

STATUS_CHOSEN = {"method_not_allowed", "not_found", "buckets_needed", "overloaded", "too_many_requests", "request_refused"}
"""Their status is given where they are told, and not by their class: tests/integration/test_refused_requests.py."""

MET_BY_CLIENTS = {"cut_short"}
"""In what a device reads: no server answers with it."""


def test_every_code_of_the_sources_is_in_the_catalogue() -> None:
    missing = {code: [use.place for use in found] for code, found in USED.items() if code not in CATALOGUE}
    assert not missing


def test_the_catalogue_names_no_code_that_nobody_raises() -> None:
    assert set(CATALOGUE) - set(USED) - TYPERS_OWN == set()


def test_no_code_stands_there_twice() -> None:
    codes = [entry.code for section in SECTIONS for entry in section.entries]
    assert sorted(codes) == sorted(set(codes))


def test_no_two_codes_mean_the_same() -> None:
    meanings = [entry.meaning for entry in CATALOGUE.values()]
    assert len(set(meanings)) == len(meanings)


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_what_the_catalogue_says_is_what_the_classes_do(code: str) -> None:
    entry, found = CATALOGUE[code], USED.get(code, [])
    assert re.fullmatch("[a-z0-9_]+", code)
    for text in (entry.meaning, entry.remedy):
        assert text and text[-1] in ".!?…" or "syncline" in text or ">" in text, text
    kinds = kinds_of(found)
    if kinds:
        assert entry.again == any(kind.retry for kind in kinds), [use.place for use in found]
        exits = {kind.exit_status for kind in kinds if kind is not classes()["Reject"]}
        assert set(entry.exit) >= exits and set(entry.exit) <= exits | {1}, (entry.exit, exits)


@pytest.mark.parametrize("code", sorted(set(CATALOGUE) - STATUS_CHOSEN - MET_BY_CLIENTS))
def test_the_status_is_that_of_the_servers_answer(code: str) -> None:
    served = ("server/", "protocol/", "values.py", "source/")
    found = [use for use in USED.get(code, []) if use.place.startswith(served) and use.kind in classes()]
    answers = {use.http for use in found if not issubclass(classes()[use.kind], ConfigError)}
    assert answers - {None} <= set(CATALOGUE[code].http)


def test_rejections_are_told_apart_from_errors() -> None:
    """A rejection's code is met in a list, an error's in an exception: only a name that is nowhere is both."""
    both = {
        code
        for code, found in USED.items()
        if {"rejection"} & {use.kind for use in found} and {use.kind for use in found} - {"rejection", ""}
    }
    assert both == {"unknown_table"}


def test_close_codes_are_those_of_the_sources() -> None:
    named = {
        node.value
        for path, tree in trees().items()
        if path.parent.name in ("server", "replica")
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, int) and 4000 <= node.value < 5000
    }
    found = {each.number for each in CLOSE_CODES}
    assert {number for number in found if number >= 4000} == {number for number in named if number >= 4400 and number < 4600}
    assert {1000, 1013} <= found


def test_an_error_without_a_hint_has_the_catalogues_remedy() -> None:
    assert remedy_of("source_busy") and remedy_of("visit_closed") == ""


def test_a_hooks_code_may_be_anything() -> None:
    assert "visit_closed" not in CATALOGUE and issubclass(classes()["Reject"], SynclineError)


def test_the_page_is_up_to_date() -> None:
    page = Path(generate_errors.PAGE).read_text(encoding="utf-8")
    assert page == generate_errors.page(), "run: python tests/docs/generate_errors.py"
