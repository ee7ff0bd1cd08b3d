"""`syncline_pair`: what an app's tests do to devices happens to them, and quickly; the example project's tests pass."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.company import CONFIGURATION, TABLES, TESTS, environment

from syncline import SyncTimeoutError
from syncline.errors import ConfigError
from syncline.testing.pair import Pair, PairSettings, Templates
from syncline.testing.relay import Freeze

SETTINGS = PairSettings(CONFIGURATION, TABLES)
MINUTE = 60.0


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    return Templates(tmp_path_factory.mktemp("templates"))


@pytest.fixture
def pair(tmp_path: Path, templates: Templates) -> Iterator[Pair]:
    with Pair(SETTINGS, tmp_path, templates) as pair:
        yield pair


def test_the_tests_of_the_example_pass_as_its_readers_run_them() -> None:
    command = [sys.executable, "-m", "pytest", "examples/inspections", "-p", "no:cacheprovider"]
    ran = subprocess.run(command, cwd=TESTS, env=environment(), capture_output=True, text=True, timeout=250)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"\b5 passed\b", ran.stdout), ran.stdout


@pytest.mark.parametrize(
    "module, absent",
    [("fixtures", "sqlite3|httpx|starlette|uvicorn|syncline.replica"), ("pair", "pytest|_pytest")],
)
def test_the_fixtures_load_nothing_before_they_are_used_and_the_pair_needs_no_pytest(module: str, absent: str) -> None:
    code = (
        f"import sys, syncline.testing.{module}\nprint([name for name in {absent.split('|')!r} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60)
    assert ran.stdout.strip() == "[]", ran.stdout + ran.stderr


def test_a_device_that_is_offline_hears_and_says_nothing(pair: Pair) -> None:
    """P2: and catches up by itself when the signal is back."""
    ann, ben = pair.devices
    ann.offline()
    ann.execute("UPDATE visits SET n = 5 WHERE id = 'v-bo'")
    ben.execute("UPDATE visits SET status = 'done' WHERE id = 'v-bo'")
    pair.settle()
    assert pair.source.execute("SELECT status, n FROM visits WHERE id = 'v-bo'") == [("done", 0)]
    assert ann.execute("SELECT status, n FROM visits WHERE id = 'v-bo'") == [("planned", 5)]
    with pytest.raises(AssertionError, match="ann-1 is offline"):
        ann.settle()
    ann.online()
    ben.wait_for("SELECT status, n FROM visits WHERE id = 'v-bo'", [("done", 5)])
    pair.assert_in_step()


@pytest.mark.parametrize("skew", [-10 * 365 * 86_400.0, 10 * 365 * 86_400.0])
def test_a_wrong_clock_wins_and_loses_nothing(pair: Pair, skew: float) -> None:
    """P17: the last to write wins, whatever his clock says, by every way of writing."""
    ann, ben = pair.devices
    ann.skew(skew)
    ann.offline()
    ben.offline()
    ann.execute("UPDATE visits SET status = 'missed' WHERE id = 'v-bo'")
    time.sleep(0.5)  # a device knows the time of the office to within half a request
    with ben.transaction() as db:
        db.execute("UPDATE visits SET status = 'done' WHERE id = 'v-bo'")
    ben.online()
    ben.settle()
    ann.online()
    pair.settle()
    assert pair.source.execute("SELECT status FROM visits WHERE id = 'v-bo'") == [("done",)]
    ann.execute("UPDATE visits SET status = 'planned' WHERE id = 'v-bo'")
    pair.settle()
    assert ben.execute("SELECT status FROM visits WHERE id = 'v-bo'") == [("planned",)]


def test_a_crash_keeps_what_was_committed_and_nothing_else(pair: Pair) -> None:
    """P4, P5: in the middle of a transaction of the app's, with a request under way of which nobody hears."""
    ann, ben = pair.devices
    path, replica = ann.path, ann.replica
    ann.road.begin(Freeze(), at=b"POST /v1/upload", in_answer=True)
    ann.execute("UPDATE visits SET n = n + 1 WHERE id = 'v-bo'")
    assert ann.road.wait_until_hit(MINUTE)
    with ann.transaction() as db:
        db.execute("UPDATE visits SET n = n + 100 WHERE id = 'v-bo'")
        ann.crash()
    assert ann.path != path and ann.replica is not replica
    assert ann.execute("SELECT n FROM visits WHERE id = 'v-bo'") == [(1,)]
    ben.wait_for("SELECT n FROM visits WHERE id = 'v-bo'", [(1,)])
    pair.assert_in_step()
    assert pair.source.execute("SELECT added FROM audit") == [(1,)]


