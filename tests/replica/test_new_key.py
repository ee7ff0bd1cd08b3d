"""Keys for new rows, made without a signal."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.replica.conftest import LINES, VISITS
from tests.replica.messages import plan_of
from tests.replica.office import Office, execute

from syncline import Replica, ReplicaError
from syncline.model.new_keys import NEW_KEY_MAX, NEW_KEY_MIN, is_new_key
from syncline.model.program import build_program
from syncline.model.schema import Column, Table
from syncline.replica import keys

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def table(name: str, *columns: tuple[str, str], key: tuple[str, ...] = ("id",)) -> Table:
    return Table(name, tuple(Column(*each) for each in columns), key)


TABLES = (
    VISITS,
    LINES,
    table("notes", ("id", "TEXT"), ("body", "TEXT")),
    table("tags", ("id", "UUID"), ("name", "TEXT")),
    table("hexes", ("id", "CHAR(32)"), ("name", "TEXT")),
    table("codes", ("id", "VARCHAR(10)"), ("name", "TEXT")),
    table("bytes", ("id", "BLOB"), ("name", "TEXT")),
    table("loose", ("id", ""), ("name", "TEXT")),
    table("numbers", ("id", "BIGINT"), ("name", "TEXT")),
    table("days", ("id", "DATE"), ("name", "TEXT")),
)


@pytest.fixture
def app(tmp_path: Any) -> Any:
    program = build_program(plan_of(*TABLES)).dump()
    with Replica(tmp_path / "n.db", "https://x.org", "t", program=program, transport=Office()) as replica:
        yield replica


def test_integers_come_from_a_range_of_their_own(app: Replica) -> None:
    """Exact in every language, never a number that the office's own counting comes to, and the server knows them."""
    drawn = [app.new_key("visits") for _ in range(50)]
    assert all(isinstance(key, int) and NEW_KEY_MIN <= key <= NEW_KEY_MAX for key in drawn)
    assert len(set(drawn)) == 50 and all(is_new_key((key,)) and float(key) == key for key in drawn)
    assert not is_new_key((102,)) and not is_new_key((NEW_KEY_MAX + 1,)) and not is_new_key(("x",))
    assert isinstance(app.new_key("numbers"), int)


def test_a_key_that_is_here_already_is_not_given(app: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, free = iter([5, 5, 6]), NEW_KEY_MIN
    execute(app.path, "INSERT INTO visits (id) VALUES (?)", free + 5)
    monkeypatch.setattr(keys.secrets, "randbelow", lambda below: next(taken))
    assert app.new_key("visits") == free + 6
    monkeypatch.setattr(keys.secrets, "randbelow", lambda below: 5)
    with pytest.raises(ReplicaError) as caught:
        app.new_key("visits")
    assert caught.value.error_code == "no_free_key"


def test_text_is_a_uuid(app: Replica) -> None:
    for name in ("notes", "tags", "loose", "Notes"):
        assert UUID.fullmatch(str(app.new_key(name)))
    assert re.fullmatch("[0-9a-f]{32}", str(app.new_key("hexes")))
    assert len(app.new_key("bytes")) == 16  # type: ignore[arg-type]


def test_parts_of_a_key(app: Replica) -> None:
    assert UUID.fullmatch(str(app.new_key("lines", "a"))) and isinstance(app.new_key("lines", "b"), int)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("lines",), "key_not_generated", "a, b"),
        (("codes",), "key_not_generated", "VARCHAR(10)"),
        (("days",), "key_not_generated", "DATE"),
        (("lines", "label"), "unknown_column", "a, b"),
        (("vists",), "unknown_table", '"visits"'),
        ((None,), "unknown_table", "None"),
        ((5,), "unknown_table", "5"),
    ],
)
def test_what_only_the_app_can_choose(app: Replica, arguments: Any, code: str, told: str) -> None:
    with pytest.raises(ReplicaError, match=re.escape(told)) as caught:
        app.new_key(*arguments)
    assert caught.value.error_code == code


def test_before_there_is_a_program(replica: Replica) -> None:
    with pytest.raises(ReplicaError) as caught:
        replica.new_key("visits")
    assert caught.value.error_code == "unknown_table"
