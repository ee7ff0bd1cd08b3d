"""One model with every type, as an app writes it: once with SQLAlchemy's own types, once with Syncline's."""

from __future__ import annotations

import enum
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase

from syncline import sqlalchemy as syncline


class Status(enum.Enum):
    PLANNED = "planned"
    DONE = "done"


class Base(DeclarativeBase):
    pass


class Plain(Base):
    """SQLAlchemy's own types."""

    __tablename__ = "plain"
    id = sa.Column(sa.Uuid, primary_key=True)
    day = sa.Column(sa.Date)
    at = sa.Column(sa.Time)
    written = sa.Column(sa.DateTime)
    price = sa.Column(sa.Numeric(10, 2))
    exact = sa.Column(sa.Float)
    big = sa.Column(sa.BigInteger)
    is_open = sa.Column(sa.Boolean)
    status = sa.Column(sa.Enum(Status))
    details = sa.Column(sa.JSON)
    lasts = sa.Column(sa.Interval)
    picture = sa.Column(sa.LargeBinary)
    title = sa.Column(sa.String(40))


class Canonical(Base):
    """Syncline's, where there is one."""

    __tablename__ = "canonical"
    id = sa.Column(syncline.Uuid, primary_key=True)
    day = sa.Column(syncline.Date)
    at = sa.Column(syncline.Time)
    written = sa.Column(syncline.DateTime)
    sent = sa.Column(syncline.DateTime(timezone=True))
    price = sa.Column(syncline.Numeric)
    exact = sa.Column(sa.Float)
    big = sa.Column(sa.BigInteger)
    is_open = sa.Column(sa.Boolean)
    status = sa.Column(sa.Enum(Status))
    details = sa.Column(syncline.Json)
    lasts = sa.Column(sa.Interval)
    picture = sa.Column(sa.LargeBinary)
    title = sa.Column(sa.String(40))


COMMON: dict[str, Any] = {
    "day": date(2026, 2, 28),
    "at": time(23, 59, 59, 999999),
    "written": datetime(2026, 11, 22, 20, 31, 5, 123456),
    "price": Decimal("19.90"),
    "exact": 0.1 + 0.2,
    "big": 2**63 - 1,
    "is_open": True,
    "status": Status.DONE,
    "details": {"ä": [1, None, 1.5, "🩺"], "b": {}},
    "lasts": timedelta(days=-1, microseconds=1),
    "picture": b"\0\xff" * 20,
    "title": 'O\'Neill "🩺"',
}
LEAST: dict[str, Any] = {
    "day": date(1, 1, 1),
    "at": time(0),
    "written": datetime(9999, 12, 31),
    "price": Decimal("0.00"),
    "exact": 5e-324,
    "big": -(2**63),
    "is_open": False,
    "status": Status.PLANNED,
    "details": [],
    "lasts": timedelta(0),
    "picture": b"",
    "title": "",
}
EMPTY: dict[str, Any] = dict.fromkeys(COMMON)
OFFICE_KEYS = [uuid.UUID(int=number) for number in range(3)]
NURSE_KEYS = [uuid.UUID(int=2**128 - 1 - number) for number in range(3)]


def rows_of(model: type[Base], keys: list[uuid.UUID]) -> list[Any]:
    """Three rows: full, at the edges, and empty."""
    extra: list[dict[str, Any]] = [{}, {}, {}]
    if model is Canonical:
        moment = datetime(2026, 11, 22, 22, 31, 5, 123456, tzinfo=timezone(timedelta(hours=2)))
        digits = Decimal("12345678901234567890.1234567890")
        extra = [{"sent": moment, "price": digits}, {"sent": datetime(2, 1, 1, tzinfo=UTC)}, {"sent": None}]
    return [
        model(id=key, **{**row, **more}) for key, row, more in zip(keys, (COMMON, LEAST, EMPTY), extra, strict=True)
    ]


def values_of(row: Base) -> dict[str, str]:
    """With the type of each; moments in UTC, since the zone's name is not kept."""
    values = {column.name: getattr(row, column.name) for column in row.__table__.columns}
    moments = {name: value.astimezone(UTC) for name, value in values.items() if getattr(value, "tzinfo", None)}
    return {name: repr(value) for name, value in {**values, **moments}.items()}
