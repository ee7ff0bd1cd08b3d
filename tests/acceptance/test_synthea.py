"""Synthea's hospital records, as files come in the field and as a careful team would load them: a provider's caseload.

The sample lies beside the checkout, in ../shared/data/synthea; without it these tests are skipped.
"""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.conftest import MakeLab
from tests.acceptance.lab import (
    Device,
    Lab,
    column_names,
    compare,
    content_dump,
    journal_mode,
    present_in_bytes,
    sample,
    schema_dump,
    tables_of,
    wait_until,
)

HIDDEN = ("ssn", "drivers", "passport")

# Three providers of the sample. Anna shares one patient with Ben; Carla shares none with them.
ANNA = "26770feb-36bd-33a6-a255-4acfc0cc3310"
BEN = "52c491d3-23fe-360f-bed8-4f78fc095e95"
CARLA = "84871f55-aae0-396d-b394-b8fe7f58fd69"

# What a user should have, in the words of the task.
MINE = "SELECT patient FROM encounters WHERE provider = :sub"
SEEN = f"SELECT id FROM encounters WHERE patient IN ({MINE})"
PROVIDERS = (
    f"SELECT provider FROM encounters WHERE patient IN ({MINE})"
    f" UNION SELECT providerid FROM claims WHERE patientid IN ({MINE})"
)


def selects_of(lab: Lab) -> dict[str, str]:
    patient = ", ".join(f'"{name}"' for name in column_names(lab.source, "patients") if name.lower() not in HIDDEN)
    return {
        "patients": f"SELECT {patient} FROM patients WHERE id IN ({MINE})",
        "encounters": f"SELECT * FROM encounters WHERE patient IN ({MINE})",
        "careplans": f"SELECT * FROM careplans WHERE encounter IN ({SEEN})",
        "claims": f"SELECT * FROM claims WHERE patientid IN ({MINE})",
        "providers": f"SELECT * FROM providers WHERE id IN ({PROVIDERS})",
        "organizations": (
            "SELECT * FROM organizations WHERE id IN"
            f" (SELECT organization FROM providers WHERE id IN ({PROVIDERS})"
            f" UNION SELECT organization FROM encounters WHERE patient IN ({MINE}))"
        ),
        "payers": f"SELECT * FROM payers WHERE id IN (SELECT payer FROM encounters WHERE patient IN ({MINE}))",
    }


def secrets_of(lab: Lab) -> list[str]:
    """Every hidden value of every patient."""
    return [value for row in lab.rows(f"SELECT {', '.join(HIDDEN)} FROM patients") for value in row if value]


def patients_of(lab: Lab, user: str) -> set[str]:
    return {key for (key,) in lab.rows("SELECT DISTINCT patient FROM encounters WHERE provider = ?", user)}


def assert_in_step(lab: Lab, *devices: Device) -> None:
    """P1, P8, P16: exactly the user's rows, to the last bit; no hidden value and no other patient in any byte."""
    secrets = secrets_of(lab)
    everybody = {key for (key,) in lab.rows("SELECT id FROM patients")}
    for device in devices:
        assert compare(lab.source, device.path, selects_of(lab), device.user) == []
        assert present_in_bytes(device.path, everybody - patients_of(lab, device.user)) == []
        assert present_in_bytes(device.path, secrets) == []
        assert present_in_bytes(device.path, patients_of(lab, device.user)) != []  # the search does find things


# ---------------------------------------------------------------- as it comes
KEYLESS = {
    *("allergies", "claims_transactions", "conditions", "devices", "imaging_studies", "immunizations", "medications"),
    *("observations", "payer_transitions", "procedures", "supplies"),
}
AS_IT_COMES = """
[scope.caseload]
root = "patients"
grant = "SELECT DISTINCT patient FROM encounters WHERE provider = :sub"

[scope.caseload.tables]
encounters = { parent = "patients", on = { patient = "id" } }
careplans = { parent = "encounters", on = { encounter = "id" } }
claims = { parent = "patients", on = { patientid = "id" } }
providers = [
    { referenced_by = "encounters", on = { id = "provider" }, read_only = true },
    { referenced_by = "claims", on = { id = "providerid" } },
]
organizations = [
    { referenced_by = "providers", on = { id = "organization" }, read_only = true },
    { referenced_by = "encounters", on = { id = "organization" } },
]
payers = { referenced_by = "encounters", on = { id = "payer" }, read_only = true }

[columns]
patients = { hide = ["ssn", "drivers", "passport"] }
"""


