"""Programs that never heard of Syncline, each with a driver of its own: `python writers.py NAME FILE`.

Each writes ROWS notes, one transaction at a time, and makes every second one a little longer afterwards, reading in
between. None of them tries anything twice: a "database is locked" ends it with an error.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from typing import Any

ROWS = 40
WAIT_SECONDS = 60
"""Each of them waits so long for the file: under this much writing, on a slow machine."""

INSERT = "INSERT INTO notes (id, author, body, n) VALUES (?, ?, ?, ?)"
UPDATE = "UPDATE notes SET body = body || '!' WHERE id = ?"
COUNT = "SELECT count(*) FROM notes WHERE author = ?"


def plain_sqlite3(path: str) -> None:
    with sqlite3.connect(path, timeout=WAIT_SECONDS) as db:
        for number in range(ROWS):
            db.execute(INSERT, (f"plain_sqlite3-{number}", "plain_sqlite3", "ä🩺", number))
            db.commit()
            assert db.execute(COUNT, ("plain_sqlite3",)).fetchone() == (number + 1,)
            if number % 2:
                db.execute(UPDATE, (f"plain_sqlite3-{number}",))
                db.commit()
    db.close()


def sqlalchemy_core(path: str) -> None:
    import sqlalchemy as sa

    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": WAIT_SECONDS})
    notes = sa.Table("notes", sa.MetaData(), autoload_with=engine)
    for number in range(ROWS):
        key = f"sqlalchemy_core-{number}"
        with engine.begin() as db:
            db.execute(notes.insert().values(id=key, author="sqlalchemy_core", body="ä🩺", n=number))
        if number % 2:
            with engine.begin() as db:
                db.execute(notes.update().where(notes.c.id == key).values(body=notes.c.body + "!"))
    with engine.connect() as db:
        mine = sa.select(sa.func.count()).select_from(notes).where(notes.c.author == "sqlalchemy_core")
        assert db.execute(mine).scalar() == ROWS
    engine.dispose()


def sqlalchemy_orm(path: str) -> None:
    import sqlalchemy as sa
    from sqlalchemy.orm import DeclarativeBase, Session

    class Base(DeclarativeBase):
        pass

    class Note(Base):
        __tablename__ = "notes"
        id = sa.Column(sa.Text, primary_key=True)
        author = sa.Column(sa.Text)
        body = sa.Column(sa.Text)
        n = sa.Column(sa.Integer)

    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": WAIT_SECONDS})
    begin_immediate(engine)
    for number in range(ROWS):
        with Session(engine) as session, session.begin():
            session.add(Note(id=f"sqlalchemy_orm-{number}", author="sqlalchemy_orm", body="ä🩺", n=number))
        if number % 2:
            with Session(engine) as session, session.begin():
                note = session.get_one(Note, f"sqlalchemy_orm-{number}")
                note.body += "!"
    engine.dispose()


def begin_immediate(engine: Any) -> None:
    """A session that reads and then writes begins as a writer (docs/orms.md)."""
    from sqlalchemy import event

    @event.listens_for(engine, "connect")
    def connected(connection: Any, record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begun(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def apsw(path: str) -> None:
    import apsw

    db = apsw.Connection(path)
    db.set_busy_timeout(WAIT_SECONDS * 1000)
    for number in range(ROWS):
        db.execute(INSERT, (f"apsw-{number}", "apsw", "ä🩺", number))
        if number % 2:
            db.execute("BEGIN IMMEDIATE")
            db.execute(COUNT, ("apsw",)).fetchall()
            db.execute(UPDATE, (f"apsw-{number}",))
            db.execute("COMMIT")
    db.close()


def django(path: str) -> None:
    import django
    from django.conf import settings

    options = {"timeout": WAIT_SECONDS, "transaction_mode": "IMMEDIATE"}
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": path, "OPTIONS": options}
    settings.configure(DATABASES={"default": database}, USE_TZ=True)
    django.setup()
    from django.db import connection, models, transaction

    class Note(models.Model):
        id = models.TextField(primary_key=True)
        author = models.TextField()
        body = models.TextField()
        n = models.IntegerField()

        class Meta:
            app_label = "clinic"
            db_table = "notes"
            managed = False

    for number in range(ROWS):
        Note.objects.create(id=f"django-{number}", author="django", body="ä🩺", n=number)
        if number % 2:
            with transaction.atomic():
                note = Note.objects.get(id=f"django-{number}")
                note.body += "!"
                note.save(update_fields=["body"])
    assert Note.objects.filter(author="django").count() == ROWS
    connection.close()


def command_line(path: str) -> None:
    """SQLite's own program, a process for each note."""
    for number in range(ROWS):
        statements = [
            f".timeout {WAIT_SECONDS * 1000}",
            f"INSERT INTO notes (id, author, body, n) VALUES ('command_line-{number}', 'command_line', 'ä🩺', {number});",
        ]
        if number % 2:
            statements.append(f"UPDATE notes SET body = body || '!' WHERE id = 'command_line-{number}';")
        subprocess.run(["sqlite3", "-bail", path], input="\n".join(statements), text=True, check=True, timeout=120)


WRITERS: dict[str, Callable[[str], None]] = {
    each.__name__: each for each in (plain_sqlite3, sqlalchemy_core, sqlalchemy_orm, apsw, django, command_line)
}

if __name__ == "__main__":
    WRITERS[sys.argv[1]](sys.argv[2])
