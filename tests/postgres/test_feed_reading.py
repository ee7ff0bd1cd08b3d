"""Cuts, laps and deltas on PostgreSQL: exactly what the feed's tables say, whatever way they are read."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from tests.postgres.conftest import HostDatabase
from tests.postgres.reading import TERM, Reading

from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig
from syncline.source.port import Cut, Entries, LapPage, PageSize, Since
from syncline.source.postgres import feed

TABLES = (
    "CREATE TABLE patients(id int PRIMARY KEY, name text)",
    "CREATE TABLE visits(id int PRIMARY KEY, patient_id int REFERENCES patients)",
    "CREATE TABLE assignments(nurse text, patient_id int)",
    "CREATE INDEX ON visits(patient_id)",
    "INSERT INTO patients SELECT n FROM generate_series(1, 300) n",
    "INSERT INTO assignments SELECT 'ann', n FROM generate_series(1, 200) n",
)
CONFIG = PlanConfig(
    (
        ScopeConfig(
            "caseload",
            {"visits": TableConfig((LinkConfig(parent="patients"),))},
            root="patients",
            grant="SELECT patient_id FROM assignments WHERE nurse = :sub",
        ),
    )
)
ANN = {"sub": "ann"}
LARGE = PageSize(10_000, 1_000_000)
State = dict[tuple[str, str, str], str | None]
"""(bucket, table, key) -> image, None where removed."""


def bucket(patient: int) -> str:
    return f"caseload[{patient}]"


@pytest.fixture
def clinic(postgres: HostDatabase) -> Iterator[Reading]:
    reading = Reading(postgres, TABLES, CONFIG)
    yield reading
    reading.close()


def fill(clinic: Reading, seed: int, checkpoints: int, patients: int = 200) -> None:
    rng = random.Random(seed)
    for number in range(checkpoints):
        changed = {rng.randint(1, 60): rng.randint(1, patients) for _ in range(rng.randint(1, 12))}
        clinic.checkpoint(
            *(
                (bucket(patient), "visits", op, f"[{visit}]", f"[{visit},{number}]")
                for visit, patient in changed.items()
                for op in [rng.choice("PPR")]
            )
        )


def truth(clinic: Reading, after: int, upto: int, buckets: Iterable[str]) -> State:
    rows = clinic.database.execute(
        "SELECT e.bucket, e.table_name, e.key, CASE WHEN e.op = 'P' THEN r.image END FROM syncline.entry e "
        "LEFT JOIN syncline.row_state r USING(table_name, key) WHERE e.checkpoint > %s AND e.checkpoint <= %s "
        "AND e.bucket = ANY(%s)",
        (after, upto, list(buckets)),
    )
    return {tuple(at): image for *at, image in rows}  # type: ignore[misc]


def told(entries: Iterable[Entries]) -> State:
    found: State = {}
    for each in entries:
        for key, row in [*zip(each.keys, each.rows, strict=True), *((key, None) for key in each.removed)]:
            assert (each.bucket, each.table, key) not in found, "twice"
            found[each.bucket, each.table, key] = row
    return found


def cut(clinic: Reading, held: Iterable[str], after: int, size: PageSize | None = None, **more: Any) -> Cut:
    return clinic.feed(
        lambda reader: reader.read_cut("d", ANN, frozenset(held), (TERM, after), 0, more.get("added"), size)
    )


# ---------------------------------------------------------------- cuts
@pytest.mark.parametrize("few_buckets", [0, 1000], ids=["by what is new", "by bucket"])
@pytest.mark.parametrize("held", [range(1, 301), range(1, 20)], ids=["many", "few"])
def test_a_cut_brings_what_is_new_in_the_held_buckets(
    clinic: Reading, held: range, few_buckets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "FEW_BUCKETS", few_buckets)
    fill(clinic, 1, 12)
    granted = [bucket(patient) for patient in held if patient <= 200]
    for after in (0, 5, 11, 12):
        found = cut(clinic, map(bucket, held), after)
        assert found.valid and told(found.entries) == truth(clinic, after, 12, granted)


def test_added_buckets_have_a_beginning_of_their_own(clinic: Reading) -> None:
    fill(clinic, 2, 12)
    held, new = [bucket(n) for n in range(1, 50)], [bucket(n) for n in range(40, 90)]
    found = cut(clinic, held, 9, added=Since(frozenset(new), 4))
    assert told(found.entries) == truth(clinic, 9, 12, held) | truth(clinic, 4, 12, set(new) - set(held))


def test_a_cut_with_more_than_its_size_is_told_by_pages(clinic: Reading) -> None:
    clinic.checkpoint(*((bucket(1), "visits", "P", f"[{n}]", json.dumps([n, "ä" * 50])) for n in range(10)))
    size = len(json.dumps([1, "ä" * 50], ensure_ascii=False).encode())
    assert not cut(clinic, [bucket(1)], 0, PageSize(10, 100_000)).overflow
    assert cut(clinic, [bucket(1)], 0, PageSize(9, 100_000)).overflow
    assert not cut(clinic, [bucket(1)], 0, PageSize(100, 100_000)).overflow
    assert cut(clinic, [bucket(1)], 0, PageSize(100, 5 * size)).overflow
    added = Since(frozenset({bucket(1)}), 0)
    assert cut(clinic, [], 0, PageSize(9, 100_000), added=added).overflow


@pytest.mark.parametrize(
    ("cursor", "valid"),
    [
        ((TERM, 0), True),
        ((TERM, 3), True),
        ((TERM, 4), False),
        ((TERM, -1), False),
        ((TERM, 2**80), False),
        (("lost", 0), True),
        (("lost", 1), False),
        (("never", 0), False),
        (("a\0b", 0), False),
    ],
)
def test_a_cursor_is_known_where_its_term_reached_it(clinic: Reading, cursor: tuple[str, int], valid: bool) -> None:
    fill(clinic, 3, 3)
    found = clinic.feed(lambda reader: reader.read_cut("d", ANN, frozenset(), cursor, 0))
    assert found.valid == valid
    assert clinic.feed(lambda reader: reader.read_survey(ANN, [(TERM, 1), cursor])).valid == valid
    if cursor == (TERM, 3):
        clinic.database.execute("INSERT INTO syncline.meta VALUES('horizon', '3')")
        assert clinic.feed(lambda reader: reader.read_survey(ANN, [cursor])).valid
        assert not clinic.feed(lambda reader: reader.read_survey(ANN, [(TERM, 2)])).valid


# ---------------------------------------------------------------- outcomes
@pytest.mark.parametrize("few_buckets", [0, 1_000_000], ids=["by what is new", "by key"])
def test_an_outcome_tells_the_rows_true_state(
    clinic: Reading, few_buckets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it was when it was touched, and every move since, as far as the nurse may see it."""
    monkeypatch.setattr(feed, "FEW_BUCKETS", few_buckets)
    execute = clinic.database.execute
    mine, foreign = bucket(1), bucket(250)
    cases = {
        "in a bucket of hers": ([mine], None, "[1]"),
        "in a foreign one": ([foreign], None, None),
        "moved to her": ([foreign], (mine, "P"), "[3]"),
        "moved away": ([mine], (mine, "R"), None),
        "left one of two": ([mine, bucket(2)], (mine, "R"), "[5]"),
    }
    touched = clinic.checkpoint()
    for number, (name, (buckets, later, _)) in enumerate(cases.items(), 1):
        key = f"[{number}]"
        execute("INSERT INTO syncline.truth VALUES('visits', %s, %s, %s)", (key, json.dumps(buckets), touched))
        clinic.checkpoint((later[0], "visits", later[1], key, key)) if later else clinic.checkpoint()
        execute("INSERT INTO syncline.row_state VALUES('visits', %s, 1, %s, '', 1) ON CONFLICT DO NOTHING", (key, key))
        execute(
            "INSERT INTO syncline.outcome(device, number, id, kind, code, reason, table_name, key) "
            "VALUES('d', %s, %s, 'rejected', 'c', 'why', 'visits', %s)",
            (number, bytes([number]), key),
        )
        assert name
    execute(
        "INSERT INTO syncline.outcome(device, number, kind, table_name, key) VALUES('d', 6, 'merged', 'visits', '[6]')"
    )
    execute(
        "INSERT INTO syncline.outcome(device, number, kind, table_name, key) VALUES('d', 7, 'applied', 'visits', '[7]')"
    )
    execute("INSERT INTO syncline.included VALUES('d', 7, 1)")
    found = cut(clinic, [], 0)
    assert found.included == 7 and found.included_id is None
    states = {outcome.number: outcome.state for outcome in found.outcomes if outcome.has_state}
    assert states == {number: state for number, (_, _, state) in enumerate(cases.values(), 1)}
    assert [outcome.number for outcome in found.outcomes] == [1, 2, 3, 4, 5, 6]
    execute("UPDATE syncline.included SET number = 5")
    again = clinic.feed(lambda reader: reader.read_cut("d", ANN, frozenset(), (TERM, 0), 3))
    assert [outcome.number for outcome in again.outcomes] == [4, 5] and again.included_id == b"\x05"


