"""Cursors and digests for any names."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syncline.protocol.cursor import cursor_text, digest_of, parse_cursor


@given(st.text(min_size=1), st.integers(0, 2**53))
def test_a_cursor_is_read_as_it_was_written(term: str, checkpoint: int) -> None:
    assert parse_cursor(cursor_text(term, checkpoint)) == (term, checkpoint)


@given(st.text() | st.text("t.0123456789", max_size=24))
def test_any_text_is_a_cursor_or_none(text: str) -> None:
    """P19."""
    found = parse_cursor(text)
    assert found is None or (found[0] and 0 <= found[1] < 10**16)


names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.sets(names).flatmap(lambda held: st.tuples(st.just(held), st.permutations(sorted(held)))), names)
def test_a_digest_does_not_depend_on_order_and_notices_one_name_more(
    held: tuple[set[str], list[str]], other: str
) -> None:
    buckets, permuted = held
    assert digest_of(permuted) == digest_of(buckets)
    assert digest_of(buckets | {other}) != digest_of(buckets - {other})
