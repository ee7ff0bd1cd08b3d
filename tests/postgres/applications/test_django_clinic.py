"""A Django application that knows nothing of Syncline writes and reads while devices sync beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.lab import COMMAND_SECONDS_MAX, environment, wait_until
from tests.postgres.applications.office import Office

pytest.importorskip("django")

TABLES = ("clinic_patient", "clinic_visit", "clinic_tag", "clinic_patient_tags")
CONFIGURATION = f"""
[scope.office]
tables = {json.dumps(TABLES)}
"""
SELECTS = {
    "clinic_patient": "SELECT * FROM clinic_patient WHERE %(sub)s <> ''",
    "clinic_visit": "SELECT id, status, details::text, lasts, patient_id, previous_id FROM clinic_visit WHERE %(sub)s <> ''",
    "clinic_tag": "SELECT * FROM clinic_tag WHERE %(sub)s <> ''",
    "clinic_patient_tags": "SELECT * FROM clinic_patient_tags WHERE %(sub)s <> ''",
}
NOW = {
    **SELECTS,
    "clinic_visit": SELECTS["clinic_visit"].replace("previous_id", "previous_id, room"),
}
DURATION = "CASE WHEN lasts IS NOT NULL THEN 'PT30M' END AS lasts"


def django(office: Office, verb: str) -> Any:
    command = [sys.executable, str(Path(__file__).with_name("django_clinic.py")), verb, office.database.tcp_url]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(), timeout=COMMAND_SECONDS_MAX, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout else None


def shown(selects: dict[str, str]) -> dict[str, str]:
    """Intervals in the form of ISO 8601, which PostgreSQL prints otherwise by default."""
    return selects | {"clinic_visit": selects["clinic_visit"].replace("lasts", DURATION)}


@pytest.mark.slow
def test_django_and_devices_side_by_side(office: Office) -> None:
    """P1, P15, P20: ORM, admin, views and the next release's migration; afterwards the schema is the app's own."""
    django(office, "migrate")
    django(office, "fill")
    schema = office.schema_dump()
    office.configure(CONFIGURATION)
    assert office.must("check", "--json").json["errors"] == []
    office.must("provision")
    with office.serving():
        one, two = office.devices(one="one", two="two")
        office.sync(one, two)
        office.in_step(shown(SELECTS), one, two)
        with office.running(two):
            django(office, "work")
            ((patients,),) = office.ask("SELECT count(*) FROM clinic_patient")
            wait_until(
                lambda: two.rows("SELECT count(*) FROM clinic_patient") == [(patients,)], "the office's hour arrives"
            )
            assert one.execute(
                "UPDATE clinic_visit SET status = 'by one' WHERE id = 60",
                "UPDATE clinic_patient SET balance = '99.10', name = 'Ünter' WHERE id = 9",
                'UPDATE clinic_visit SET details = \'{"from": "one"}\' WHERE id = 61',
                "DELETE FROM clinic_visit WHERE id = 62",
            ) == [1, 1, 1, 1]
            (report,) = office.sync(one)
            assert (report["uploaded_mutations"], report["rejected"]) == (4, 0)
            wait_until(
                lambda: two.rows("SELECT status FROM clinic_visit WHERE id = 60") == [("by one",)], "it goes round"
            )
        office.sync(one, two)
        office.in_step(shown(SELECTS), one, two)
        read = django(office, "read")
        assert {"id": 9, "name": "Ünter", "balance": "99.10"} in read["patients"]
        assert {"id": 60, "patient_id": 12, "status": "by one"} in read["visits"]
    office.must("deprovision", "--yes")
    assert office.schema_dump() == schema


@pytest.mark.slow
def test_djangos_next_migration_beside_connected_devices(office: Office) -> None:
    """P20: Django's own `migrate`, with no word to us before or after."""
    django(office, "migrate")
    django(office, "fill")
    office.configure(CONFIGURATION)
    office.must("provision")
    with office.serving():
        one, two = office.devices(one="one", two="two")
        office.sync(one, two)
        with office.running(two):
            django(office, "evolve")
            office.write("UPDATE clinic_visit SET status = 'after the release' WHERE id = 1")
            wait_until(
                lambda: two.rows("SELECT status FROM clinic_visit WHERE id = 1") == [("after the release",)],
                "changes go on after the release",
            )
        office.sync(one, two)
        office.in_step(shown(NOW), one, two)
        names = [row[1] for row in one.rows("PRAGMA table_info(clinic_patient)")]
        assert "birthday" in names and "born" not in names
    office.must("deprovision", "--yes")
    assert office.ask("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'syncline%'") == [(0,)]
