"""Merge policies, column by column (PROTOCOL_MODEL rule 12)."""

from __future__ import annotations

import math

import pytest

from syncline.errors import ConfigError, Reject
from syncline.model import merge
from syncline.model.merge import Change, Merged, PolicyEntry, Stamp, merge_add, merge_latest, merge_server, policy
from syncline.model.schema import Column
from syncline.values import RawText, Value

OFFICE, ANNA, BEN = merge.SOURCE_WRITER, 1, 2


def change(was: Value, server: Value, new: Value, at: int, by: int, server_at: int, server_by: int) -> Change:
    return Change(was, server, new, Stamp(at, by), Stamp(server_at, server_by))


LATEST = {
    "nobody wrote meanwhile": (change("A", "A", "B", 20, ANNA, 10, BEN), Merged("B", None, True)),
    "later than an unseen write: won": (change("A", "C", "B", 20, ANNA, 10, BEN), Merged("B", "server", True)),
    "later than the office's: won": (change("A", "C", "B", 20, ANNA, 10, OFFICE), Merged("B", "server", True)),
    "earlier than an unseen write: lost": (change("A", "C", "B", 10, ANNA, 20, BEN), Merged("C", "device")),
    "A-B-A is decided by stamps: lost": (change("A", "A", "B", 10, ANNA, 20, BEN), Merged("A", "device")),
    "A-B-A is decided by stamps: later": (change("A", "A", "B", 30, ANNA, 20, BEN), Merged("B", None, True)),
    "the same value raises the stamp": (change("A", "B", "B", 20, ANNA, 10, BEN), Merged("B", None, True)),
    "the same value raises no conflict": (change("A", "B", "B", 10, ANNA, 20, BEN), Merged("B", None, True)),
    "own earlier write is no conflict": (change("A", "C", "B", 20, ANNA, 10, ANNA), Merged("B", None, True)),
    "own later write is no conflict": (change("A", "C", "B", 10, ANNA, 20, ANNA), Merged("C")),
    "a tie goes to the higher writer": (change("A", "A", "B", 10, BEN, 10, ANNA), Merged("B", None, True)),
    "a tie is lost by the lower writer": (change("A", "C", "B", 10, ANNA, 10, BEN), Merged("C", "device")),
    "a blank overwritten unseen": (change(None, "", "B", 20, ANNA, 10, BEN), Merged("B", "server", True)),
    "1 and 1.0 differ": (change(1, 1.0, 2, 20, ANNA, 10, BEN), Merged(2, "server", True)),
    "text and blob differ": (change("A", b"A", "B", 20, ANNA, 10, BEN), Merged("B", "server", True)),
    "case differs": (change("anna", "Anna", "anna", 10, ANNA, 20, BEN), Merged("Anna", "device")),
    "broken text": (change("A", RawText(b"\xff"), b"\xff", 10, ANNA, 20, BEN), Merged(RawText(b"\xff"), "device")),
}


@pytest.mark.parametrize("case", LATEST)
def test_latest(case: str) -> None:
    """P12."""
    given, expected = LATEST[case]
    merged = merge_latest(given)
    assert merged == expected
    assert type(merged.value) is type(expected.value)


def test_server_keeps_what_the_source_holds_and_records_what_was_left_out() -> None:
    """P12."""
    assert merge_server(change("A", "C", "B", 99, ANNA, 1, BEN)) == Merged("C", "device")
    assert merge_server(change("A", "B", "B", 99, ANNA, 1, BEN)) == Merged("B")


