"""The home-care company: its generator keeps its promises, and a whole day of it ends with every device in step."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from examples.homecare.company import Size, build_company, nurse_id, social_security_number
from examples.homecare.configuration import CONFIG, SOURCE, FolderError, is_ours, make_folder
from examples.homecare.names import NAMES, choose_name
from examples.homecare.proof import compare_rows, search_bytes
from examples.homecare.texts import NOTES, write_note

ROOT = Path(__file__).parents[2]
SMALL = Size(nurses=6, patients=60, visits=600)


def dump(path: Path) -> str:
    with closing(sqlite3.connect(path)) as db:
        return "\n".join(db.iterdump())


def build(path: Path, size: Size) -> Path:
    build_company(path, size)
    return path


def count(path: Path, query: str) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute(query).fetchone()[0])


# ---------------------------------------------------------------- the generator
def test_same_seed_same_content(tmp_path: Path) -> None:
    first, second = build(tmp_path / "1.db", SMALL), build(tmp_path / "2.db", SMALL)
    assert dump(first) == dump(second)


def test_another_seed_another_company(tmp_path: Path) -> None:
    first = build(tmp_path / "1.db", SMALL)
    second = build(tmp_path / "2.db", Size(SMALL.nurses, SMALL.patients, SMALL.visits, seed=2))
    assert dump(first) != dump(second)


def test_more_visits_do_not_rename_patients(tmp_path: Path) -> None:
    names = []
    for visits in (60, 600):
        with closing(sqlite3.connect(build(tmp_path / f"{visits}.db", Size(6, 60, visits)))) as db:
            names.append(db.execute("SELECT id, name, ssn FROM patients").fetchall())
    assert names[0] == names[1]


def test_full_size(tmp_path: Path) -> None:
    path = build(tmp_path / SOURCE, Size())
    assert count(path, "SELECT count(*) FROM nurses") == 40
    assert count(path, "SELECT count(*) FROM patients") == 1_200
    assert count(path, "SELECT count(*) FROM visits") == 20_000
    assert count(path, "SELECT count(*) FROM notes") > 5_000
    assert count(path, "SELECT count(DISTINCT ssn) FROM patients") == 1_200
    # Believable: notes are not the same ten sentences, and the names do not come from one country.
    assert count(path, "SELECT count(DISTINCT text) FROM notes") > 4_000
    assert count(path, "SELECT count(DISTINCT language) FROM patients") == len(NAMES)


@pytest.mark.parametrize("size", [Size(1, 1, 1), Size(1, 5, 9), Size(3, 2, 1), Size(2, 40, 10)], ids=str)
def test_small_companies_are_whole(tmp_path: Path, size: Size) -> None:
    path = build(tmp_path / SOURCE, size)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert count(path, "SELECT count(*) FROM visits") == size.visits
    unassigned = (
        "SELECT count(*) FROM patients WHERE id NOT IN (SELECT patient_id FROM assignments WHERE ended_at IS NULL)"
    )
    assert count(path, unassigned) == 0


def test_foreign_keys_hold_and_have_indexes(tmp_path: Path) -> None:
    with closing(sqlite3.connect(build(tmp_path / SOURCE, SMALL))) as db:
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in set(tables) - {"assignments"}:
            for key in db.execute(f"PRAGMA foreign_key_list({table})").fetchall():
                plan = db.execute(f"EXPLAIN QUERY PLAN SELECT 1 FROM {table} WHERE {key[3]} = ?", ("x",)).fetchall()
                assert "USING" in plan[0][3], f"{table}.{key[3]} has no index"


def test_nurses_care_for_the_patients_they_visit(tmp_path: Path) -> None:
    path = build(tmp_path / SOURCE, SMALL)
    strange = """
        SELECT count(*) FROM visits WHERE status = 'planned' AND NOT EXISTS (
            SELECT 1 FROM assignments WHERE assignments.patient_id = visits.patient_id
            AND assignments.nurse_id = visits.nurse_id AND ended_at IS NULL)
    """
    assert count(path, strange) == 0
    assert count(path, f"SELECT count(*) FROM visits WHERE nurse_id = '{nurse_id(1)}' AND status = 'planned'") > 0


def test_an_update_is_stamped_by_the_clinics_trigger(tmp_path: Path) -> None:
    with closing(sqlite3.connect(build(tmp_path / SOURCE, SMALL))) as db:
        before = db.execute("SELECT id, updated_at FROM visits ORDER BY id LIMIT 1").fetchone()
        db.execute("UPDATE visits SET kilometres = 3 WHERE id = ?", (before[0],))
        assert db.execute("SELECT updated_at FROM visits WHERE id = ?", (before[0],)).fetchone()[0] != before[1]


def test_security_numbers_never_repeat_and_are_nobodys() -> None:
    numbers = {social_security_number(number) for number in range(1, 50_001)}
    assert len(numbers) == 50_000
    assert all(number.startswith("9") and len(number) == 11 for number in numbers)


@pytest.mark.parametrize("language", NAMES)
def test_every_language_gives_names_and_notes(language: str) -> None:
    random = Random(language)
    assert all(choose_name(random, language).strip() for _ in range(50))
    notes = [write_note(random, language) for _ in range(50)]
    assert not any("{" in note for note in notes)
    assert len(set(notes)) > 20 or language in NOTES


# ---------------------------------------------------------------- the folder
def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / SOURCE).write_text("a real clinic")
    assert not is_ours(tmp_path)
    with pytest.raises(FolderError):
        make_folder(tmp_path, SMALL)
    assert (tmp_path / SOURCE).read_text() == "a real clinic"


def test_a_second_run_starts_anew(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    make_folder(folder, SMALL)
    assert is_ours(folder)
    (folder / "nurse-01.db").write_text("a device")
    (folder / "nurse-01.db-wal").write_text("and its log")
    make_folder(folder, SMALL)
    assert sorted(file.name for file in folder.iterdir()) == [SOURCE, CONFIG]


# ---------------------------------------------------------------- the proof itself
def make_device(source: Path, device: Path, nurse: str, extra: str = "") -> None:
    """A file that holds just what the nurse should have, by the words of the task and not by Syncline."""
    mine = f"(SELECT patient_id FROM assignments WHERE nurse_id = '{nurse}' AND ended_at IS NULL)"
    with closing(sqlite3.connect(device, isolation_level=None)) as db:
        db.execute("ATTACH ? AS clinic", (str(source),))
        db.execute(
            f"CREATE TABLE patients AS SELECT id, name, born_on, street, phone, language, facility_id, remarks {extra}"
            f" FROM clinic.patients WHERE id IN {mine}"
        )
        for table in ("visits", "prescriptions"):
            db.execute(f"CREATE TABLE {table} AS SELECT * FROM clinic.{table} WHERE patient_id IN {mine}")
        db.execute("CREATE TABLE notes AS SELECT * FROM clinic.notes WHERE visit_id IN (SELECT id FROM visits)")
        db.execute(
            "CREATE TABLE facilities AS SELECT * FROM clinic.facilities"
            " WHERE id IN (SELECT facility_id FROM main.patients)"
        )
        db.execute("CREATE TABLE medications AS SELECT * FROM clinic.medications")


def test_the_proof_accepts_what_is_equal(tmp_path: Path) -> None:
    source, device = build(tmp_path / SOURCE, SMALL), tmp_path / "nurse-01.db"
    make_device(source, device, "nurse-01")
    found = compare_rows(source, device, "nurse-01")
    search_bytes(source, device, "nurse-01", found)
    assert found.is_equal
    assert found.device_rows == found.source_rows > 100
    assert (found.secrets, found.leftovers) == (0, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE visits SET kilometres = 999 WHERE id = (SELECT min(id) FROM visits)", "999"),
        ("UPDATE visits SET summary = CAST(summary AS BLOB)", "summary"),
        ("DELETE FROM notes WHERE id = (SELECT min(id) FROM notes)", "missing"),
        ("INSERT INTO medications VALUES ('m-9999', 'Placebo', '1 g', 'tablet', NULL)", "should not be"),
        ("ALTER TABLE patients ADD COLUMN ssn TEXT", "columns"),
    ],
)
def test_the_proof_notices_every_difference(tmp_path: Path, change: str, message: str) -> None:
    source, device = build(tmp_path / SOURCE, SMALL), tmp_path / "nurse-01.db"
    make_device(source, device, "nurse-01")
    with closing(sqlite3.connect(device)) as db, db:
        db.execute(change)
    assert any(message in line for line in compare_rows(source, device, "nurse-01").differences)


def test_the_proof_finds_what_must_not_be_in_the_bytes(tmp_path: Path) -> None:
    source, device = build(tmp_path / SOURCE, SMALL), tmp_path / "nurse-01.db"
    make_device(source, device, "nurse-01", extra=", ssn")
    with closing(sqlite3.connect(source)) as db, db:
        db.execute(
            "UPDATE assignments SET ended_at = 'now' WHERE id ="
            " (SELECT min(id) FROM assignments WHERE nurse_id = 'nurse-01' AND ended_at IS NULL)"
        )
    found = compare_rows(source, device, "nurse-01")
    search_bytes(source, device, "nurse-01", found)
    assert found.secrets > 0
    assert found.leftovers == 1


# ---------------------------------------------------------------- the whole of it
def command(folder: Path, *arguments: str) -> list[str]:
    size = ("--nurses", "8", "--patients", "160", "--visits", "2000")
    return [sys.executable, "-m", "examples.homecare", "--folder", str(folder), *size, *arguments]


def environment() -> dict[str, str]:
    path = os.pathsep.join((str(ROOT / "src"), os.environ.get("PYTHONPATH", "")))
    return {**os.environ, "PYTHONPATH": path}


@pytest.mark.slow
def test_one_day_ends_with_every_device_in_step(tmp_path: Path) -> None:
    arguments = command(tmp_path / "demo", "--once", "--pace", "4")
    done = subprocess.run(
        arguments, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every device holds exactly its scope" in done.stdout
    assert "refused" in done.stdout
    assert done.stderr == ""
    for file in (tmp_path / "demo").glob("nurse-*.db"):
        found = compare_rows(tmp_path / "demo" / SOURCE, file, file.stem)
        assert found.is_equal, found.differences


@pytest.mark.slow
def test_control_c_ends_cleanly(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(tmp_path / "demo", "--pace", "3"),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    watchdog = threading.Timer(90, process.kill)
    watchdog.start()
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "finishes the visit" in line:
                break
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate()
    finally:
        watchdog.cancel()
    assert process.returncode == 0, "".join(lines) + rest + errors
    assert "Traceback" not in rest + errors
    address = next(line for line in lines if "listening on" in line).split("listening on ")[1].strip()
    host, port = address.removeprefix("http://").split(":")
    with pytest.raises(OSError), closing(socket.create_connection((host, int(port)), timeout=2)):
        pass
