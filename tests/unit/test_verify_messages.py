"""The messages of a verification on the wire, and what is refused of either side."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from syncline import limits
from syncline.errors import LimitError, ProtocolError
from syncline.protocol.verify import Repair, Verified, Verify
from syncline.replica.verify import _portions, _take

VERIFY = Verify("d-1", "t.8", "visits", 3, "digest", ("all[]",), ((1, "a"), (2**60, b"\x00")), "token")
SHAPE: dict[str, Any] = {
    "device": "d-1",
    "cursor": "t.8",
    "table": "visits",
    "layout": 3,
    "digest": "digest",
    "buckets": ["all[]"],
    "skip": [[1, "a"], [["i", "1152921504606846976"], ["b", "AA=="]]],
    "token": "token",
}
VERIFIED = Verified("d-1", 4, 1200, (("visits", 2),), 1)
VERIFIED_SHAPE = {"device": "d-1", "tables": 4, "rows": 1200, "differences": [["visits", 2]], "repaired": 1}


def test_messages_are_read_as_they_were_written() -> None:
    assert VERIFY.dump() == SHAPE and Verify.load(SHAPE) == VERIFY
    assert VERIFIED.dump() == VERIFIED_SHAPE and Verified.load(VERIFIED_SHAPE) == VERIFIED
    repair = Repair("visits", ("a", "b"))
    assert Repair.load(repair.dump()) == repair and Repair.load(None) is None


def test_the_protocol_page_names_their_fields() -> None:
    page = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    for call, shape in (("verify", SHAPE), ("verified", VERIFIED_SHAPE)):
        row = next(line for line in page.splitlines() if line.startswith(f"| `POST /v1/{call}`"))
        assert set(shape) <= set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", row))))


@pytest.mark.parametrize(
    "wrong",
    [
        {"cursor": None}, {"table": 7}, {"layout": -1}, {"layout": True}, {"skip": [1]}, {"skip": [["x", "y"]] * 2001},
        {"skip": None}, {"skip": [[[["z"]]]]}, {"token": "x" * 200_000}, {"buckets": [1]}, {"device": "d" * 300},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    """P19."""
    with pytest.raises((ProtocolError, LimitError)):
        Verify.load(SHAPE | wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": -1}, {"rows": 2**50}, {"tables": 10_000}, {"repaired": None}, {"differences": [["visits"]]},
        {"differences": [["visits", 0]]}, {"differences": [["visits", True]]}, {"differences": [["x" * 300, 1]]},
        {"differences": [["visits", 10**9]]}, {"differences": [["v", 1]] * 3000},
    ],
)  # fmt: skip
def test_a_report_that_makes_no_sense_is_not_counted(wrong: dict[str, Any]) -> None:
    """P19."""
    with pytest.raises((ProtocolError, LimitError)):
        Verified.load(VERIFIED_SHAPE | wrong)


@pytest.mark.parametrize("wrong", [7, [], {"table": "t"}, {"table": "t", "buckets": ["b"] * 101}, {"buckets": []}])
def test_a_repair_that_makes_no_sense_is_refused(wrong: Any) -> None:
    """P19."""
    with pytest.raises((ProtocolError, LimitError)):
        Repair.load(wrong)


DIGESTS = {"t": "digests", "table": "visits", "buckets": ["b"], "rows": [2], "sums": ["0" * 31 + "7"]}
END = {"t": "verified", "table": "visits", "checkpoint": 1}


@pytest.mark.parametrize(
    "answer",
    [
        [], [DIGESTS], [{"t": "rows", "table": "visits"}, END], [DIGESTS | {"table": "notes"}, END],
        [DIGESTS | {"rows": []}, END], [DIGESTS | {"sums": ["7"]}, END], [DIGESTS | {"sums": ["z" * 32]}, END],
        [DIGESTS | {"rows": ["2"]}, END], [DIGESTS | {"buckets": 7}, END], [{"t": "changed", "table": "visits"}, END],
    ],
)  # fmt: skip
def test_a_server_that_makes_no_sense_is_refused(answer: list[dict[str, Any]]) -> None:
    """P19, the other way round."""
    with pytest.raises((ProtocolError, LimitError)):
        _take(answer, "visits", {}, set())


def test_a_repair_names_only_so_many_buckets() -> None:
    many = [f"bucket-{number}" for number in range(250)]
    assert [len(portion) for portion in _portions(many)] == [100, 100, 50]
    assert [name for portion in _portions(many) for name in portion] == many
    long = ["b" * 2_000] * 25
    sizes = [sum(map(len, portion)) for portion in _portions(long)]
    assert sum(sizes) == 50_000 and max(sizes) <= limits.REPAIR_NAMES_CHARACTERS_MAX
    assert list(_portions([])) == [()]
