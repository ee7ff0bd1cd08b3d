"""Pages of a download on PostgreSQL: every wanted row once, in key order, whichever way leads to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.postgres.conftest import HostDatabase
from tests.postgres.reading import Reading

from syncline.errors import SourceBusyError
from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig
from syncline.source.port import Page, PageSize, Walk
from syncline.source.postgres import pages
from syncline.source.postgres.pages import PageReader
from syncline.values import encode_row

TABLES = (
    "CREATE TABLE facilities(id int PRIMARY KEY, name text)",
    "CREATE TABLE patients(id int PRIMARY KEY, name text, facility_id int REFERENCES facilities, backup_id int)",
    "CREATE TABLE visits(site text, no bigint, patient_id int REFERENCES patients, status text, at timestamptz, "
    "PRIMARY KEY(site, no))",
    'CREATE TABLE drugs(code text COLLATE "C" PRIMARY KEY, price numeric(10,2), share float8, picture bytea)',
    "CREATE TABLE assignments(nurse text, patient_id int)",
    "CREATE INDEX ON visits(patient_id)",
    "CREATE INDEX ON patients(facility_id)",
    "CREATE INDEX ON patients(backup_id)",
    "INSERT INTO facilities SELECT n, 'facility ' || n FROM generate_series(1, 6) n",
    "INSERT INTO patients SELECT n, 'patient ' || n, n % 4 + 1, CASE WHEN n % 3 = 0 THEN n % 5 + 1 END "
    "FROM generate_series(1, 40) n",
    "INSERT INTO visits SELECT 'site ' || n % 3, n, n % 40 + 1, CASE WHEN n % 10 = 0 THEN 'hidden' ELSE 'done' END, "
    "'2026-11-22 20:31:05.123456+01' FROM generate_series(1, 400) n",
    "INSERT INTO drugs SELECT 'drug ' || lpad(n::text, 3, '0'), n / 3.0, CASE n WHEN 7 THEN 'NaN' ELSE n / 2.0 END, "
    "'\\xff00' FROM generate_series(1, 50) n",
    "INSERT INTO assignments SELECT 'ann', n FROM generate_series(1, 10) n",
    "INSERT INTO assignments SELECT 'ben', n FROM generate_series(1, 40) n",
)
CONFIG = PlanConfig(
    (
        ScopeConfig(
            "caseload",
            {
                "visits": TableConfig((LinkConfig(parent="patients"),), where="status <> 'hidden'"),
                "facilities": TableConfig(
                    (
                        LinkConfig(referenced_by="patients"),
                        LinkConfig(referenced_by="patients", on={"id": "backup_id"}),
                    )
                ),
            },
            root="patients",
            grant="SELECT patient_id FROM assignments WHERE nurse = :sub",
        ),
        ScopeConfig("formulary", {"drugs": TableConfig()}),
    )
)
ANN, BEN = {"sub": "ann"}, {"sub": "ben"}


def caseload(*patients: int) -> list[str]:
    return [f"caseload[{patient}]" for patient in patients]


@pytest.fixture
def clinic(postgres: HostDatabase) -> Iterator[Reading]:
    reading = Reading(postgres, TABLES, CONFIG)
    yield reading
    reading.close()


def expected(clinic: Reading, patients: int) -> set[tuple[str, object]]:
    """Table and key of every row that belongs to patients up to a number."""
    execute = clinic.database.execute
    found = {("patients", row) for row in execute("SELECT id FROM patients WHERE id <= %s", (patients,))}
    found |= {
        ("visits", row)
        for row in execute("SELECT site, no FROM visits WHERE patient_id <= %s AND status <> 'hidden'", (patients,))
    }
    found |= {
        ("facilities", row)
        for row in execute(
            "SELECT f.id FROM facilities f WHERE EXISTS(SELECT FROM patients p "
            "WHERE p.id <= %s AND f.id IN (p.facility_id, p.backup_id))",
            (patients,),
        )
    }
    return found


KEYS = {"visits": 2}


def keys(rows: list[tuple[str, tuple[object, ...], frozenset[str]]]) -> list[tuple[str, tuple[object, ...]]]:
    return [(table, values[: KEYS.get(table, 1)]) for table, values, _ in rows]


ODD = ("n", "place", "places", "list", "list_1", "last_1", "size", "k_2", "base", "members", "t0", "w")


@pytest.mark.parametrize("share", [0.0, 2.0])
@pytest.mark.parametrize("rows", [3, 1000])
def test_key_columns_may_be_called_like_anything_of_ours(
    postgres: HostDatabase, share: float, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1: where rows have one bucket, and where they have several."""
    columns = ", ".join(f"{name} int NOT NULL" for name in ODD)
    values = ", ".join(f"n * {number} % 7" for number in range(2, len(ODD) + 1))
    tables = (
        "CREATE TABLE patients(k_1 int PRIMARY KEY, place int, n int)",
        f"CREATE TABLE visits({columns}, patient int, other int, PRIMARY KEY({', '.join(ODD)}))",
        "CREATE TABLE stays(place int, n int, patient int, PRIMARY KEY(n, place))",
        "INSERT INTO patients SELECT n, n, n FROM generate_series(1, 20) n",
        f"INSERT INTO visits SELECT n, {values}, n % 20 + 1, n % 3 + 1 FROM generate_series(1, 60) n",
        "INSERT INTO stays SELECT n, n % 5, n % 20 + 1 FROM generate_series(1, 60) n",
    )
    links = (LinkConfig(parent="patients", on={"patient": "k_1"}), LinkConfig(parent="patients", on={"other": "k_1"}))
    members = {"visits": TableConfig(links), "stays": TableConfig(links[:1])}
    grant = "SELECT k_1 FROM patients WHERE :sub = 'ann' AND k_1 <= 5"
    monkeypatch.setattr(pages, "WANTED_SHARE_MIN", share)
    reading = Reading(postgres, tables, PlanConfig((ScopeConfig("caseload", members, root="patients", grant=grant),)))
    try:
        found = reading.walk(ANN, caseload(1, 2, 3, 4, 5), PageSize(rows, 1_000_000))
        assert reading.count(Walk(frozenset(caseload(1, 2, 3, 4, 5)))) == len(found)
    finally:
        reading.close()
    held = {name: sorted(values for table, values, _ in found if table == name) for name in reading.plan.tables}
    assert held == {
        "patients": postgres.execute("SELECT * FROM patients WHERE k_1 <= 5 ORDER BY 1"),
        "visits": postgres.execute("SELECT * FROM visits WHERE patient <= 5 OR other <= 5 ORDER BY 1"),
        "stays": postgres.execute("SELECT * FROM stays WHERE patient <= 5 ORDER BY 1"),
    }