def test_init_check_and_provision_on_tables_without_keys(lab_of: MakeLab) -> None:
    """P15: what has no key is named with reason and remedy, the rest can sync; a round trip leaves the file as it was."""
    lab = lab_of(sample("synthea/synthea.sqlite"))
    tables, schema, mode = tables_of(lab.source), schema_dump(lab.source), journal_mode(lab.source)
    content = content_dump(lab.source, tables)

    written = lab.syncline("init", f"sqlite:///{lab.source.name}")
    assert written.status == 0
    assert all(f'"{table}" cannot sync' in written.err for table in KEYLESS)
    assert lab.must("check").out.startswith("The configuration fits")  # what `init` proposes is valid as it is

    lab.configure(AS_IT_COMES)
    report = lab.must("check", "--json").json
    assert report["ok"] and report["errors"] == []
    assert {entry["table"] for entry in report["refused_tables"]} == KEYLESS
    assert all("no primary key" in entry["reason"] for entry in report["refused_tables"])
    assert all("Give it a primary key" in entry["remedy"] for entry in report["refused_tables"])
    assert report["unsynced_tables"] == []
    assert schema_dump(lab.source) == schema  # `check` changes nothing

    created = lab.must("provision", "--json").json
    assert sorted(created["created"]) == sorted(set(tables) - KEYLESS)
    assert [entry for entry in schema_dump(lab.source) if not entry[1].startswith(("syncline_", "sqlite_"))] == [
        entry for entry in schema if not entry[1].startswith("sqlite_")
    ]
    assert content_dump(lab.source, tables) == content
    lab.must("deprovision", "--yes")
    assert (schema_dump(lab.source), journal_mode(lab.source)) == (schema, mode)
    assert content_dump(lab.source, tables) == content


def test_a_scope_over_a_table_without_a_key_is_refused(lab_of: MakeLab) -> None:
    """P15: before anything is installed, and by name."""
    lab = lab_of(sample("synthea/synthea.sqlite"))
    schema = schema_dump(lab.source)
    lab.configure(AS_IT_COMES.replace("payers =", 'allergies = { parent = "patients", on = { patient = "id" } }\npayers ='))
    for command in (("check",), ("provision",)):
        told = lab.syncline(*command)
        assert told.status == 2
        assert "allergies" in told.err and "primary key" in told.err
    assert schema_dump(lab.source) == schema


def test_a_caseload_on_the_file_as_it_comes(lab_of: MakeLab, tmp_path: Path) -> None:
    """P1, P8, P9, P15, P16: four devices of three providers, edits on both sides, a patient who changes hands."""
    lab = lab_of(sample("synthea/synthea.sqlite"))
    schema, mode = schema_dump(lab.source), journal_mode(lab.source)
    lab.configure(AS_IT_COMES)
    lab.must("provision")
    with lab.serving():
        devices = [lab.device(*each) for each in (("phone", ANNA), ("tablet", ANNA), ("ben", BEN), ("carla", CARLA))]
        phone, tablet, ben, carla = devices
        reports = lab.sync(*devices)
        assert all(report["first_sync"] and report["downloaded_rows"] > 100 for report in reports)
        assert_in_step(lab, *devices)

        moved = edit_both_sides(lab, phone, tablet, carla)
        reports = lab.sync(phone)  # the later of the two edits of one column; so the office is overwritten
        assert (reports[0]["uploaded_mutations"], reports[0]["rejected"]) == (6, 0)
        lab.sync(tablet, ben, carla)
        lab.sync(*devices)
        assert_in_step(lab, *devices)
        assert_edits_arrived(lab, phone, ben, carla, moved)

        live_on_both_sides(lab, ben)
        lab.sync(*devices)
        assert_in_step(lab, *devices)
    lab.must("deprovision", "--yes")
    assert (schema_dump(lab.source), journal_mode(lab.source)) == (schema, mode)
    assert [file.name for file in tmp_path.glob("source.db*")] == ["source.db"]


def edit_both_sides(lab: Lab, phone: Device, tablet: Device, carla: Device) -> str:
    """Offline edits of Anna's and Carla's, and the office's own; the patient who moves from Anna to Carla."""
    ...
