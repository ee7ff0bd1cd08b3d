"""The rows of a frame, decoded: those with tagged values and those without, side by side."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from syncline.errors import LimitError, ProtocolError
from syncline.protocol import frames
from syncline.replica.rows import rows_of
from syncline.values import RawText

TABLE: Any = SimpleNamespace(name="visits", layout=1, columns=("id", "value"))


def decoded(*rows: Any) -> tuple[list[tuple[Any, ...]], bool]:
    found, is_plain = rows_of(TABLE, {"layout": 1, "rows": list(rows)})
    return [tuple(row) for row in found], is_plain


def test_only_the_rows_with_tags_are_decoded() -> None:
    plain = ["a", 1.5]
    found, is_plain = rows_of(TABLE, {"layout": 1, "rows": [plain, ["b", ["f", "2.0"]], ["c", None]]})
    assert found[0] is plain
    assert [tuple(row) for row in found] == [("a", 1.5), ("b", 2.0), ("c", None)]
    assert type(found[1][1]) is float
    assert is_plain


def test_a_blob_is_bound_as_it_is() -> None:
    assert decoded(["a", 1], ["b", ["b", "AP8="]]) == ([("a", 1), ("b", b"\0\xff")], True)


def test_text_that_is_not_utf_8_is_told_among_plain_rows() -> None:
    rows, is_plain = decoded(["a", 1], ["b", ["t", "/w=="]])
    assert type(rows[1][1]) is RawText
    assert not is_plain


@pytest.mark.parametrize("value", [["f", "1_0"], ["x", "1"], [], [["f", "1.0"]], {}, True])
def test_what_is_no_value_is_refused_among_plain_rows(value: Any) -> None:
    with pytest.raises(ProtocolError, match="value"):
        decoded(["a", 1], ["b", value])


def test_rows_of_another_width_are_another_layout() -> None:
    with pytest.raises(ProtocolError) as refused:
        decoded(["a", 1], ["b", 1, 2])
    assert refused.value.code == "layout"


def test_one_deep_value_among_many_plain_rows_is_refused() -> None:
    rows = [["a", 1]] * 100
    assert frames.load(frames.dump({"rows": [*rows, [["f", "1.0"]]]}), depth_max=4)
    with pytest.raises(LimitError):
        frames.load(frames.dump({"rows": [*rows, [[["f"]]]]}), depth_max=4)