@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize(("share", "anew"), [(0.0, False), (0.25, True), (2.0, False), (2.0, True)])
def test_every_wanted_row_comes_once_and_in_key_order(
    clinic: Reading, rows: int, share: float, anew: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1: looked through, listed, or both; each page by the same process or by another one."""
    monkeypatch.setattr(pages, "WANTED_SHARE_MIN", share)
    found = clinic.walk(ANN, caseload(*range(1, 11)), PageSize(rows, 1_000_000), anew=anew)
    named = keys(found)
    assert len(named) == len(set(named)) and set(named) == expected(clinic, 10)
    tables = list(dict.fromkeys(table for table, _ in named))
    assert named == sorted(named, key=lambda at: (tables.index(at[0]), at[1]))


def test_keys_of_money_are_listed_in_a_form_that_is_read_back(
    postgres: HostDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL writes 1234.5 as $1,234.50, in the words of its place."""
    monkeypatch.setattr(pages, "WANTED_SHARE_MIN", 2.0)
    tables = (
        "CREATE TABLE patients(id int PRIMARY KEY)",
        "CREATE TABLE sums(patient_id int REFERENCES patients, amount money, PRIMARY KEY(patient_id, amount))",
        "INSERT INTO patients VALUES(1), (2)",
        "INSERT INTO sums SELECT n % 2 + 1, n + 0.5 FROM generate_series(990, 1009) n",
    )
    members = {"sums": TableConfig((LinkConfig(parent="patients"),))}
    grant = "SELECT id FROM patients WHERE :sub = 'ann'"
    reading = Reading(postgres, tables, PlanConfig((ScopeConfig("caseload", members, root="patients", grant=grant),)))
    try:
        found = reading.walk(ANN, caseload(1), PageSize(3, 1_000_000))
    finally:
        reading.close()
    amounts = [values[1] for table, values, _ in found if table == "sums"]
    assert amounts == [f"{n}.50" for n in range(990, 1010, 2)]


def test_a_row_names_all_the_buckets_that_hold_it(clinic: Reading) -> None:
    """Over two paths, and from several patients; no bucket twice."""
    for rows in (2, 1000):
        found = clinic.walk(ANN, caseload(*range(1, 11)), PageSize(rows, 1_000_000))
        for table, values, buckets in found:
            if table == "facilities":
                holders = clinic.database.execute(
                    "SELECT id FROM patients WHERE id <= 10 AND %s IN (facility_id, backup_id)", (values[0],)
                )
                assert buckets == frozenset(caseload(*(row[0] for row in holders)))


def test_values_are_those_of_the_types_page(clinic: Reading) -> None:
    found = clinic.walk(BEN, [*caseload(40), "formulary[]"], PageSize(1000, 1_000_000))
    drugs = {values[0]: values for table, values, _ in found if table == "drugs"}
    assert drugs["drug 007"] == ("drug 007", "2.33", "NaN", b"\xff\x00")
    assert drugs["drug 006"] == ("drug 006", "2.00", 3.0, b"\xff\x00")
    assert {values[4] for table, values, _ in found if table == "visits"} == {"2026-11-22 19:31:05.123456"}


def test_a_bucket_that_is_not_granted_is_in_no_page(clinic: Reading) -> None:
    """P8"""
    found = clinic.walk(ANN, caseload(*range(1, 41)), PageSize(5, 1_000_000))
    assert set(keys(found)) == expected(clinic, 10)


def test_a_page_ends_with_the_frame_that_passes_its_bytes(clinic: Reading) -> None:
    whole = clinic.walk(BEN, ["formulary[]"], PageSize(1000, 1_000_000))
    assert clinic.walk(BEN, ["formulary[]"], PageSize(1000, 1)) == whole and len(whole) == 50


def test_a_replaced_table_comes_with_the_buckets_that_are_held(clinic: Reading) -> None:
    walk = Walk(frozenset(), frozenset({"visits"}), frozenset(caseload(3)))
    page = clinic.page(ANN, walk, None, PageSize(1000, 1_000_000))
    assert {rows.table for rows in page.rows} == {"visits"} and page.next is None


@pytest.mark.parametrize(
    "place", ["", "[1", "[]", "[null]", '["nothing"]', '["visits","a"]', '["visits",1,"x"]', '["patients",1e99]']
)
def test_a_place_that_means_nothing_is_not_valid(clinic: Reading, place: str) -> None:
    assert not clinic.page(ANN, Walk(frozenset(caseload(1))), place, PageSize(5, 1000)).survey.valid


def test_a_table_whose_capture_is_lost_is_left_out_and_never_replaced_by_nothing(clinic: Reading) -> None:
    """P20: what is missing of it now comes whole when its capture is back."""

    def read(walk: Walk) -> Page:
        stopped = frozenset({"visits"})
        size = PageSize(1000, 1_000_000)
        return clinic.run(lambda db: PageReader(db, clinic.sql, stopped).read_page(ANN, walk, None, (), size))

    assert {rows.table for rows in read(Walk(frozenset(caseload(3)))).rows} == {"patients", "facilities"}
    with pytest.raises(SourceBusyError, match="visits"):
        read(Walk(frozenset(), frozenset({"visits"}), frozenset(caseload(3))))


def test_a_page_is_exact_unless_a_change_waits(clinic: Reading) -> None:
    walk = Walk(frozenset(caseload(1)))
    assert clinic.page(ANN, walk, None, PageSize(5, 1000)).exact
    clinic.database.execute("INSERT INTO syncline.changelog_visits(op) VALUES('U')")
    assert not clinic.page(ANN, walk, None, PageSize(5, 1000)).exact


def test_the_rows_of_a_walk_are_counted_or_not_in_time(clinic: Reading) -> None:
    buckets = frozenset([*caseload(*range(1, 11)), "formulary[]"])
    assert clinic.count(Walk(buckets)) == len(expected(clinic, 10)) + 50
    assert clinic.count(Walk(buckets), 0.0) is None
    clinic.database.execute("CREATE FUNCTION slow(text) RETURNS boolean LANGUAGE sql AS 'SELECT pg_sleep(5) IS NULL'")
    clinic.database.execute("ALTER TABLE drugs RENAME TO hidden")
    clinic.database.execute("CREATE VIEW drugs AS SELECT * FROM hidden WHERE slow(code)")
    assert clinic.count(Walk(buckets), 0.2) is None


def test_five_thousand_buckets_of_which_few_rows_are_wanted(clinic: Reading) -> None:
    """A nurse's patients stand far apart in a large table: their keys are listed, and pages are full."""
    clinic.database.execute("INSERT INTO patients SELECT n, 'more', 1 FROM generate_series(41, 30000) n")
    clinic.database.execute("INSERT INTO assignments SELECT 'cyd', n FROM generate_series(1000, 30000, 10) n")
    buckets = caseload(*range(1000, 30001, 10))
    found = clinic.walk({"sub": "cyd"}, buckets, PageSize(200, 1_000_000))
    patients = [values[0] for table, values, _ in found if table == "patients"]
    assert patients == list(range(1000, 30001, 10))
    job = next(iter(clinic.sql.jobs._kept.values()))
    assert job.listings["patients"] is not None


def test_a_row_whose_key_no_line_of_the_feed_can_hold_is_in_no_page(clinic: Reading) -> None:
    clinic.database.execute("INSERT INTO drugs VALUES(%s), ('short')", ("x" * 2_400,))
    found = clinic.walk(BEN, ["formulary[]"], PageSize(1000, 1_000_000))
    assert len(found) == 51 and encode_row(("short", None, None, None)) in {
        encode_row(values) for _, values, _ in found
    }


def test_a_session_reads_pages_of_one_shape_after_the_other(postgres: HostDatabase) -> None:
    """P1: the driver keeps statements by their text, with the types of what they answered."""
    tables = (
        "CREATE TABLE drugs(id int PRIMARY KEY, name text)",
        "CREATE TABLE forms(id int PRIMARY KEY, body bytea, pages int)",
        "INSERT INTO drugs VALUES(1, 'seven')",
        "INSERT INTO forms VALUES(1, 'x', 7)",
    )
    config = PlanConfig((ScopeConfig("formulary", {"drugs": TableConfig(), "forms": TableConfig()}),))
    size = PageSize(10, 1_000_000)
    reading = Reading(postgres, tables, config)
    try:
        assert [values for _, values, _ in reading.walk(ANN, ["formulary[]"], size)] == [
            (1, "seven"),
            (1, b"x", 7),
        ]
        postgres.execute("ALTER TABLE drugs ALTER name TYPE float8 USING 7, ADD more bigint DEFAULT 8")
        postgres.execute("ALTER TABLE forms ALTER pages TYPE bigint, ALTER body TYPE text USING 'x'")
        reading.plan = reading.run(lambda db: reading._plan(db, config))
        reading.attach()
        assert [values for _, values, _ in reading.walk(ANN, ["formulary[]"], size)] == [(1, 7.0, 8), (1, "x", 7)]
    finally:
        reading.close()
