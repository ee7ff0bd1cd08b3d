"""A phone whose file is not what the office thinks it is: it is found out, mended, and counted."""

from __future__ import annotations

import pytest

from syncline import limits
from syncline.errors import AuthError
from syncline.protocol.cursor import digest_of
from syncline.protocol.verify import Verified, Verify
from syncline.replica.course import Ask
from syncline.replica.digests import TableReading
from syncline.replica.verify_goal import TableDifference
from syncline.server import verify as server_verify
from syncline.source.port import PageSize
from syncline.testing.bench import Office, Phone
from syncline.testing.contract_clinic import CONFIG, synced
from syncline.testing.dialect import Dialect
from syncline.testing.plans import plan_for
from syncline.testing.verifying import PhoneVerification, damage, verify

ADA, BO = 'caseload["ada"]', 'caseload["bo"]'
TABLES = ("facilities", "medications", "notes", "patients", "tickets", "visits")


def rows(phone: Phone, table: str) -> list[tuple[object, ...]]:
    return sorted(phone.execute(f"SELECT * FROM {table}"), key=repr)


def everything(phone: Phone) -> dict[str, list[tuple[object, ...]]]:
    return {table: rows(phone, table) for table in TABLES}


def counted(office: Office) -> dict[str, int]:
    return office.wait(office.source.counters())


