"""Digests: the same rows have the same one in whatever order and on whichever side they are read."""

from __future__ import annotations

import json
import random
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncline.model.digest import EMPTY, Difference, Digest, Tally, differences, hash_of_image, hash_of_values
from syncline.source.images import encode_rows
from syncline.values import RawText, Row

VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(codec="utf-8")),
    st.binary(max_size=20),
    st.just(RawText(b"\xff")),
)
ROWS = st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=5)


@given(ROWS)
def test_a_row_of_a_file_and_its_image_have_one_hash(rows: list[Row]) -> None:
    """P16: the server hashes what it would send, the device what it holds."""
    images = json.loads(b"[%b]" % encode_rows(rows))
    assert [hash_of_image(image) for image in images] == [hash_of_values(row) for row in rows]


def digest_of(rows: list[Row]) -> Digest:
    tally: Tally[str] = Tally()
    for row in rows:
        tally.add("b", hash_of_values(row))
    return tally.take().get("b", EMPTY)


@given(ROWS, st.integers(0, 5), st.randoms(use_true_random=False))
def test_order_and_parts_make_no_difference(rows: list[Row], at: int, rng: random.Random) -> None:
    shuffled = rng.sample(rows, len(rows))
    assert digest_of(rows) == digest_of(shuffled[:at]) + digest_of(shuffled[at:])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((None,), ("",)),
        ((1,), (1.0,)),
        ((1,), ("1",)),
        ((0.1 + 0.2,), (0.3,)),
        ((b"a",), ("a",)),
        ((b"\xff",), (RawText(b"\xff"),)),
        ((2**53,), (2**53 + 1,)),
        (("a", "b"), ("ab", "")),
        (('["f","-0.0"]',), ('["f","0.0"]',)),
    ],
)
def test_what_differs_by_a_hair_has_another_hash(one: Row, other: Row) -> None:
    """P16."""
    assert hash_of_values(one) != hash_of_values(other)


def test_the_sign_of_a_zero_is_forgotten_as_a_file_forgets_it() -> None:
    assert hash_of_values((-0.0, "x")) == hash_of_values((0.0, "x")) == hash_of_image([["f", "-0.0"], "x"])


def test_the_hash_is_the_one_that_the_protocol_page_describes() -> None:
    """Other languages compute it from that page."""
    text = '[7,["f","1.0"],"Zoë \\"\\n\\u0001",null,["b","AP8="]]'
    expected = int.from_bytes(blake2b(text.encode(), digest_size=16).digest(), "big")
    assert hash_of_values((7, 1.0, 'Zoë "\n\x01', None, b"\x00\xff")) == expected
    assert Digest(1, 255).sum_text == "0" * 30 + "ff"


def test_two_equal_rows_do_not_cancel_each_other_out() -> None:
    assert digest_of([(1,), (1,)]) not in (EMPTY, digest_of([(1,)]), digest_of([(2,), (2,)]))
    assert Digest(1, 2**128 - 1) + Digest(1, 2) == Digest(2, 1)


def test_differences_are_named_in_order_but_for_what_is_unsure() -> None:
    here = {"a": Digest(1, 5), "b": Digest(2, 6), "c": Digest(1, 1)}
    there = {"a": Digest(1, 5), "c": Digest(1, 2), "d": Digest(4, 9), "e": Digest(1, 1)}
    assert differences(here, there, {"e"}) == [Difference("b", 2, 0), Difference("c", 1, 1), Difference("d", 0, 4)]
