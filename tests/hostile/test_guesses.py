"""A nurse who guesses keys of patients that are not hers learns nothing by it, on each kind of database."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest

from syncline.protocol import frames
from syncline.testing.bench import Office, Phone
from syncline.testing.contract_clinic import synced

Mutation = dict[str, Any]


@pytest.fixture
def ann(office: Office) -> Phone:
    return synced(office)


def forged(number: int, table: str, operation: str, key: str, columns: dict[str, tuple[Any, Any]]) -> Mutation:
    """`columns`: name -> (new, was)."""
    return {
        "n": number, "id": base64.b64encode(number.to_bytes(16, "big")).decode(), "table": table, "op": operation, "key": [key], "key_columns": ["id"],
        "columns": list(columns), "new": [new for new, _ in columns.values()], "was": [was for _, was in columns.values()],
        "wall": 2**52, "seen": 0, "base": 0, "insert": 0, "included": 0,
    }  # fmt: skip


def asked(office: Office, phone: Phone, included: int) -> list[dict[str, Any]]:
    """A download by hand: the device's own file would not believe that it wrote any of this."""

    async def collect() -> list[bytes]:
        request = {**phone.file.download_request(with_buckets=True), "included": included}
        return [frame async for frame in await office.service.download(phone.identity, request)]

    return [frames.load(frame) for frame in office.wait(collect())]


def sent(office: Office, phone: Phone, mutation: Mutation, *, marked: bool) -> bytes:
    """The outcome that the device is told, and the answer to the upload, byte for byte but for key and numbers."""
    message = {
        "device": phone.file.state().device, "clock": phone.clock.now_us(), "offset": 0, "floor": 0,
        "groups": [{"marked": marked, "mutations": [mutation]}],
    }  # fmt: skip
    answer = office.wait(office.service.upload(phone.identity, frames.load(frames.dump(message)))).dump()
    assert answer == {"last": mutation["n"], "gap": False}
    office.checkpoint()
    (outcome,) = [frame for frame in asked(office, phone, mutation["n"] - 1) if frame["t"] == "outcome"]
    (key,) = mutation["key"]
    return frames.dump({**outcome, "n": 0}).replace(key.encode(), b"KEY")


WRITES: dict[str, Callable[[int, str], Mutation]] = {
    "a note is changed": lambda n, key: forged(n, "notes", "U", f"n-{key}", {"body": ("x", "y")}),
    "a note is deleted": lambda n, key: forged(
        n, "notes", "D", f"n-{key}", {"body": (None, "y"), "visit_id": (None, "v")}
    ),
    "a visit is changed": lambda n, key: forged(
        n, "visits", "U", f"v-{key}", {"summary": ("x", None), "room": ("r9", "r3")}
    ),
    "a visit is deleted": lambda n, key: forged(n, "visits", "D", f"v-{key}", {"summary": (None, None)}),
    "a visit is taken": lambda n, key: forged(n, "visits", "U", f"v-{key}", {"patient_id": ("ada", key)}),
    "a patient is changed": lambda n, key: forged(n, "patients", "U", key, {"name": ("x", "y")}),
    "a note on a visit": lambda n, key: forged(
        n, "notes", "I", f"new-{n}-{key}", {"visit_id": (f"v-{key}", None), "body": ("x", None)}
    ),
    "a visit at a patient": lambda n, key: forged(n, "visits", "I", f"new-{n}-{key}", {"patient_id": (key, None)}),
    "an own visit is moved": lambda n, key: forged(n, "visits", "U", "v-bo", {"patient_id": (key, "bo")}),
}


@pytest.mark.parametrize("marked", [False, True], ids=["by itself", "in a group"])
def test_what_is_outside_the_scope_answers_like_what_is_not_there(office: Office, ann: Phone, marked: bool) -> None:
    """P8, P19: Cy exists and is Ben's; nobody is called Qx. The rows are as they were."""
    before = [office.execute(f"SELECT * FROM {table} ORDER BY 1") for table in ("patients", "visits", "notes")]
    number = 0
    for what, write in WRITES.items():
        told = []
        for key in ("cy", "qx"):
            number += 1
            told.append(sent(office, ann, write(number, key), marked=marked).replace(key.encode(), b"KEY"))
        assert told[0] == told[1], what
    assert [office.execute(f"SELECT * FROM {table} ORDER BY 1") for table in ("patients", "visits", "notes")] == before


def _own(number: int, key: str) -> Mutation:
    return forged(number, "notes", "U", "n-ada", {"body": ("sleeps well", "sleeps well")})


def _together() -> list[tuple[str, str, bool]]:
    """Two writes of one group: each with its neighbour, and each before and after one that by itself would pass."""
    names = list(WRITES)
    neighbours = list(zip(names, names[1:] + names[:1], strict=True))
    owns = [pair for name in names for pair in (("an own note", name), (name, "an own note"))]
    return [(*pair, marked) for pair in neighbours for marked in (True, False)] + [(*pair, True) for pair in owns]


