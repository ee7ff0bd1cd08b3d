"""`[source]` of a PostgreSQL database: addresses, what is never shown of them, options, claims."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from syncline.errors import AuthError, ConfigError
from syncline.model.schema import Column, ForeignKey, Schema, Table
from syncline.server.auth import identity_of, issue_token, needed_claims
from syncline.server.config import Settings, parse_settings, problems_of
from syncline.server.config_values import normalise_source_url, without_password
from syncline.server.postgres_url import user_of
from syncline.server.sources import open_source
from syncline.server.starter import starter_text
from syncline.server.starter_file import url_in_file, write_starter

URL = "postgresql://syncline:hush@db.example.org/clinic"
SECRET = "thirty-two bytes or more for the tests"
SCOPE = '[scope.care]\nroot = "patients"\ngrant = "SELECT patient_id FROM a WHERE nurse = :sub"\n'


def settings(source: str, **environment: str) -> Settings:
    text = f'[source]\n{source}\n[auth]\nsecret = "{SECRET}"\n{SCOPE}'
    return parse_settings(text, folder=Path("/srv"), environment=environment)


def refused(source: str, **environment: str) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        settings(source, **environment)
    assert "hush" not in str(error.value)
    return error.value


# ---------------------------------------------------------------- addresses
@pytest.mark.parametrize(
    ("written", "used"),
    [
        (URL, URL),
        ("postgres://u@h/d", "postgresql://u@h/d"),
        ("postgresql+asyncpg://u@h/d", "postgresql://u@h/d"),
        (
            "postgresql://u@/d?host=/var/run/postgresql&port=5433",
            "postgresql://u@/d?host=/var/run/postgresql&port=5433",
        ),
        ("postgresql://u@a:5432,b:5433/d?target_session_attrs=read-write", None),
        ("postgresql://u:p%40ss@[::1]:5432/d?sslmode=verify-full&sslrootcert=/etc/ca.pem", None),
        ("postgresql:///d", "postgresql:///d"),
        ("postgresql://u@h?dbname=d", "postgresql://u@h?dbname=d"),
    ],
)
def test_an_address_is_taken_in_every_usual_form(written: str, used: str | None) -> None:
    assert normalise_source_url(written, Path("/srv")) == (used or written)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://u:hush/1@h/d", "%2F"),
        ("postgresql://u:hu@hush@h/d", "%40"),
        ("postgresql://u:hush#1@h/d", "%23"),
        ("postgresql://u:1:hush@h:port/d", "per cent"),
        ("postgresql://u:hush@h:99999/d", "per cent"),
        ("postgresql+psycopg://u:hush@h/d", "psycopg"),
        ("postgresql://u:hush@h", "no database"),
        ("postgresql://u:hush@h/d?sslmod=require", 'Did you mean "sslmode"?'),
        ("postgresql://u:hush@h/d?sslmode=always", "verify-full"),
        ("postgresql://u:hush@h/d?channel_binding=require", '"channel_binding", which would not be heeded'),
        ("postgresql://u:hush@h/d?port=x", "port"),
        ("postgresql://u:hush@h/d?host", "cannot be read"),
    ],
)
def test_an_address_that_is_none_is_refused_and_its_password_is_not_shown(url: str, says: str) -> None:
    error = refused(f'url = "{url}"')
    assert (error.error_code, error.message[:14]) == ("source_url", "syncline.toml:")
    assert says in str(error)
    assert "hush" not in without_password(url)


def test_a_password_is_shown_nowhere() -> None:
    found = settings(f'url = "{URL}"\ndirect_url = "postgresql://o:hush@h/d?password=hush"')
    assert found.source_label == "postgresql://syncline:…@db.example.org/clinic"
    assert "hush" not in repr(found)
    assert (
        without_password("postgresql://u@h/d?password=hush&sslmode=require")
        == "postgresql://u@h/d?password=…&sslmode=require"
    )
    assert without_password("postgresql://u@h/d") == "postgresql://u@h/d"


def test_the_environment_overrides_the_address_and_names_itself() -> None:
    assert settings('url = "sqlite:///a.db"', SYNCLINE_SOURCE_URL=URL).source_url == URL
    assert refused(f'url = "{URL}"', SYNCLINE_SOURCE_URL="postgresql://u:hush@h").message.startswith(
        "SYNCLINE_SOURCE_URL: "
    )
    assert settings(f'url = "{URL}"', SYNCLINE_SOURCE_WRITE_ROLE="app").write_role == "app"


@pytest.mark.parametrize(
    ("url", "environment", "role"),
    [
        (URL, {}, "syncline"),
        ("postgresql://o%27neill@h/d", {}, "o'neill"),
        ("postgresql:///d?user=u", {}, "u"),
        ("postgresql://h/d", {"PGUSER": "env"}, "env"),
    ],
)
def test_the_role_that_an_address_signs_in_as(url: str, environment: dict[str, str], role: str) -> None:
    assert user_of(url, environment) == role


# ---------------------------------------------------------------- options
def test_options_of_postgresql_are_read() -> None:
    found = settings(
        f'url = "{URL}"\ndirect_url = "postgres://u@h/d"\nwrite_role = "app"\n[source.session]\n"app.user_id" = ":sub"'
    )
    assert (found.is_postgres, found.direct_url, found.write_role) == (True, "postgresql://u@h/d", "app")
    assert found.session == {"app.user_id": ":sub"}


@pytest.mark.parametrize(
    ("source", "line", "code"),
    [
        (f'url = "{URL}"\njournal = "wal"', 3, "source_option"),
        ('url = "sqlite:///a.db"\nwrite_role = "app"', 3, "source_option"),
        ('url = "sqlite:///a.db"\ndirect_url = "postgresql://u@h/d"', 3, "source_option"),
        ('url = "sqlite:///a.db"\n[source.session]\n"app.user" = ":sub"', 3, "source_option"),
        (f'url = "{URL}"\n[source.session]\n"search_path" = "x"', 4, "session_setting"),
        (f'url = "{URL}"\n[source.session]\n"app.user id" = "x"', 4, "session_setting"),
        (f'url = "{URL}"\ndirect_url = "sqlite:///a.db"', 3, "source_url"),
        (f'url = "{URL}"\nwrite_rol = "app"', 3, "unknown_option"),
    ],
)
def test_what_makes_no_sense_for_a_kind_of_source_is_refused_by_line(source: str, line: int, code: str) -> None:
    error = problems_of(refused(source))[0]
    assert (error.error_code, error.message.split(": ")[0]) == (code, f"syncline.toml:{line}")


def test_operators_of_postgresql_are_no_parameters() -> None:
    grant = """SELECT id FROM a WHERE tags ? 'x' AND path @@ 'y' AND nurse = :sub"""
    text = f'[source]\nurl = "{{}}"\n[scope.care]\nroot = "p"\ngrant = """{grant}"""\n'
    assert parse_settings(text.format(URL), folder=Path("/srv"), environment={}).is_postgres
    with pytest.raises(ConfigError):
        parse_settings(text.format("sqlite:///a.db"), folder=Path("/srv"), environment={})
    with pytest.raises(ConfigError, match=r"\$1"):
        parse_settings(text.format(URL).replace(":sub", "$1"), folder=Path("/srv"), environment={})


def test_a_token_must_carry_the_claims_of_the_session_and_may_hold_lists() -> None:
    found = settings(f'url = "{URL}"\n[source.session]\n"app.tenant" = ":tenant"\n"app.kind" = "device"')
    assert set(needed_claims(found)) == {"sub", "tenant"}
    with pytest.raises(ConfigError, match="tenant"):
        issue_token(found, "ann")
    assert issue_token(found, "ann", {"tenant": ["a", "b"]})
    with pytest.raises(AuthError):
        identity_of({"sub": "ann", "tenant": ["a"]}, "sub", {"tenant": "x"})


# ---------------------------------------------------------------- opening
def test_without_the_driver_one_is_told_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    real = builtins.__import__
    for name in [name for name in sys.modules if name == "asyncpg" or name.startswith("syncline.source.postgres")]:
        monkeypatch.delitem(sys.modules, name)

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name == "asyncpg":
            raise ModuleNotFoundError("No module named 'asyncpg'", name="asyncpg")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ConfigError) as error:
        open_source(Settings(URL))
    assert (error.value.error_code, error.value.hint) == ("extra_missing", 'Run: pip install "syncline[postgres]".')
    assert "hush" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "owner"),
    [("sqlite:////srv/a.db", "postgresql://o@h/d"), (URL, "sqlite:///a.db"), (URL, "postgresql://o:hush@h")],
)
def test_an_owner_is_another_login_of_the_same_kind(url: str, owner: str) -> None:
    with pytest.raises(ConfigError) as error:
        open_source(Settings(url), owner_url=owner)
    assert "hush" not in str(error.value)


# ---------------------------------------------------------------- the starter
def schema() -> Schema:
    def table(schema: str, name: str, *columns: str, parent: str = "") -> Table:
        local = name if schema == "public" else f"{schema}.{name}"
        keys = (ForeignKey(("Patient",), parent, ("id",)),) if parent else ()
        made = tuple(Column(column, "text", local_type="TEXT") for column in ("id", *columns))
        return Table(local, made, ("id",), foreign_keys=keys, place=(schema, name))

    return Schema(
        {
            each.name: each
            for each in (
                table("public", "patients", "name"),
                table("Field Work", "visits", "Patient", "note", parent="patients"),
                Table(
                    "logs", (), (), refusal="it has no primary key.", remedy="Give it one.", place=("public", "logs")
                ),
            )
        }
    )


def test_the_starter_says_where_the_password_is_and_how_to_keep_it_out(tmp_path: Path) -> None:
    text = starter_text(schema(), URL)
    assert f'url = "{URL}"' in text and "PGPASSWORD" in text
    assert "PGPASSWORD" not in starter_text(schema(), "postgresql://u@h/d")
    assert "direct_url" in text and "direct_url" not in starter_text(schema(), "sqlite:///a.db")
    write_starter(schema(), "postgres://u:hush@h/d", tmp_path / "syncline.toml")
    assert (tmp_path / "syncline.toml").stat().st_mode & 0o077 == 0
    assert url_in_file("postgres://u:hush@h/d", tmp_path / "s.toml") == "postgresql://u:hush@h/d"


def test_the_starter_names_tables_of_other_schemas_as_sql_needs_them() -> None:
    text = starter_text(schema(), "postgresql://u@h/d")
    assert '"Field Work.visits" = { parent = "patients" }' in text
    assert '"logs": it has no primary key. Give it one.' in text


def test_a_grant_in_the_starter_quotes_what_postgresql_would_fold() -> None:
    people = Table("staff", (Column("id", "text"),), ("id",), place=("public", "staff"))
    patients = Table("patients", (Column("id", "text"),), ("id",), place=("public", "patients"))
    assigned = Table(
        "care.assignments",
        (Column("id", "text"), Column("Staff", "text"), Column("Patient", "text")),
        ("id",),
        foreign_keys=(ForeignKey(("Staff",), "staff", ("id",)), ForeignKey(("Patient",), "patients", ("id",))),
        place=("care", "assignments"),
    )
    text = starter_text(Schema({each.name: each for each in (people, patients, assigned)}), "postgresql://u@h/d")
    assert """grant = 'SELECT "Patient" FROM care.assignments WHERE "Staff" = :sub'""" in text
