"""The configuration against a SQLite file: each mistake names its line and the nearest right name."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from syncline.errors import ConfigError
from syncline.model.scopes import Plan
from syncline.server.config import load_plan, parse_settings
from syncline.server.config_report import check_source
from syncline.source.sqlite.source import SqliteSource

TABLES = """
CREATE TABLE patients(id TEXT, site TEXT, name TEXT, doctor TEXT, PRIMARY KEY(id, site));
CREATE TABLE doctors(id TEXT PRIMARY KEY, name TEXT);
CREATE TABLE letters(id INTEGER PRIMARY KEY, sender TEXT REFERENCES doctors(id), reader TEXT REFERENCES doctors(id));
CREATE TABLE assignments(nurse TEXT, patient_id TEXT, site TEXT, until TEXT);
CREATE VIEW current AS SELECT nurse AS who, patient_id, site FROM assignments WHERE until IS NULL;
CREATE VIEW of_today AS SELECT * FROM assignments WHERE until > date('now');
CREATE VIRTUAL TABLE words USING fts5(body);
CREATE TABLE notes(id TEXT PRIMARY KEY, patient_id TEXT, site TEXT, body TEXT);
INSERT INTO patients VALUES('ada', 'n', 'Ada', NULL), ('bo', 'n', 'Bo', NULL), ('cy', 's', 'Cy', NULL), (NULL, 's', 'Nobody', NULL);
INSERT INTO assignments VALUES('ann', 'ada', 'n', NULL), ('ben', 'bo', 'n', NULL), ('ben', 'cy', 's', NULL), ('cal', 'cy', 's', 'gone');
INSERT INTO notes VALUES('1', 'ada', 'n', 'a'), ('2', 'bo', 'n', 'äöü'), ('3', 'cy', 's', 'c'), ('4', 'cy', 's', 'd');
"""
HEAD = '[source]\nurl = "sqlite:///clinic.db"\n'
NOTES = '[scope.caseload.tables]\nnotes = { parent = "patients", on = { patient_id = "id", site = "site" } }\n'


def caseload(grant: str, more: str = "") -> str:
    return f"{HEAD}[scope.caseload]\nroot = \"patients\"\ngrant = '''{grant}'''\n{more}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with sqlite3.connect(tmp_path / "clinic.db") as db:
        db.executescript(TABLES)
    db.close()
    return tmp_path


def plan_of(folder: Path, text: str) -> Plan:
    async def run() -> Plan:
        source = SqliteSource(folder / "clinic.db", inline=True)
        try:
            return await load_plan(parse_settings(text, folder=folder, environment={}), source)
        finally:
            await source.close()

    return asyncio.run(run())


def report_of(folder: Path, text: str, **claims: Any) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        source = SqliteSource(folder / "clinic.db", inline=True)
        try:
            report = await check_source(parse_settings(text, folder=folder, environment={}), source, claims or None)
            return report.as_json()
        finally:
            await source.close()

    return asyncio.run(run())


GRANT = "SELECT patient_id, site FROM assignments WHERE nurse = :sub"
MISTAKES = {
    "not SQL": (caseload("SELEKT 1 WHERE :sub"), 5, 'near "SELEKT"', "shell", "query_fails"),
    "a table": (caseload("SELECT 1, 2 FROM asignments WHERE :sub"), 5, "asignments", '"assignments"', "query_fails"),
    "a column": (caseload("SELECT a.patient_idd, site FROM assignments a WHERE nurse = :sub"), 5, "patient_idd", '"patient_id"', "query_fails"),
    "it would write": (caseload("DELETE FROM assignments WHERE nurse = :sub"), 5, "would write", "", "query_fails"),
    "two statements": (caseload("SELECT 1, 2; SELECT :sub"), 5, "one statement", "", "query_fails"),
    "too few columns": (caseload("SELECT patient_id FROM assignments WHERE nurse = :sub"), 5, "answers 1 column", '"id", "site"', "grant_columns"),
    "too many columns": (caseload("SELECT * FROM assignments WHERE nurse = :sub"), 5, "answers 4 columns", '"id", "site"', "grant_columns"),
    "random()": (caseload(f"{GRANT} AND random() > 0"), 5, "uses random()", "refresh", "grant_volatile"),
    "datetime('now')": (caseload(f"{GRANT} AND until > datetime('now')"), 5, "uses datetime()", "refresh", "grant_volatile"),
    "CURRENT_TIMESTAMP": (caseload(f"{GRANT} AND until > CURRENT_TIMESTAMP"), 5, "uses current_timestamp()", "refresh", "grant_volatile"),
    "julianday('now')": (caseload(f"{GRANT} AND until > julianday('now')"), 5, "uses julianday()", "refresh", "grant_volatile"),
    "now, in a view": (caseload("SELECT patient_id, site FROM of_today WHERE nurse = :sub"), 5, "uses date()", "refresh", "grant_volatile"),
    "a virtual table": (caseload("SELECT body, body FROM words WHERE words MATCH :sub"), 5, '"words", a virtual table', "", "virtual_table"),
    "SQLite's own": (caseload("SELECT name, name FROM pragma_table_info(:sub)"), 5, "not a table of this database", "", "unknown_table"),
    "a view in a scope": (HEAD + '[scope.x]\ntables = ["doctors", "current"]\n', 4, '"current" is a view', "", "view_cannot_sync"),
    "a virtual table in a scope": (HEAD + '[scope.x]\ntables = ["words"]\n', 4, "virtual table", "", "no_key"),
    "no key": (HEAD + '[scope.x]\ntables = ["assignments"]\n', 4, "no primary key", "", "no_key"),
    "an ambiguous path": (
        HEAD + '[scope.x]\nroot = "doctors"\ngrant = "SELECT :sub"\n[scope.x.tables]\nletters = { parent = "doctors" }\n',
        7, "ambiguous: 2 foreign keys", 'on = { reader = "id" } or on = { sender = "id" }', "ambiguous_path",
    ),
    "its own parent": (
        HEAD + '[scope.x]\nroot = "doctors"\ngrant = "SELECT :sub"\n[scope.x.tables]\nletters = { parent = "letters", on = { id = "id" } }\n',
        7, "its own parent", "on =", "path_circle",
    ),
    "a filter's column": (HEAD + '[scope.x.tables]\ndoctors = { where = "nam = \'x\'" }\n', 4, "nam", '"name"', "query_fails"),
    "a policy": (HEAD + '[scope.x]\ntables = ["doctors"]\n[merge.doctors]\nname = "latst"\n', 6, '"latst"', '"latest"', "unknown_policy"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_names_its_line_and_the_nearest_right_name(folder: Path, name: str) -> None:
    text, line, message, hint, code = MISTAKES[name]
    with pytest.raises(ConfigError) as caught:
        plan_of(folder, text)
    assert caught.value.message.startswith(f"syncline.toml:{line}: ")
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.error_code == code


@pytest.mark.parametrize("name", [name for name in MISTAKES if MISTAKES[name][4] == "grant_volatile"])
def test_refresh_allows_a_grant_that_changes_by_itself(folder: Path, name: str) -> None:
    assert plan_of(folder, MISTAKES[name][0] + 'refresh = "60s"\n').scopes["caseload"].refresh_seconds == 60


def test_a_grant_may_read_a_list_in_a_claim(folder: Path) -> None:
    """`json_each` is no table: its rows follow from the claim alone."""
    plan = plan_of(folder, caseload("SELECT p.id, p.site FROM patients p JOIN json_each(:sites) s ON s.value = p.site"))
    assert plan.grant_reads == {"caseload": frozenset({"patients"})}


def test_check_tells_joins_indexes_and_what_a_user_downloads(folder: Path) -> None:
    text = caseload("SELECT patient_id, site FROM current WHERE who = :sub", NOTES)
    report = report_of(folder, text)
    assert report["ok"], report["errors"]
    (scope,) = report["scopes"]
    assert (scope["grant_reads"], scope["grant_views"]) == (["assignments"], ["current"])
    assert scope["joins"] == [
        {"table": "notes", "path": ["notes.patient_id = patients.id and notes.site = patients.site"]}
    ]
    assert (scope["tables"], scope["buckets"]) == ({"patients": 3, "notes": 4}, 3)
    assert (scope["largest_bucket"], scope["largest_rows"]) == ('caseload["cy","s"]', 3)
    assert scope["example"] == {"claims": {"sub": "ben"}, "buckets": 2, "rows": 5, "bytes": 99}
    assert report["missing_indexes"] == [
        {
            "table": "notes",
            "columns": ["patient_id", "site"],
            "statement": 'CREATE INDEX "notes_patient_id_site" ON "notes"("patient_id", "site");',
        }
    ]
    assert any("CREATE INDEX" in warning for warning in report["warnings"])
    assert any('"patients": 1 row of it has NULL in the key' in warning for warning in report["warnings"])


def test_the_statement_that_check_names_mends_what_it_warns_of(folder: Path) -> None:
    text = caseload(GRANT, NOTES)
    with sqlite3.connect(folder / "clinic.db") as db:
        db.execute(report_of(folder, text)["missing_indexes"][0]["statement"])
    db.close()
    report = report_of(folder, text)
    assert report["missing_indexes"] == [] and not any("index" in warning for warning in report["warnings"])


def test_check_shows_the_download_of_the_user_that_was_named(folder: Path) -> None:
    example = report_of(folder, caseload(GRANT, NOTES), sub="ann")["scopes"][0]["example"]
    assert (example["claims"], example["buckets"], example["rows"]) == ({"sub": "ann"}, 1, 2)
    nobody = report_of(folder, caseload(GRANT, NOTES), sub="nobody")["scopes"][0]["example"]
    assert (nobody["buckets"], nobody["rows"]) == (0, 0)


def test_an_example_needs_to_be_told_where_claims_belong_together(folder: Path) -> None:
    text = caseload(f"{GRANT} AND site = :site", NOTES)
    assert report_of(folder, text)["scopes"][0]["example"] is None
    told = report_of(folder, text, sub="ben", site="s")["scopes"][0]["example"]
    assert (told["buckets"], told["rows"]) == (1, 3)
    assert report_of(folder, text, sub="ben")["scopes"][0]["example"] is None


def test_check_names_keys_that_the_database_makes_up(folder: Path) -> None:
    text = (
        HEAD
        + '[scope.x]\nroot = "doctors"\ngrant = "SELECT :sub"\n[scope.x.tables]\nletters = { parent = "doctors", on = { sender = "id" } }\n'
    )
    notes = report_of(folder, text)["notes"]
    assert any('"letters"' in note and "replica.new_key" in note for note in notes)
    assert any("DROP COLUMN" in note for note in notes)
