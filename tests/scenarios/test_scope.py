"""What a nurse has on her phone, and what she has not."""

from __future__ import annotations

from collections.abc import Callable

from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig
from syncline.testing.bench import Office


def _config(**tables: TableConfig) -> PlanConfig:
    grant = "SELECT patient_id FROM assignments WHERE nurse = :sub"
    return PlanConfig((ScopeConfig("caseload", tables, root="patients", grant=grant),), hide={"patients": ("ssn",)})


OF_PATIENTS = (LinkConfig(parent="patients"),)
CONFIG_WITHOUT_NOTES = _config(visits=TableConfig(OF_PATIENTS))
CONFIG_WITH_A_FILTER = _config(visits=TableConfig(OF_PATIENTS, where="status <> 'missed'"))


def test_the_first_sync_brings_the_caseload_and_nothing_else(office: Office) -> None:
    """P1, P8."""
    ann = office.phone("ann")
    ann.sync()
    assert ann.execute("SELECT id FROM patients ORDER BY id") == [("ada",), ("bo",)]
    assert ann.execute("SELECT id FROM visits ORDER BY id") == [("v-ada",), ("v-bo",)]
    assert ann.execute("SELECT id FROM facilities") == [("f1",)]
    assert ann.execute("SELECT name FROM medications") == [("Aspirin",)]
    assert b"canary-of-cy" not in ann.bytes_on_disk()


def test_hidden_columns_never_leave_the_server(office: Office) -> None:
    """P8: not in a frame, not in the file, not as a column, not after they change."""
    ann = office.phone("ann")
    ann.sync()
    office.execute("UPDATE patients SET ssn = 'SSN-NEW', name = 'Ada L.' WHERE id = 'ada'")
    office.checkpoint()
    assert "SSN" not in repr(ann.download())
    assert b"SSN-" not in ann.bytes_on_disk()
    assert [row[1] for row in ann.execute("PRAGMA table_info(patients)")] == ["id", "name", "facility_id", "phone"]


def test_a_patient_handed_to_a_colleague_leaves_with_all_that_hangs_on_him(office: Office) -> None:
    """P9."""
    ann, cy = office.phone("ann"), office.phone("cy")
    ann.sync()
    cy.sync()
    office.execute("UPDATE assignments SET nurse = 'cy' WHERE nurse = 'ann' AND patient_id = 'ada'")
    ann.sync()
    cy.sync()
    assert ann.execute("SELECT id FROM patients") == [("bo",)]
    assert ann.execute("SELECT id FROM notes") == []
    assert b"sleeps well" not in ann.bytes_on_disk()
    assert cy.execute("SELECT body FROM notes") == [("sleeps well",)]


def test_a_shared_pharmacy_stays_while_one_patient_needs_it(office: Office) -> None:
    ann = office.phone("ann")
    ann.sync()
    office.execute("DELETE FROM assignments WHERE nurse = 'ann' AND patient_id = 'ada'")
    ann.sync()
    assert ann.execute("SELECT id FROM facilities") == [("f1",)]
    office.execute("DELETE FROM assignments WHERE nurse = 'ann' AND patient_id = 'bo'")
    ann.sync()
    assert ann.execute("SELECT id FROM facilities") == []


def test_a_patient_who_changes_pharmacies_brings_the_new_one(office: Office) -> None:
    ann = office.phone("ann")
    ann.sync()
    office.execute("UPDATE patients SET facility_id = 'f2'")
    ann.sync()
    assert ann.execute("SELECT id FROM facilities") == [("f2",)]


def test_one_bucket_per_region(make_office: Callable[..., Office]) -> None:
    office = make_office(key=("phone",), grant="SELECT :region")
    nurse = office.phone("eve", region="3")
    nurse.sync()
    assert nurse.execute("SELECT id FROM patients") == [("cy",)]
    office.execute("UPDATE patients SET phone = '3' WHERE id = 'ada'")
    nurse.sync()
    assert nurse.execute("SELECT id FROM notes ORDER BY id") == [("n-ada",), ("n-cy",)]


def test_a_grant_that_answers_text_finds_integer_keys(make_office: Callable[..., Office]) -> None:
    config = PlanConfig(
        (ScopeConfig("t", {}, root="tickets", grant="SELECT :ticket"), ScopeConfig("m", {"medications": TableConfig()}))
    )
    office = make_office()
    office.reconfigure(config)
    phone = office.phone("ann", ticket="1")
    phone.sync()
    assert phone.execute("SELECT body FROM tickets") == [("call",)]


def test_a_new_configuration_reaches_devices_that_have_work_pending(office: Office) -> None:
    """P4, P20."""
    ann = office.phone("ann")
    ann.sync()
    ann.execute("UPDATE visits SET summary = 'written before' WHERE id = 'v-ada'")
    caseload = ScopeConfig(
        "caseload",
        {"visits": TableConfig((LinkConfig(parent="patients"),))},
        root="patients",
        grant="SELECT patient_id FROM assignments WHERE nurse = :sub",
    )
    office.reconfigure(PlanConfig((caseload,), hide={"patients": ("ssn", "phone")}))
    ann.sync()
    assert office.execute("SELECT summary FROM visits WHERE id = 'v-ada'") == [("written before",)]
    assert ann.execute("SELECT * FROM patients ORDER BY id") == [("ada", "Ada", "f1"), ("bo", "Bo", "f1")]
    assert ann.execute("SELECT summary FROM visits WHERE id = 'v-ada'") == [("written before",)]


def test_a_filter_made_narrower_takes_rows_away_although_no_row_changed(make_office: Callable[..., Office]) -> None:
    """P8: the configuration is part of what decides."""
    office = make_office()
    ann = office.phone("ann")
    ann.sync()
    ann.execute("UPDATE patients SET phone = '9' WHERE id = 'bo'")
    narrower = ScopeConfig(
        "caseload",
        {
            "visits": TableConfig((LinkConfig(parent="patients"),), where="id <> 'v-ada'"),
            "notes": TableConfig((LinkConfig(parent="visits"),)),
        },
        root="patients",
        grant="SELECT patient_id FROM assignments WHERE nurse = :sub",
    )
    office.reconfigure(PlanConfig((narrower,), hide={"patients": ("ssn",)}))
    ann.sync()
    assert ann.execute("SELECT id FROM visits") == [("v-bo",)]
    assert ann.execute("SELECT id FROM notes") == []
    assert office.execute("SELECT phone FROM patients WHERE id = 'bo'") == [("9",)]


def test_changes_made_while_capture_was_off_are_not_missed(office: Office) -> None:
    """P1, P15: deprovisioned, written, provisioned again."""
    ann = office.phone("ann")
    ann.sync()

    office.reconfigure(CONFIG_WITHOUT_NOTES)
    office.execute("UPDATE visits SET summary = 'unseen' WHERE id = 'v-ada'")
    office.reconfigure(CONFIG_WITH_A_FILTER)
    ann.sync()
    assert ann.execute("SELECT summary FROM visits WHERE id = 'v-ada'") == [("unseen",)]
