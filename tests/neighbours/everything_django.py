"""A Django app in one file: `python everything_django.py VERB FILE …`. Its settings are in code, its models at the end.

`sql`: the SQL of the synced table, as the office's migrations make it · `write FILE WHO`: three rows · `read FILE`:
all rows, as Python sees them · `expected`: what `read` is to print · `migrate FILE`: the app's own tables.
"""

from __future__ import annotations

import json
import sys
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import django
from django.conf import settings

OPTIONS = {"timeout": 30, "transaction_mode": "IMMEDIATE"}
WHO = ("nurse", "office")


def set_up(path: str) -> None:
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": path, "OPTIONS": OPTIONS}
    settings.configure(
        DATABASES={"default": database},
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=[],
    )
    django.setup()


def models() -> tuple[Any, Any]:
    """The synced model, which the app does not manage, and one of its own that points at it."""
    from django.db import models

    class Everything(models.Model):
        id = models.UUIDField(primary_key=True)
        day = models.DateField(null=True)
        at = models.TimeField(null=True)
        sent = models.DateTimeField(null=True)
        price = models.DecimalField(max_digits=12, decimal_places=2, null=True)
        exact = models.FloatField(null=True)
        big = models.BigIntegerField(null=True)
        is_open = models.BooleanField(null=True)
        status = models.CharField(max_length=8, choices=[("planned", "Planned"), ("done", "Done")], null=True)
        details = models.JSONField(null=True)
        lasts = models.DurationField(null=True)
        picture = models.BinaryField(null=True)
        title = models.CharField(max_length=40, null=True)
        address = models.GenericIPAddressField(null=True)

        class Meta:
            app_label = "clinic"
            db_table = "clinic_everything"
            managed = False

    class Draft(models.Model):
        of = models.ForeignKey(Everything, models.DO_NOTHING, db_constraint=False)
        body = models.TextField()

        class Meta:
            app_label = "clinic"

    return Everything, Draft


FULL: dict[str, Any] = {
    "day": date(2026, 2, 28),
    "at": time(23, 59, 59, 999999),
    "sent": datetime(2026, 11, 22, 22, 31, 5, 123456, tzinfo=timezone(timedelta(hours=2))),
    "price": Decimal("1234567890.10"),
    "exact": 0.1 + 0.2,
    "big": 2**63 - 1,
    "is_open": True,
    "status": "done",
    "details": {"ä": [1, None, 1.5, "🩺"], "b": {}},
    "lasts": timedelta(days=-1, microseconds=1),
    "picture": b"\0\xff" * 20,
    "title": 'O\'Neill "🩺"',
    "address": "2001:db8::1",
}
LEAST: dict[str, Any] = {
    "day": date(1, 1, 1),
    "at": time(0),
    "sent": datetime(2026, 1, 1, tzinfo=UTC),
    "price": Decimal("0.00"),
    "exact": 5e-324,
    "big": -(2**63),
    "is_open": False,
    "status": "planned",
    "details": [],
    "lasts": timedelta(0),
    "picture": b"",
    "title": "",
    "address": "10.0.0.1",
}


def rows(who: str) -> list[dict[str, Any]]:
    """Full, at the edges, and empty."""
    first = WHO.index(who) * 100
    return [
        {"id": uuid.UUID(int=first + number), **row} for number, row in enumerate((FULL, LEAST, dict.fromkeys(FULL)))
    ]


def shown(row: dict[str, Any]) -> str:
    value = row["sent"]
    return repr({**row, "sent": value and value.astimezone(UTC).isoformat()})


def migrate(everything: Any, draft: Any) -> dict[str, Any]:
    """`manage.py migrate` of an app with one migration, which knows the synced table and does not manage it."""
    from django.db import connection, migrations
    from django.db import models as fields
    from django.db.migrations.executor import MigrationExecutor
    from django.db.migrations.recorder import MigrationRecorder

    migration = migrations.Migration("0001_initial", "clinic")
    migration.initial = True
    migration.operations = [
        migrations.CreateModel(
            "Everything",
            [("id", fields.UUIDField(primary_key=True))],
            options={"managed": False, "db_table": "clinic_everything"},
        ),
        migrations.CreateModel(
            "Draft",
            [
                ("id", fields.BigAutoField(primary_key=True)),
                ("of", fields.ForeignKey("clinic.Everything", fields.DO_NOTHING, db_constraint=False)),
                ("body", fields.TextField()),
            ],
        ),
    ]
    executor = MigrationExecutor(connection)
    executor.loader.disk_migrations = {("clinic", "0001_initial"): migration}
    executor.loader.migrated_apps = {"clinic"}
    executor.loader.load_disk = lambda: None
    executor.loader.build_graph()
    executor.migrate([("clinic", "0001_initial")])
    draft.objects.create(of_id=everything.objects.order_by("id").first().id, body="half a sentence")
    applied = [name for app, name in MigrationRecorder(connection).applied_migrations() if app == "clinic"]
    joined = draft.objects.filter(of__title__isnull=False).count()
    return {"drafts": draft.objects.count(), "drafts_of_synced_rows": joined, "applied": applied}


def main(verb: str, path: str = ":memory:", who: str = "") -> None:
    set_up(path)
    everything, draft = models()
    from django.db import connection

    if verb == "sql":
        with connection.schema_editor(collect_sql=True) as editor:
            editor.create_model(everything)
        print("\n".join(editor.collected_sql))
    elif verb == "write":
        for row in rows(who):
            everything.objects.create(**row)
    elif verb == "read":
        for row in everything.objects.order_by("id").values():
            print(shown(row))
    elif verb == "expected":
        for row in (*rows(WHO[0]), *rows(WHO[1])):
            print(shown(row))
    else:
        print(json.dumps(migrate(everything, draft)))
    connection.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
