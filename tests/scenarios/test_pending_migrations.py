"""The office changes its tables while a nurse who is offline has work waiting: none of it vanishes, none of it hits
another row."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from syncline.errors import ReplicaError
from syncline.replica.receipt import Receipt, read_receipt
from syncline.replica.retry import retry
from syncline.testing.bench import Office, Phone
from syncline.testing.contract_clinic import CONFIG

RENAME = "ALTER TABLE visits RENAME COLUMN summary TO report"


def synced(office: Office) -> Phone:
    ann = office.phone("ann")
    ann.sync()
    return ann


def migrate(office: Office, *statements: str) -> None:
    for statement in statements:
        office.execute(statement)
    office.reconfigure(CONFIG)


def rebuild(office: Office, table: str, columns: str, select: str, link: str) -> None:
    """As Alembic's batch mode and Django do: new table, copy, DROP, RENAME."""
    migrate(
        office,
        f"CREATE TABLE made_anew({columns})",
        f"INSERT INTO made_anew {select}",
        f"DROP TABLE {table}",
        f"ALTER TABLE made_anew RENAME TO {table}",
        f"CREATE INDEX by_link ON {table}({link})",
    )


def kept(phone: Phone) -> list[tuple[Any, ...]]:
    names = ("table", "key", "operation", "code", "values")
    return [tuple(each[name] for name in names) for each in phone.rejections()]


def try_again(phone: Phone, rejection: Mapping[str, Any], corrections: Mapping[str, Any]) -> None:
    with closing(phone.file.connect()) as db:
        retry(db, phone.file.store.tables, rejection, corrections)
        db.commit()


def test_the_nurse_wrote_into_a_column_that_was_renamed(office: Office) -> None:
    """P4, P20: what she wrote waits for her, the rest of her change goes on, and she writes it to the new column."""
    ann = synced(office)
    ann.execute("UPDATE visits SET summary = 'slept badly', status = 'done' WHERE id = 'v-ada'")
    migrate(office, RENAME)
    ann.sync()
    assert office.execute("SELECT report, status FROM visits WHERE id = 'v-ada'") == [(None, "done")]
    assert kept(ann) == [("visits", {"id": "v-ada"}, "update", "column", {"summary": "slept badly"})]
    (rejection,) = ann.rejections()
    assert '"visits"' in rejection["reason"] and '"summary"' in rejection["reason"]
    receipt = read_receipt(ann.file.store.connection)
    assert isinstance(receipt, Receipt) and (receipt.reached, receipt.refused) == (0, 1)

    with pytest.raises(ReplicaError) as caught:
        try_again(ann, rejection, {})
    assert caught.value.code == "unknown_column" and ann.rejections() == [rejection]
    try_again(ann, rejection, {"report": rejection["values"]["summary"]})
    ann.sync()
    assert office.execute("SELECT report FROM visits WHERE id = 'v-ada'") == [("slept badly",)]
    assert ann.rejections() == []


def test_the_nurse_wrote_into_a_column_that_was_dropped(office: Office) -> None:
    """P4, P20."""
    ann = synced(office)
    ann.execute("UPDATE tickets SET body = 'call at noon' WHERE id = 1")
    ann.execute("DELETE FROM notes WHERE id = 'n-ada'")
    columns = "id INTEGER PRIMARY KEY, patient_id TEXT NOT NULL REFERENCES patients(id)"
    rebuild(office, "tickets", columns, "SELECT id, patient_id FROM tickets", "patient_id")
    ann.sync()
    assert kept(ann) == [("tickets", {"id": 1}, "update", "column", {"body": "call at noon"})]
    assert ann.execute("SELECT * FROM tickets") == [(1, "ada")]
    assert office.execute("SELECT id FROM notes") == [("n-cy",)]


def test_the_nurse_wrote_into_a_column_that_is_hidden_now(office: Office) -> None:
    """P4, P20."""
    ann = synced(office)
    ann.execute("UPDATE patients SET phone = '555', name = 'Ada L' WHERE id = 'ada'")
    office.reconfigure(replace(CONFIG, hide={"patients": ("ssn", "phone")}))
    ann.sync()
    assert office.execute("SELECT name, phone FROM patients WHERE id = 'ada'") == [("Ada L", "1")]
    assert kept(ann) == [("patients", {"id": "ada"}, "update", "column", {"phone": "555"})]


def test_the_nurses_new_rows_go_on_without_the_column(office: Office) -> None:
    """P4, P20: only the visit of which she wrote a summary has lost something."""
    ann = synced(office)
    ann.execute("INSERT INTO visits(id, patient_id, summary) VALUES('v-told', 'ada', 'fell'), ('v-plain', 'ada', NULL)")
    migrate(office, RENAME)
    ann.sync()
    assert office.execute("SELECT id, report FROM visits WHERE id IN ('v-told', 'v-plain') ORDER BY id") == [
        ("v-plain", None),
        ("v-told", None),
    ]
    assert kept(ann) == [("visits", {"id": "v-told"}, "update", "column", {"summary": "fell"})]


