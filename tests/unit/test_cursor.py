"""Cursors and digests: what a device says it has."""

from __future__ import annotations

import pytest

from syncline.protocol.cursor import cursor_text, digest_of, parse_cursor


def test_a_cursor_names_a_term_and_a_checkpoint_in_it() -> None:
    assert cursor_text("term", 8) == "term.8"
    assert parse_cursor("term.8") == ("term", 8)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        ".",
        "term",
        "term.",
        ".8",
        "term.-1",
        "term.+1",
        "term. 8",
        "term.8 ",
        "term.٨",
        "term.²",
        "t." + "9" * 17,
    ],
)
def test_a_cursor_that_is_not_ours_is_none(text: str | None) -> None:
    """P19: a forged cursor is answered like a first contact."""
    assert parse_cursor(text) is None


def test_the_digest_does_not_depend_on_order() -> None:
    assert digest_of(["b", "a"]) == digest_of({"a", "b"}) == digest_of(frozenset("ab"))


def test_the_digest_tells_names_apart_however_they_are_cut() -> None:
    assert len({digest_of(names) for names in ([], [""], ["ab"], ["a", "b"], ["b", "ab"], ["ba", "b"])}) == 6


def test_the_digest_stays_as_devices_in_the_field_compute_it() -> None:
    assert digest_of([]) == "e3b0c44298fc1c149afbf4c8996fb924"
    assert digest_of(['caseload["é"]', "all[]"]) == "df5840f1bbd85839eefad120593d6f0e"
