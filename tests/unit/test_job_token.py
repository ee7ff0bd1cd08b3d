"""The token of a paged download comes back from devices: what is none of ours is none at all."""

from __future__ import annotations

import json

import pytest

from syncline.protocol.cursor import digest_of
from syncline.server.bucket_lists import BucketLists
from syncline.server.job_token import JobToken
from syncline.source.port import Head, Survey

TOKEN = JobToken(("t", 3), ("u", 7), 2, ("visits",), True, False, None, True, ("t", 5), ("u", 7), '["b",1]', 10, 99, 12)


def test_a_token_survives_the_journey() -> None:
    assert JobToken.parse(TOKEN.dump()) == TOKEN
    assert JobToken.parse(JobToken(("t", 3), ("t", 3), 0).dump()) == JobToken(("t", 3), ("t", 3), 0)


@pytest.mark.parametrize("place", range(len(json.loads(TOKEN.dump()))))
@pytest.mark.parametrize("value", [{}, [None], -1, 1.5, [["t"], 1]])
def test_a_token_with_a_wrong_part_is_none(place: int, value: object) -> None:
    parts = json.loads(TOKEN.dump())
    parts[place] = value
    assert JobToken.parse(json.dumps(parts)) is None


@pytest.mark.parametrize("text", ["", "[]", "null", "7", '"x"', "[" * 100_000, "{}", "[2, 1]"])
def test_what_is_no_token_is_none(text: str) -> None:
    assert JobToken.parse(text) is None


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
