"""What a nurse does about a change that the office refused: forget it, or correct it and try again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from tests.replica.office import Office, execute

from syncline import Replica, ReplicaError


@pytest.fixture
def refused(replica: Replica, office: Office) -> Callable[..., dict[str, Any]]:
    """Writes what the office refuses, and answers the rejection."""
    replica.sync(timeout=20)

    def write(*statements: str, code: str = "check") -> dict[str, Any]:
        office.refuses = lambda mutation: code
        for statement in statements:
            execute(replica.path, statement)
        replica.sync(timeout=20)
        office.refuses = lambda mutation: None
        return replica.rejections()[-1]

    return write


def code_of(work: Callable[[], object]) -> str:
    with pytest.raises(ReplicaError) as caught:
        work()
    return caught.value.error_code


def test_a_refused_update_is_corrected_and_arrives(replica: Replica, office: Office, refused: Any) -> None:
    rejection = refused("UPDATE visits SET status = 'dnoe', note = 'wound is dry' WHERE id = 1")
    assert execute(replica.path, "SELECT status, note FROM visits") == [("planned", None)]
    replica.retry(rejection, {"status": "done"})
    assert replica.rejections() == [] and replica.status.pending == 1
    assert execute(replica.path, "SELECT status, note FROM visits") == [("done", "wound is dry")]
    assert replica.sync(timeout=20).rejected == 0
    assert office.rows[1][2] == "done" and office.rows[1][4] == "wound is dry"


def test_a_refused_insert_gets_another_key(replica: Replica, office: Office, refused: Any) -> None:
    rejection = refused(
        "INSERT INTO visits (id, patient, count, note) VALUES (77, 'p-7', 9007199254740993, x'00ff')",
        code="generated_key",
    )
    assert execute(replica.path, "SELECT count(*) FROM visits WHERE id = 77") == [(0,)]
    key = replica.new_key("visits")
    replica.retry(rejection, {"id": key})
    replica.sync(timeout=20)
    assert office.rows[key] == (key, "p-7", "new", 9007199254740993, b"\x00\xff")
    assert execute(replica.path, "SELECT count, note FROM visits WHERE id = ?", key) == [
        (9007199254740993, b"\x00\xff")
    ]


def test_a_refused_deletion_is_tried_again(replica: Replica, office: Office, refused: Any) -> None:
    rejection = refused("DELETE FROM visits WHERE id = 1", code="foreign_key")
    assert execute(replica.path, "SELECT count(*) FROM visits") == [(1,)]
    assert code_of(lambda: replica.retry(rejection, {"status": "x"})) == "unknown_column"
    replica.retry(rejection)
    replica.sync(timeout=20)
    assert office.rows == {} and replica.rejections() == []


def test_what_was_counted_is_counted_on_from_where_it_is_now(replica: Replica, office: Office, refused: Any) -> None:
    """`count` has the policy `add`: the nurse drove 2 kilometres more, whatever the others drove since."""
    rejection = refused("UPDATE visits SET count = count + 2 WHERE id = 1")
    office.change(1, "p-1", "planned", 50, None)
    replica.sync(timeout=20)
    replica.retry(rejection)
    assert execute(replica.path, "SELECT count FROM visits") == [(52,)]
    rejection = refused("UPDATE visits SET count = count + 1 WHERE id = 1")
    replica.retry(rejection, {"count": 8})
    assert execute(replica.path, "SELECT count FROM visits") == [(8,)], "a correction is what it says"


def test_several_are_tried_again_as_a_unit(replica: Replica, office: Office, refused: Any) -> None:
    with replica.transaction() as db:
        db.execute("UPDATE visits SET status = 'x'")
        db.execute("INSERT INTO visits (id, patient) VALUES (5, 'p-5')")
    refused()
    first, second = replica.rejections()
    with replica.transaction() as db:
        replica.retry(first, {"status": "done"}, within=db)
        replica.retry(second, within=db)
    (group,) = {row[0] for row in execute(replica.path, "SELECT grp FROM syncline_outbox_visits")}
    assert group and replica.rejections() == []
    with pytest.raises(ZeroDivisionError), replica.transaction() as db:
        db.execute("DELETE FROM visits")
        raise ZeroDivisionError
    assert replica.status.pending == 2


def test_a_retry_that_does_not_work_changes_nothing(replica: Replica, office: Office, refused: Any) -> None:
    update = refused("UPDATE visits SET status = 'x' WHERE id = 1")
    insert = refused("INSERT INTO visits (id, patient) VALUES (2, 'p-2')")
    office.change(2, "p-2", "the office's", 0, None)
    replica.sync(timeout=20)
    assert code_of(lambda: replica.retry(insert)) == "row_exists"
    assert code_of(lambda: replica.retry(update, {"statsu": "done"})) == "unknown_column"
    assert code_of(lambda: replica.retry(update, {"status": object()})) == "retry_failed"
    assert code_of(lambda: replica.retry(update, {"count": 2**70})) == "retry_failed"
    execute(replica.path, "DELETE FROM visits WHERE id = 1")
    assert code_of(lambda: replica.retry(update)) == "row_gone"
    assert len(replica.rejections()) == 2 and replica.status.pending == 1
    replica.dismiss(insert)
    assert code_of(lambda: replica.retry(insert)) == "rejection_gone"


def test_values_of_a_row_that_is_not_ours_any_more_are_not_tried_again(replica: Replica, refused: Any) -> None:
    rejection = refused("UPDATE visits SET status = 'x' WHERE id = 1", code="scope")
    assert rejection["values"] is None
    assert code_of(lambda: replica.retry(rejection, {"status": "y"})) == "values_gone"


def test_an_id_is_never_given_twice(replica: Replica, refused: Any) -> None:
    """The screen may still hold a rejection that somebody dismissed."""
    old = refused("UPDATE visits SET status = 'x' WHERE id = 1")
    assert replica.dismiss(old)
    new = refused("UPDATE visits SET status = 'y' WHERE id = 1")
    assert new["id"] > old["id"]
    assert not replica.dismiss(old) and replica.rejections() == [new]
    assert replica.dismiss(new["id"]) and not replica.dismiss(new["id"])


def test_after_a_wipe_an_old_one_dismisses_nothing(replica: Replica, office: Office, refused: Any) -> None:
    old = refused("UPDATE visits SET status = 'x' WHERE id = 1")
    replica.stop()
    office.user, office.last, office.included, office.outcomes = "nurse-18", 0, 0, []
    with Replica(replica.path, "https://x.org", "t", transport=office, replace_user=True) as other:
        other.sync(timeout=20)
        office.refuses = lambda mutation: "check"
        execute(other.path, "UPDATE visits SET status = 'z' WHERE id = 1")
        other.sync(timeout=20)
        (new,) = other.rejections()
        assert new["id"] == old["id"] and not other.dismiss(old) and other.rejections() == [new]


@pytest.mark.parametrize("wrong", ["1", None, 1.5, True, {}, {"id": "1"}, []])
def test_what_is_no_rejection_is_told(replica: Replica, wrong: Any) -> None:
    replica.sync(timeout=20)
    assert code_of(lambda: replica.dismiss(wrong)) == "not_a_rejection"
    assert code_of(lambda: replica.retry(wrong)) == "not_a_rejection"


def test_ids_that_never_were(replica: Replica) -> None:
    for number in (0, -1, 99, 2**63, 2**70):
        assert replica.dismiss(number) is False
        assert code_of(lambda number=number: replica.retry(number)) == "rejection_gone"  # type: ignore[misc]


def test_dismissed_values_are_not_left_in_the_file(replica: Replica, refused: Any) -> None:
    rejection = refused("UPDATE visits SET status = 'canary-of-ada' WHERE id = 1")
    office_keeps = b"canary-of-ada"
    replica.dismiss(rejection)
    with closing(replica.connect()) as db:
        db.execute("DELETE FROM syncline_sent_visits")
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert office_keeps not in replica.path.read_bytes()
