"""The token of a paged download comes back from devices: what is none of ours is none at all."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from syncline.protocol.cursor import digest_of
from syncline.server.bucket_lists import BucketLists
from syncline.server.job_token import JobToken
from syncline.server.seal import Seal
from syncline.source.port import Head, Survey

TOKEN = JobToken(("t", 3), ("u", 7), 2, ("visits",), True, False, None, True, ("t", 5), ("u", 7), '["b",1]', 10, 99, 12)


def test_a_token_survives_the_journey() -> None:
    assert JobToken.parse(TOKEN.dump()) == TOKEN
    assert JobToken.parse(JobToken(("t", 3), ("t", 3), 0).dump()) == JobToken(("t", 3), ("t", 3), 0)
    for only in (("b", "c"), ()):
        repair = replace(TOKEN, only=only)
        assert JobToken.parse(repair.dump()) == repair


def test_a_token_of_an_ordinary_download_is_as_it_always_was() -> None:
    """Processes of before there were repairs go on with it."""
    assert json.loads(TOKEN.dump())[0] == 1 and len(json.loads(TOKEN.dump())) == 15


@pytest.mark.parametrize("place", range(len(json.loads(TOKEN.dump()))))
@pytest.mark.parametrize("value", [{}, [None], -1, 1.5, [["t"], 1]])
def test_a_token_with_a_wrong_part_is_none(place: int, value: object) -> None:
    parts = json.loads(TOKEN.dump())
    parts[place] = value
    assert JobToken.parse(json.dumps(parts)) is None


@pytest.mark.parametrize("text", ["", "[]", "null", "7", '"x"', "[" * 100_000, "{}", "[2, 1]"])
def test_what_is_no_token_is_none(text: str) -> None:
    assert JobToken.parse(text) is None


# ---------------------------------------------------------------- sealed
KEY, ANOTHER = bytes(range(64)), bytes(range(1, 65))


@pytest.mark.parametrize("text", ["", "{}", TOKEN.dump(), '["visits", "v-ädä", "\ud800"]', "x" * 100_000])
def test_what_is_sealed_opens_with_the_same_key_alone(text: str) -> None:
    sealed = Seal(KEY).close(text)
    assert Seal(KEY).open(sealed) == text
    assert Seal(KEY).close(text) == sealed, "a download that is played again is the same"
    assert Seal(ANOTHER).open(sealed) is None
    assert "visits" not in sealed and sealed.isascii()


def test_a_seal_that_was_touched_does_not_open() -> None:
    seal = Seal(KEY)
    sealed = seal.close(TOKEN.dump())
    for place in range(len(sealed)):
        other = "A" if sealed[place] != "A" else "B"
        opened = seal.open(sealed[:place] + other + sealed[place + 1 :])
        assert opened is None or opened == TOKEN.dump(), "unused bits at the end mean nothing"
    for text in ("", "A", "AAAA", "é", "=", sealed[:-4], sealed + "AAAA", TOKEN.dump(), "A" * 1000):
        assert seal.open(text) is None


def test_a_raised_generation_ends_a_job() -> None:
    survey = Survey(Head("u", 9, 1), frozenset(), {"visits": 2})
    assert TOKEN.fits(survey)
    assert not TOKEN.fits(Survey(Head("u", 9, 1), frozenset(), {"visits": 2, "notes": 8}))
    assert not TOKEN.fits(Survey(Head("u", 9, 1), valid=False))


def test_lists_of_buckets_are_forgotten_oldest_first() -> None:
    lists = BucketLists(names_max=5)
    first, second = frozenset({"a", "b"}), frozenset({"c", "d", "e"})
    lists.remember(first)
    lists.remember(second)
    lists.remember(first)
    lists.remember(frozenset({"f", "g"}))
    assert lists.find(digest_of(second)) is None
    assert lists.find(digest_of(first)) == first
    assert lists.find(digest_of({"h"}), frozenset({"h"})) == {"h"}
