"""The company changes its schema, with its own tools, while nurses are connected."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from tests.integration import migrations
from tests.integration.company import (
    CONFIGURATION,
    TABLES,
    Company,
    Process,
    environment,
    query,
    wait_for,
    wait_for_scope,
)

from syncline import Replica


def command(company: Company, name: str) -> list[str]:
    return [sys.executable, migrations.__file__, name, str(company.path)]


def run(company: Company, name: str, *, within_migrate: bool = False) -> subprocess.CompletedProcess[str]:
    """The migration as a process of its own; in `syncline migrate` or not."""
    wrapper = [sys.executable, "-m", "syncline", "migrate", "--config", str(company.config), "--"]
    return subprocess.run(
        [*(wrapper if within_migrate else []), *command(company, name)],
        cwd=company.folder,
        env=environment() | {"PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def start(company: Company, name: str, *, within_migrate: bool = False) -> Process:
    """One that stops at every step until it reads a line."""
    wrapper = [sys.executable, "-m", "syncline", "migrate", "--config", str(company.config), "--"]
    whole = [*(wrapper if within_migrate else []), *command(company, name)]
    return Process(whole, company.folder, company.folder / f"{name}.log", "begins", stdin=True)


def step(process: Process) -> str:
    assert process.process.stdout is not None
    return process.process.stdout.readline().strip()


def go_on(process: Process) -> None:
    assert process.process.stdin is not None
    process.process.stdin.write("\n")
    process.process.stdin.flush()


def watch(replica: Replica, path: Path, table: str, seen: set[int]) -> None:
    """How many rows the table had whenever the agent said that something changed."""
    replica.on("changed", lambda tables: seen.add(query(path, f"SELECT count(*) FROM {table}")[0][0]))


def fault_of(company: Company) -> str:
    answer = httpx.get(f"{company.servers[-1].url}/readyz").json()
    return str(answer["fault"] or "")


@pytest.mark.parametrize(("name", "table"), [("alembic_batch", "visits"), ("django_alter_field", "notes")])
def test_a_live_nurse_sees_the_new_columns_and_never_an_empty_list(company: Company, name: str, table: str) -> None:
    """P1, P4, P20: the table is dropped and made anew beside the running server."""
    company.serve()
    ann = company.live("ann")
    path = company.folder / "ann.device.db"
    counts: set[int] = set()
    watch(ann, path, table, counts)
    done = run(company, name)
    assert done.returncode == 0, done.stderr
    query(path, "UPDATE visits SET status = 'done' WHERE id = 'v-ada'")
    wait_for(lambda: company.execute("SELECT status FROM visits WHERE id = 'v-ada'") == [("done",)], "the upload")
    company.execute("UPDATE patients SET name = 'Ada L.' WHERE id = 'ada'")
    wait_for_scope(company, "ann", path)
    columns = [row[1] for row in query(path, f"PRAGMA table_info({table})")]
    assert columns == [row[1] for row in company.execute(f"PRAGMA table_info({table})")]
    assert counts <= {len(query(path, f"SELECT 1 FROM {table}"))}
    assert not ann.rejections()
    wait_for(lambda: ann.status.state == "live", "the stream is open again")


def test_a_second_server_follows(company: Company) -> None:
    """P2, P20: the one that stands by gets the new plan from the schema, too, and its devices the new program."""
    company.serve(road=False)
    standby = company.serve(road=False)
    path = company.folder / "ann.device.db"
    ann = company.live("ann", url=standby.url)
    company.execute("ALTER TABLE visits ADD COLUMN room TEXT DEFAULT 'r1'")
    company.execute("UPDATE visits SET room = 'r2' WHERE id = 'v-bo'")
    wait_for(lambda: "room" in [row[1] for row in query(path, "PRAGMA table_info(visits)")], "the new column")
    wait_for_scope(company, "ann", path)
    query(path, "UPDATE visits SET room = 'r3' WHERE id = 'v-ada'")
    wait_for(lambda: company.execute("SELECT room FROM visits WHERE id = 'v-ada'") == [("r3",)], "the upload")
    assert not ann.rejections()


def test_between_drop_and_rename_the_server_waits_says_why_and_goes_on(company: Company) -> None:
    """P2, P8, P20."""
    company.serve()
    company.live("ann")
    path = company.folder / "ann.device.db"
    migration = start(company, "sloppy")
    for done in ("CREATE", "INSERT", "DROP"):
        assert step(migration) == done
        if done != "DROP":
            go_on(migration)
    wait_for(lambda: 'no table "notes"' in fault_of(company), "the fault")
    assert f"{company.config.name}:" in fault_of(company)
    assert query(path, "SELECT count(*) FROM notes") == [(1,)]
    query(path, "UPDATE visits SET status = 'done' WHERE id = 'v-ada'")
    go_on(migration)
    assert step(migration) == "ALTER"
    go_on(migration)
    wait_for(lambda: not fault_of(company), "the server is ready")
    wait_for(lambda: company.execute("SELECT status FROM visits WHERE id = 'v-ada'") == [("done",)], "the upload")
    wait_for_scope(company, "ann", path)
    assert migration.process.wait(60) == 0
    migration.terminate()


def test_a_column_that_the_configuration_names_is_renamed_and_named_again(tmp_path: Path) -> None:
    """P2, P20: file, line and nearest name are told; nothing is lost; it goes on when the name is back."""
    configuration = CONFIGURATION.replace('{ parent = "visits" }', '{ parent = "visits", where = "body <> \'\'" }')
    company = Company(tmp_path, TABLES, configuration)
    with contextlib.closing(company):
        company.serve()
        company.live("ann")
        company.execute("ALTER TABLE notes RENAME COLUMN body TO text")
        wait_for(lambda: "body" in fault_of(company), "the fault")
        line = 1 + configuration.splitlines().index('notes = { parent = "visits", where = "body <> \'\'" }')
        assert f"syncline.toml:{line}:" in fault_of(company)
        company.execute("UPDATE notes SET text = 'written meanwhile' WHERE id = 'n-ada'")
        company.execute("ALTER TABLE notes RENAME COLUMN text TO body")
        wait_for_scope(company, "ann", tmp_path / "ann.device.db")
        assert query(tmp_path / "ann.device.db", "SELECT body FROM notes") == [("written meanwhile",)]


# ---------------------------------------------------------------- syncline migrate
def test_dropping_a_captured_column_needs_migrate(company: Company) -> None:
    """P15, P20: SQLite refuses it while a trigger names the column; with `syncline migrate` a running server waits."""
    company.serve()
    company.live("ann")
    path = company.folder / "ann.device.db"
    refused = run(company, "django_remove_field")
    assert refused.returncode == 1
    assert "error in trigger syncline_" in refused.stderr
    done = run(company, "django_remove_field", within_migrate=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "begins\n"
    assert "Devices get notes anew." in done.stderr
    wait_for(lambda: [row[1] for row in query(path, "PRAGMA table_info(notes)")] == ["id", "visit_id"], "the program")
    company.execute("UPDATE visits SET status = 'missed' WHERE id = 'v-bo'")
    wait_for_scope(company, "ann", path)


def test_the_status_is_the_commands_and_capture_is_back_if_it_fails(company: Company) -> None:
    """P15, P20: without a server."""
    done = run(company, "drops_and_fails", within_migrate=True)
    assert done.returncode == 7
    assert "Capture is back." in done.stderr
    company.serve()
    ann = company.device("ann")
    ann.sync(timeout=60)
    wait_for_scope(company, "ann", company.folder / "ann.device.db")


def test_a_migration_killed_in_the_middle_leaves_a_server_that_goes_on(company: Company) -> None:
    """P2: kill -9 of `syncline migrate`; what was written while capture was off is not missed."""
    company.serve()
    company.live("ann")
    path = company.folder / "ann.device.db"
    migration = start(company, "hangs", within_migrate=True)
    assert step(migration) == "written"
    wait_for(lambda: "migration_running" in fault_of(company), "the server says why it waits")
    migration.kill()
    wait_for_scope(company, "ann", path)
    assert query(path, "SELECT body FROM notes") == [("written by the migration",)]
    wait_for(lambda: not fault_of(company), "the server is ready")
