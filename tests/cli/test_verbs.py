"""The office's verbs on a real SQLite database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.cli.conftest import Syncline


def dump(path: Path) -> list[tuple[str, str]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()
    finally:
        connection.close()


def test_init_writes_a_configuration_that_check_accepts(clinic: Path, syncline: Syncline) -> None:
    told = syncline("init", "sqlite:///clinic.db")
    assert told.status == 0
    assert 'Warning: table "log" cannot sync: it has no primary key' in told.err
    assert (clinic / "syncline.toml").stat().st_mode & 0o077 == 0
    assert syncline("check").status == 0


def test_init_json_is_one_document(clinic: Path, syncline: Syncline) -> None:
    told = syncline("init", "sqlite:///clinic.db", "--json", "--config", "other.toml")
    assert told.json["config"] == "other.toml"
    assert [item["table"] for item in told.json["refused_tables"]] == ["log"]
    assert set(told.json["tables"]) == {"caregivers", "patients", "assignments", "visits", "medications", "log"}


def test_init_overwrites_only_when_told_so(configured: Path, syncline: Syncline) -> None:
    before = (configured / "syncline.toml").read_text(encoding="utf-8")
    told = syncline("init", "sqlite:///clinic.db")
    assert (told.status, told.out) == (2, "")
    assert "[config_exists]" in told.err
    assert (configured / "syncline.toml").read_text(encoding="utf-8") == before
    assert syncline("init", "sqlite:///clinic.db", "--force").status == 0
    assert (configured / "syncline.toml").read_text(encoding="utf-8") != before


def test_init_keeps_a_relative_path_right_for_the_files_folder(clinic: Path, syncline: Syncline) -> None:
    (clinic / "conf").mkdir()
    assert syncline("init", "sqlite:///clinic.db", "--config", "conf/s.toml").status == 0
    assert 'url = "sqlite:///../clinic.db"' in (clinic / "conf" / "s.toml").read_text(encoding="utf-8")
    assert syncline("check", "--config", "conf/s.toml").status == 0


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [("clinic.db", 2, "source_url"), ("sqlite:///none.db", 1, "source_missing"), ("mariadb://h/d", 2, "not_yet")],
)
def test_init_of_what_is_no_source(url: str, status: int, code: str, clinic: Path, syncline: Syncline) -> None:
    told = syncline("init", url)
    assert (told.status, told.out) == (status, "")
    assert f"[{code}]" in told.err
    assert not (clinic / "syncline.toml").exists()


def test_check_json_says_what_it_found(configured: Path, syncline: Syncline) -> None:
    told = syncline("check", "--json")
    report = told.json
    assert (told.status, report["ok"], report["errors"], report["provisioned"]) == (0, True, [], False)
    scope = report["scopes"][0]
    assert (scope["scope"], scope["root"], scope["buckets"]) == ("patients", "patients", 3)
    assert scope["tables"] == {"patients": 3, "assignments": 3, "visits": 3}
    assert (scope["rows"], scope["largest_bucket"], scope["largest_rows"]) == (9, 'patients["p1"]', 4)
    assert scope["grant_reads"] == ["assignments"]
    assert [item["table"] for item in report["refused_tables"]] == ["log"]
    assert report["unsynced_tables"] == ["caregivers", "medications"]
    assert any("assignments" in warning for warning in report["warnings"])
    assert report["changes"]
    assert syncline("provision").status == 0
    report = syncline("check", "--json").json
    assert (report["provisioned"], report["changes"]) == (True, [])


def test_check_changes_nothing(configured: Path, syncline: Syncline) -> None:
    before = dump(configured / "clinic.db")
    assert syncline("check").status == 0
    assert dump(configured / "clinic.db") == before


def test_check_of_a_wrong_configuration_names_every_line(configured: Path, syncline: Syncline) -> None:
    path = configured / "syncline.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("secret =", "secrt =").replace("days = 90", "days = 'x'"), encoding="utf-8")
    told = syncline("check", "--json")
    assert (told.status, told.json["ok"]) == (2, False)
    assert [error["code"] for error in told.json["errors"]] == ["unknown_option", "wrong_type"]
    assert all(error["message"].startswith("syncline.toml:") for error in told.json["errors"])
    assert 'Did you mean "secret"?' in told.err
    assert "Traceback" not in told.err


def test_check_of_a_table_that_is_not_there(configured: Path, syncline: Syncline) -> None:
    path = configured / "syncline.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("visits = ", "vists = "), encoding="utf-8")
    told = syncline("check")
    assert (told.status, told.out) == (2, "")
    line = next(
        n for n, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if text.startswith("vists")
    )
    assert told.err == (
        f'Error: syncline.toml:{line}: The database has no table "vists". Did you mean "visits"? [unknown_table]\n'
    )


def test_check_of_a_grant_that_does_not_parse(configured: Path, syncline: Syncline) -> None:
    path = configured / "syncline.toml"
    path.write_text(path.read_text(encoding="utf-8").replace('grant = "SELECT', 'grant = "SELEC'), encoding="utf-8")
    told = syncline("check")
    assert told.status == 2
    assert "syncline.toml:" in told.err
    assert "[scope.patients]" in told.err


def test_check_warns_of_a_missing_secret(configured: Path, syncline: Syncline) -> None:
    path = configured / "syncline.toml"
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("secret")]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert (
        "There is no [auth] secret: syncline serve and syncline token need one."
        in syncline("check", "--json").json["warnings"]
    )
    told = syncline("serve", "--port", "0")
    assert told.status == 2
    assert "[secret_missing]" in told.err
    assert "[secret_missing]" in syncline("token", "--sub", "a").err


def test_provision_is_idempotent_and_deprovision_leaves_no_trace(configured: Path, syncline: Syncline) -> None:
    before = dump(configured / "clinic.db")
    created = syncline("provision", "--json").json
    assert sorted(created["created"]) == ["assignments", "patients", "visits"]
    again = syncline("provision", "--json").json
    assert (again["created"], sorted(again["unchanged"])) == ([], ["assignments", "patients", "visits"])
    assert "Capture already on" in syncline("provision").out
    with closing(sqlite3.connect(configured / "clinic.db")) as db, db:
        db.execute("INSERT INTO syncline_term(term, first) VALUES('of a server that ran', 0)")
        for (name,) in db.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'visits'"
        ).fetchall():
            db.execute(f'DROP TRIGGER "{name}"')
    assert "devices get visits anew" in syncline("provision").out
    refused = syncline("deprovision")
    assert (refused.status, refused.out) == (2, "")
    assert "--yes" in refused.err
    assert syncline("deprovision", "--yes", "--json").json == {"removed": True, "left": []}
    assert syncline("deprovision", "--yes", "--json").json == {"removed": False, "left": []}
    assert dump(configured / "clinic.db") == before


def test_the_script_for_the_dba_changes_nothing(configured: Path, syncline: Syncline) -> None:
    before = dump(configured / "clinic.db")
    script = syncline("provision", "--sql")
    assert script.status == 0
    assert "CREATE TRIGGER" in script.out
    assert len(syncline("provision", "--sql", "--json").json["statements"]) > 3
    assert dump(configured / "clinic.db") == before
    other = sqlite3.connect(configured / "copy.db")
    sqlite3.connect(configured / "clinic.db").backup(other)
    other.executescript(script.out)
    other.close()


def test_the_offices_lists_before_provisioning_say_what_to_do(configured: Path, syncline: Syncline) -> None:
    for verb in ("devices", "conflicts", "rejections"):
        told = syncline(verb)
        assert (told.status, told.out) == (1, "")
        assert "[not_provisioned]" in told.err


def test_the_offices_lists_when_nothing_happened(configured: Path, syncline: Syncline) -> None:
    syncline("provision")
    for verb in ("devices", "conflicts", "rejections"):
        assert syncline(verb, "--json").json == []
        assert syncline(verb).status == 0
    assert "[unknown_record]" in syncline("conflicts", "show", "1").err
    assert syncline("conflicts", "export").json == []


def test_records_are_listed_shown_and_exported(configured: Path, syncline: Syncline) -> None:
    syncline("provision")
    connection = sqlite3.connect(configured / "clinic.db")
    with connection:
        connection.execute(
            "INSERT INTO syncline_rejection"
            "(device, number, user, table_name, key, op, code, reason, row_values, at_us) "
            "VALUES('d1', 3, 'nurse-1', 'visits', '[\"v1\"]', 'U', 'visit_closed', 'It is closed.', ?, ?)",
            ('{"note": "x"}', 1795393865123456),
        )
    connection.close()
    record = syncline("rejections", "--json").json[0]
    assert record["key"] == {"id": "v1"}
    assert record["at"] == "2026-11-23 00:31:05.123456"
    assert (record["id"], record["operation"], record["values"]) == ("d1:3", "update", {"note": "x"})
    assert syncline("rejections", "show", "d1:3", "--json").json == record
    assert "reason: It is closed." in syncline("rejections", "show", "d1:3").out
    assert "id=v1" in syncline("rejections").out
    assert syncline("rejections", "--user", "nobody", "--json").json == []
    told = syncline("rejections", "export", "--out", "r.json")
    assert (told.status, told.out) == (0, "")
    assert "visit_closed" in (configured / "r.json").read_text(encoding="utf-8")


def test_token_prints_a_token_and_nothing_else(configured: Path, syncline: Syncline) -> None:
    told = syncline("token", "--sub", "nurse-1", "--claim", "tenant=acme", "--ttl", "90m")
    assert told.status == 0
    assert told.out.count(".") == 2
    document = syncline("token", "--sub", "nurse-1", "--claim", "tenant=a=b", "--json").json
    assert document["claims"] == {"sub": "nurse-1", "tenant": "a=b"}


@pytest.mark.parametrize(
    "options", [("--claim", "x"), ("--claim", "=x"), ("--claim", "exp=1"), ("--ttl", "soon"), ("--ttl", "0s")]
)
def test_token_refuses_what_it_cannot_mean(options: tuple[str, str], configured: Path, syncline: Syncline) -> None:
    told = syncline("token", "--sub", "nurse-1", *options)
    assert (told.status, told.out) == (2, "")
    assert "[usage]" in told.err


def test_the_environment_overrides_the_file(
    configured: Path, syncline: Syncline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNCLINE_SOURCE_URL", "sqlite:///nothing.db")
    told = syncline("check")
    assert told.status == 1
    assert "nothing.db" in told.err


def test_check_shows_what_the_named_user_downloads(configured: Path, syncline: Syncline) -> None:
    example = syncline("check", "--json").json["scopes"][0]["example"]
    assert (example["claims"], example["buckets"], example["rows"]) == ({"sub": "nurse-1"}, 2, 6)
    told = syncline("check", "--sub", "nurse-2")
    assert "for example sub nurse-2 downloads 1 bucket, 3 rows" in told.out
    assert "by visits.patient_id = patients.id" in told.out
    refused = syncline("check", "--claim", "tenant")
    assert (refused.status, "[usage]" in refused.err) == (2, True)