@pytest.mark.parametrize("name", ["x\nWARNING device of the boss wiped", "unknown"])
def test_what_a_phone_makes_up_stands_in_no_log_and_no_counter(
    office: Office, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P19: tables that do not sync, thousands of them, with a line of the log in their names."""
    ann = synced(office)
    told = Verified(ann.file.state().device or "", 1, 1, ((name, 20_000),) * 2_000)
    office.wait(office.service.verified(ann.identity, told.dump()))
    assert counted(office).get("verify_differences", 0) == 0
    assert not [record for record in caplog.records if "differed" in record.getMessage()]
    told = Verified(told.device, 1, 1, (("visits", 2), ("notes", 1), (name, 3)))
    office.wait(office.service.verified(ann.identity, told.dump()))
    (line,) = [record.getMessage() for record in caplog.records if "differed" in record.getMessage()]
    assert "visits (2 buckets), notes (1 buckets)" in line and "\n" not in line
    assert counted(office)["verify_differences"] == 3


def test_a_healthy_phone_differs_in_nothing(office: Office) -> None:
    """P1: every table is compared, and no row is left out."""
    report = verify(synced(office))
    assert report.differences == () and report.not_compared == ()
    assert (report.tables, report.rows, report.pending, report.changed) == (len(TABLES), 8, 0, 0)
    assert counted(office) == {"verifications": 1, "verified_rows": 8}


@pytest.mark.parametrize(
    ("statement", "here", "there"),
    [
        ("UPDATE visits SET status = 'done' WHERE id = 'v-ada'", 1, 1),
        ("UPDATE visits SET summary = '' WHERE id = 'v-ada'", 1, 1),
        ("UPDATE visits SET kilometres = 0.1 + 0.2 - 0.3 WHERE id = 'v-ada'", 1, 1),
        ("DELETE FROM visits WHERE id = 'v-ada'", 0, 1),
        ("DELETE FROM syncline_held_visits WHERE k0 = 'v-bo' OR k0 = 'v-ada'", 0, 1),
    ],
    ids=["a changed row", "an empty text for NULL", "the last bit of a number", "a missing row", "a lost membership"],
)
def test_what_a_stray_program_did_to_the_file_is_found_and_mended(
    office: Office, statement: str, here: int, there: int
) -> None:
    """P1: behind our back, with capture silenced, so that no mutation says so."""
    ann = synced(office)
    before = everything(ann)
    damage(ann, statement)
    found = TableDifference("visits", ADA, here, there)
    assert found in verify(ann).differences
    assert everything(ann) != before or "held" in statement, "to look changes nothing"
    report = verify(ann, repair=True)
    assert found.table in {each.table for each in report.differences} and report.is_whole
    assert everything(ann) == before
    assert verify(ann).differences == ()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM syncline_bucket WHERE name = 'caseload[\"ada\"]'",
        "INSERT INTO syncline_held_visits SELECT k0, 99 FROM syncline_held_visits",
        "DELETE FROM syncline_held_visits; INSERT INTO syncline_held_visits SELECT id, 99 FROM visits",
    ],
    ids=["the bucket's name is gone", "a bucket too many", "another bucket"],
)
def test_rows_of_a_bucket_that_is_not_there_are_mended_and_can_be_revoked(office: Office, statement: str) -> None:
    """P1, P8, P9: as long as a bucket of no name held them, nothing could take them off the phone."""
    ann = synced(office)
    before = everything(ann)
    damage(ann, *statement.split("; "))
    assert verify(ann, repair=True).is_whole
    assert everything(ann) == before and verify(ann).differences == ()
    office.execute("DELETE FROM assignments WHERE nurse = 'ann'")
    office.checkpoint()
    ann.sync()
    assert not ann.execute("SELECT * FROM visits") and not ann.execute("SELECT * FROM patients")


def test_a_difference_in_words() -> None:
    told = [TableDifference("visits", ADA, here, there).in_words() for here, there in ((1, 1), (1, 2), (1_000, 0))]
    assert told == [
        'visits of caseload["ada"]: 1 row here and in the source, with other values',
        'visits of caseload["ada"]: 1 row here, 2 in the source',
        'visits of caseload["ada"]: 1,000 rows here, 0 in the source',
    ]
    assert TableDifference("notes", None, 2, 0).in_words() == "notes of no bucket: 2 rows here, 0 in the source"


def test_a_row_that_nobody_holds_goes(office: Office) -> None:
    """P1, P8: neither the office nor the nurse made it."""
    ann = synced(office)
    before = everything(ann)
    damage(ann, "INSERT INTO notes VALUES ('n-ghost', 'v-ada', 'of nobody')")
    assert verify(ann).differences == (TableDifference("notes", None, 1, 0),)
    report = verify(ann, repair=True)
    assert report.differences == (TableDifference("notes", None, 1, 0, repaired=True),)
    assert everything(ann) == before


def test_a_row_too_many_in_a_bucket_goes(office: Office) -> None:
    """P1."""
    ann = synced(office)
    before = everything(ann)
    bucket = ann.execute("SELECT id FROM syncline_bucket WHERE name = ?", (ADA,))[0][0]
    damage(
        ann,
        "INSERT INTO notes VALUES ('n-ghost', 'v-ada', 'of nobody')",
        f"INSERT INTO syncline_held_notes VALUES ('n-ghost', {bucket})",
    )
    assert verify(ann, repair=True).differences == (TableDifference("notes", ADA, 2, 1, repaired=True),)
    assert everything(ann) == before


def test_a_change_that_was_never_taken_reaches_the_phone(office: Office, dialect: Dialect) -> None:
    """P1: somebody emptied the queue, and no checkpoint will ever say what was in it."""
    ann = synced(office)
    office.execute("UPDATE notes SET body = 'slept badly' WHERE id = 'n-ada'")
    office.execute(f"DELETE FROM {dialect.own_table('changelog_notes')}")
    ann.sync()
    assert rows(ann, "notes") == [("n-ada", "v-ada", "sleeps well")]
    assert verify(ann, repair=True).differences == (TableDifference("notes", ADA, 1, 1, repaired=True),)
    assert rows(ann, "notes") == [("n-ada", "v-ada", "slept badly")]


def test_only_the_table_of_the_bucket_is_sent_anew(office: Office) -> None:
    """The other patient's visits, and the patient's other tables, stay at home."""
    office.execute("INSERT INTO visits(id, patient_id) VALUES ('v-ada-2', 'ada'), ('v-bo-2', 'bo')")
    ann = synced(office)
    damage(ann, "UPDATE visits SET summary = 'wrong' WHERE patient_id = 'ada'")
    verification = PhoneVerification(ann, repair=True)
    assert verification.run().differences == (TableDifference("visits", ADA, 2, 2, repaired=True),)
    assert verification.rows_fetched() == {"visits": 2}
    assert counted(office)["verify_differences"] == counted(office)["verify_repaired"] == 1


def test_what_waits_in_the_outbox_is_no_difference(office: Office) -> None:
    """P4: edits, a new row and a deleted one; the repair of a neighbour leaves them as they are."""
    ann = synced(office)
    ann.execute("UPDATE visits SET summary = 'mine' WHERE id = 'v-ada'")
    ann.execute("INSERT INTO notes VALUES ('n-new', 'v-ada', 'mine')")
    ann.execute("DELETE FROM notes WHERE id = 'n-ada'")
    mine = everything(ann)
    report = verify(ann)
    assert report.differences == () and report.pending == 3
    damage(ann, "UPDATE visits SET summary = 'wrong' WHERE id = 'v-bo'", "UPDATE patients SET phone = '0'")
    assert verify(ann, repair=True).is_whole
    assert everything(ann) == mine
    ann.sync()
    assert office.execute("SELECT summary FROM visits WHERE id = 'v-ada'") == [("mine",)]
    assert office.execute("SELECT id FROM notes WHERE visit_id = 'v-ada'") == [("n-new",)]
    assert verify(ann).differences == () and verify(ann).pending == 0


def test_a_table_with_too_many_edits_is_compared_once_they_have_arrived(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Naming their keys would take too long a request; until then nothing is said of it."""
    monkeypatch.setattr(limits, "VERIFY_KEYS_MAX", 1)
    ann = synced(office)
    ann.execute("UPDATE visits SET summary = 'mine'")
    report = verify(ann)
    assert ann.file.pending() == 0
    assert report.differences == () and (report.pending, report.tables) == (0, len(TABLES))
    ann.execute("UPDATE visits SET summary = 'mine, again'")
    monkeypatch.setattr(ann, "sync", lambda: None)
    assert verify(ann).not_compared == ("visits",)


def test_what_the_office_changes_meanwhile_is_no_difference(office: Office) -> None:
    """P1: a change between the phone's reading and the server's, in one bucket; the other one is still compared."""
    ann = synced(office)
    damage(ann, "UPDATE notes SET body = 'wrong'")
    office.execute("INSERT INTO notes VALUES ('n-bo', 'v-bo', 'new')")

    def between(ask: Ask) -> None:
        office.execute("UPDATE visits SET summary = 'news ' || id WHERE id = 'v-bo'")

    report = PhoneVerification(ann, between=between).run()
    assert report.differences == (TableDifference("notes", ADA, 1, 1),)
    assert report.changed == 2, "bo's notes and bo's visits"


def test_a_grant_that_changes_meanwhile_lets_the_phone_catch_up_first(office: Office) -> None:
    """P8, P9: a patient leaves between two tables, another one comes."""
    ann = synced(office)
    asked: list[Ask] = []

    def between(ask: Ask) -> None:
        asked.append(ask)
        if len(asked) == 2:
            office.execute("UPDATE assignments SET nurse = 'zoe' WHERE nurse = 'ann' AND patient_id = 'ada'")
            office.execute("INSERT INTO assignments VALUES ('ann', 'cy')")

    damage(ann, "UPDATE visits SET summary = 'wrong' WHERE id = 'v-bo'")
    report = PhoneVerification(ann, repair=True, between=between).run()
    assert report.differences == (TableDifference("visits", BO, 1, 1, repaired=True),)
    assert report.not_compared == () and report.tables == len(TABLES)
    assert [row[0] for row in rows(ann, "patients")] == ["bo", "cy"]


def test_hidden_columns_are_no_part_of_it(office: Office) -> None:
    """P8: what the office writes there, the phone neither has nor misses, and no digest is made of it."""
    ann = synced(office)
    office.execute("UPDATE patients SET ssn = 'SSN-X'")
    office.checkpoint()
    verification = PhoneVerification(ann)
    assert verification.run().differences == ()
    assert verify(synced(office)).differences == ()


def test_a_table_larger_than_a_page_and_an_answer_is_added_up(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk goes on by its token; a repair of more than a page comes as a paged download."""
    monkeypatch.setattr(server_verify, "PAGE", PageSize(7, 100_000))
    monkeypatch.setattr(limits, "VERIFY_ANSWER_SECONDS_MAX", 0.0)
    for number in range(40):
        office.execute(f"INSERT INTO notes VALUES ('n-{number:03}', 'v-{'ada' if number % 4 else 'bo'}', 'text')")
    ann = synced(office)
    before = everything(ann)
    damage(ann, "UPDATE notes SET body = 'wrong' WHERE id IN ('n-000', 'n-039')")
    looking = PhoneVerification(ann)
    assert looking.run().differences == (TableDifference("notes", ADA, 31, 31), TableDifference("notes", BO, 10, 10))
    assert sum(frame["t"] == "pause" for frame in looking.told) >= 5
    office.service.downloads.paging = type(office.service.downloads.paging)(PageSize(7, 100_000), progress_bytes=200)
    damage(ann, "UPDATE notes SET body = 'text' WHERE id = 'n-000'")
    mending = PhoneVerification(ann, repair=True)
    assert mending.run().differences == (TableDifference("notes", ADA, 31, 31, repaired=True),)
    assert mending.rows_fetched() == {"notes": 31}
    assert "progress" in {frame["t"] for frame in mending.fetched}
    assert everything(ann) == before


def test_a_phone_behind_a_schema_change_says_nothing_wrong(office: Office) -> None:
    """P20: its rows have another layout than those it would be compared with."""
    ann = synced(office)
    office.execute("ALTER TABLE visits ADD COLUMN colour TEXT DEFAULT 'red'")
    plan = office.wait(plan_for(office.source, CONFIG))
    office.wait(office.source.adopt(plan))
    office.service._take_plan(plan)
    office.checkpoint()
    report = PhoneVerification(ann).run()
    assert report.differences == ()
    assert [column[1] for column in ann.execute("PRAGMA table_info(visits)")][-1] == "colour", "it caught up first"


def test_nobody_asks_about_a_colleagues_device_or_repairs_what_is_not_granted(office: Office) -> None:
    """P8, P19: a digest says something of the rows, and a repair brings them."""
    ann, ben = synced(office), synced(office, "ben")
    reading = TableReading(ann.file.store, ann.file.store.table("visits"))
    reading.close()
    asked = Verify(
        ann.file.state().device or "", reading.cursor or "", "visits", 1, digest_of(reading.buckets), reading.buckets
    )
    with pytest.raises(AuthError) as refused:
        office.wait(office.service.verify(ben.identity, asked.dump()))
    assert refused.value.code == "other_user"
    with pytest.raises(AuthError):
        office.wait(office.service.verified(ben.identity, Verified(asked.device, 1, 1).dump()))
    beyond = {**ann.file.download_request(), "repair": {"table": "notes", "buckets": ['caseload["cy"]']}}

    async def collect() -> list[bytes]:
        return [frame async for frame in await office.service.download(ann.identity, beyond)]

    sent = office.wait(collect())
    assert b'"replace"' in sent[1] and not any(b"canary-of-cy" in frame for frame in sent)
    assert counted(office) == {}
