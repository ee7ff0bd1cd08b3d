"""Every kind of mistake in `syncline.toml`: the file, the line, the nearest right name, the stable code."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncline.errors import ConfigError
from syncline.server.config import ConfigProblemsError, load_settings, parse_settings, problems_of

SOURCE = 'source.url = "sqlite:///a.db"\n'
SCOPE = SOURCE + '[scope.caseload]\nroot = "patients"\ngrant = "SELECT id FROM p WHERE n = :sub"\n'
TABLES = SCOPE + "[scope.caseload.tables]\n"
MISTAKES = {
    "syntax": ("a = \n", 1, "not TOML", "", "config_syntax"),
    "unclosed": (SOURCE + '[scope.x]\nroot = "a\n', 3, "not TOML", "", "config_syntax"),
    "twice": (SOURCE + "[auth]\n[auth]\n", 3, "not TOML", "", "config_syntax"),
    "unknown section": (SOURCE + "[scopes.x]\n", 2, "There is no section [scopes].", '"scope"', "unknown_section"),
    "unknown option": (
        SCOPE + 'grnat = "x"\n',
        5,
        '[scope.caseload] has no option "grnat".',
        '"grant"',
        "unknown_option",
    ),
    "far option": (SOURCE + "[auth]\nzzz = 1\n", 3, '[auth] has no option "zzz".', "Known: secret,", "unknown_option"),
    "unknown path option": (
        TABLES + 'visits = { parent = "patients", wher = "a" }\n',
        6,
        '[scope.caseload.tables] visits has no option "wher".',
        '"where"',
        "unknown_option",
    ),
    "wrong type": (
        SOURCE + '[retention]\ndays = "90"\n',
        3,
        "[retention] days must be a whole number, not text.",
        "",
        "wrong_type",
    ),
    "a boolean": (
        SCOPE + 'read_only = "yes"\n',
        5,
        "[scope.caseload] read_only must be true or false, not text.",
        "",
        "wrong_type",
    ),
    "too small": (SOURCE + "[retention]\ndays = 0\n", 3, "[retention] days must be at least 1.", "", "wrong_value"),
    "a section that is no table": ("source = 3\n", 1, "[source] must be a table, not a number.", "", "wrong_type"),
    "journal": (
        SOURCE + 'source.journal = "wall"\n',
        2,
        'must be "wal" or "keep", not "wall".',
        '"wal"',
        "wrong_value",
    ),
    "a path that is text": (
        TABLES + '\nv = "patients"\n',
        7,
        "v: a path is a table",
        '{ parent = "patients" }',
        "wrong_type",
    ),
    "an empty path": (TABLES + "v = []\n", 6, "[scope.caseload.tables] v must not be empty.", "", "wrong_value"),
    "key type": (SCOPE + "key = 5\n", 5, "key must be a column's name or a list", "", "wrong_type"),
    "option twice": (SCOPE + 'root = "q"\n', 5, "not TOML", "twice", "config_syntax"),
    "a list of hidden": (SOURCE + '[columns.p]\nhide = "x"\n', 3, "[columns] p hide must be a list", "", "wrong_type"),
    "no source": ("[auth]\n", None, "[source] url is missing", "SYNCLINE_SOURCE_URL", "missing_option"),
    "no url": ('[source]\njournal = "wal"\n', 1, "[source] url is missing", "SYNCLINE_SOURCE_URL", "missing_option"),
    "path for url": ('[source]\nurl = "a.db"\n', 2, "is not an address", '"sqlite:///a.db"', "source_url"),
    "two slashes": ('[source]\nurl = "sqlite://a.db"\n', 2, "names a host", '"sqlite:///a.db"', "source_url"),
    "memory": ('[source]\nurl = "sqlite:///:memory:"\n', 2, "names no file", "", "source_url"),
    "kind": ('[source]\nurl = "sqllite:///a.db"\n', 2, 'no source of kind "sqllite"', '"sqlite"', "source_url"),
    "mariadb": ('[source]\nurl = "mariadb://h/d"\n', 2, "not in this version yet", "PostgreSQL", "not_yet"),
    "short secret": (
        SOURCE + '[auth]\nsecret = "abc"\n',
        3,
        "too short for HS256: 3 bytes of at least 32",
        "init",
        "secret_short",
    ),
    "jwks by http": (
        SOURCE + '[auth]\njwks_url = "http://login.example.org/keys"\n',
        3,
        "jwks_url must begin with https",
        "Only this machine",
        "jwks_url",
    ),
    "jwks of nowhere": (SOURCE + '[auth]\njwks_url = "login"\n', 3, '"login" is not an address', "https", "jwks_url"),
    "secret beside jwks": (
        SOURCE + f'[auth]\njwks_url = "https://login.example.org/keys"\nsecret = "{"x" * 32}"\n',
        3,
        "both secret and jwks_url",
        "SYNCLINE_AUTH_SECRET",
        "auth_two_ways",
    ),
    "audience": (SOURCE + "[auth]\naudience = 3\n", 3, "audience must be text or a list of texts", "", "wrong_type"),
    "no audience": (SOURCE + "[auth]\naudience = []\n", 3, "[auth] audience must not be empty", "", "wrong_value"),
    "forward": (SOURCE + '[forward]\norders = "https://x"\n', 2, "[forward]: Forwarding", "", "not_yet"),
    "hooks": (SOURCE + '[hooks]\nmodule = "a"\n', 2, "[hooks]: Hooks", "", "not_yet"),
    "as_real": (SOURCE + '[columns]\np = { as_real = ["x"] }\n', 3, "REAL is not in this version yet", "", "not_yet"),
    "write": (SOURCE + "[table.v]\nwrite = { columns = [] }\n", 3, "not in this version yet", "", "not_yet"),
    "edit_wins": (
        SOURCE + '[table.v]\ndelete = "edit_wins"\n',
        3,
        "not in this version yet",
        '"delete_wins"',
        "not_yet",
    ),
    "delete": (SOURCE + '[table.v]\ndelete = "delete"\n', 3, 'must be "delete_wins", not "delete"', "", "wrong_value"),
    "keys": (SOURCE + '[table.v]\nkeys = "uniqe"\n', 3, 'must be "unique" or "natural"', '"unique"', "wrong_value"),
    "policy": (
        SOURCE + '[merge.v]\nn = "ad"\n',
        3,
        '[merge.v] n: There is no merge policy "ad"',
        '"add"',
        "unknown_policy",
    ),
    "policy later": (SOURCE + '[merge.v]\nn = "yjs"\n', 3, 'no merge policy "yjs"', "Known: add", "unknown_policy"),
    "policy type": (
        SOURCE + "[merge.v]\nn = 3\n",
        3,
        "[merge.v] n must be text in quotes, not a number.",
        "",
        "wrong_type",
    ),
    "hide and keep": (
        SOURCE + '[columns]\np = { hide = ["a"], keep = ["b"] }\n',
        3,
        "has both hide and keep",
        "",
        "config",
    ),
    "hide type": (
        SOURCE + '[columns]\np = { hide = ["a",\n 3] }\n',
        4,
        "hide, entry 2, must be text",
        "",
        "wrong_type",
    ),
    "table twice": (SOURCE + "[table.v]\n[table.V]\n", 3, "[table] V stands there twice", "", "config"),
    "scope name": (
        SOURCE + '[scope."a b"]\ntables = ["t"]\n',
        2,
        '"a b" cannot be the name of a scope',
        "",
        "scope_name",
    ),
    "empty scope": (SOURCE + "[scope.x]\n", 2, "[scope.x] names no table.", "", "empty_scope"),
    "no grant": (SOURCE + '[scope.x]\nroot = "p"\n', 2, "has a root but no grant", ":sub", "no_grant"),
    "grant without root": (
        SOURCE + '[scope.x]\ntables = ["p"]\ngrant = "SELECT 1"\n',
        4,
        "has grant but no root",
        "",
        "no_root",
    ),
    "key without root": (SOURCE + '[scope.x]\ntables = ["p"]\nkey = "a"\n', 4, "has key but no root", "", "no_root"),
    "refresh": (SCOPE + 'refresh = "often"\n', 5, "refresh must be a time", '"60s"', "config"),
    "refresh number": (SCOPE + "refresh = 60\n", 5, "refresh must be a time", '"60s"', "config"),
    "tables type": (SCOPE + 'tables = "visits"\n', 5, "tables must be a list of names or a table", "", "config"),
    "tables in a list": (SCOPE + 'tables = [{ parent = "p" }]\n', 5, "A list of tables holds names.", "", "config"),
    "both ways": (
        TABLES + 'v = { parent = "a", referenced_by = "b" }\n',
        6,
        "parent and referenced_by in one",
        "",
        "bad_path",
    ),
    "on alone": (TABLES + 'v = { on = { a = "b" } }\n', 6, "on without parent", "", "bad_path"),
    "path of the root": (TABLES + 'Patients = { parent = "v" }\n', 6, "is the root of the scope", "", "root_path"),
    "path without root": (
        SOURCE + '[scope.x.tables]\nv = { parent = "p" }\n',
        3,
        "[scope.x.tables] v has a path, but the scope has no root.",
        "",
        "no_root",
    ),
    "a path to nowhere": (
        TABLES + 'v = [{ parent = "a" },\n { where = "b" }]\n',
        7,
        "path 2 leads nowhere",
        "",
        "no_path",
    ),
    "two filters": (
        TABLES + 'v = [{ parent = "a", where = "x" }, { parent = "b", where = "y" }]\n',
        6,
        "two where filters",
        "AND",
        "two_filters",
    ),
    "two read_only": (
        TABLES + 'v = [{ parent = "a", read_only = true }, { parent = "b", read_only = false }]\n',
        6,
        "read_only in one path and not in another",
        "",
        "two_read_only",
    ),
    "two filters of the root": (
        SCOPE + 'where = "a"\n[scope.caseload.tables]\npatients = { where = "b" }\n',
        7,
        "two where filters",
        "",
        "two_filters",
    ),
    "question mark": (
        SOURCE + '[scope.x]\nroot = "p"\ngrant = "SELECT 1 WHERE a = ?"\n',
        4,
        '[scope.x] grant has the parameter "?".',
        ":sub",
        "grant_parameter",
    ),
    "exp": (
        SOURCE + '[scope.x]\nroot = "p"\ngrant = "SELECT 1 WHERE a < :exp"\n',
        4,
        '":exp", which is different in every token',
        "",
        "grant_parameter",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_names_line_key_and_remedy(name: str) -> None:
    text, line, message, hint, code = MISTAKES[name]
    with pytest.raises(ConfigError) as caught:
        parse_settings(text, name="syncline.toml", folder=Path(), environment={})
    error = caught.value
    place = f"syncline.toml:{line}: " if line else "syncline.toml: "
    assert error.message.startswith(place)
    assert message in error.message
    assert hint in error.hint
    assert error.error_code == code
    assert error.exit_status == 2


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = SOURCE + "[auth]\nsecrt = 'x'\n" + "[retention]\n" * 1 + "days = true\n[table.x]\nkeys = 1\n"
    with pytest.raises(ConfigProblemsError) as caught:
        parse_settings(text, folder=Path(), environment={})
    problems = problems_of(caught.value)
    assert [problem.message.partition(": ")[0] for problem in problems] == [
        f"syncline.toml:{line}" for line in (3, 5, 7)
    ]
    assert 'Did you mean "secret"?' in str(caught.value)


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="syncline init"):
        load_settings(tmp_path / "syncline.toml", {})


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "syncline.toml"
    path.write_bytes(b'a = "\xff"')
    with pytest.raises(ConfigError, match=r"is not UTF-8"):
        load_settings(path, {})


def test_a_folder_is_not_a_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path, {})
