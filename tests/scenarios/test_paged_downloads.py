"""A nurse's device whose downloads come in pages, on a line that breaks: P1, P6, P8, P10.

Pages hold a few rows here. After everything the device holds what she is granted, and her own work.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from syncline.errors import ServerError, SourceBusyError
from syncline.protocol import frames
from syncline.server.answers import packed_frames
from syncline.server.downloads import BucketsNeededError
from syncline.server.job import Paging
from syncline.source.port import Page, PageSize
from syncline.testing.bench import Office, Phone
from syncline.testing.contract_downloads import CONFIG, TABLES, TINY, TRUTH
from syncline.testing.dialect import Dialect

PATIENTS = ("p1", "p2", "p3", "p4")


@pytest.fixture
def office(open_office: Callable[..., Office]) -> Office:
    office = open_office(TABLES, CONFIG)
    office.service.downloads.paging = TINY
    return office


def download(phone: Phone, frames_max: int | None = None) -> str:
    """One answer, of which `frames_max` frames arrive; the kind of the last one."""

    async def collect(named: bool) -> list[bytes]:
        request = phone.file.download_request(with_buckets=named)
        return [frame async for frame in await phone.office.service.download(phone.identity, request)]

    try:
        answer = phone.office.wait(collect(False))
    except BucketsNeededError:
        answer = phone.office.wait(collect(True))
    kind = ""
    for frame in answer[:frames_max]:
        loaded = frames.load(frame)
        kind = loaded["t"]
        phone.file.receive(loaded)
        if kind == "commit" and loaded["more"]:
            kind = "more"
    if kind not in ("commit", "more", "pause", "heartbeat"):
        phone.file.abandon()
    return kind


def catch_up(phone: Phone) -> None:
    for _ in range(300):
        if download(phone) in ("commit", "heartbeat"):
            return
    raise AssertionError("the download does not come to an end")


def agrees(office: Office, phone: Phone) -> None:
    mine = f"SELECT patient_id FROM assignments WHERE nurse = '{phone.identity.user}'"
    for table, query in TRUTH.items():
        assert sorted(phone.execute(f"SELECT * FROM {table}")) == sorted(office.execute(query.format(mine=mine))), table


def test_a_first_sync_in_pages(office: Office) -> None:
    ann = office.phone("ann")
    ann.hello()
    assert download(ann) == "pause"
    assert ann.execute("SELECT count(*) FROM visits") == [(0,)]
    catch_up(ann)
    agrees(office, ann)


def test_her_own_notes_stay_while_she_catches_up(office: Office) -> None:
    ann = office.phone("ann")
    ann.hello()
    catch_up(ann)
    office.execute("UPDATE visits SET n = n + 1")
    office.execute("UPDATE notes SET body = 'of the office'")
    office.checkpoint()
    ann.execute("INSERT INTO notes VALUES('v12', 50, 'of ann')")
    assert download(ann) == "pause"
    assert ann.execute("SELECT body FROM notes WHERE no = 50") == [("of ann",)]
    catch_up(ann)
    assert ann.execute("SELECT body FROM notes WHERE no = 50") == [("of ann",)]
    while ann.upload():
        pass
    office.checkpoint()
    catch_up(ann)
    assert not ann.file.pending()
    agrees(office, ann)


def write_somewhere(office: Office, dialect: Dialect, rng: random.Random) -> None:
    """One random write of the company's."""
    visit, patient, number = f"v{rng.randint(10, 25)}", rng.choice(PATIENTS), rng.randint(1, 9)
    moved = rng.randint(1, 9)
    if dialect.has_replace:
        shift = f"UPDATE OR REPLACE notes SET no = no + 1 WHERE visit_id = '{visit}'"
        move = f"UPDATE OR REPLACE drugs SET id = {moved} WHERE id = {number}"
    else:
        highest = f"(SELECT max(no) FROM notes WHERE visit_id = '{visit}')"
        shift = f"UPDATE notes SET no = no + 1 WHERE visit_id = '{visit}' AND no = {highest}"
        free = f"NOT EXISTS (SELECT 1 FROM drugs WHERE id = {moved})"
        move = f"UPDATE drugs SET id = {moved} WHERE id = {number} AND {free}"
    office.execute(
        rng.choice(
            (
                dialect.put("visits", "id", f"'{visit}', '{patient}', {number}", "patient_id", "n"),
                f"UPDATE visits SET patient_id = '{patient}' WHERE id = '{visit}'",
                f"UPDATE visits SET n = n + 1 WHERE patient_id = '{patient}'",
                f"DELETE FROM visits WHERE id = '{visit}'",
                dialect.put("notes", "visit_id, no", f"'{visit}', {number}, 'body {rng.random()}'", "body"),
                shift,
                f"DELETE FROM notes WHERE no = {number}",
                dialect.put("drugs", "id", f"{number}, 'drug {rng.random()}'", "name"),
                move,
                f"DELETE FROM assignments WHERE nurse = 'ann' AND patient_id = '{patient}'",
                f"INSERT INTO assignments SELECT 'ann', '{patient}' WHERE NOT EXISTS("
                f"SELECT 1 FROM assignments WHERE nurse = 'ann' AND patient_id = '{patient}')",
            )
        )
    )


