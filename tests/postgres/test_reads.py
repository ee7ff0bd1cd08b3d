"""Grants and filters as a person writes them, held against a PostgreSQL database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from syncline.errors import ConfigError
from syncline.model.scopes import QueryReads
from syncline.source.postgres.connections import Connections
from syncline.source.postgres.reads import reads_of_filter, reads_of_query

CLINIC = """
CREATE SCHEMA billing;
CREATE TABLE visits (id int PRIMARY KEY, patient int, status text, room int, price numeric, note jsonb, at timestamptz,
                     tags text[], mood varchar(10), day date);
CREATE TABLE assignments (nurse text, patient int, site text, until timestamptz, PRIMARY KEY (nurse, patient));
CREATE TABLE billing.beds (id int PRIMARY KEY, visit int REFERENCES visits);
CREATE VIEW current AS SELECT nurse, patient, until FROM assignments WHERE until IS NOT NULL;
CREATE VIEW today AS SELECT patient FROM current WHERE until > now();
CREATE MATERIALIZED VIEW counts AS SELECT count(*) AS n FROM visits;
CREATE TABLE log (id int PRIMARY KEY, note text) PARTITION BY RANGE (id);
CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (0) TO (10);
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child () INHERITS (parent);
CREATE FUNCTION patients_of(text) RETURNS SETOF int LANGUAGE sql STABLE AS 'SELECT patient FROM assignments WHERE nurse = $1';
CREATE TABLE "Odd""Name" ("a:b" int PRIMARY KEY, "größe" text);
CREATE SEQUENCE numbers;
"""


def asked(url: str, work: Callable[[asyncpg.Connection], Awaitable[QueryReads]]) -> QueryReads:
    """What is asked, with the same transaction used again after it."""

    async def run() -> QueryReads:
        connections = Connections(url)
        try:
            async with connections.transaction() as db:
                try:
                    return await work(db)
                finally:
                    assert await db.fetchval("SELECT to_regclass('pg_temp.syncline_reads') IS NULL")
        finally:
            await connections.close()

    return asyncio.run(run())


@pytest.fixture
def clinic(postgres: Any) -> str:
    postgres.execute(CLINIC)
    return str(postgres.url)


def grant(url: str, query: str) -> QueryReads:
    return asked(url, lambda db: reads_of_query(db, query))


def filtered(url: str, where: str, table: str = "visits") -> QueryReads:
    return asked(url, lambda db: reads_of_filter(db, table, where))


def test_a_grant_names_its_tables_and_columns(clinic: str) -> None:
    reads = grant(clinic, "SELECT patient, site FROM assignments WHERE nurse = :sub AND until IS NULL;")
    assert reads == QueryReads({"assignments": frozenset({"patient", "site", "nurse", "until"})}, columns=2)


def test_views_are_resolved_to_the_tables_under_them(clinic: str) -> None:
    reads = grant(clinic, "SELECT patient FROM today WHERE :sub <> ''")
    assert reads.tables == {"assignments": frozenset({"nurse", "patient", "until"})}
    assert (reads.views, reads.volatile) == (("current", "today"), ("now",))


READING = {
    "SELECT count(*) FROM visits": {"visits": set()},
    "SELECT b.id FROM billing.beds b JOIN visits v ON v.id = b.visit WHERE :n < b.id": {
        "billing.beds": {"id", "visit"},
        "visits": {"id"},
    },
    "SELECT id FROM log_1": {"log": {"id"}},
    "WITH mine AS (SELECT patient FROM assignments WHERE nurse = :sub) SELECT * FROM mine": {"assignments": {"nurse", "patient"}},
    "SELECT v FROM log AS v": {"log": {"id", "note"}},
    "SELECT id, id FROM visits -- :no ": {"visits": {"id"}},
    """SELECT "a:b" FROM "Odd""Name" WHERE "größe" = ':x' || $$:y$$ || E'\\':z' || :sub /* /* :no */ :no */""": {'Odd"Name': {"a:b", "größe"}},
    "SELECT id FROM visits WHERE tags[1:2] = ARRAY[:a, :b] AND id = ANY (:ids) AND room::text = :room::text": {"visits": {"id", "tags", "room"}},
    "VALUES (:sub)": {},
    "SELECT unnest(:patients::int[])": {},
    "SELECT json_array_elements_text(:patients::json)::int": {},
}  # fmt: skip