def test_the_nurses_marked_group_is_refused_whole(office: Office) -> None:
    """P7, P20: a note that speaks of a summary does not come without it; both stay with her. What an app put on the
    table is still there."""
    ann = synced(office)
    ann.execute("CREATE TABLE found(id)")
    ann.execute("CREATE TRIGGER find AFTER INSERT ON visits BEGIN INSERT INTO found VALUES(NEW.id); END")
    ann.execute("CREATE TRIGGER lose AFTER DELETE ON visits BEGIN DELETE FROM found WHERE id = OLD.id; END")
    ann.group(
        "UPDATE visits SET summary = 'see note' WHERE id = 'v-ada'",
        "INSERT INTO notes VALUES('n-new', 'v-ada', 'see summary')",
    )
    ann.execute("UPDATE visits SET status = 'done' WHERE id = 'v-bo'")
    migrate(office, RENAME)
    ann.sync()
    assert office.execute("SELECT id FROM notes WHERE id = 'n-new'") == []
    assert ann.execute("SELECT id FROM notes WHERE id = 'n-new'") == []
    assert kept(ann) == [
        ("visits", {"id": "v-ada"}, "update", "column", {"summary": "see note"}),
        ("notes", {"id": "n-new"}, "insert", "group", {"visit_id": "v-ada", "body": "see summary"}),
    ]
    assert {each["group"] for each in ann.rejections()} == {1}
    assert ann.execute("SELECT id, status FROM visits ORDER BY id") == [("v-ada", "planned"), ("v-bo", "done")]
    assert office.execute("SELECT status FROM visits WHERE id = 'v-bo'") == [("done",)]
    assert ann.execute("SELECT id FROM found ORDER BY id") == [("v-ada",), ("v-bo",)]


@pytest.mark.parametrize("how", ["a marked group", "an answer that is lost"])
def test_the_nurse_goes_on_reading_while_her_changes_wait_for_their_outcome(office: Office, how: str) -> None:
    """P11, P20: the signal is gone again before the download. What she had not touched is there as before, and what
    hangs on it."""
    ann = synced(office)
    if how == "a marked group":
        ann.group("UPDATE visits SET summary = 'see note' WHERE id = 'v-ada'")
    else:
        ann.execute("UPDATE visits SET summary = 'slept badly' WHERE id = 'v-ada'")
        ann.upload()
    migrate(office, RENAME)
    ann.hello()
    assert ann.execute("SELECT id, status FROM visits") == [("v-bo", "planned")]
    ann.execute("UPDATE visits SET status = 'done' WHERE id = 'v-bo'")
    ann.sync()
    assert ann.execute("SELECT id, status FROM visits ORDER BY id") == [("v-ada", "planned"), ("v-bo", "done")]
    assert office.execute("SELECT status FROM visits WHERE id = 'v-bo'") == [("done",)]


def test_what_the_office_had_judged_before_is_not_told_again(office: Office) -> None:
    """P6: her summary arrived under the old name, only the answer did not; the refused one comes with all its values."""
    ann = synced(office)
    ann.execute("UPDATE visits SET summary = 'slept badly' WHERE id = 'v-ada'")
    ann.execute("UPDATE visits SET summary = 'fell', status = 'nonsense' WHERE id = 'v-bo'")
    ann.upload()
    migrate(office, RENAME)
    ann.sync()
    assert office.execute("SELECT id, report FROM visits WHERE report IS NOT NULL") == [("v-ada", "slept badly")]
    assert kept(ann) == [("visits", {"id": "v-bo"}, "update", "check", {"status": "nonsense", "summary": "fell"})]
    assert ann.execute("SELECT report FROM visits WHERE id = 'v-ada'") == [("slept badly",)]


def test_the_office_numbers_its_tickets_anew(office: Office) -> None:
    """P8, P20: the key is another column of the same width. What the nurse did to ticket 1 is not done to another."""
    office.execute("INSERT INTO tickets VALUES(2, 'ada', 'two'), (3, 'ada', 'three')")
    ann = synced(office)
    ann.execute("DELETE FROM tickets WHERE id = 1")
    ann.execute("UPDATE tickets SET body = 'hers' WHERE id = 2")
    ann.group("UPDATE tickets SET body = 'hers too' WHERE id = 3", "INSERT INTO tickets VALUES(9, 'ada', 'new')")
    columns = "no INTEGER PRIMARY KEY, patient_id TEXT NOT NULL REFERENCES patients(id), body TEXT, id INTEGER"
    rebuild(office, "tickets", columns, "SELECT 4 - id, patient_id, body, id FROM tickets", "patient_id")
    every_ticket = "SELECT * FROM tickets ORDER BY no"
    before = office.execute(every_ticket)
    ann.sync()
    assert office.execute(every_ticket) == before == ann.execute(every_ticket)
    assert [(key["id"], code, values) for _, key, _, code, values in kept(ann)] == [
        (1, "column", {}),
        (2, "column", {"body": "hers"}),
        (3, "column", {"body": "hers too"}),
        (9, "group", {"patient_id": "ada", "body": "new"}),
    ]
    for rejection in ann.rejections():
        with pytest.raises(ReplicaError) as caught:
            try_again(ann, rejection, {})
        assert caught.value.code == "row_gone" and "(no)" in str(caught.value)


def test_a_rejection_from_before_the_key_had_two_columns_cannot_be_tried_again(office: Office) -> None:
    ann = synced(office)
    ann.execute("INSERT INTO notes VALUES('n-new', 'v-ada', 'hers')")
    columns = "visit_id TEXT NOT NULL REFERENCES visits(id), no INTEGER, body TEXT, PRIMARY KEY(visit_id, no)"
    rebuild(office, "notes", columns, "SELECT visit_id, row_number() OVER (ORDER BY id), body FROM notes", "visit_id")
    ann.sync()
    (rejection,) = ann.rejections()
    with pytest.raises(ReplicaError) as caught:
        try_again(ann, rejection, {"no": 7})
    assert caught.value.code == "row_gone" and ann.rejections() == [rejection]