def test_the_server_goes_and_comes_back_at_its_address(pair: Pair) -> None:
    """P2."""
    ann, _ = pair.devices
    url = pair.server.url
    pair.server.stop()
    ann.execute("UPDATE visits SET n = n + 1 WHERE id = 'v-bo'")
    with pytest.raises(SyncTimeoutError):
        ann.replica.sync(timeout=0.2)
    pair.server.start()
    assert pair.server.url == url
    pair.assert_in_step()
    assert pair.source.execute("SELECT n FROM visits WHERE id = 'v-bo'") == [(1,)]


def test_more_devices_and_what_is_compared(pair: Pair) -> None:
    """P1: a row that only the device has is noticed."""
    other = pair.device("ann")
    assert other.rows("visits") == pair.devices[0].rows("visits")
    with other.connect() as db:
        db.execute("UPDATE syncline_state SET applying = 1")
        db.execute("INSERT INTO medications VALUES('m-none', 'Nothing')")
        db.execute("UPDATE syncline_state SET applying = 0")
    db.close()
    with pytest.raises(AssertionError, match=r"ann-3 differs .* medications of .*: 1 row here, 0 in the source"):
        pair.assert_in_step()


@pytest.mark.parametrize("kind", ["script", "database", "function"])
def test_a_schema_comes_in_any_form(tmp_path: Path, kind: str) -> None:
    def make(path: Path) -> None:
        db = sqlite3.connect(path)
        db.executescript(TABLES)
        db.close()

    given = tmp_path / ("schema.sql" if kind == "script" else "given.db")
    if kind == "script":
        given.write_text(TABLES, encoding="utf-8")
    else:
        make(given)
    templates = Templates(tmp_path)
    settings = PairSettings(CONFIGURATION, make if kind == "function" else given)
    for name in ("one.db", "two.db"):
        templates.copy(settings, tmp_path / name)
    assert len(list(tmp_path.glob("template-*.db"))) == 1
    assert (tmp_path / "two.db").read_bytes() == (tmp_path / "one.db").read_bytes()


@pytest.mark.parametrize(
    ("configuration", "schema", "said"),
    [
        ("syncline.toml", "CREATE TABLE x (a)", '`configuration` of PairSettings is text, "syncline.toml"'),
        ("[sync]", "schema.sql", '`schema` of PairSettings is text, "schema.sql"'),
        (Path("missing.toml"), "CREATE TABLE x (a)", "`configuration` of PairSettings names no file"),
        ("[sync]", Path("missing.sql"), "`schema` of PairSettings names no file"),
    ],
)
def test_settings_that_name_no_file_say_so(configuration: str | Path, schema: str | Path, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PairSettings(configuration=configuration, schema=schema)


@pytest.mark.parametrize("user", ["a/b", "../up", "ann@example.org", "x" * 200])
def test_a_user_of_any_name_has_a_device(pair: Pair, user: str) -> None:
    device = pair.device(user)
    device.settle()
    assert device.path.is_file() and pair.devices[-1] is device
    assert device.path.resolve().is_relative_to(pair.devices[0].path.resolve().parents[1])
