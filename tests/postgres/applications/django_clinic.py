"""A Django application of the company's in one file: `python django_clinic.py VERB URL`. It knows nothing of Syncline.

`migrate`: its tables, by its own migrations · `fill`: the first rows · `work`: an hour of the office, by ORM, views and the
admin, prints what it read · `evolve`: the next release's migration · `read`: all rows, as JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django
from django.conf import settings

APPS = ("admin", "auth", "contenttypes", "sessions", "messages")
MIDDLEWARE = (
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
)
MODELS = """
from django.db import models

class Tag(models.Model):
    name = models.CharField(max_length=20, unique=True)

class Patient(models.Model):
    name = models.CharField(max_length=80)
    born = models.DateField(null=True)
    balance = models.DecimalField(max_digits=10, decimal_places=2, default=0)
    created = models.DateTimeField(auto_now_add=True)
    tags = models.ManyToManyField(Tag, blank=True)

    class Meta:
        ordering = ["name"]

class Visit(models.Model):
    patient = models.ForeignKey(Patient, models.CASCADE)
    status = models.CharField(max_length=10, default="planned", db_index=True)
    details = models.JSONField(default=dict, blank=True)
    lasts = models.DurationField(null=True, blank=True)
    previous = models.ForeignKey("self", models.SET_NULL, null=True, blank=True)
"""
NEXT_RELEASE = """
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("clinic", "0001_initial")]
    operations = [
        migrations.AddField("visit", "room", models.CharField(max_length=10, default="hall")),
        migrations.RenameField("patient", "born", "birthday"),
        migrations.AlterField("visit", "status", models.CharField(max_length=40, default="planned", db_index=True)),
    ]
"""


def set_up(url: str, folder: Path) -> None:
    """The app's package is written out, as Django wants one for its migrations."""
    package = folder / "clinic"
    (package / "migrations").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "migrations" / "__init__.py").touch()
    (package / "models.py").write_text(MODELS)
    sys.path.insert(0, str(folder))
    parts = urlsplit(url)
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": parts.hostname,
        "PORT": parts.port,
        "NAME": parts.path[1:],
        "USER": parts.username,
        "PASSWORD": parts.password,
    }
    settings.configure(
        DATABASES={"default": database},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=[*(f"django.contrib.{app}" for app in APPS), "clinic"],
        MIDDLEWARE=list(MIDDLEWARE),
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        ROOT_URLCONF=__name__,
        SECRET_KEY="the-office's-own",
        STATIC_URL="/static/",
        ALLOWED_HOSTS=["*"],
        USE_TZ=True,
    )
    django.setup()
    global urlpatterns
    urlpatterns = routes()


urlpatterns: list[Any] = []


def routes() -> list[Any]:
    from clinic.models import Patient, Tag, Visit
    from django.contrib import admin
    from django.http import JsonResponse
    from django.urls import path

    for model in (Tag, Patient, Visit):
        admin.site.register(model)

    def finish(request: Any, visit: int) -> JsonResponse:
        return JsonResponse({"changed": Visit.objects.filter(pk=visit).update(status="done")})

    return [path("admin/", admin.site.urls), path("finish/<int:visit>", finish)]


def migrate() -> None:
    from django.core.management import call_command

    call_command("makemigrations", "clinic", verbosity=0)
    call_command("migrate", verbosity=0)


def fill() -> None:
    from clinic.models import Patient, Tag, Visit

    tags = Tag.objects.bulk_create([Tag(name=name) for name in ("walks", "drives", "naps")])
    for n in range(20):
        patient = Patient.objects.create(name=f"Patient {n}", born=date(1940 + n, 1, 1), balance=Decimal(n) / 4)
        patient.tags.set(tags[: n % 4])
        Visit.objects.bulk_create([Visit(patient=patient, details={"n": k, "ü": [1.5, None]}) for k in range(5)])


def work() -> None:
    """Everything that an ORM does in a day."""
    from clinic.models import Patient, Tag, Visit
    from django.contrib.auth.models import User
    from django.db import IntegrityError, transaction
    from django.db.models import F
    from django.test import Client

    first = Patient.objects.first()
    Visit.objects.filter(patient__name__endswith="1").update(status="moved", lasts=timedelta(minutes=30))
    Patient.objects.update(balance=F("balance") + Decimal("0.10"))
    Patient.objects.update_or_create(name="Patient 3", defaults={"born": None})
    Patient.objects.bulk_create(
        [Patient(id=n, name="Upserted", created=datetime.now(UTC)) for n in (1, 500)],
        update_conflicts=True,
        unique_fields=["id"],
        update_fields=["name"],
    )
    with transaction.atomic():
        locked = Patient.objects.select_for_update().get(pk=2)
        try:
            with transaction.atomic():
                Tag.objects.create(name="walks")
        except IntegrityError:
            locked.name = "After a savepoint"
            locked.save(update_fields=["name"])
    visits = list(Visit.objects.filter(patient_id=4))
    for visit in visits:
        visit.previous = visits[0]
        visit.details["touched"] = True
    Visit.objects.bulk_update(visits, ["previous", "details"])
    visits[0].delete()
    Patient.objects.get(pk=5).delete()
    Patient.objects.get(pk=6).tags.clear()
    Tag.objects.get(name="naps").delete()

    User.objects.create_superuser("boss", password="a-good-one")
    client = Client()
    client.login(username="boss", password="a-good-one")
    visit = Visit.objects.filter(patient=first).first()
    assert client.get(f"/finish/{visit.pk}").json() == {"changed": 1}
    assert client.get("/admin/clinic/patient/").status_code == 200
    added = client.post(
        "/admin/clinic/patient/add/", {"name": "By the admin", "born": "1950-02-03", "balance": "1.25", "tags": [1]}
    )
    assert added.status_code == 302, added.content
    changed = client.post("/admin/clinic/patient/7/change/", {"name": "Renamed", "balance": "7", "born": "1950-02-03"})
    assert changed.status_code == 302, changed.content
    deleted = client.post(
        "/admin/clinic/visit/", {"action": "delete_selected", "_selected_action": ["41", "42"], "post": "yes"}
    )
    assert deleted.status_code == 302, deleted.content


def read() -> None:
    from clinic.models import Patient, Visit

    rows = {
        "patients": list(Patient.objects.order_by("id").values("id", "name", "balance")),
        "visits": list(Visit.objects.order_by("id").values("id", "patient_id", "status")),
    }
    print(json.dumps(rows, default=str))


def main(verb: str, url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        set_up(url, Path(folder))
        if verb == "evolve":
            evolve(Path(folder))
        else:
            {"migrate": migrate, "fill": fill, "work": work, "read": read}[verb]()


def evolve(folder: Path) -> None:
    """The next release: a column more, one renamed, one of another type, as a migration on the tables as they are."""
    from django.core.management import call_command

    call_command("makemigrations", "clinic", verbosity=0)
    (folder / "clinic" / "migrations" / "0002_room.py").write_text(NEXT_RELEASE)
    call_command("migrate", verbosity=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