@pytest.mark.parametrize(
    ("was", "server", "new", "expected"),
    [
        (5, 5, 6, 6),
        (5, 9, 6, 10),
        (5, 6, 6, 7),
        (5, 5, 5, 5),
        (None, None, 1, 1),
        (None, 4, 1, 5),
        (1, 1, None, 0),
        (0.5, 2.25, 1.5, 3.25),
        (2**62, 2**62, 2**63 - 1, 2**63 - 1),
        (2**63 - 1, 2**63 - 1, -(2**63), -(2**63)),
        (0, "text", 1, 1),
    ],
)
def test_add_adds_the_difference(was: Value, server: Value, new: Value, expected: Value) -> None:
    """P12: never short-cut by equality; two who both count one make two."""
    merged = merge_add(change(was, server, new, 10, ANNA, 20, BEN))
    assert (merged.value, type(merged.value)) == (expected, type(expected))
    assert merged.raise_stamp and merged.loser is None


@pytest.mark.parametrize(
    ("was", "server", "new"),
    [
        (0, 2**63 - 1, 1),
        (1, -(2**63), 0),
        (-(2**63), 1, 2**63 - 1),
        (0.0, math.inf, -math.inf),
        (math.inf, 1, math.inf),
    ],
)
def test_a_sum_that_no_column_holds_is_refused_alone(was: Value, server: Value, new: Value) -> None:
    """P18: it is the mutation's fault, so it must not stop the ones behind it."""
    with pytest.raises(Reject) as caught:
        merge_add(change(was, server, new, 10, ANNA, 20, BEN))
    assert caught.value.code == "out_of_range"


@pytest.mark.parametrize(
    "type_", ["INTEGER", "bigint", "REAL", "double precision", "NUMERIC(10,2)", "Decimal", "FLOAT"]
)
def test_add_takes_numbers(type_: str) -> None:
    assert policy("add").refuses(Column("count", type_)) is None


@pytest.mark.parametrize("type_", ["TEXT", "", "BLOB", "date"])
def test_add_refuses_what_is_no_number(type_: str) -> None:
    refusal = policy("add").refuses(Column("note", type_))
    assert refusal and '"note"' in refusal


@pytest.mark.parametrize(
    ("type_", "local", "kind", "fits"),
    [
        ("integer", "INTEGER", "integer", True),
        ("double precision", "REAL", "double", True),
        ("boolean", "INTEGER", "boolean", False),
        ("numeric(10,2)", "TEXT", "numeric", False),
        ("interval", "TEXT", "interval", False),
        ("point", "TEXT", "other", False),
    ],
)
def test_add_goes_by_what_a_device_holds(type_: str, local: str, kind: str, fits: bool) -> None:
    refusal = policy("add").refuses(Column("count", type_, local_type=local, kind=kind))
    assert (refusal is None) == fits


def test_only_add_puts_a_difference_on_the_newer_row() -> None:
    """P10: the device's replay must do what the server's merge does."""
    assert {name: policy(name).rebase for name in ("latest", "server", "add")} == {
        "latest": "set",
        "server": "set",
        "add": "add",
    }


def longest(given: Change) -> Merged:
    return Merged(max(given.server, given.new, key=lambda value: len(str(value))))


def test_a_new_policy_plugs_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "_policies", dict(merge._policies))
    with pytest.raises(ConfigError):
        policy("longest")
    merge.register(PolicyEntry("longest", longest, refuses=lambda column: "no." if column.type == "BLOB" else None))
    assert policy("longest").decide(change("", "abc", "a", 1, ANNA, 2, BEN)) == Merged("abc")
    assert policy("longest").refuses(Column("photo", "BLOB")) == "no."
    assert policy("longest").rebase == "set"


def test_an_unknown_policy_is_answered_with_the_nearest_or_with_all() -> None:
    with pytest.raises(ConfigError) as near:
        policy("lastest")
    assert (near.value.code, near.value.hint) == ("unknown_policy", 'Did you mean "latest"?')
    with pytest.raises(ConfigError) as far:
        policy("zzz")
    assert "add" in far.value.hint and "latest" in far.value.hint and "server" in far.value.hint


def test_stamps_are_ordered_by_time_then_writer() -> None:
    assert Stamp(1, 9) < Stamp(2, OFFICE) < Stamp(2, ANNA) < Stamp(2, BEN) < Stamp(3)
