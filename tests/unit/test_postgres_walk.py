"""What the pages of a download on PostgreSQL are written with, and what is kept between them."""

from __future__ import annotations

import pytest

from syncline.model.schema import Column, ForeignKey, Index, Schema, Table
from syncline.model.scopes import Path, Plan, Scope, Step, SyncedTable
from syncline.source.postgres import listings
from syncline.source.postgres.listings import Job, Jobs, Listing
from syncline.source.postgres.walk_sql import Statement, WalkSql, Wanted, fits_feed, waiting_sql
from syncline.values import encode_row


def column(name: str, kind: str = "integer", base: str = '"pg_catalog"."int4"') -> Column:
    return Column(name, kind, not_null=True, local_type="INTEGER", kind=kind, base=base)


PATIENTS = Table("patients", (column("id"), column("name", "text", '"pg_catalog"."text"')), ("id",))
VISITS = Table(
    "visits",
    (column("id"), column("patient_id")),
    ("id",),
    (ForeignKey(("patient_id",), "patients", ("id",)),),
    place=("care", "visits"),
)
ROOT, CHILD = (
    Path("caseload", "patients", ()),
    Path("caseload", "visits", (Step(("patient_id",), "patients", ("id",)),)),
)
SCOPE = Scope("caseload", "patients", ("id",), "SELECT 1", {}, frozenset(), ("patients", "visits"))


def plan(visits: Table = VISITS) -> Plan:
    tables = {
        "patients": SyncedTable(PATIENTS, ("id", "name"), (ROOT,), (), {}),
        "visits": SyncedTable(visits, ("id", "patient_id"), (CHILD,), (), {}),
    }
    return Plan(Schema({"patients": PATIENTS, "visits": visits}), {"caseload": SCOPE}, tables, {})


def walk(wanted: frozenset[str], visits: Table = VISITS) -> WalkSql:
    made = plan(visits)
    return WalkSql(made, made.tables["visits"], Wanted.of(made, wanted))


def test_wanted_buckets_are_told_by_scope_and_column() -> None:
    """A name that is none, of another scope, or with another key is nobody's."""
    wanted = Wanted.of(plan(), frozenset({"caseload[2]", "caseload[1]", 'caseload["x"]', "caseload[1,2]", "other[1]"}))
    places = dict(zip(wanted.places["caseload"], wanted.keys["caseload"][0], strict=True))
    assert {wanted.names[place]: text for place, text in places.items()} == {"caseload[1]": "1", "caseload[2]": "2"}


def test_every_value_is_a_parameter() -> None:
    sql = walk(frozenset({"caseload[7]"}))
    statement = Statement()
    query = sql.in_range(statement, (1,), (9,), 5)
    assert statement.given == ["1", "9", [0], ["7"]]
    assert '"care"."visits"' in query and "LIMIT 5" in query
    assert not any(value in query for value in ("'1'", "'9'", "'7'"))


def test_lookups_are_asked_for_only_where_an_index_leads_each_step() -> None:
    wanted = frozenset({"caseload[7]"})
    assert not walk(wanted).is_indexed
    indexed = Table("visits", VISITS.columns, ("id",), VISITS.foreign_keys, (Index("i", ("patient_id",)),))
    assert walk(wanted, indexed).is_indexed
    assert walk(wanted).is_simple and not walk(wanted).has_whole_scope and not walk(frozenset()).paths


def test_what_the_feed_cannot_hold_is_known() -> None:
    assert fits_feed(["caseload[1]"], encode_row(("x" * 2_380,)))
    assert not fits_feed(["caseload[1]"], encode_row(("x" * 2_390,)))
    assert not fits_feed(["caseload[1]", f'caseload["{"é" * 1_200}"]'], "[1]")


def test_every_queue_is_looked_at() -> None:
    looked = waiting_sql(['"syncline"."changelog_a"', '"syncline"."changelog_b"'])
    assert all(queue in looked for queue in ("changelog_a", "changelog_b", "syncline.gap"))


# ---------------------------------------------------------------- what is kept
def listing(after: int, *lists: tuple[int, ...]) -> Listing:
    rows = [("{" + ",".join(map(str, keys)) + "}", encode_row((keys[-1],)), len(keys)) for keys in lists]
    return Listing("visits", (after,), rows)


def test_a_listing_goes_on_where_a_page_ended() -> None:
    made = listing(0, (1, 2), (5, 9))
    assert made.find((0,)) == 0 and made.find((2,)) is None and made.find(None) is None
    made.note((2,), 1)
    assert made.find((2,)) == 1 and made.lists[1].keys.arrays == ("{5,9}",) and made.lists[1].last == (9,)
    assert made.is_whole


def test_lists_of_the_jobs_that_were_longest_idle_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, made = Jobs(), plan()
    kept: list[Job] = [jobs.job(made, frozenset({f"caseload[{number}]"}), ("t", 1)) for number in range(3)]
    one = listing(0, tuple(range(100)))
    monkeypatch.setattr(listings, "LISTED_BYTES_KEPT_MAX", 2 * one.bytes)
    for job in kept[:2]:
        jobs.keep(job, "visits", listing(0, tuple(range(100))))
    assert jobs.job(made, frozenset({"caseload[0]"}), ("t", 1)) is kept[0]
    jobs.keep(kept[2], "visits", one)
    assert ["visits" in job.listings for job in kept] == [True, False, True]


def test_so_many_jobs_are_kept_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings, "JOBS_KEPT_MAX", 2)
    jobs, made = Jobs(), plan()
    first = jobs.job(made, frozenset({"caseload[1]"}), ("t", 1))
    jobs.job(made, frozenset({"caseload[1]"}), ("t", 2))
    assert jobs.job(made, frozenset({"caseload[1]"}), ("t", 1)) is first
    jobs.job(made, frozenset({"caseload[2]"}), ("t", 1))
    assert jobs.job(made, frozenset({"caseload[1]"}), ("t", 1)) is first
