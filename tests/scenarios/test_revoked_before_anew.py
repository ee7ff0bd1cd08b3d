"""A device that has to begin anew, in many pages, loses what was revoked before all of that, not after it (P9)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.scenarios.test_paged_downloads import agrees, catch_up, download

from syncline.testing.bench import Office, Phone
from syncline.testing.contract_downloads import CONFIG, TABLES, TINY
from syncline.testing.dialect import Dialect


@pytest.fixture
def office(open_office: Callable[..., Office]) -> Office:
    office = open_office(TABLES, CONFIG)
    office.service.downloads.paging = TINY
    return office


@pytest.fixture
def ann(office: Office, dialect: Dialect) -> Phone:
    """In step; then the source's history is another one, as after a restore."""
    ann = office.phone("ann")
    ann.hello()
    catch_up(ann)
    office.wait(office.source.end_term(office.term))
    office.term = "term-after-the-restore"
    assert office.wait(office.source.begin_term(office.term))
    office.execute(f"DELETE FROM {dialect.own_table('term')} WHERE term <> ?", (office.term,))
    return ann


def revoke(office: Office, patient: str) -> None:
    office.execute("DELETE FROM assignments WHERE nurse = 'ann' AND patient_id = ?", (patient,))
    office.checkpoint()


def visits_of(phone: Phone, patient: str) -> list[tuple[object, ...]]:
    return phone.execute(f"SELECT id FROM visits WHERE patient_id = '{patient}'")


def test_what_was_revoked_meanwhile_goes_with_the_first_answer(office: Office, ann: Phone) -> None:
    revoke(office, "p1")
    ann.execute("UPDATE visits SET n = 500 WHERE patient_id = 'p2'")
    assert download(ann) == "more"
    assert not visits_of(ann, "p1") and visits_of(ann, "p2"), "the others stay until everything has come anew"
    assert download(ann) == "pause"
    catch_up(ann)
    ann.sync()
    agrees(office, ann)
    assert office.execute("SELECT DISTINCT n FROM visits WHERE patient_id = 'p2'") == [(500,)]


def test_what_is_revoked_between_the_pages_goes_with_the_next_answer(office: Office, ann: Phone) -> None:
    assert download(ann) == "pause"
    staged = ann.execute("SELECT token FROM syncline_job")
    revoke(office, "p1")
    assert download(ann) == "more"
    assert not visits_of(ann, "p1") and visits_of(ann, "p2")
    assert ann.execute("SELECT token FROM syncline_job") == staged, "what has come stays"
    catch_up(ann)
    agrees(office, ann)