@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_company_does_meanwhile_and_wherever_the_line_breaks(
    office: Office, dialect: Dialect, seed: int
) -> None:
    rng = random.Random(seed)
    ann = office.phone("ann")
    ann.hello()
    for _ in range(12):
        for _ in range(rng.randint(0, 12)):
            download(ann, rng.choice((None, None, 1, 2, 3, 5)))
            for _ in range(rng.randint(0, 2)):
                write_somewhere(office, dialect, rng)
            if rng.random() < 0.6:
                office.checkpoint()
        if rng.random() < 0.3:
            ann.restart()
            ann.hello()
        office.checkpoint()
        catch_up(ann)
        agrees(office, ann)


def over_http(phone: Phone) -> list[dict[str, Any]]:
    """The frames of one answer, as they arrive."""

    async def collect() -> bytes:
        answer = await phone.office.service.download(phone.identity, phone.file.download_request(with_buckets=True))
        return b"".join([piece async for piece in packed_frames(answer, frames.GZIP, "her device")])

    return [frames.load(frames.unpack(packed)) for packed in frames.FrameReader().feed(phone.office.wait(collect()))]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SourceBusyError("The database restarts.", code="source_unreachable"), "source_unreachable"),
        (SourceBusyError("The schema is being changed.", code="schema_moving"), "schema_moving"),
        (ValueError("nobody foresaw it"), "internal"),
    ],
)
def test_the_database_restarts_in_the_middle_of_an_answer(
    office: Office, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    """P1, P2, P6: she is told, keeps the pages that came, her cursor and her own note, and goes on from there."""
    ann = office.phone("ann")
    ann.hello()
    catch_up(ann)
    before = ann.file.state().cursor
    office.execute("INSERT INTO assignments VALUES('ann', 'p4')")
    office.execute("INSERT INTO visits VALUES('v40', 'p4', 1), ('v41', 'p4', 2)")
    office.execute("UPDATE notes SET body = 'of the office'")
    office.execute("UPDATE drugs SET name = 'renamed'")
    office.checkpoint()
    ann.execute("INSERT INTO notes VALUES('v12', 50, 'of ann')")
    office.service.downloads.paging = Paging(PageSize(1, 100_000), progress_bytes=1)
    read_page, reads = office.source.read_page, iter(range(100))

    async def failing(*asked: Any) -> Page:
        if next(reads) == 2:
            raise error
        return await read_page(*asked)

    monkeypatch.setattr(office.source, "read_page", failing)
    *came, last = over_http(ann)
    assert (came[0]["stage"], came[-1]["t"], last["t"], last["code"]) == ("new", "progress", "error", code)
    for frame in came:
        ann.file.receive(frame)
    with pytest.raises(ServerError) as told:
        ann.file.receive(last)
    assert told.value.code == code and told.value.retry
    staged = ann.file.download_request()["stage"]
    assert staged and staged["token"] == [frame["token"] for frame in came if frame["t"] == "progress"][-1]
    assert ann.file.state().cursor == before
    assert ann.execute("SELECT body FROM notes WHERE no = 50") == [("of ann",)]
    again = over_http(ann)
    assert again[0]["stage"] == "resume"
    for frame in again:
        ann.file.receive(frame)
    ann.sync()
    agrees(office, ann)
