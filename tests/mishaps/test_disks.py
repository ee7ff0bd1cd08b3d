"""Disks that are full or cannot be written, for the real commands: a clear error, nothing lost, and it goes on after."""

from __future__ import annotations

import json

from tests.mishaps.room import Clinic

from syncline.error_catalogue import CATALOGUE

WORK = "UPDATE patients SET note = 'seen' WHERE id = 'p7'"


def is_clear(told: object, code: str, *, status: int = 1) -> bool:
    """One error with its code on standard error, no traceback, and at most one JSON document on standard output."""
    out, err = told.out, told.err  # type: ignore[attr-defined]
    assert code in CATALOGUE and f"[{code}]" in err and "Traceback" not in err, told
    assert told.status == status, told  # type: ignore[attr-defined]
    if out:
        json.loads(out)
    return True


def test_the_nurses_phone_is_full(clinic: Clinic) -> None:
    """P1: her work waits in the file, and arrives when she has deleted some films."""
    clinic.serve()
    assert clinic.sync().status == 0
    clinic.query("device/ann.db", WORK)
    clinic.query("office/clinic.db", "UPDATE patients SET name = hex(randomblob(900)) WHERE id <> 'p7'")
    clinic.room.fill("device")
    assert is_clear(clinic.sync(), "replica_disk_full")
    assert is_clear(clinic.syncline("device", "status", "--db", "device/ann.db", "--json"), "replica_disk_full")
    clinic.room.make_room("device")
    status = clinic.syncline("device", "status", "--db", "device/ann.db", "--json")
    assert (status.status, status.json["pending"]) == (0, 1)
    told = clinic.sync()
    assert (told.status, told.json["pending"]) == (0, 0)
    assert clinic.query("office/clinic.db", "SELECT note FROM patients WHERE id = 'p7'") == "seen"
    everything = "SELECT group_concat(name) FROM (SELECT name FROM patients ORDER BY id)"
    assert clinic.query("device/ann.db", everything) == clinic.query("office/clinic.db", everything)


def test_a_phone_too_full_for_the_first_sync(clinic: Clinic) -> None:
    clinic.serve()
    clinic.room.resize("device", 100)
    assert is_clear(clinic.sync(), "replica_disk_full")
    clinic.room.resize("device", 4096)
    told = clinic.sync()
    assert (told.status, told.json["downloaded_rows"]) == (0, 300)


def test_the_phones_file_cannot_be_written(clinic: Clinic) -> None:
    clinic.serve()
    assert clinic.sync().status == 0
    clinic.query("device/ann.db", WORK)
    clinic.room.read_only("device")
    assert is_clear(clinic.sync(), "replica_read_only")
    for verb in ("status", "rejections"):
        assert is_clear(clinic.syncline("device", verb, "--db", "device/ann.db", "--json"), "open_failed")
    clinic.room.writable("device")
    told = clinic.sync()
    assert (told.status, told.json["uploaded_mutations"]) == (0, 1)


def test_the_offices_disk_is_full(clinic: Clinic) -> None:
    """P1: the nurse is told what the server lacks; her change is applied once there is room, and once."""
    clinic.serve()
    assert clinic.sync().status == 0
    clinic.query("device/ann.db", "UPDATE patients SET note = hex(randomblob(500))")
    clinic.room.fill("office")
    assert is_clear(clinic.sync(seconds=3), "source_disk_full")
    assert "Traceback" not in clinic.log()
    clinic.room.make_room("office")
    told = clinic.sync()
    assert told.status == 0, (told, clinic.log())
    assert (told.json["pending"], told.json["rejected"]) == (0, 0)
    assert clinic.query("office/clinic.db", "SELECT count(*) FROM patients WHERE length(note) = 1000") == "300"


def test_provisioning_on_a_full_disk(clinic: Clinic) -> None:
    clinic.room.fill("office")
    before = clinic.query("file:office/clinic.db", "SELECT 1")
    assert is_clear(clinic.syncline("provision"), "source_disk_full") and before == "1"
    clinic.room.make_room("office")
    assert clinic.query("office/clinic.db", "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'syncline%'") == "0"
    assert clinic.syncline("provision").status == 0


def test_a_database_that_cannot_be_written(clinic: Clinic) -> None:
    assert clinic.syncline("provision").status == 0
    clinic.room.read_only("office")
    for words in (
        "check --json",
        "provision",
        "serve --port 0",
        "devices --json",
        "deprovision --yes",
        "migrate -- true",
    ):
        told = clinic.syncline(*words.split())
        assert "Traceback" not in told.err and told.status == 1, (words, told)
        assert "[source_unreadable]" in told.err or "[source_read_only]" in told.err, (words, told)
    told = clinic.syncline("doctor", "--json")
    assert (told.status, told.json["findings"][0]["code"]) == (1, "source_unreadable")
    clinic.room.writable("office")
    assert clinic.syncline("check").status == 0
