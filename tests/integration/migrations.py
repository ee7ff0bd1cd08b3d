"""Migrations of the company's, by the tools that companies use: each runs as `python migrations.py NAME FILE`.

They know nothing of Syncline. The first thing they do is to say that they begin, on standard output.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from typing import Any


def alembic_batch(path: str) -> None:
    """Alembic's batch mode: a new table, a copy, DROP, RENAME."""
    import sqlalchemy as sa
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        operations = Operations(MigrationContext.configure(connection))
        with operations.batch_alter_table("visits", recreate="always") as visits:
            visits.add_column(sa.Column("room", sa.String(20), server_default="r1"))
        with operations.batch_alter_table("lines") as lines:
            lines.alter_column("amount", new_column_name="cents", type_=sa.BigInteger())
        connection.commit()
    engine.dispose()


def _django(path: str) -> tuple[Any, Any]:
    """The connection, and the model of a note as it was."""
    import django
    from django.conf import settings

    settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": path}}, USE_TZ=True)
    django.setup()
    from django.db import connection, models

    class Visit(models.Model):
        id = models.TextField(primary_key=True)

        class Meta:
            app_label = "clinic"
            db_table = "visits"

    class Note(models.Model):
        id = models.TextField(primary_key=True)
        visit = models.ForeignKey(Visit, models.DO_NOTHING, db_column="visit_id")
        body = models.TextField(null=True)

        class Meta:
            app_label = "clinic"
            db_table = "notes"

    return connection, Note


def django_alter_field(path: str) -> None:
    """Django's schema editor makes the table anew for nearly everything."""
    from django.db import models

    connection, note = _django(path)
    field = models.CharField(max_length=500, default="", null=False)
    field.set_attributes_from_name("body")
    field.model = note
    with connection.schema_editor() as editor:
        editor.alter_field(note, note._meta.get_field("body"), field)
    connection.close()


def django_remove_field(path: str) -> None:
    """For a plain column it is ALTER TABLE … DROP COLUMN."""
    connection, note = _django(path)
    with connection.schema_editor() as editor:
        editor.remove_field(note, note._meta.get_field("body"))
    connection.close()


SLOPPY = (
    "CREATE TABLE new_notes(id TEXT PRIMARY KEY, body TEXT, visit_id TEXT NOT NULL REFERENCES visits(id))",
    "INSERT INTO new_notes SELECT id, body || '!', visit_id FROM notes",
    "DROP TABLE notes",
    "ALTER TABLE new_notes RENAME TO notes",
)


def sloppy(path: str) -> None:
    """Each statement a transaction of its own, and a line on standard input between two of them."""
    db = sqlite3.connect(path, isolation_level=None, timeout=30)
    for statement in SLOPPY:
        db.execute(statement)
        print(statement.split()[0], flush=True)
        sys.stdin.readline()
    db.close()


def drops_and_fails(path: str) -> None:
    """Does half of its work, and leaves with a status of its own."""
    db = sqlite3.connect(path, isolation_level=None, timeout=30)
    db.execute("ALTER TABLE notes DROP COLUMN body")
    db.close()
    sys.exit(7)


def hangs(path: str) -> None:
    """Writes while capture is off, and goes on until it is ended."""
    db = sqlite3.connect(path, isolation_level=None, timeout=30)
    db.execute("UPDATE notes SET body = 'written by the migration'")
    db.close()
    print("written", flush=True)
    sys.stdin.readline()


MIGRATIONS: dict[str, Callable[[str], None]] = {
    each.__name__: each
    for each in (alembic_batch, django_alter_field, django_remove_field, sloppy, drops_and_fails, hangs)
}

if __name__ == "__main__":
    print("begins", flush=True)
    MIGRATIONS[sys.argv[1]](sys.argv[2])
