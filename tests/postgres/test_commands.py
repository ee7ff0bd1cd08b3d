"""The office's commands on a PostgreSQL database, with the tables' owner and the service as two roles."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from tests.cli.conftest import Syncline, syncline
from tests.postgres.conftest import HostDatabase

__all__ = ["syncline"]

TABLES = """
CREATE TABLE caregivers(id serial PRIMARY KEY, name text NOT NULL DEFAULT 'nobody');
CREATE TABLE patients(id integer PRIMARY KEY, name text DEFAULT '-', ssn text);
CREATE TABLE assignments(caregiver_id integer REFERENCES caregivers, patient_id integer REFERENCES patients,
  PRIMARY KEY(caregiver_id, patient_id));
CREATE TABLE visits(id serial, day date NOT NULL DEFAULT now(), patient_id integer REFERENCES patients, note text,
  PRIMARY KEY(id, day)) PARTITION BY RANGE (day);
CREATE TABLE visits_2026 PARTITION OF visits FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE INDEX ON visits(patient_id);
CREATE TABLE calls(id serial PRIMARY KEY, patient_id integer REFERENCES patients);
CREATE SCHEMA billing;
CREATE TABLE billing.invoices(id integer PRIMARY KEY, patient_id integer REFERENCES patients, total numeric DEFAULT 0);
CREATE INDEX ON billing.invoices(patient_id);
CREATE TABLE log(line text);
CREATE VIEW named AS SELECT id, name FROM patients;
INSERT INTO caregivers(name) VALUES('Ann');
INSERT INTO patients VALUES(1, 'Ada', '111'), (2, 'Bo', '222');
INSERT INTO assignments VALUES(1, 1);
INSERT INTO visits(day, patient_id) VALUES('2026-03-02', 1), ('2026-03-02', 2);
INSERT INTO billing.invoices VALUES(1, 1, 12.50);
"""
CONFIGURATION = """
[auth]
secret = "a-secret-of-the-tests-of-32-bytes-or-more"

[scope.caseload]
root = "patients"
grant = "SELECT patient_id FROM assignments WHERE caregiver_id = :sub"

[scope.caseload.tables]
visits = { parent = "patients" }
"billing.invoices" = { parent = "patients", read_only = true }