def test_two_of_a_group_answer_like_two_that_are_not_there(office: Office, ann: Phone) -> None:
    """P7, P8, P19: what is tried together, and then one by one, tells no more; and nothing of it is done."""
    before = [office.execute(f"SELECT * FROM {table} ORDER BY 1") for table in ("patients", "visits", "notes")]
    writes = {**WRITES, "an own note": _own}
    number = 1
    for first, second, marked in _together():
        told = []
        for key in ("cy", "qx"):
            mutations = [writes[first](number, key), writes[second](number + 1, key)]
            message = {
                "device": ann.file.state().device, "clock": ann.clock.now_us(), "offset": 0, "floor": 0,
                "groups": [{"marked": marked, "mutations": mutations}],
            }  # fmt: skip
            office.wait(office.service.upload(ann.identity, frames.load(frames.dump(message))))
            office.checkpoint()
            outcomes = [frame for frame in asked(office, ann, number - 1) if frame["t"] == "outcome"]
            text = repr([{**outcome, "n": outcome["n"] - number} for outcome in outcomes])
            told.append(re.sub(rf"new-\d+-{key}|{key}", "KEY", text))
            number += 2
        assert told[0] == told[1], (first, second, marked)
    assert [office.execute(f"SELECT * FROM {table} ORDER BY 1") for table in ("patients", "visits", "notes")] == before


@pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
@pytest.mark.parametrize("what", ["a note is changed", "a note is deleted", "a visit is changed", "a visit is deleted"])
def test_both_take_the_same_statements(office: Office, ann: Phone, what: str) -> None:
    """P19: the time that it takes does not tell, either. (Of SQLite, whose statements one can listen to.)"""
    source: Any = office.source
    heard: list[list[str]] = []
    for number, key in enumerate(("cy", "qx"), 1):
        heard.append([])
        connection = source._db._connection(source._db.writer)
        connection.set_trace_callback(lambda sql: heard[-1].append(re.sub(r"'[^']*'|[0-9]+", "", sql)))
        sent(office, ann, WRITES[what](number, key), marked=False)
        connection.set_trace_callback(None)
    kinds = [[statement.split("WHERE")[0] for statement in each] for each in heard]
    assert kinds[0] == kinds[1] and len(kinds[0]) > 5


def test_a_key_that_is_taken_is_all_that_an_insert_tells(office: Office, ann: Phone) -> None:
    """P19: that a key is taken cannot be hidden, for there cannot be two rows of it. Whose it is, is not told: the words
    are the same inside and outside the scope, whatever hangs on the row."""
    told = []
    for number, (key, parent) in enumerate(
        [("n-ada", "v-ada"), ("n-cy", "v-ada"), ("n-cy", "v-cy"), ("n-ada", "v-qx")], 1
    ):
        mutation = forged(number, "notes", "I", key, {"visit_id": (parent, None), "body": ("mine", None)})
        frame = frames.load(sent(office, ann, mutation, marked=False))
        told.append((frame["kind"], frame["code"], frame["reason"], frame["conflicts"]))
    assert set(map(repr, told)) == {repr(("rejected", "key_exists", "This key is taken.", []))}
    assert office.execute("SELECT body FROM notes ORDER BY id") == [("sleeps well",), ("canary-of-cy",)]


def test_the_office_has_what_was_written_to_a_visit_that_is_gone(office: Office, ann: Phone) -> None:
    """P3, P9: the nurse is told; her words wait where the office sees them, and not on her device."""
    ann.execute("INSERT INTO notes VALUES('n-late', 'v-ada', 'written too late')")
    office.execute("DELETE FROM notes WHERE visit_id = 'v-ada'")
    office.execute("DELETE FROM visits WHERE id = 'v-ada'")
    ann.sync()
    assert [(each["code"], each["values"]) for each in ann.rejections()] == [("scope", None)]
    (kept,) = office.rejections()
    assert (kept["code"], kept["values"]["body"]) == ("scope", "written too late")


def test_a_reference_that_is_no_path_is_still_told_as_such(office: Office, ann: Phone) -> None:
    """P18: the visit is Ada's, and stays; what is wrong with the change is the pharmacy that nobody has."""
    mutation = forged(1, "patients", "U", "ada", {"facility_id": ("f-qx", "f1")})
    assert frames.load(sent(office, ann, mutation, marked=False))["code"] == "foreign_key"


def test_parents_of_the_same_group_are_nobodys_secret(office: Office, ann: Phone) -> None:
    """P7: a group with a child before its parent passes, and says what is wrong where it does not."""
    ann.group(
        "PRAGMA defer_foreign_keys = ON",
        "INSERT INTO notes VALUES('n-1', 'v-1', 'first the note')",
        "INSERT INTO visits(id, patient_id) VALUES('v-1', 'ada')",
    )
    ann.sync()
    assert not ann.rejections()
    assert office.execute("SELECT visit_id FROM notes WHERE id = 'n-1'") == [("v-1",)]


def test_the_name_of_a_device_that_nobody_knows_forges_no_line_of_the_log(
    office: Office, ann: Phone, caplog: pytest.LogCaptureFixture
) -> None:
    """P19: whoever reads the log believes what stands at the beginning of its lines."""
    named = {**ann.file.hello_request(), "device": "gone\nERROR syncline.sequencer: no checkpoint can be taken"}
    with caplog.at_level(logging.INFO, "syncline"):
        told = office.wait(office.service.hello(ann.identity, named, office.clock.now_us()))
    assert told.identity == "new"
    assert "takes the place of 'gone\\nERROR" in caplog.text