# ---------------------------------------------------------------- laps
def read_lap(
    clinic: Reading, feeds: list[Since], size: PageSize, upto: int | None = None, place: str | None = None
) -> LapPage:
    return clinic.lap(lambda reader: reader.read_lap(ANN, feeds, upto, place, [(TERM, 0)], size))


def lap_pages(clinic: Reading, feeds: list[Since], size: PageSize) -> list[LapPage]:
    found: list[LapPage] = []
    place = upto = None
    while True:
        page = read_lap(clinic, feeds, size, upto, place)
        assert page.survey.valid
        assert page.next is None or page.next != place, "the lap stands still"
        found.append(page)
        upto, place = page.upto, page.next
        if place is None:
            return found


@pytest.mark.parametrize("size", [PageSize(1, 10_000), PageSize(7, 10_000), PageSize(1000, 40), LARGE], ids=str)
@pytest.mark.parametrize("bulk", [False, True], ids=["as it came", "one large checkpoint"])
def test_the_pages_of_a_lap_bring_every_entry_once(clinic: Reading, size: PageSize, bulk: bool) -> None:
    fill(clinic, 4, 10)
    if bulk:
        clinic.checkpoint(*((bucket(3), "visits", "P", f"[{n}]", f"[{n}]") for n in range(1000, 1080)))
    head = 11 if bulk else 10
    held, new = [bucket(n) for n in range(1, 100)], [bucket(n) for n in range(90, 250)]
    feeds = [Since(frozenset(held), 6), Since(frozenset(new), 3)]
    found: State = {}
    for page in lap_pages(clinic, feeds, size):
        assert page.upto == head
        told_now = told(page.entries)
        assert len(told_now) <= size.rows and not told_now.keys() & found.keys()
        found |= told_now
    granted = {bucket(n) for n in range(1, 201)}
    expected = truth(clinic, 6, head, set(held) & granted - set(new)) | truth(clinic, 3, head, set(new) & granted)
    assert found == expected


