"""A long first sync as the agent sees it: pauses, breaks, and the app's work in between."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.replica.messages import BUCKET, put
from tests.replica.office import Office

from syncline import Replica
from syncline.replica.status import Progress

pytestmark = pytest.mark.usefixtures("placing")

PAGES = 4


class PagedOffice(Office):
    """Answers a first download with one page at a time. `breaks_at`: a page after which the line goes dead, once, or
    after which `last_word` is said."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.rows = {number: (number, "p", "planned", 0, None) for number in range(PAGES * 10)}
        self.breaks_at = 0
        self.last_word: dict[str, Any] | None = None
        self.asked: list[tuple[int, int]] = []

    def download(self, message: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if message["cursor"]:
            yield from super().download(message)
            return
        done = int(message["stage"]["token"]) if message["stage"] else 0
        self.asked.append((done, len(self.received)))
        stage = {"stage": "resume" if done else "new"}
        yield {"t": "begin", "apply_count": message["apply_count"], "reset": True, "rows": 40, **stage}
        if not done:
            yield {"t": "stage", "buckets": [BUCKET]}
        yield put("visits", *list(self.rows.values())[done * 10 : done * 10 + 10])
        if self.breaks_at == done + 1:
            self.breaks_at = 0
            if self.last_word is not None:
                yield self.last_word
            return
        told = {"rows": done * 10 + 10, "bytes": 500, "total_rows": 40}
        yield {"t": "progress", "token": str(done + 1), **told}
        if done == 1:
            with closing(sqlite3.connect(self.path)) as app:
                app.execute("INSERT INTO visits (id, patient) VALUES (99, 'mine')")
                app.commit()
        if done + 1 < PAGES:
            yield {"t": "pause"}
        else:
            *_, commit = self._cut(message["apply_count"], True)
            yield put("visits", *[row for row in self.rows.values() if row[0] >= PAGES * 10])
            yield commit


@pytest.fixture
def office(tmp_path: Path) -> PagedOffice:
    return PagedOffice(tmp_path / "nurse.db")


def test_pages_come_one_after_the_other_and_uploads_in_between(replica: Replica, office: PagedOffice) -> None:
    """P2: a write of the app's waits for a page, not for the whole download."""
    shown: list[Progress] = []
    replica.on("status", lambda status: shown.append(status.progress) if status.progress else None)
    report = replica.sync(timeout=20)
    assert office.asked == [(0, 0), (1, 0), (2, 1), (3, 1)]
    assert report.first_sync and report.downloaded_rows == 41 and report.pending == 0
    assert Progress(30, 40, 500) in shown and replica.status.progress is None
    with closing(replica.connect()) as db:
        assert db.execute("SELECT count(*), max(id) FROM visits").fetchone() == (41, 99)


def test_an_answer_without_an_end_is_taken_for_a_broken_line(replica: Replica, office: PagedOffice) -> None:
    """P2: it is not taken for all there is, and the next answer goes on with the page that broke."""
    office.breaks_at = 3
    report = replica.sync(timeout=20)
    assert [done for done, _ in office.asked] == [0, 1, 2, 2, 3] and report.downloaded_rows == 41


@pytest.mark.parametrize("code", ["schema_moving", "internal"])
def test_an_answer_that_ends_in_an_error_is_tried_again(replica: Replica, office: PagedOffice, code: str) -> None:
    """P2, P18: what was put aside stays, whoever waits goes on waiting, and the status says what the server said."""
    office.breaks_at = 3
    office.last_word = {"t": "error", "code": code, "message": "no", "hint": "", "retry": True, "retry_after": 0.1}
    reasons: set[str | None] = set()
    replica.on("status", lambda status: reasons.add(status.reason))
    report = replica.sync(timeout=20)
    assert [done for done, _ in office.asked] == [0, 1, 2, 2, 3] and report.downloaded_rows == 41
    assert code in reasons and office.hellos <= 2
    assert replica.status.reason is None and replica.status.pending == 0
