"""Alembic beside Syncline: on a replica, and on the source (P4, P15)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from tests.integration.company import Company, query, wait_for, wait_for_scope

from syncline.sqlalchemy import include_name, include_object, own_tables_only


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    company = Company(tmp_path)
    company.serve()
    yield company
    company.close()


@contextmanager
def connected(path: Path) -> Iterator[sa.Connection]:
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def models_of(path: Path) -> sa.MetaData:
    """The app's models: exactly the tables that are not ours."""
    metadata = sa.MetaData()
    with connected(path) as connection:
        metadata.reflect(connection, only=lambda name, _: not name.startswith("syncline_"))
    for table in metadata.tables.values():
        for index in [each for each in table.indexes if str(each.name).startswith("syncline_")]:
            table.indexes.remove(index)
    return metadata


def proposed(path: Path, models: sa.MetaData, **options: Any) -> list[str]:
    """What `alembic revision --autogenerate` would write."""
    with connected(path) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, **options})
        changes = compare_metadata(context, models)
    return [told(change) for change in changes]


def told(change: Any) -> str:
    """Alembic's tuples, and lists of them for one column, have no common form."""
    if isinstance(change, list):
        return "; ".join(map(told, change))
    names = [part if isinstance(part, str) else getattr(part, "name", "") for part in change[1:]]
    return " ".join([change[0], *(name for name in names if name)][:2])


def test_autogenerate_proposes_nothing_for_our_tables(company: Company) -> None:
    with company.device("ann") as nurse:
        nurse.sync(timeout=60)
    for path in (company.path, nurse.path):
        models = models_of(path)
        without = proposed(path, models)
        assert "remove_table syncline_meta" in without or "remove_table syncline_state" in without
        assert proposed(path, models, include_object=include_object) == []
        assert proposed(path, models, include_object=include_object, include_name=include_name) == []
        sa.Table("drafts", models, sa.Column("id", sa.Integer, primary_key=True), sa.Column("body", sa.Text))
        assert proposed(path, models, include_object=include_object, include_name=include_name) == ["add_table drafts"]


def test_on_a_replica_the_offices_tables_are_the_offices(company: Company) -> None:
    """The models that both ends share declare what only the office enforces: NOT NULL, foreign keys, indexes."""
    with company.device("ann") as nurse:
        nurse.sync(timeout=60)
    models = models_of(company.path)
    for name in ("assignments", "audit"):
        models.remove(models.tables[name])
    sa.Table("drafts", models, sa.Column("visit_id", sa.Text, sa.ForeignKey("visits.id")), sa.Column("body", sa.Text))
    sa.Index("drafts_body", models.tables["drafts"].c.body)
    assert "add_index i1" in proposed(nurse.path, models, include_object=include_object)
    with connected(nurse.path) as connection:
        filters = {"include_object": own_tables_only(connection), "include_name": include_name}
    assert proposed(nurse.path, models, **filters) == ["add_table drafts", "add_index drafts_body"]


def test_an_apps_own_table_is_migrated_while_the_nurse_is_connected(company: Company) -> None:
    """A table of the app's own, then a column more by way of Alembic's batch mode, which makes it anew."""
    nurse = company.live("ann")
    with connected(nurse.path) as connection:
        operations = Operations(MigrationContext.configure(connection))
        operations.create_table(
            "drafts",
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("visit_id", sa.Text, sa.ForeignKey("visits.id")),
        )
        connection.execute(sa.text("INSERT INTO drafts VALUES (1, 'v-ada')"))
        connection.commit()
        company.execute("UPDATE visits SET status = 'done' WHERE id = 'v-ada'")
        wait_for_scope(company, "ann", nurse.path)
        with operations.batch_alter_table("drafts", recreate="always") as drafts:
            drafts.add_column(sa.Column("body", sa.Text, server_default="empty"))
        connection.commit()
    query(nurse.path, "UPDATE visits SET status = 'missed' WHERE id = 'v-bo'")
    wait_for(lambda: nurse.status.pending == 0, "the nurse's change is in the office")
    wait_for_scope(company, "ann", nurse.path)
    assert company.execute("SELECT status FROM visits WHERE id = 'v-bo'") == [("missed",)]
    assert query(nurse.path, "SELECT * FROM drafts") == [(1, "v-ada", "empty")]