def test_what_a_grant_reads(clinic: str) -> None:
    found = {query: grant(clinic, query).tables for query in READING}
    assert found == {query: {table: frozenset(names) for table, names in READING[query].items()} for query in READING}


VOLATILE = {
    "SELECT id FROM visits WHERE at > now()": ("now",),
    "SELECT id FROM visits WHERE at > CURRENT_TIMESTAMP": ("current_timestamp",),
    "SELECT id FROM visits WHERE day = current_date": ("current_timestamp",),
    "SELECT id FROM visits WHERE at > 'now'": ("now",),
    "SELECT id FROM visits WHERE day = 'yesterday'::date": ("yesterday",),
    "SELECT id FROM visits WHERE status = 'now' OR at > 'now'": ("now",),
    "SELECT id FROM visits WHERE random() < 0.5": ("random",),
    "SELECT id FROM visits WHERE age(day) > '1 day'": ("age",),
    "SELECT id FROM visits WHERE status = current_setting('app.site')": ("current_setting",),
    "SELECT id FROM visits TABLESAMPLE SYSTEM (10)": ("tablesample",),
    "SELECT patients_of(:sub)": ("patients_of",),
    "SELECT nextval('numbers')": ("nextval",),
    "SELECT id FROM visits WHERE status = 'now' AND at > '2026-01-01'": (),
    "SELECT id FROM visits WHERE date_trunc('day', at) = at AND to_char(at, 'YYYY') = :year": (),
    "SELECT id FROM visits WHERE status = current_user": (),
}  # fmt: skip


def test_what_changes_by_itself_is_named(clinic: str) -> None:
    assert {query: grant(clinic, query).volatile[:1] for query in VOLATILE} == VOLATILE


MISTAKES = {
    "SELEC 1": ("query_fails", 'near "SELEC"', "shell"),
    "SELECT 1 FROM asignments": ("query_fails", "asignments", '"assignments"'),
    "SELECT 1 FROM billing.bets": ("query_fails", "billing.bets", '"billing.beds"'),
    "SELECT patiant FROM assignments WHERE nurse = :sub": ("query_fails", "patiant", '"patient"'),
    "SELECT a.patiant FROM assignments a": ("query_fails", "patiant", '"patient"'),
    "SELECT 'x'::int": ("query_fails", "invalid input syntax", ""),
    "DELETE FROM visits WHERE status = :sub": ("query_fails", "would write", ""),
    "WITH gone AS (DELETE FROM visits RETURNING id) SELECT id FROM gone": ("query_fails", "would write", ""),
    "SELECT id INTO copied FROM visits": ("query_fails", "would write", ""),
    "CREATE TABLE x (id int)": ("query_fails", "would write", ""),
    "SHOW timezone": ("query_fails", "no SELECT", ""),
    "SELECT id FROM visits FOR UPDATE": ("query_fails", "lock rows", ""),
    "SELECT 1; SELECT 2": ("query_fails", "one statement", ""),
    "SELECT n FROM counts": ("virtual_table", "a materialized view", "come"),
    "SELECT id FROM parent": ("virtual_table", "inherit", "hold the rows"),
    "SELECT oid FROM pg_class": ("unknown_table", "catalogue", ""),
    "SELECT table_name FROM information_schema.tables": ("unknown_table", "catalogue", ""),
}  # fmt: skip


