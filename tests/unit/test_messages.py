"""Requests and answers: their shapes on the wire, and what is refused."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from syncline import limits
from syncline.errors import LimitError, ProtocolError
from syncline.protocol import messages, mutations
from syncline.protocol.messages import Download, Group, Hello, HelloAnswer, Mutation, Stage, Upload, UploadAnswer
from syncline.protocol.version import PROTOCOL_VERSION
from syncline.values import RawText

MUTATION = Mutation(
    number=7,
    id=bytes(range(16)),
    table="visits",
    operation="U",
    key=("v-1", 2**60),
    key_columns=("id", "no"),
    changes={"status": ("done", "open"), "weight": (1.0, None), "photo": (b"\x00", RawText(b"\xff"))},
    wall_us=-5,
    seen_us=9,
    base=3,
    insert=2,
    included=4,
)

STAGE = Stage("token", "digest", ('caseload["p-2"]',))

EXAMPLES: list[Any] = [
    Hello(2, "d-1", "n-1", "syncline 0.1", "3.40.1", ("zstd", "gzip"), -4, "hash", 3, 5, "term.8"),
    HelloAnswer(
        2, "d-1", "n-2", "known", "nurse-17", "term", 8, 5, 10, 11, "zstd", True, {"v": 1}, {"frame": 9}, bytes(16)
    ),
    MUTATION,
    Upload("d-1", -4, -9, (Group(True, (MUTATION,)),), 3),
    UploadAnswer(7, True),
    Download("d-1", "term.8", 5, 4, "digest", ('caseload["p-1"]',), 2.5, STAGE),
    STAGE,
]

MUTATION_SHAPE: dict[str, Any] = {
    "n": 7,
    "id": "AAECAwQFBgcICQoLDA0ODw==",
    "table": "visits",
    "op": "U",
    "key": ["v-1", ["i", "1152921504606846976"]],
    "key_columns": ["id", "no"],
    "columns": ["status", "weight", "photo"],
    "new": ["done", ["f", "1.0"], ["b", "AA=="]],
    "was": ["open", None, ["t", "/w=="]],
    "wall": -5,
    "seen": 9,
    "base": 3,
    "insert": 2,
    "included": 4,
}

FIRST_MUTATION_SHAPE = {name: value for name, value in MUTATION_SHAPE.items() if name != "key_columns"}

SHAPES: dict[int, dict[str, dict[str, Any]]] = {
    1: {
        "Hello": {
            "protocol": 1,
            "device": "d-1",
            "nonce": "n-1",
            "engine": "syncline 0.1",
            "sqlite": "3.40.1",
            "packings": ["zstd", "gzip"],
            "clock": -4,
            "program": "hash",
            "schema_version": 3,
            "included": 5,
            "cursor": "term.8",
        },
        "HelloAnswer": {
            "protocol": 1,
            "device": "d-1",
            "nonce": "n-2",
            "identity": "known",
            "user": "nurse-17",
            "term": "term",
            "head": 8,
            "last": 5,
            "received": 10,
            "answered": 11,
            "packing": "zstd",
            "reoffer_sent": True,
            "program": {"v": 1},
            "limits": {"frame": 9},
        },
        "Mutation": FIRST_MUTATION_SHAPE,
        "Upload": {
            "device": "d-1",
            "clock": -4,
            "offset": -9,
            "floor": 3,
            "groups": [{"marked": True, "mutations": [FIRST_MUTATION_SHAPE]}],
        },
        "UploadAnswer": {"last": 7, "gap": True},
        "Download": {
            "device": "d-1",
            "cursor": "term.8",
            "included": 5,
            "apply_count": 4,
            "digest": "digest",
            "buckets": ['caseload["p-1"]'],
            "wait": 2.5,
        },
    }
}
STAGE_SHAPE: dict[str, Any] = {"token": "token", "digest": "digest", "buckets": ['caseload["p-2"]']}
SHAPES[2] = {
    **SHAPES[1],
    "Hello": {**SHAPES[1]["Hello"], "protocol": 2},
    "HelloAnswer": {**SHAPES[1]["HelloAnswer"], "protocol": 2, "last_id": "AAAAAAAAAAAAAAAAAAAAAA=="},
    "Mutation": MUTATION_SHAPE,
    "Upload": {**SHAPES[1]["Upload"], "groups": [{"marked": True, "mutations": [MUTATION_SHAPE]}]},
    "Download": {**SHAPES[1]["Download"], "stage": STAGE_SHAPE},
    "Stage": STAGE_SHAPE,
}
"""What each version sends. A new version is a new entry; the entries of old ones stay as they are."""


def name(message: object) -> str:
    return type(message).__name__


def shape(message: object) -> dict[str, Any]:
    return SHAPES[PROTOCOL_VERSION][name(message)]


@pytest.mark.parametrize("message", EXAMPLES, ids=name)
def test_a_message_that_changed_needs_a_new_protocol_version(message: Any) -> None:
    assert message.dump() == shape(message)
    assert list(message.dump()) == list(shape(message))


@pytest.mark.parametrize("message", EXAMPLES, ids=name)
def test_what_this_version_sends_is_read(message: Any) -> None:
    loaded = type(message).load(shape(message))
    assert loaded == message
    assert repr(loaded) == repr(message)


def test_every_message_has_an_example_in_which_every_field_is_set() -> None:
    found = {
        name
        for name, value in vars(messages).items()
        if inspect.isclass(value)
        and value.__module__ in (messages.__name__, mutations.__name__)
        and hasattr(value, "dump")
    }
    assert found == {name(message) for message in EXAMPLES} == set(SHAPES[PROTOCOL_VERSION])
    for message in EXAMPLES:
        for field in dataclasses.fields(message):
            assert getattr(message, field.name) not in (None, 0, (), {}), field.name


CALLS = {"hello": (Hello, HelloAnswer), "upload": (Upload, UploadAnswer), "download": (Download,)}


@pytest.mark.parametrize("call", CALLS)
def test_the_protocol_page_names_the_fields_of_each_call(call: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith(f"| `POST /v1/{call}`"))
    told = [re.findall(r"\w+", re.sub(r": \[.*\]", "", field)) for field in re.findall(r"`([^`]+)`", row)[1:]]
    expected = [list(SHAPES[PROTOCOL_VERSION][message.__name__]) for message in CALLS[call]]
    assert told[: len(expected)] == expected


def test_the_protocol_page_names_the_fields_of_a_mutation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    found = re.search(r"A mutation: `\{([^}]*)\}`", page)
    assert found and found[1].split(", ") == list(MUTATION_SHAPE)


def test_what_a_device_may_leave_out_has_a_meaning() -> None:
    first = {"protocol": 1, "engine": "e", "sqlite": "3", "packings": [], "clock": 0, "included": 0}
    assert Hello.load(first) == Hello(1, None, None, "e", "3", (), 0)
    asked = {"device": "d", "included": 0, "apply_count": 0, "digest": ""}
    assert Download.load(asked) == Download("d", None, 0, 0, "")
    assert Upload.load({"device": "d", "clock": 0, "groups": [], "floor": 0}) == Upload("d", 0, None, ())


@pytest.mark.parametrize("far_off", [-(2**62), 253_402_300_799_000_000, 2**62])
def test_a_clock_however_wrong_does_not_keep_work_back(far_off: int) -> None:
    """P17: year 9999, and worse."""
    assert Hello.load(shape(EXAMPLES[0]) | {"clock": far_off}).clock_us == far_off
    upload = Upload.load(shape(EXAMPLES[3]) | {"clock": far_off, "offset": -far_off})
    assert (upload.clock_us, upload.offset_us) == (far_off, -far_off)
    assert Mutation.load(MUTATION_SHAPE | {"wall": far_off}).wall_us == far_off


def field_cases() -> list[Any]:
    wrong: dict[str, tuple[Any, ...]] = {
        "Hello": (
            ("protocol", None, "1", True, 1.0, -1),
            ("device", 1, "x" * 201),
            ("engine", None, "x" * 201),
            ("packings", None, "zstd", [1], ["x"] * 11),
            ("clock", None, 2**62 + 1, "now"),
            ("schema_version", -1, "3"),
            ("included", None, -1, 2**53 + 1),
        ),
        "HelloAnswer": (
            ("identity", None, "other"),
            ("program", [], "x"),
            ("limits", None, [], {"a": "1"}, {"a": True}),
            ("reoffer_sent", None, 1),
            ("user", None, "x" * 1001),
        ),
        "Mutation": (
            ("n", 0, None, True, 2**53 + 1),
            ("id", None, "", "AAECAwQFBgcICQoLDA0O", "AAECAwQFBgcICQoLDA0ODw=!", "é" * 24, "A" * 25),
            ("op", None, "X", "u", "UU"),
            ("key", None, [], [[]], ["a"] * 65, [True], ["a"]),
            ("key_columns", None, [], ["id"], [1, 2], ["id"] * 65),
            ("columns", None, ["status"], ["status", "status", "photo"], [1, 2, 3]),
            ("new", None, [1], [{}, None, None]),
            ("was", None, [1], [{}, None, None]),
            ("wall", None, 2**62 + 1),
            ("seen", None, -1),
            ("base", None, -1),
            ("insert", None, -1),
            ("included", None, -1),
        ),
        "Upload": (
            ("groups", None, {}, [None], [{}], [{"marked": 1, "mutations": [MUTATION_SHAPE]}]),
            ("groups", [{"marked": False, "mutations": []}], [{"marked": False, "mutations": [None]}]),
            ("offset", "0", 2**62 + 1),
            ("floor", None, -1),
        ),
        "UploadAnswer": (("last", None, -1), ("gap", None, 0)),
        "Download": (
            ("wait", None, True, -1, float("nan"), limits.LONG_POLL_SECONDS_MAX + 1, "1"),
            ("buckets", "x", [1], ["x" * 2001]),
            ("digest", None, 0),
            ("device", None),
            ("stage", "x", {"token": "t"}, {"token": 1, "digest": "d"}),
        ),
        "Stage": (("token", None, 1), ("digest", None), ("buckets", "x", [1])),
    }
    return [
        pytest.param(message, field, value, id=f"{message} {field} {value!r}"[:60])
        for message, fields in wrong.items()
        for field, *bad in fields
        for value in bad
    ]


@pytest.mark.parametrize(("message", "field", "value"), field_cases())
def test_a_wrong_field_is_a_protocol_error_that_names_it(message: str, field: str, value: Any) -> None:
    """P19."""
    with pytest.raises(ProtocolError) as caught:
        getattr(messages, message).load(SHAPES[PROTOCOL_VERSION][message] | {field: value})
    assert caught.value.code in ("bad_field", "bad_value", "limit")


def test_an_insert_has_no_former_values_and_a_delete_no_new_ones() -> None:
    nothing = [None, None, None]
    assert Mutation.load(MUTATION_SHAPE | {"op": "I", "was": nothing}).operation == "I"
    assert Mutation.load(MUTATION_SHAPE | {"op": "D", "new": nothing}).operation == "D"
    for operation in ("I", "D"):
        with pytest.raises(ProtocolError):
            Mutation.load(MUTATION_SHAPE | {"op": operation})


def one_column(new: Any) -> dict[str, Any]:
    return MUTATION_SHAPE | {"columns": ["note"], "new": [new], "was": [None]}


@pytest.mark.parametrize("character", ["a", "é", "🩺"])
def test_the_limit_of_a_value_counts_bytes(character: str) -> None:
    """P19."""
    longest = character * (limits.VALUE_BYTES_MAX // len(character.encode()))
    assert Mutation.load(one_column(longest)).changes == {"note": (longest, None)}
    with pytest.raises(LimitError):
        Mutation.load(one_column(longest + character))


def test_an_upload_holds_a_limited_number_of_mutations() -> None:
    """P19. A marked group is never split, so it has a limit of its own."""
    one = one_column(None)

    def upload(marked: bool, *sizes: int) -> Upload:
        groups = [{"marked": marked, "mutations": [one] * size} for size in sizes]
        return Upload.load({"device": "d", "clock": 0, "groups": groups, "floor": 0})

    assert upload(False, limits.UPLOAD_MUTATIONS_MAX - 1, 1)
    assert upload(True, limits.UPLOAD_MUTATIONS_MAX + 1)
    for marked, sizes in (
        (False, (limits.UPLOAD_MUTATIONS_MAX, 1)),
        (True, (limits.MARKED_GROUP_MUTATIONS_MAX + 1,)),
        (True, (1,) * (limits.UPLOAD_MUTATIONS_MAX + 1)),
    ):
        with pytest.raises(LimitError):
            upload(marked, *sizes)
