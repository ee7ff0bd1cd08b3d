"""`syncline.toml`: every way of writing it, and what comes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncline.errors import ConfigError
from syncline.model.scopes import LinkConfig, TableConfig
from syncline.server.config import Settings, load_settings, parse_settings
from syncline.server.config_positions import find_positions, line_of

SECRET = "s" * 40
FULL = f"""
[source]
url = "sqlite:///clinic.db"
journal = "keep"

[auth]
secret = "{SECRET}"
user_claim = "uid"
leeway_seconds = 3

[scope.caseload]
root  = "patients"
grant = "SELECT patient_id FROM assignments WHERE caregiver_id = :sub"
key = "region"
where = "archived = 0"
refresh = "60s"
own_edit_may_leave = true
[scope.caseload.tables]
visits = {{ parent = "patients", where = "status <> 'hidden'" }}
notes  = [ {{ parent = "visits" }}, {{ parent = "patients", read_only = true, where = "x = 1" }} ]
lines  = {{ parent = "orders", on = {{ order_no = "no", site = "site" }} }}
facilities = {{ referenced_by = "patients" }}

[[scope.caseload.tables.audits]]
parent = "visits"
[[scope.caseload.tables.audits]]
parent = "notes"

[scope.reference]
tables = ["medications", "forms"]
read_only = true

[columns]
patients = {{ hide = ["ssn"] }}
visits = {{ keep = ["id", "status"] }}

[table.visits]
delete = "delete_wins"
keys = "natural"

[retention]
days = 30

[merge.notes]
body = "server"
"""


def parse(text: str, **environment: str) -> Settings:
    return parse_settings(text, folder=Path("/srv/app"), environment=environment)


def test_every_section_is_read() -> None:
    settings = parse(FULL)
    assert settings.source_url == "sqlite:////srv/app/clinic.db"
    assert settings.source_path == Path("/srv/app/clinic.db")
    assert (settings.journal, settings.retention_days) == ("keep", 30)
    assert (settings.auth.secret, settings.auth.user_claim, settings.auth.leeway_seconds) == (SECRET, "uid", 3)
    caseload, reference = settings.plan_config.scopes
    assert (caseload.root, caseload.key, caseload.where) == ("patients", ("region",), "archived = 0")
    assert (caseload.refresh_seconds, caseload.own_edit_may_leave, caseload.read_only) == (60.0, True, False)
    assert caseload.tables == {
        "visits": TableConfig((LinkConfig("patients"),), "status <> 'hidden'"),
        "notes": TableConfig((LinkConfig("visits"), LinkConfig("patients")), "x = 1", read_only=True),
        "lines": TableConfig((LinkConfig("orders", on={"order_no": "no", "site": "site"}),)),
        "facilities": TableConfig((LinkConfig(referenced_by="patients"),)),
        "audits": TableConfig((LinkConfig("visits"), LinkConfig("notes"))),
    }
    assert reference.tables == {"medications": TableConfig(), "forms": TableConfig()}
    assert (reference.root, reference.grant, reference.read_only) == (None, None, True)
    assert settings.plan_config.hide == {"patients": ("ssn",)}
    assert settings.plan_config.keep == {"visits": ("id", "status")}
    assert settings.plan_config.rules["visits"].keys == "natural"
    assert settings.plan_config.merge == {"notes": {"body": "server"}}


def test_a_source_alone_is_enough() -> None:
    settings = parse('source.url = "sqlite:////data/clinic.db"')
    assert settings.source_url == "sqlite:////data/clinic.db"
    assert (settings.journal, settings.retention_days, settings.auth.secret) == ("wal", 90, None)
    assert settings.plan_config.scopes == ()


def test_key_may_be_a_list() -> None:
    text = 'source.url = "sqlite:///a.db"\n[scope.s]\nroot = "r"\ngrant = "SELECT 1 WHERE :sub"\nkey = ["a", "b"]\n'
    assert parse(text).plan_config.scopes[0].key == ("a", "b")


def test_relative_paths_count_from_the_files_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf").mkdir()
    path = tmp_path / "conf" / "syncline.toml"
    path.write_text('[source]\nurl = "sqlite:///../clinic.db"\n', encoding="utf-8")
    monkeypatch.chdir("/")
    assert load_settings(path, {}).source_path == tmp_path / "clinic.db"


def test_the_environment_overrides_the_file() -> None:
    settings = parse(
        FULL,
        SYNCLINE_SOURCE_URL="sqlite:///other.db",
        SYNCLINE_SOURCE_JOURNAL="wal",
        SYNCLINE_AUTH_SECRET="t" * 40,
        SYNCLINE_AUTH_USER_CLAIM="email",
        SYNCLINE_RETENTION_DAYS="7",
    )
    assert settings.source_path == Path("/srv/app/other.db")
    assert (settings.journal, settings.retention_days) == ("wal", 7)
    assert (settings.auth.secret, settings.auth.user_claim) == ("t" * 40, "email")


def test_an_empty_variable_overrides_nothing() -> None:
    assert parse(FULL, SYNCLINE_RETENTION_DAYS="").retention_days == 30


def test_a_misspelt_variable_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"SYNCLINE_AUTH_SECERT overrides nothing. Did you mean SYNCLINE_AUTH_SECRET\?"
    ):
        parse(FULL, SYNCLINE_AUTH_SECERT="x")
    assert parse(FULL, SYNCLINE_SOMETHING_ELSE="x", OTHER="y").retention_days == 30


def test_secrets_and_passwords_do_not_show_in_a_repr() -> None:
    assert SECRET not in repr(parse(FULL))


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        (
            "SYNCLINE_RETENTION_DAYS",
            "soon",
            "SYNCLINE_RETENTION_DAYS: [retention] days must be a whole number, not text.",
        ),
        (
            "SYNCLINE_SOURCE_JOURNAL",
            "wall",
            'SYNCLINE_SOURCE_JOURNAL: [source] journal must be "wal" or "keep", not "wall".',
        ),
        ("SYNCLINE_AUTH_SECRET", "short", "SYNCLINE_AUTH_SECRET: [auth] secret is too short"),
        ("SYNCLINE_SOURCE_URL", "clinic.db", "SYNCLINE_SOURCE_URL: [source] url: The source"),
    ],
)
def test_an_error_from_the_environment_names_the_variable(variable: str, value: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(FULL, **{variable: value})
    assert str(caught.value).startswith(said)


def test_positions_of_everything_that_toml_can_write() -> None:
    text = '''# comment = [ "not a key" ]
a.b = 1
"quoted key"."x.y" = """
text = "inside"
"""
[t . u]   # header
list = [ "one",  # comment ]
  { k = 'v', deep = { er = [1,
   2] } },
]
date = 2026-11-22T20:31:05Z
[[t.many]]
x = \'\'\'
a'b\'\'\'
[[t.many]]
x = "}]#"
y = true
'''
    positions = find_positions(text)
    assert positions[("a", "b")] == 2
    assert positions[("quoted key", "x.y")] == 3
    assert positions[("t", "u")] == 6
    assert positions[("t", "u", "list", 1)] == 8
    assert positions[("t", "u", "list", 1, "deep", "er", 1)] == 9
    assert positions[("t", "u", "date")] == 11
    assert positions[("t", "many", 0, "x")] == 13
    assert positions[("t", "many", 1)] == 15
    assert positions[("t", "many", 1, "y")] == 17
    assert line_of(positions, ("t", "u", "nothing", 3)) == 6
    assert line_of(positions, ("nothing",)) is None