def test_what_changes_between_two_pages_comes_in_the_next_lap(clinic: Reading) -> None:
    clinic.checkpoint(*((bucket(1), "visits", "P", f"[{n}]", f"[{n}]") for n in range(20)))
    feeds = [Since(frozenset({bucket(1)}), 0)]
    size = PageSize(5, 10_000)
    first = read_lap(clinic, feeds, size)
    clinic.checkpoint((bucket(1), "visits", "R", "[2]", None), (bucket(1), "visits", "P", "[7]", "[7,1]"))
    found = told(first.entries)
    place = first.next
    while place is not None:
        page = read_lap(clinic, feeds, size, first.upto, place)
        found |= told(page.entries)
        place = page.next
    found |= told(cut(clinic, [bucket(1)], first.upto).entries)
    assert found == truth(clinic, 0, 2, [bucket(1)])


@pytest.mark.parametrize("place", ["", "[1]", '["a",1,"b"]', '["a","b","c","d"]', '["a\\u0000",1,"b","c"]'])
def test_a_lap_place_that_means_nothing_is_not_valid(clinic: Reading, place: str) -> None:
    page = clinic.lap(lambda reader: reader.read_lap(ANN, [], None, place, (), LARGE))
    assert not page.survey.valid


# ---------------------------------------------------------------- deltas
def test_a_delta_is_what_a_cut_would_bring(clinic: Reading) -> None:
    fill(clinic, 5, 8)
    granted = frozenset(bucket(n) for n in range(1, 201))
    delta = clinic.delta(lambda reader: reader.read((TERM, 3), granted, {}, [], 1000))
    assert told(delta.entries) == told(cut(clinic, granted, 3).entries)
    assert sum(delta.rows.values()) == len(told(delta.entries))
    assert clinic.feed(lambda reader: reader.changed_since(3)).buckets == set(delta.rows)


# ---------------------------------------------------------------- plans
def test_five_thousand_buckets_cost_no_scan_whatever_the_statistics_say(clinic: Reading) -> None:
    """The feed was analysed when it was almost empty; now it holds 200,000 entries of 20,000 buckets."""
    execute = clinic.database.execute
    clinic.checkpoint((bucket(1), "visits", "P", "[1]", "[1]"))
    execute("ANALYZE syncline.entry, syncline.row_state")
    execute(
        "INSERT INTO syncline.entry SELECT 'caseload[' || n % 20000 || ']', 'visits', '[' || n || ']', 'P', n / 100 + 2 "
        "FROM generate_series(1000, 201000) n"
    )
    execute(
        "INSERT INTO syncline.row_state SELECT 'visits', key, 1, key, '', checkpoint FROM syncline.entry WHERE key <> '[1]'"
    )
    names = [bucket(n) for n in range(1, 5001)]
    for query in (feed.OF_EACH_BUCKET, feed.NEW_ENTRIES):
        plan = explained(clinic, query, names, 2000, 10_000, 1_000_000)
        assert "Bitmap" not in plan and "Seq Scan on entry" not in plan and "Seq Scan on row_state" not in plan
        assert ("entry_by_checkpoint" if query is feed.OF_EACH_BUCKET else "entry_newest") in plan


def explained(clinic: Reading, query: str, *given: Any) -> str:
    async def explain(db: Any) -> str:
        await feed.FeedReader(db, clinic.sql)._by_index()
        return "\n".join(row[0] for row in await db.fetch(f"EXPLAIN {query}", *given))

    return clinic.run(explain)
