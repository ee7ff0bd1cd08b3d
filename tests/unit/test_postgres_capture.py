"""What capture on PostgreSQL is made of, as far as no database is needed to tell."""

from __future__ import annotations

import pytest

from syncline.model.schema import Column, Table
from syncline.source.postgres.capture import MASK_BITS, Capture, changelog_sql, column_type
from syncline.source.postgres.scripts import capture_statements
from syncline.source.postgres.trigger_sql import dollar_quoted, function_body, function_digest


def column(name: str, base: str, *, not_null: bool = False, collate: str = "") -> Column:
    return Column(name, base, not_null, base=f'"pg_catalog".{base}', collate=collate, kind="text")


VISITS = Table(
    "visits",
    (column("id", '"int4"', not_null=True), column("status", '"varchar"(20)'), column("tags", '"numeric"(8,2)[]')),
    ("id",),
    place=("public", "visits"),
)


def capture(*, writable: bool = True, watched: tuple[str, ...] = ("status", "tags")) -> Capture:
    return Capture(VISITS, ("id",), ("status",), watched, writable)


def test_masks_count_the_watched_columns_of_writable_tables_only() -> None:
    names = tuple(f"c{index}" for index in range(MASK_BITS + 2))
    wide = capture(watched=names)
    assert wide.mask_columns == ["m_0", "m_1"]
    masks = wide.mask_of({"c1", f"c{MASK_BITS}"})
    assert masks == [2, 1]
    assert wide.changed_columns(tuple(masks)) == ["c1", f"c{MASK_BITS}"]
    assert capture(writable=False).mask_columns == []
    assert capture(writable=False).mask_of({"status"}) == []
    assert capture(writable=False).changed_columns(()) == []


def test_old_values_stand_under_the_names_of_keys_and_captured_columns() -> None:
    assert capture().old_column("id") == "k_1"
    assert capture().old_column("status") == "o_1"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("id", '"pg_catalog"."int4"'), ("status", '"pg_catalog"."varchar"'), ("tags", '"pg_catalog"."numeric"[]')],
)
def test_no_column_of_a_changelog_can_find_a_value_too_long(name: str, wanted: str) -> None:
    assert column_type(VISITS.column(name)) == wanted


def test_a_changelog_of_another_shape_has_another_mark() -> None:
    assert capture().changelog_mark == capture().changelog_mark
    assert capture().changelog_mark != capture(writable=False).changelog_mark
    assert "k_1" in changelog_sql(capture())
    assert "m_0" not in changelog_sql(capture(writable=False))


def test_no_name_ends_the_body_of_a_function() -> None:
    nasty = Table('a$syncline$b"', VISITS.columns, ("id",), place=("public", 'a$syncline$b"'))
    body = function_body(Capture(nasty, ("id",), (), ("status",)))
    tag = dollar_quoted(body)[: len(dollar_quoted(body)) - len(body)]
    assert dollar_quoted(body).count(tag[: len(tag) // 2]) == 2


def test_the_digest_is_of_the_body_that_is_put_in() -> None:
    assert function_digest(capture()) != function_digest(capture(writable=False))
    assert any(function_body(capture()) in statement for statement in capture_statements(capture()))
