"""Grants on PostgreSQL: the company's SQL, with claims that are data whatever they hold."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.postgres.conftest import HostDatabase
from tests.postgres.reading import TERM, Reading

from syncline.errors import AuthError, SourceError
from syncline.model.scopes import PlanConfig, ScopeConfig
from syncline.source.claims import GrantFailsError
from syncline.source.port import Delta
from syncline.testing.bench import Office
from syncline.testing.postgres_database import PostgresDatabase
from syncline.testing.postgres_server import PostgresServer

UUID = "7d444840-9dc0-11d1-b245-5ffdce74fad2"
TABLES = (
    "CREATE TYPE role AS ENUM('nurse', 'doctor')",
    "CREATE TABLE patients(id int PRIMARY KEY, name text)",
    "CREATE TABLE regions(name varchar(20) PRIMARY KEY)",
    "CREATE TABLE sites(code uuid, part smallint, PRIMARY KEY(code, part))",
    "CREATE TABLE days(day date PRIMARY KEY)",
    "CREATE TABLE staff(number int, name text, key uuid, role role, teams int[], active boolean, joined date, pay numeric)",
    f"INSERT INTO staff VALUES(1, 'ann', '{UUID}', 'nurse', '{{1,2}}', true, '2026-01-01', 1.5)",
    "INSERT INTO staff VALUES(2, 'ben', NULL, 'doctor', '{3}', false, '2026-02-01', 2.5)",
    "CREATE TABLE given(who text, what text, part int)",
    f"INSERT INTO given VALUES('ann', '12', 3), ('ann', ' 13 ', 99999), ('ann', 'x', 1), ('ann', '{UUID}', 4), "
    "('ann', NULL, NULL), ('ann', '99999999999', 5), ('ann', '2026-11-22', 6)",
)


@pytest.fixture
def make_reading(postgres: HostDatabase) -> Iterator[Any]:
    made: list[Reading] = []

    def make(*grants: str, roots: Sequence[str] = ()) -> Reading:
        scopes = tuple(
            ScopeConfig(f"s{number}", {}, root=roots[number] if roots else "patients", grant=grant)
            for number, grant in enumerate(grants)
        )
        made.append(Reading(postgres, TABLES, PlanConfig(scopes)))
        return made[-1]

    yield make
    for reading in made:
        reading.close()


FAILS = None
CLAIMS: list[tuple[str, Any, bool | None]] = [
    ("number = :it", 1, True),
    ("number = :it", "1", True),
    ("number = :it", " 1 ", True),
    ("number = :it", 1.0, True),
    ("number = :it", True, True),
    ("number = :it", 2, False),
    ("number = :it", "ann", False),
    ("number = :it", 2**70, False),
    ("number = :it", 1.5, False),
    ("number = :it", None, False),
    ("number = :it", [1], False),
    ("number = :it", "1 OR true", False),
    ("name = :it", "ann", True),
    ("name = :it", "' OR '1'='1", False),
    ("name = :it", "ann\0", False),
    ("name = :it", "\ud800", False),
    ("name = :it", {"a": 1}, False),
    ("key = :it", UUID, True),
    ("key = :it", UUID.replace("-", "").upper(), True),
    ("key = :it", "ann", False),
    ("role = :it", "nurse", True),
    ("role = :it", "pilot", False),
    ("active = :it", True, True),
    ("active = :it", "yes", True),
    ("active = :it", False, False),
    ("active = :it", "perhaps", False),
    ("joined = :it", "2026-01-01", True),
    ("joined = :it", "2026-13-01", False),
    ("joined = :it", "soon", False),
    ("pay = :it", 1.5, True),
    ("pay = :it", "1.50", True),
    ("pay = :it", "1e999999", False),
    ("number = ANY(:it)", [7, 1], True),
    ("number = ANY(:it)", ["1"], True),
    ("number = ANY(:it)", 1, True),
    ("number = ANY(:it)", [], False),
    ("number = ANY(:it)", ["x"], False),
    ("number = ANY(:it)", [[1], [2, 3]], False),
    ("name = ANY(:it)", ["x", "ann"], True),
    ("name = ANY(:it)", ['a","ann', "{ann}", "a\\"], False),
    ("name = ANY(:it)", "{ann}", False),
    ("role = ANY(:it)", ["doctor", "nurse"], True),
    ("role = ANY(:it)", ["pilot"], False),
    ("teams && :it", [2, 9], True),
    ("teams && :it", ["2"], True),
    ("name IN (SELECT json_array_elements_text(:it))", ["ann", "x"], True),
    ("name IN (SELECT jsonb_array_elements_text(:it::jsonb -> 'names'))", {"names": ["ann"]}, True),
    ("name IN (SELECT json_array_elements_text(:it))", "no list", FAILS),
    ("name IN (SELECT jsonb_array_elements_text(:it))", ["ann\0"], False),
    ("name = :it::text", "ann", True),
    ("key = (:it::text)::uuid", UUID, True),
    ("key = (:it::text)::uuid", "ann", FAILS),
    ("number = :it AND number = :it", 1, True),
    ("name = 'ann' AND ':it' <> '' -- :it\n AND name = :it", "ann", True),
]


def test_a_claim_is_what_the_grant_compares_it_with(make_reading: Any) -> None:
    conditions = list(dict.fromkeys(condition for condition, _, _ in CLAIMS))
    reading = make_reading(
        *(f"SELECT 5 FROM staff WHERE number = 1 AND ({condition})" for condition in conditions),
    )
    for number, condition in enumerate(conditions):
        cases = [(claim, finds) for compared, claim, finds in CLAIMS if compared == condition]
        for claim, finds in cases:
            if finds is FAILS:
                with pytest.raises(GrantFailsError, match=f"s{number}"):
                    reading.granted_in(f"s{number}", it=claim)
                continue
            found = reading.granted_in(f"s{number}", it=claim)
            assert found == ({f"s{number}[5]"} if finds else set()), (condition, claim)
        together = told_to_all(reading, [{"it": claim} for claim, _ in cases])[f"s{number}"]
        assert [None if found is None else bool(found) for found in together] == [finds for _, finds in cases], (
            condition
        )


def told_to_all(reading: Reading, users: list[dict[str, Any]]) -> dict[str, Any]:
    """What a delta says after everything that grants read was touched."""
    start = reading.checkpoint()
    head = reading.checkpoint()
    reading.database.execute(
        "INSERT INTO syncline.grant_touch SELECT unnest(%s::text[]), %s "
        "ON CONFLICT(table_name) DO UPDATE SET checkpoint = excluded.checkpoint",
        (sorted(reading.sql.grant_scopes), head),
    )
    delta: Delta = reading.delta(lambda reader: reader.read((TERM, start), (), {}, users, 100))
    assert delta.valid
    return dict(delta.granted)


def test_after_a_claim_that_does_not_fit_the_read_goes_on(make_reading: Any) -> None:
    reading = make_reading(
        "SELECT number FROM staff WHERE joined = :sub", "SELECT number FROM staff WHERE name = 'ben'"
    )
    assert reading.granted(sub="no day") == {"s1[2]"}


ANSWERS: list[tuple[str, str, set[str]]] = [
        ("patients", "SELECT what FROM given", {"[12]", "[13]"}),
        ("patients", "SELECT part FROM given", {"[3]", "[4]", "[5]", "[6]", "[1]", "[99999]"}),
        ("patients", "SELECT part::bigint * 100000 FROM given WHERE part < 5", {"[100000]", "[300000]", "[400000]"}),
        ("patients", "SELECT 2147483648", set()),
        ("patients", "SELECT 12.0", {"[12]"}),
        ("patients", "SELECT 'x' FROM given", set()),
        ("regions", "SELECT part FROM given WHERE part < 4", {'["3"]', '["1"]'}),
        ("regions", "SELECT what FROM given WHERE what = 'x'", {'["x"]'}),
        ("days", "SELECT what FROM given", {'["2026-11-22"]'}),
        ("days", "SELECT '2026-11-23 10:00'::timestamp", {'["2026-11-23"]'}),
        ("sites", "SELECT what, part FROM given", {f'["{UUID}",4]'}),
        ("sites", f"SELECT '{UUID}'::uuid, 99999", set()),
        ("sites", f"SELECT '{UUID}'::uuid, 4::smallint", {f'["{UUID}",4]'}),
        ("patients", "SELECT number FROM staff;  ", {"[1]", "[2]"}),
        ("patients", "WITH s AS (SELECT number AS n FROM staff) SELECT n FROM s ORDER BY n DESC LIMIT 1 -- the last", {"[2]"}),
]  # fmt: skip


def test_an_answer_names_the_bucket_whose_key_it_becomes(make_reading: Any) -> None:
    reading = make_reading(*(query for _, query, _ in ANSWERS), roots=[root for root, _, _ in ANSWERS])
    together = told_to_all(reading, [{}, {"sub": "x"}])
    for number, (_, query, buckets) in enumerate(ANSWERS):
        expected = {f"s{number}{bucket}" for bucket in buckets}
        assert reading.granted_in(f"s{number}") == expected, query
        assert together.get(f"s{number}", (expected, expected)) == (expected, expected), query


def test_a_missing_claim_is_named(make_reading: Any) -> None:
    reading = make_reading("SELECT number FROM staff WHERE name = :tenant")
    with pytest.raises(AuthError, match='no claim "tenant"'):
        reading.granted(sub="ann")
    assert told_to_all(reading, [{"sub": "x"}, {"tenant": "ben"}])["s0"] == (None, {"s0[2]"})


def test_users_are_told_apart_in_one_query(make_reading: Any) -> None:
    reading = make_reading("SELECT number FROM staff WHERE name = :sub OR number = ANY(:numbers)")
    users = [{"sub": name, "numbers": numbers} for name in ("ann", "ben", "x") for numbers in ([], [1], [2], [1, 2])]
    expected = [{f"s0[{number}]" for number in {{"ann": 1, "ben": 2}.get(user["sub"], 0), *user["numbers"]} - {0}} for user in users]  # fmt: skip
    assert list(told_to_all(reading, users * 2)["s0"]) == expected * 2


FAILING: list[tuple[str, Any, Any]] = [
    ("SELECT number FROM staff WHERE key = CAST((:it || '') AS uuid)", "x", UUID),
    ("SELECT 1 FROM staff WHERE number = 1 AND number + :it > 0", 2147483647, 1),
    ("SELECT 1 FROM staff WHERE number = 1 AND name LIKE :it", "an\\", "an%"),
    ("SELECT 1 WHERE 1 = (SELECT number FROM staff WHERE name LIKE :it || '%')", "", "a"),
]
"""A grant; a claim that it fails for; one with which it gives the first bucket."""


@pytest.mark.parametrize(("grant", "failing", "fitting"), FAILING)
def test_a_grant_that_fails_for_one_user_costs_nobody_else_anything(
    make_reading: Any, grant: str, failing: Any, fitting: Any
) -> None:
    reading = make_reading(grant, "SELECT 2 FROM staff WHERE name = 'ann'")
    users = [{"it": fitting}, {"it": failing}, {"it": fitting}, {"it": failing, "n": 2}]
    told = told_to_all(reading, users)
    assert told["s0"] == ({"s0[1]"}, None, {"s0[1]"}, None)
    assert set(told["s1"]) == {frozenset({"s1[2]"})}
    assert told_to_all(reading, users[:1])["s0"] == ({"s0[1]"},)
    assert told_to_all(reading, users[1:2])["s0"] == (None,)


@pytest.mark.parametrize(("grant", "failing", "fitting"), FAILING)
def test_a_read_for_whom_a_grant_fails_is_refused_without_a_word_of_the_data(
    make_reading: Any, grant: str, failing: Any, fitting: Any
) -> None:
    reading = make_reading(grant)
    with pytest.raises(GrantFailsError, match=r'grant of scope "s0" fails for a user: SQLSTATE 2\w{4}\.') as failure:
        reading.granted(it=failing)
    assert failure.value.code == "grant_fails" and failure.value.retry
    assert reading.granted(it=fitting) == {"s0[1]"}


def test_the_nurse_of_whom_there_are_two_keeps_what_she_has_until_one_is_removed(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    grant = "SELECT patient_id FROM assignments WHERE nurse = (SELECT id FROM nurses WHERE email = :sub)"
    with open_office(tmp_path, postgres_server, grant) as office:
        ann, ben = office.phone("ann"), office.phone("ben")
        ann.sync(), ben.sync()
        office.execute("INSERT INTO nurses VALUES(3, 'ben')")
        office.execute("UPDATE patients SET name = 'Ada L.'")
        ben.execute("UPDATE patients SET ward = 'west'")
        ann.sync()
        with pytest.raises(SourceError, match="grant_fails"):
            ben.sync()
        assert ann.execute("SELECT name, ward FROM patients") == [("Ada L.", "east")]
        assert ben.execute("SELECT name, ward FROM patients") == [("Ada", "west")]
        office.execute("DELETE FROM nurses WHERE id = 3")
        ben.sync()
        assert ben.execute("SELECT name, ward FROM patients") == [("Ada L.", "west")]
        assert office.execute("SELECT name, ward FROM patients") == [("Ada L.", "west")]


def test_a_name_that_the_databases_encoding_lacks_is_granted_nothing(make_postgres: Any) -> None:
    config = PlanConfig((ScopeConfig("s0", {}, root="patients", grant="SELECT number FROM staff WHERE name = :sub"),))
    reading = Reading(make_postgres(encoding="LATIN1"), TABLES, config)
    try:
        assert reading.granted(sub="Łu") == set()
        assert told_to_all(reading, [{"sub": "Łu"}])["s0"] == (set(),)
        assert told_to_all(reading, [{"sub": "ann"}, {"sub": "Łu"}])["s0"] == ({"s0[1]"}, set())
    finally:
        reading.close()


SLOW = "count(*) FROM generate_series(1, 200000000) AS g WHERE g % 7 = length(:sub)"


def test_whoever_alters_a_table_does_not_wait_for_a_slow_grant(tmp_path: Path, postgres_server: PostgresServer) -> None:
    """The grant is slow as long as a line says so; the host's ALTER comes while it runs."""
    grant = f"SELECT patient_id FROM assignments WHERE (SELECT CASE WHEN min(id) = 0 THEN (SELECT {SLOW}) ELSE 1 END "
    with open_office(tmp_path, postgres_server, grant + "FROM nurses) > 0 AND :sub = 'ann'") as office:
        url = office.database.url
        office.execute("INSERT INTO nurses VALUES(0, 'slow')")

        async def story() -> list[str]:
            host = await asyncpg.connect(url)
            try:
                work = office.source.read_cut("none", {"sub": "ann"}, frozenset(), None, 0, None)
                reading = asyncio.create_task(work)
                await until_true(host, _GRANT_RUNS)
                await host.execute("SET statement_timeout = '5s'")  # the grant alone takes far longer
                await host.execute("ALTER TABLE assignments ADD COLUMN note text")
                await host.execute("DELETE FROM nurses WHERE id = 0")
                result = await asyncio.gather(reading, return_exceptions=True)
                return [type(each).__name__ for each in result]
            finally:
                await host.close()

        assert office.wait(story()) in (["SchemaMovingError"], ["Cut"])


_GRANT_RUNS = """
SELECT EXISTS(SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%generate_series%'
  AND pid <> pg_backend_pid() AND datname = current_database())
"""


async def until_true(host: asyncpg.Connection, question: str) -> None:
    for _ in range(1000):
        if await host.fetchval(question):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(question)


@contextlib.contextmanager
def open_office(folder: Path, server: PostgresServer, grant: str) -> Iterator[Office]:
    tables = (
        "CREATE TABLE patients(id text PRIMARY KEY, name text, ward text)",
        "CREATE TABLE nurses(id int PRIMARY KEY, email text)",
        "CREATE TABLE assignments(nurse int, patient_id text)",
        "INSERT INTO patients VALUES('ada', 'Ada', 'east')",
        "INSERT INTO nurses VALUES(1, 'ann'), (2, 'ben')",
        "INSERT INTO assignments VALUES(1, 'ada'), (2, 'ada')",
    )
    database = PostgresDatabase(server, folder)
    try:
        config = PlanConfig((ScopeConfig("caseload", {}, root="patients", grant=grant),))
        office = Office(folder, tables, config, database=database)
        try:
            yield office
        finally:
            office.close()
    finally:
        database.close()