[columns]
patients = { hide = ["ssn"] }
"""


@dataclass
class Office:
    """`service` and `owner`: roles that sign in with a password over TCP; the owner is no superuser."""

    database: HostDatabase
    folder: Path

    @property
    def password(self) -> str:
        return self.database.server.password

    def url(self, role: str) -> str:
        place = f"127.0.0.1:{self.database.server.port}/{self.database.name}"
        return f"postgresql://{self.role(role)}:{quote(self.password, safe='')}@{place}"

    def role(self, name: str) -> str:
        return f"{self.database.name}_{name}"

    @property
    def owner(self) -> tuple[str, str]:
        return "--owner-url", self.url("owner")

    def configure(self, url: str = "") -> None:
        text = f'[source]\nurl = "{url or self.url("service")}"\n{CONFIGURATION}'
        (self.folder / "syncline.toml").write_text(text, encoding="utf-8")

    def psql(self, script: str) -> str:
        """Run as the tables' owner, as a DBA does: the first error ends it."""
        file = self.database.server.folder / f"{self.database.name}.sql"
        file.write_text(script, encoding="utf-8")
        file.chmod(0o644)
        done = self.database.server.run(
            "psql", "-X", "-v", "ON_ERROR_STOP=1", "-q", "-f", str(file), self.url("owner"), check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    def dump(self) -> str:
        """The schema, rights included."""
        text = self.database.server.run("pg_dump", "--schema-only", self.database.url).stdout
        return "\n".join(line for line in text.splitlines() if "restrict" not in line)


@pytest.fixture
def office(postgres: HostDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith(("SYNCLINE_", "PG"))]:
        monkeypatch.delenv(variable)
    made = Office(postgres, tmp_path)
    owner, service = made.role("owner"), made.role("service")
    for role in (owner, service):
        postgres.server.create_role(role)
    postgres.execute(f'ALTER DATABASE "{postgres.name}" OWNER TO "{owner}"; ALTER SCHEMA public OWNER TO "{owner}"')
    with psycopg.connect(made.url("owner"), autocommit=True) as db:
        db.execute(TABLES.encode())
    made.configure()
    yield made
    postgres.execute(f'DROP OWNED BY "{service}"; REASSIGN OWNED BY "{owner}" TO postgres; DROP OWNED BY "{owner}"')
    postgres.execute(f'DROP ROLE "{service}"; DROP ROLE "{owner}"')


# ---------------------------------------------------------------- init and check
def test_init_reads_schemas_and_partitions_and_names_what_cannot_sync(office: Office, syncline: Syncline) -> None:
    told = syncline("init", office.url("owner"), "--force", "--json")
    assert told.status == 0, told.err
    found = told.json
    assert set(found["tables"]) >= {"caregivers", "patients", "assignments", "visits", "billing.invoices", "log"}
    assert "visits_2026" not in found["tables"], "a partition is part of its table"
    assert {each["table"] for each in found["refused_tables"]} >= {"log"}
    assert "log" in told.err and "holds the database's password" in told.err
    assert office.password not in told.out + told.err
    assert (office.folder / "syncline.toml").stat().st_mode & 0o077 == 0
    text = (office.folder / "syncline.toml").read_text(encoding="utf-8")
    assert '# CHECK: The database makes up the keys of "calls"' in text and "make it a bigint" in text
    assert syncline("check").status == 0


def test_check_before_and_after(office: Office, syncline: Syncline) -> None:
    """Before provisioning gave it rights the service may not count rows; the owner may."""
    alone = syncline("check")
    assert alone.status == 0 and "Traceback" not in alone.err, alone.err
    second = alone.out.splitlines()[1]
    assert second.startswith("The role of [source] url may not read assignments, billing.invoices, patients, visits:")
    assert "--owner-url" in second and " rows" not in alone.out and "not counted" in alone.out
    (scope,) = syncline("check", "--json").json["scopes"]
    assert (scope["rows"], scope["buckets"], set(scope["tables"].values())) == (None, None, {None})
    assert scope["unread"] == ["assignments", "billing.invoices", "patients", "visits"]
    before = syncline("check", *office.owner, "--json")
    assert before.status == 0, before.err
    assert any("billing.invoices" in line for line in before.json["changes"])
    assert syncline("provision", *office.owner).status == 0
    after = syncline("check")
    assert after.status == 0 and "Scope caseload" in after.out and "billing.invoices: 1 row" in after.out
    assert "provision would" not in after.out
    assert office.password not in before.out + before.err + after.out + after.err


# ---------------------------------------------------------------- provision
def test_a_dba_runs_the_script_and_the_service_has_what_it_needs(office: Office, syncline: Syncline) -> None:
    """P20. The service, which may read nothing yet, prints it; it can be run twice."""
    before = office.dump()
    told = syncline("provision", "--sql")
    assert told.status == 0, told.err
    assert office.dump() == before, "printing changes nothing"
    assert office.password not in told.out
    office.psql(told.out)
    office.psql(told.out)
    assert syncline("provision").status == 0, "what is left is the service's to write down"
    checked = syncline("check")
    assert checked.status == 0 and "provision would" not in checked.out, checked.out + checked.err
    assert syncline("check", "--json").json["changes"] == []
    wrong = {each["code"] for each in syncline("doctor", "--json").json["findings"]}
    assert wrong <= {"autovacuum_off", "commits_not_durable"}, "the tests' server is set up so"
    refused = syncline("deprovision", "--yes")
    assert refused.status == 1 and "[source_rights]" in refused.err, "the service may not take it out"
    removed = syncline("deprovision", "--yes", *office.owner)
    assert removed.status == 0 and "Every trace" not in removed.out
    left = [line for line in removed.out.splitlines() if line.startswith("  REVOKE ")]
    assert f"REVOKE DELETE, INSERT, SELECT, UPDATE ON TABLE public.visits FROM {office.role('service')};" in removed.out
    office.database.execute("".join(left))
    assert office.dump() == before, "what the DBA has granted is the DBA's to take back"


def test_in_and_out_again_by_the_owner(office: Office, syncline: Syncline) -> None:
    before = office.dump()
    refused = syncline("provision")
    assert refused.status == 1 and "[source_rights]" in refused.err and "Traceback" not in refused.err
    report = syncline("provision", *office.owner, "--json")
    assert report.status == 0, report.err
    assert set(report.json["created"]) == {"assignments", "billing.invoices", "patients", "visits"}
    for verb in ("devices", "conflicts", "rejections"):
        listed = syncline(verb, "--json")
        assert (listed.status, listed.json) == (0, []), listed.err
    assert syncline("deprovision", *office.owner).status == 2, "only with --yes"
    assert syncline("deprovision", "--yes", *office.owner, "--json").json == {"removed": True, "left": []}
    assert office.dump() == before
    assert syncline("deprovision", "--yes", *office.owner, "--json").json == {"removed": False, "left": []}


def test_a_locked_table_is_waited_for_and_that_is_said(office: Office, syncline: Syncline) -> None:
    locker = office.database.connect()
    locker.execute("BEGIN; LOCK TABLE patients IN ROW EXCLUSIVE MODE")
    # pg_stat_activity would not do: who waits is awake for a moment when the server looks for deadlocks
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'patients'::regclass"
    watcher = office.database.connect()

    def let_go() -> None:
        while watcher.execute(waiting).fetchone() == (0,):
            pass
        while watcher.execute(waiting).fetchone() != (0,):
            pass
        locker.execute("COMMIT")

    thread = threading.Thread(target=let_go)
    thread.start()
    told = syncline("provision", *office.owner)
    thread.join()
    assert told.status == 0, told.err
    assert "patients" in told.err and "is locked by another session; waiting for it" in told.err
    assert "Capture installed on" in told.out


# ---------------------------------------------------------------- migrations
def test_a_migration_as_a_command(office: Office, syncline: Syncline) -> None:
    """P20. The command runs with capture off, and capture fits what it left."""
    assert syncline("provision", *office.owner).status == 0
    code = f"import psycopg; psycopg.connect({office.url('owner')!r}, autocommit=True).execute(" + (
        "'ALTER TABLE patients RENAME COLUMN name TO full_name; UPDATE patients SET ssn = NULL')"
    )
    told = syncline("migrate", *office.owner, "--", sys.executable, "-W", "ignore", "-c", code)
    assert told.status == 0, told.err
    assert "Capture is taken off" in told.err and "Capture is back." in told.err
    assert "Devices get" in told.err and "patients" in told.err.split("Devices get")[1]
    assert syncline("check", "--json").json["changes"] == []
    assert syncline("migrate", *office.owner, "--", sys.executable, "-c", "raise SystemExit(3)").status == 3
    assert syncline("check", "--json").json["changes"] == []
    assert office.password not in told.out + told.err


def test_a_migration_by_another_tool(office: Office, syncline: Syncline) -> None:
    """P20. The two scripts around it, run by psql as the owner; a server or provision puts capture back."""
    assert syncline("provision", *office.owner).status == 0
    before, after = syncline("migrate", "--before", *office.owner), syncline("migrate", "--after", *office.owner)
    assert before.status == after.status == 0, before.err + after.err
    office.psql(before.out)
    assert "migration_running" in {each["code"] for each in syncline("doctor", "--json").json["findings"]}
    office.psql("ALTER TABLE visits ADD COLUMN minutes integer NOT NULL DEFAULT 0")
    office.psql(after.out)
    assert syncline("provision", *office.owner).status == 0
    assert syncline("check", "--json").json["changes"] == []
    assert "migration_running" not in {each["code"] for each in syncline("doctor", "--json").json["findings"]}


# ---------------------------------------------------------------- passwords
def test_no_password_is_printed_whatever_is_wrong(office: Office, syncline: Syncline) -> None:
    """P18."""
    port, secret = office.database.server.port, "sesame-p%40ss"
    urls = [
        f"postgresql://{office.role('service')}:{secret}@127.0.0.1:{port}/{office.database.name}",
        f"postgresql://nobody-here:{secret}@127.0.0.1:{port}/{office.database.name}",
        office.url("service").replace(f"/{office.database.name}", f"/{secret}-no-such-database").replace(secret, "x"),
        f"postgresql://someone:{secret}@127.0.0.1:1/clinic",
        f"postgresql://someone:{secret}@no-such-host.invalid/clinic",
        f"postgresql://someone:{secret}@@127.0.0.1/clinic",
        f"postgresql://someone:{secret}@127.0.0.1:{port}/clinic?sslmode=never",
        f"postgresql://127.0.0.1:{port}/clinic?user=someone&password={secret}&sslmode=require",
    ]
    for url in urls:
        office.configure(url)
        for arguments in (["check"], ["doctor", "--json"], ["serve", "--port", "0", "--log-level", "debug"]):
            told = syncline(*arguments)
            assert told.status in (1, 2), (url, arguments, told)
            said = told.out + told.err
            for hidden in (secret, "sesame", office.password):
                assert hidden not in said, (arguments, said)
            assert "Traceback" not in said and "[" in said
            if "--json" in arguments:
                assert json.loads(told.out)["findings"]
    told = syncline("provision", "--owner-url", f"postgresql://owner:{secret}@127.0.0.1:1/clinic")
    assert told.status in (1, 2) and "sesame" not in told.out + told.err


def test_the_password_may_come_from_the_environment(
    office: Office, syncline: Syncline, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert syncline("provision", *office.owner).status == 0
    office.configure(office.url("service").replace(f":{office.password}@", "@"))
    monkeypatch.setenv("PGPASSWORD", office.password)
    told: Any = syncline("check")
    assert told.status == 0, told.err