def refusal_of(read: Callable[[str, str], QueryReads], url: str, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(url, text)
    return caught.value


def test_a_mistake_in_a_grant_is_explained(clinic: str) -> None:
    for query, (code, words, hint) in MISTAKES.items():
        error = refusal_of(grant, clinic, query)
        assert (error.error_code, words in error.message) == (code, True), (query, error.message)
        assert hint in (error.hint or ""), (query, error.hint)


FILTERS = {
    "status <> 'hidden'": {"status"},
    "room = 3 AND patient IS NULL": {"room", "patient"},
    "room IN (1, 2) OR room BETWEEN 5 AND 7 OR room::bigint = 9": {"room"},
    "price > 1.5 AND price::text <> ''": {"price"},
    "price > 1 AND price <> room": {"price", "room"},
    "note ->> 'kind' = 'x' AND note ? 'kind'": {"note"},
    "tags && ARRAY['a'] AND 'b' = ANY (tags)": {"tags"},
    "status LIKE 'a%' AND mood ~ '^b'": {"status", "mood"},
    "lower(coalesce(status, '')) = 'a' -- really": {"status"},
    "at > '2026-01-01' AND CASE WHEN day IS NULL THEN true ELSE day < '2026-02-01' END": {"at", "day"},
    "own IS NOT NULL": {"id", "patient", "status", "room", "price", "note", "at", "tags", "mood", "day"},
}  # fmt: skip


def test_what_a_filter_reads(clinic: str) -> None:
    found = {where: filtered(clinic, where) for where in FILTERS}
    assert found == {where: QueryReads({"visits": frozenset(FILTERS[where])}, columns=1) for where in FILTERS}


def test_a_filter_of_a_table_in_another_schema(clinic: str) -> None:
    assert filtered(clinic, "visit > 3", "billing.beds").tables == {"billing.beds": frozenset({"visit"})}


def test_a_filter_with_the_clock_says_so(clinic: str) -> None:
    assert filtered(clinic, "at > now()").volatile == ("now",)


FAILING = {
    "room / room > 2": ("filter_function", '"/"'),
    "room + 1 = 2": ("filter_function", '"+"'),
    "status::int = 3": ("filter_function", "a cast from text"),
    "(note ->> 'n')::int = 1": ("filter_function", "a cast from text"),
    "status LIKE mood": ("filter_function", "a pattern"),
    "substring(status from room) = 'x'": ("filter_function", "substring()"),
    "room = (SELECT 1)": ("filter_query", "a query of its own"),
    "EXISTS (SELECT FROM assignments)": ("filter_query", "a query of its own"),
    "archived": ("query_fails", "archived"),
    "room": ("query_fails", "boolean"),
    "ctid IS NOT NULL": ("query_fails", "ctid"),
    "visits.room = 1": ("query_fails", "visits"),
    "room = :sub": ("query_fails", "no parameters"),
    "room = $1": ("query_fails", "$1"),
    "room = 1) OR (SELECT true": ("filter_query", "a query of its own"),
    "room = 1)": ("query_fails", "syntax error"),
}  # fmt: skip


def test_a_filter_that_could_stop_checkpoints_is_refused(clinic: str) -> None:
    for where, (code, words) in FAILING.items():
        error = refusal_of(filtered, clinic, where)
        assert (error.error_code, words in error.message) == (code, True), (where, error.message)


def test_a_role_without_temporary_tables_is_told_what_to_grant(postgres: Any) -> None:
    postgres.execute(CLINIC)
    postgres.execute(f"REVOKE TEMPORARY ON DATABASE {postgres.name} FROM PUBLIC")
    role = f"plain_{postgres.name}"
    postgres.server.create_role(role)
    postgres.execute(f"GRANT SELECT ON assignments TO {role}")
    try:
        with pytest.raises(ConfigError, match="temporary") as caught:
            grant(
                postgres.server.address(postgres.name, role).url, "SELECT patient FROM assignments WHERE nurse = :sub"
            )
        assert "TEMPORARY" in (caught.value.hint or "")
    finally:
        postgres.execute(f"REVOKE ALL ON assignments FROM {role}")
        postgres.execute(f"DROP ROLE {role}")
