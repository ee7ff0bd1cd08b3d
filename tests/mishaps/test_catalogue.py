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

STATUS_CHOSEN = {
    "method_not_allowed",
    "not_found",
    "buckets_needed",
    "overloaded",
    "too_many_requests",
    "request_refused",
}
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
        assert (text and text[-1] in ".!?…") or "syncline" in text or ">" in text, text
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
    assert {number for number in found if number >= 4000} == {
        number for number in named if number >= 4400 and number < 4600
    }
    assert {1000, 1013} <= found


def test_an_error_without_a_hint_has_the_catalogues_remedy() -> None:
    assert remedy_of("source_busy") and remedy_of("visit_closed") == ""


def test_a_hooks_code_may_be_anything() -> None:
    assert "visit_closed" not in CATALOGUE and issubclass(classes()["Reject"], SynclineError)


def test_the_page_is_up_to_date() -> None:
    page = Path(generate_errors.PAGE).read_text(encoding="utf-8")
    assert page == generate_errors.page(), "run: python tests/docs/generate_errors.py"


MISHAPS = {
    "wrong configuration": "tests/unit/test_config_errors.py::test_a_mistake_names_line_key_and_remedy",
    "configuration that does not fit": "tests/unit/test_config_sqlite.py::"
    "test_a_mistake_names_its_line_and_the_nearest_right_name",
    "unreachable server": "tests/integration/test_mishaps.py::test_nobody_is_there",
    "wrong token": "tests/cli/test_real.py::test_a_token_that_the_server_refuses",
    "a token too late or too early": "tests/unit/test_auth.py::test_an_expired_token_says_so_after_the_leeway",
    "a token for somebody else": "tests/unit/test_auth.py::test_issuer_and_audience_are_compared_where_they_are_set",
    "captive portal": "tests/integration/test_mishaps.py::test_what_stands_in_the_way_is_named_and_overcome",
    "no WebSockets": "tests/integration/test_mishaps.py::test_a_proxy_without_websockets",
    "too many at once": "tests/integration/test_overload.py::test_a_flood_is_refused_early_and_sessions_that_run_go_on",
    "device file replaced": "tests/mishaps/test_device_files.py::test_the_file_is_replaced_while_the_agent_has_it_open",
    "device file damaged": "tests/mishaps/test_device_files.py::test_a_damaged_file",
    "device disk full": "tests/mishaps/test_disks.py::test_the_nurses_phone_is_full",
    "device disk read-only": "tests/mishaps/test_disks.py::test_the_phones_file_cannot_be_written",
    "source damaged": "tests/mishaps/test_source_files.py::test_no_command_shows_a_traceback_or_writes",
    "source disk full": "tests/mishaps/test_disks.py::test_the_offices_disk_is_full",
    "source read-only": "tests/mishaps/test_disks.py::test_a_database_that_cannot_be_written",
    "another protocol version": "tests/mishaps/test_commands.py::test_what_does_not_pass_is_told_at_once",
    "a program for a newer SQLite": "tests/replica/test_install.py::test_a_program_that_needs_a_newer_sqlite_is_refused",
    "a file of a later Syncline": "tests/replica/test_versions.py::"
    "test_a_file_of_a_later_syncline_is_refused_and_not_touched",
    "a device's file as a source": "tests/mishaps/test_device_files.py::test_a_device_is_not_served_from",
    "a clock far off": "tests/unit/test_messages.py::test_a_clock_however_wrong_does_not_keep_work_back",
    "a port in use": "tests/cli/test_serve.py::test_a_port_that_is_taken",
    "a missing extra": "tests/cli/test_main.py::test_a_server_verb_in_the_bare_install_says_what_to_install",
    "too large a request": "tests/integration/test_http.py::test_too_large_a_request_is_413",
    "wrong calls": "tests/replica/test_misuse.py::test_a_transaction_inside_a_transaction",
}


@pytest.mark.parametrize("mishap", MISHAPS)
def test_each_mishap_has_its_test(mishap: str) -> None:
    """Wherever it stands: this is the list of them."""
    name, _, test = MISHAPS[mishap].partition("::")
    tree = ast.parse((generate_errors.ROOT / name).read_text(encoding="utf-8"))
    assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
