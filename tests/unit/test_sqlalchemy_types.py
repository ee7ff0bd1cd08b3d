"""`syncline.sqlalchemy`: what it writes into a file, and what it reads of others' writing."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import StatementError

from syncline import sqlalchemy as types

KEY = uuid.UUID("0f8fad5b-d9cb-469f-a165-70867728950e")
MOMENT = datetime(2026, 11, 22, 20, 31, 5, 123456, tzinfo=UTC)
TABLE = sa.Table(
    "visits",
    sa.MetaData(),
    sa.Column("id", types.Uuid, primary_key=True),
    sa.Column("day", types.Date),
    sa.Column("at", types.Time),
    sa.Column("written", types.DateTime),
    sa.Column("sent", types.DateTime(timezone=True)),
    sa.Column("price", types.Numeric),
    sa.Column("details", types.Json),
)
PLAIN = "SELECT id, day, at, written, sent, price, details FROM visits"
VALUES: dict[str, Any] = {
    "id": KEY,
    "day": date(2026, 11, 22),
    "at": time(20, 31),
    "written": datetime(2026, 11, 22, 20, 31),
    "sent": MOMENT.astimezone(timezone(timedelta(hours=2))),
    "price": Decimal("12345678901234567890.10"),
    "details": {"ä": [1, None, "x"]},
}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'nurse.db'}")
    TABLE.create(engine)
    yield engine
    engine.dispose()


def test_each_value_is_written_in_its_canonical_form(engine: sa.Engine, tmp_path: Path) -> None:
    with engine.begin() as db:
        db.execute(TABLE.insert().values(**VALUES))
    plain = sqlite3.connect(tmp_path / "nurse.db")
    assert plain.execute(PLAIN).fetchone() == (
        str(KEY),
        "2026-11-22",
        "20:31:00.000000",
        "2026-11-22 20:31:00.000000",
        "2026-11-22 20:31:05.123456",
        "12345678901234567890.10",
        '{"ä": [1, null, "x"]}',
    )
    plain.close()
    with engine.connect() as db:
        assert db.execute(TABLE.select()).mappings().one() == {**VALUES, "sent": MOMENT}


def test_what_another_program_wrote_in_a_usual_form_is_read(engine: sa.Engine, tmp_path: Path) -> None:
    plain = sqlite3.connect(tmp_path / "nurse.db")
    with plain:
        plain.execute(
            "INSERT INTO visits VALUES (?, '2026-11-22 00:00:00', '20:31', '2026-11-22T20:31', '2026-11-22T22:31:05.123456+02:00', 1.5, '[]')",
            (KEY.hex,),
        )
    plain.close()
    with engine.connect() as db:
        row = db.execute(TABLE.select()).one()
    assert tuple(row) == (KEY, VALUES["day"], VALUES["at"], VALUES["written"], MOMENT, Decimal("1.5"), [])


def test_null_stays_null(engine: sa.Engine) -> None:
    with engine.begin() as db:
        db.execute(TABLE.insert().values(id=KEY))
        assert tuple(db.execute(TABLE.select()).one()) == (KEY, None, None, None, None, None, None)


def test_values_are_compared_in_their_canonical_form(engine: sa.Engine) -> None:
    with engine.begin() as db:
        db.execute(TABLE.insert().values(**VALUES))
        later = MOMENT + timedelta(seconds=1)
        assert db.execute(TABLE.select().where(TABLE.c.id == KEY, TABLE.c.sent < later)).one()
        assert db.execute(TABLE.select().where(TABLE.c.sent == sa.literal(MOMENT, literal_execute=True))).one()


def test_a_moment_without_a_zone_is_refused_where_one_is_due(engine: sa.Engine) -> None:
    with engine.begin() as db, pytest.raises(StatementError, match="zone"):
        db.execute(TABLE.insert().values(id=KEY, sent=datetime(2026, 11, 22)))


def test_elsewhere_they_are_the_databases_own_types() -> None:
    dialect = postgresql.dialect()
    names = [column.type.dialect_impl(dialect).compile(dialect) for column in TABLE.columns]
    assert names == [
        "UUID",
        "DATE",
        "TIME WITHOUT TIME ZONE",
        "TIMESTAMP WITHOUT TIME ZONE",
        "TIMESTAMP WITH TIME ZONE",
        "NUMERIC",
        "JSON",
    ]


def test_alembic_filters_leave_our_objects_alone() -> None:
    assert not types.include_name("syncline_meta", "table", {})
    assert types.include_name("visits", "table", {})
    assert not types.include_object(None, "syncline_index_visits_1", "index", True, None)
    own = types.including(lambda item, name, kind, reflected, compare_to: name != "secret")
    kept = [name for name in ("visits", "secret", "syncline_meta") if own(None, name, "table", True, None)]
    assert kept == ["visits"]
