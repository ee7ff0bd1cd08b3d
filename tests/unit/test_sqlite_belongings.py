"""What of a file is ours, and what the company's under names that look like ours (P15)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncline.errors import ConfigError
from syncline.model.scopes import PlanConfig, ScopeConfig, TableConfig
from syncline.source.sqlite.belongings import NameTakenError
from syncline.source.sqlite.source import SqliteSource
from syncline.source.sqlite.threads import drive
from syncline.testing.plans import plan_for

THEIRS = """
CREATE TABLE visits(id TEXT PRIMARY KEY, note TEXT);
CREATE TABLE syncline_notes(id TEXT PRIMARY KEY, body TEXT);
CREATE TABLE Syncline_Update_Log(id TEXT PRIMARY KEY);
CREATE TABLE syncline_changelog_of_the_ward(id TEXT PRIMARY KEY);
CREATE TABLE syncline_insert_visits(id TEXT PRIMARY KEY);
CREATE INDEX syncline_waiting_room ON syncline_notes(body);
CREATE VIEW syncline_today AS SELECT * FROM visits;
CREATE TRIGGER syncline_rekey_of_theirs AFTER DELETE ON visits BEGIN DELETE FROM syncline_notes WHERE id = old.id; END;
INSERT INTO visits VALUES('v1', 'a');
INSERT INTO syncline_notes VALUES('v1', 'kept'), ('v2', 'kept, too');
INSERT INTO syncline_changelog_of_the_ward VALUES('kept');
"""
VISITS = PlanConfig((ScopeConfig("all", {"visits": TableConfig()}),))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path / "clinic.db", isolation_level=None)
    connection.executescript(THEIRS.replace("CREATE TABLE syncline_insert_visits(id TEXT PRIMARY KEY);\n", ""))
    yield connection
    connection.close()


@pytest.fixture
def source(tmp_path: Path, host: sqlite3.Connection) -> Iterator[SqliteSource]:
    source = SqliteSource(tmp_path / "clinic.db", inline=True)
    yield source
    drive(source.close())


def everything(host: sqlite3.Connection) -> list[str]:
    return list(host.iterdump())


def test_what_the_company_calls_syncline_survives_provision_migrate_and_deprovision(
    host: sqlite3.Connection, source: SqliteSource
) -> None:
    before = everything(host)
    plan = drive(plan_for(source, VISITS))
    drive(source.provision(plan))
    assert drive(source.suspend()) == {"visits"}  # and not the table that only carries a trigger of nearly our name
    drive(source.provision(drive(plan_for(source, VISITS))))
    assert drive(source.deprovision())
    assert everything(host) == before


def test_a_trigger_of_the_companys_stays_while_a_migration_runs(host: sqlite3.Connection, source: SqliteSource) -> None:
    drive(source.provision(drive(plan_for(source, VISITS))))
    drive(source.suspend({"visits"}))
    host.execute("DELETE FROM visits WHERE id = 'v1'")
    assert host.execute("SELECT id FROM syncline_notes").fetchall() == [("v2",)]


def test_a_table_of_our_prefix_is_seen_and_told_that_it_cannot_sync(source: SqliteSource) -> None:
    schema = drive(source.introspect())
    refused = {name for name, table in schema.tables.items() if table.refusal}
    assert refused == {"syncline_notes", "Syncline_Update_Log", "syncline_changelog_of_the_ward"}
    assert "syncline_today" in schema.views
    with pytest.raises(ConfigError) as told:
        drive(plan_for(source, PlanConfig((ScopeConfig("all", {"syncline_notes": TableConfig()}),))))
    assert told.value.error_code == "reserved_name"
    assert "Rename it" in told.value.hint


def test_our_own_tables_are_never_seen(source: SqliteSource) -> None:
    before = set(drive(source.introspect()).tables)
    drive(source.provision(drive(plan_for(source, VISITS))))
    assert set(drive(source.introspect()).tables) == before


@pytest.mark.parametrize(
    "taken",
    [
        "CREATE TABLE syncline_meta(name TEXT PRIMARY KEY, value)",
        "CREATE TABLE SYNCLINE_DEVICE(id TEXT PRIMARY KEY)",
        "CREATE TABLE Syncline_Changelog_Visits(id TEXT PRIMARY KEY)",
        "CREATE TABLE syncline_insert_visits(id TEXT PRIMARY KEY)",
        "CREATE VIEW syncline_entry AS SELECT 1",
        "CREATE INDEX syncline_waiting_visits ON visits(note)",
        "CREATE TRIGGER syncline_delete_visits AFTER DELETE ON visits BEGIN SELECT 1; END",
    ],
)
def test_a_name_that_the_company_has_taken_is_refused_and_nothing_is_changed(
    host: sqlite3.Connection, source: SqliteSource, taken: str
) -> None:
    """Neither is the company's table written to as if it were ours, nor dropped with what is."""
    host.execute(taken)
    before = everything(host)
    plan = drive(plan_for(source, VISITS))
    for step in (source.pending_provision, source.provision):
        with pytest.raises(NameTakenError, match=r'"\w+" that is not ours'):
            drive(step(plan))
    assert not drive(source.deprovision())
    assert everything(host) == before


def test_a_name_taken_after_provisioning_stops_what_would_use_it_and_is_not_dropped(
    host: sqlite3.Connection, source: SqliteSource
) -> None:
    drive(source.provision(drive(plan_for(source, VISITS))))
    host.execute("CREATE TABLE wards(id TEXT PRIMARY KEY)")
    host.execute("CREATE TABLE syncline_changelog_wards(id TEXT PRIMARY KEY)")
    host.execute("INSERT INTO syncline_changelog_wards VALUES('kept')")
    more = PlanConfig((ScopeConfig("all", {"visits": TableConfig(), "wards": TableConfig()}),))
    with pytest.raises(NameTakenError, match="syncline_changelog_wards"):
        drive(source.provision(drive(plan_for(source, more))))
    assert drive(source.deprovision())
    assert host.execute("SELECT id FROM syncline_changelog_wards").fetchall() == [("kept",)]


def test_a_renamed_table_loses_every_trace_that_its_old_name_left(
    host: sqlite3.Connection, source: SqliteSource
) -> None:
    drive(source.provision(drive(plan_for(source, VISITS))))
    host.execute("ALTER TABLE visits RENAME TO calls")
    assert drive(source.suspend()) == {"calls"}
    assert drive(source.deprovision())
    left = host.execute("SELECT name FROM sqlite_schema WHERE tbl_name = 'calls' AND sql IS NOT NULL ORDER BY name")
    assert left.fetchall() == [("calls",), ("syncline_rekey_of_theirs",)]
    host.execute("INSERT INTO calls VALUES('v2', 'b')")


def test_an_installation_without_a_seal_key_draws_one_that_stays(
    host: sqlite3.Connection, source: SqliteSource
) -> None:
    drive(source.provision(drive(plan_for(source, VISITS))))
    first = drive(source.seal_key())
    assert host.execute("DELETE FROM syncline_meta WHERE name = 'seal'").rowcount == 1
    drawn = drive(source.seal_key())
    assert len(drawn) == 64 and drawn != first
    assert drive(source.seal_key()) == drawn
