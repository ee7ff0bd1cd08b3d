"""SQLAlchemy column types for models on a replica, and Alembic filters for replicas and sources.

    from syncline.sqlalchemy import DateTime, Numeric, Uuid

    class Visit(Base):
        __tablename__ = "visits"
        id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
        starts_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
        price: Mapped[Decimal] = mapped_column(Numeric)

Each type writes the canonical form of a replica (`syncline.model.forms`) and reads the other usual forms too, so that
rows written by another program or ORM come out as the same Python values. They are for SQLite; on another database they
are what SQLAlchemy's own type of that name is.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, TypeVar

from syncline.model import forms
from syncline.model.identifiers import PREFIX

try:
    import sqlalchemy
    from sqlalchemy.engine import Dialect
    from sqlalchemy.types import TypeDecorator, TypeEngine
except ImportError as error:  # pragma: no cover - depends on the installation
    raise ImportError("syncline.sqlalchemy needs SQLAlchemy 2: pip install 'syncline[sqlalchemy]'") from error

T = TypeVar("T")
__all__ = [
    "Date",
    "DateTime",
    "Json",
    "Numeric",
    "Time",
    "Uuid",
    "include_name",
    "include_object",
    "including",
    "own_tables_only",
]


class _Text(TypeDecorator[T]):
    """TEXT in a canonical form on SQLite; elsewhere `native`. `_form` writes, `_read` makes the Python value."""

    impl = sqlalchemy.Text
    cache_ok = True

    def native(self) -> TypeEngine[Any]:
        raise NotImplementedError

    def _form(self, value: Any) -> str:
        raise NotImplementedError

    def _read(self, text: str) -> T:
        raise NotImplementedError

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(sqlalchemy.Text() if dialect.name == "sqlite" else self.native())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return value if value is None or dialect.name != "sqlite" else self._form(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> T | None:
        return value if value is None or dialect.name != "sqlite" else self._read(self._form(value))

    def process_literal_param(self, value: Any, dialect: Dialect) -> str:
        return "NULL" if value is None else "'" + self._form(value).replace("'", "''") + "'"


class Uuid(_Text[uuid.UUID]):
    """`uuid.UUID`, with dashes in the file. SQLAlchemy's own `Uuid` and Django write 32 hex digits: another text,
    and so another key. Where the office's column holds those, `dashes=False` writes them too."""

    cache_ok = True

    def __init__(self, dashes: bool = True) -> None:
        super().__init__()
        self.dashes = dashes

    def native(self) -> TypeEngine[Any]:
        return sqlalchemy.Uuid()

    def _form(self, value: Any) -> str:
        return forms.uuid_form(value) if self.dashes else forms.uuid_form(value).replace("-", "")

    def _read(self, text: str) -> uuid.UUID:
        return uuid.UUID(text)


class Date(_Text[date]):
    """`datetime.date`."""

    cache_ok = True

    def native(self) -> TypeEngine[Any]:
        return sqlalchemy.Date()

    def _form(self, value: Any) -> str:
        return forms.date_form(value)

    def _read(self, text: str) -> date:
        return date.fromisoformat(text)


class Time(_Text[time]):
    """`datetime.time` without a zone."""

    cache_ok = True

    def native(self) -> TypeEngine[Any]:
        return sqlalchemy.Time()

    def _form(self, value: Any) -> str:
        return forms.time_form(value)

    def _read(self, text: str) -> time:
        return time.fromisoformat(text)


class DateTime(_Text[datetime]):
    """`datetime.datetime`. With `timezone=True` an instant: UTC in the file, aware in Python (UTC); a naive value is
    refused, since nobody could tell which moment it means."""

    cache_ok = True

    def __init__(self, timezone: bool = False) -> None:
        super().__init__()
        self.timezone = timezone

    def native(self) -> TypeEngine[Any]:
        return sqlalchemy.DateTime(timezone=self.timezone)

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if self.timezone and isinstance(value, datetime) and value.tzinfo is None:
            raise ValueError("a DateTime(timezone=True) needs a value with a zone")
        return super().process_bind_param(value, dialect)

    def _form(self, value: Any) -> str:
        return forms.instant_form(value) if self.timezone else forms.timestamp_form(value)

    def _read(self, text: str) -> datetime:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if self.timezone else found


class Numeric(_Text[Decimal]):
    """`decimal.Decimal` with all its digits. As text it neither adds up nor sorts by value in SQL: sum in Python, or
    have the column `as_real`."""

    cache_ok = True

    def native(self) -> TypeEngine[Any]:
        return sqlalchemy.Numeric()

    def _form(self, value: Any) -> str:
        return forms.decimal_form(value)

    def _read(self, text: str) -> Decimal:
        return Decimal(text)


class Json(_Text[Any]):
    """JSON text. `None` is SQL's NULL."""

    cache_ok = True

    def native(self) -> TypeEngine[Any]:
        return sqlalchemy.JSON(none_as_null=True)

    def _form(self, value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    def _read(self, text: str) -> Any:
        return json.loads(text)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return value if value is None or dialect.name != "sqlite" else self._read(value)


# ---------------------------------------------------------------- Alembic
IncludeObject = Callable[[Any, str | None, str, bool, Any], bool]


def include_name(name: str | None, kind: str, parents: Any) -> bool:
    """For `context.configure(include_name=…)`: Syncline's own tables are not even read."""
    return kind != "table" or name is None or not name.startswith(PREFIX)


def include_object(item: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
    """For `context.configure(include_object=…)`: autogenerate leaves Syncline's tables and indexes alone."""
    return name is None or not name.startswith(PREFIX)


def including(own: IncludeObject) -> IncludeObject:
    """`include_object` together with a filter of the app's own."""

    def both(item: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
        return include_object(item, name, kind, reflected, compare_to) and own(item, name, kind, reflected, compare_to)

    return both


def own_tables_only(connection: sqlalchemy.Connection) -> IncludeObject:
    """`include_object` for a replica: the synced tables are left alone, too. The office's program makes and alters
    them, without the constraints that the models may declare."""
    outbox = f"{PREFIX}outbox_"
    names = sqlalchemy.inspect(connection).get_table_names()
    synced = {name.removeprefix(outbox) for name in names if name.startswith(outbox)}

    def own(item: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
        return (name if kind == "table" else getattr(getattr(item, "table", None), "name", None)) not in synced

    return including(own)
