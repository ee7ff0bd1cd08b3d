"""The same model on both ends: what the office writes the nurse reads, and the other way about, exactly (P16)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateTable
from tests.integration.company import SECRET, Company, environment, rows_of, wait_for
from tests.neighbours import everything_django, everything_sqlalchemy
from tests.neighbours.everything_sqlalchemy import NURSE_KEYS, OFFICE_KEYS, Base, Canonical, Plain, values_of

from syncline import sqlalchemy as syncline

CONFIGURATION = f"""
[source]
url = "sqlite:///clinic.db"
[auth]
secret = "{SECRET}"
[scope.all]
tables = %s
"""
DECIMALS = "ignore:Dialect sqlite.* does .*not.* support Decimal:sqlalchemy.exc.SAWarning"


@contextmanager
def company_with(folder: Path, tables: str, names: list[str]) -> Iterator[Company]:
    company = Company(folder, tables, CONFIGURATION % json.dumps(names))
    company.serve()
    try:
        yield company
    finally:
        company.close()


def write(path: Path, rows: list[Base]) -> None:
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})
    with Session(engine) as session, session.begin():
        session.add_all(rows)
    engine.dispose()


def read(path: Path, model: type[Base]) -> list[dict[str, str]]:
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})
    with Session(engine) as session:
        found = [values_of(row) for row in session.scalars(sa.select(model).order_by(model.__table__.c.id))]
    engine.dispose()
    return found


@pytest.mark.filterwarnings(DECIMALS)
def test_sqlalchemy_on_both_ends(tmp_path: Path) -> None:
    models = (Plain, Canonical)
    tables = ";".join(str(CreateTable(model.__table__).compile(dialect=sqlite.dialect())) for model in models)  # type: ignore[arg-type]
    names = [model.__tablename__ for model in models]
    with company_with(tmp_path, tables, names) as company:
        for model in models:
            write(company.path, everything_sqlalchemy.rows_of(model, OFFICE_KEYS))
        with company.device("ann") as nurse:
            nurse.sync(timeout=60)
            for model in models:
                write(nurse.path, everything_sqlalchemy.rows_of(model, NURSE_KEYS))
            report = nurse.sync(timeout=60)
            assert (report.uploaded_mutations, report.rejected) == (6, 0)
            assert rows_of(nurse.path, names) == rows_of(company.path, names)
            for model in models:
                written = [
                    row for keys in (OFFICE_KEYS, NURSE_KEYS) for row in everything_sqlalchemy.rows_of(model, keys)
                ]
                expected = sorted((values_of(row) for row in written), key=lambda row: row["id"])
                assert read(nurse.path, model) == read(company.path, model) == expected


def django(*arguments: Any) -> str:
    """A Django process: it has one configuration for its whole life."""
    command = [sys.executable, everything_django.__file__, *map(str, arguments)]
    surroundings = environment() | {"PYTHONWARNINGS": "default"}
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_django_on_both_ends(tmp_path: Path) -> None:
    """The office's app made the tables; on the device the same models are `managed = False`."""
    office = tmp_path / "made-by-django.db"
    tables = django("sql", office)
    with company_with(tmp_path, tables, ["clinic_everything"]) as company:
        django("write", company.path, "office")
        with company.device("ann") as nurse:
            nurse.sync(timeout=60)
            django("write", nurse.path, "nurse")
            report = nurse.sync(timeout=60)
            assert (report.uploaded_mutations, report.rejected) == (3, 0)
            names = ["clinic_everything"]
            assert rows_of(nurse.path, names) == rows_of(company.path, names)
            assert django("read", nurse.path) == django("read", company.path) == django("expected")


def test_a_nurses_app_with_sqlalchemy_beside_an_office_with_django(tmp_path: Path) -> None:
    """Syncline's types read what Django wrote, find it by its key, and write what Django reads."""
    table = sa.Table(
        "clinic_everything",
        sa.MetaData(),
        sa.Column("id", syncline.Uuid(dashes=False), primary_key=True),
        sa.Column("day", syncline.Date),
        sa.Column("at", syncline.Time),
        sa.Column("sent", syncline.DateTime(timezone=True)),
        sa.Column("price", syncline.Numeric),
        sa.Column("details", syncline.Json),
    )
    with company_with(tmp_path, django("sql", tmp_path / "made-by-django.db"), [table.name]) as company:
        django("write", company.path, "office")
        with company.device("ann") as nurse:
            nurse.sync(timeout=60)
            engine = sa.create_engine(f"sqlite:///{nurse.path}")
            full, least, _ = everything_django.rows("office")
            with engine.begin() as db:
                found = db.execute(table.select().where(table.c.id == full["id"])).mappings().one()
                assert dict(found) == {column: full[column] for column in found}
                values = {column.name: full[column.name] for column in table.columns if column.name != "id"}
                db.execute(table.update().where(table.c.id == least["id"]).values(**values))
            engine.dispose()
            assert nurse.sync(timeout=60).uploaded_mutations == 1
        _, changed, _ = django("read", company.path).splitlines()
        assert changed == everything_django.shown({**least, **values})


def test_django_migrates_its_own_tables_on_a_replica(tmp_path: Path) -> None:
    """Managed models of the app's own beside the synced ones: `migrate`, and the admin's log of what it did, while the
    agent runs; synced tables are neither made nor altered."""
    with company_with(tmp_path, django("sql", tmp_path / "made-by-django.db"), ["clinic_everything"]) as company:
        django("write", company.path, "office")
        nurse = company.live("ann")
        before = rows_of(nurse.path, ["clinic_everything"])
        assert len(before["clinic_everything"]) == 3
        told = json.loads(django("migrate", nurse.path))
        assert told == {"drafts": 1, "drafts_of_synced_rows": 1, "applied": ["0001_initial"]}
        django("write", nurse.path, "nurse")
        wait_for(
            lambda: nurse.status.pending == 0 and nurse.status.state == "live", "the nurse's rows are in the office"
        )
        names = ["clinic_everything"]
        wait_for(lambda: rows_of(nurse.path, names) == rows_of(company.path, names), "both sides are equal")
        assert len(rows_of(company.path, names)["clinic_everything"]) == 6
        assert json.loads(django("migrate", nurse.path)) == {**told, "drafts": 2, "drafts_of_synced_rows": 2}
