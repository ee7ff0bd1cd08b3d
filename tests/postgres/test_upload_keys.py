"""P2: a key that the database cannot hold is refused, with its row alone, whatever the key's type."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.postgres.uploading import CONFIG, OpenOffice, UploadFixtures, codes, synced, visit

from syncline.errors import AuthError
from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig
from syncline.source.postgres.company import WriteOptions
from syncline.source.postgres.source import PostgresSource
from syncline.source.postgres.upload import PostgresWrite
from syncline.testing.bench import Office
from syncline.testing.postgres_database import PostgresDatabase
from syncline.testing.postgres_server import PostgresServer

KEYS = (
    "CREATE TYPE shift AS ENUM ('early', 'late')",
    "CREATE TABLE duties(patient_id text REFERENCES patients(id), key shift, body text, PRIMARY KEY(patient_id, key))",
    "CREATE TABLE prices(patient_id text REFERENCES patients(id), key numeric(5,2), body text, "
    "PRIMARY KEY(patient_id, key))",
    "CREATE TABLE flags(patient_id text REFERENCES patients(id), key bit(4), body text, PRIMARY KEY(patient_id, key))",
    "INSERT INTO duties VALUES('ada', 'late', 'x')",
)
KEYS_CONFIG = PlanConfig(
    scopes=(
        ScopeConfig(
            "caseload",
            {name: TableConfig((LinkConfig(parent="patients"),)) for name in ("duties", "prices", "flags")},
            root="patients",
            grant="SELECT patient_id FROM assignments WHERE nurse = :sub",
        ),
    ),
    hide=CONFIG.hide,
)
SMALL = (
    "CREATE TABLE patients(id text PRIMARY KEY, name text)",
    "CREATE TABLE notes(id text PRIMARY KEY, patient_id text REFERENCES patients(id), body text)",
    "CREATE TABLE assignments(nurse text, patient_id text)",
    "INSERT INTO patients VALUES('ada', 'Ada')",
    "INSERT INTO assignments VALUES('ann', 'ada')",
)
SMALL_CONFIG = PlanConfig(
    scopes=(
        ScopeConfig(
            "caseload",
            {"notes": TableConfig((LinkConfig(parent="patients"),))},
            root="patients",
            grant="SELECT patient_id FROM assignments WHERE nurse = :sub",
        ),
    )
)


class TestKeys(UploadFixtures):
    @pytest.mark.parametrize(
        ("table", "good", "bad"),
        [("duties", "early", "night"), ("prices", "1.5", "123456.78"), ("flags", "1010", "yes")],
    )
    def test_a_key_that_its_type_cannot_hold_stops_nothing_else(
        self, open_office: OpenOffice, table: str, good: str, bad: str
    ) -> None:
        office = open_office(*KEYS, config=KEYS_CONFIG)
        ann = synced(office)
        for key in (good, bad):
            ann.execute(f"INSERT INTO {table} VALUES('ada', '{key}', 'new')")
        ann.execute("UPDATE patients SET name = 'Ada A.' WHERE id = 'ada'")
        ann.sync()
        assert codes(ann) == ["type"]
        assert office.execute("SELECT name FROM patients WHERE id = 'ada'") == [("Ada A.",)]
        assert office.execute(f"SELECT count(*) FROM {table} WHERE body = 'new'") == [(1,)]
        assert ann.execute(f"SELECT count(*) FROM {table} WHERE body = 'new'") == [(1,)]

    def test_a_label_that_the_office_has_renamed_is_refused_in_a_key(self, open_office: OpenOffice) -> None:
        office = open_office(*KEYS, config=KEYS_CONFIG)
        ann = synced(office)
        office.execute("ALTER TYPE shift RENAME VALUE 'late' TO 'evening'")
        ann.execute("UPDATE duties SET body = 'y'")
        ann.execute("UPDATE patients SET name = 'Ada A.' WHERE id = 'ada'")
        ann.upload()
        assert office.execute("SELECT code FROM syncline.rejection") == [("type",)]
        assert office.execute("SELECT name FROM patients WHERE id = 'ada'") == [("Ada A.",)]

    def test_a_column_that_is_hidden_is_refused_as_one_that_is_not_there(self, office: Office) -> None:
        """P12: whatever the value."""
        ann = synced(office)
        for column, value in (("nosuch", "x"), ("ssn", "a\0b"), ("ssn", "x")):
            ann.execute("UPDATE patients SET name = name || '.' WHERE id = 'ada'")
            request: Any = ann.file.upload_request()
            request["groups"][-1]["mutations"][-1].update(columns=[column], new=[value], was=[None])
            office.wait(office.service.upload(ann.identity, request))
            ann.sync()
        assert len({(one["code"], one["reason"]) for one in ann.rejections()}) == 1
        assert codes(ann) == ["column"] * 3

    def test_the_same_change_from_two_phones_at_once_happens_once(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """P4: a file that was copied; the second one finds what the first one did."""
        ann, copy = synced(office), synced(office)
        ann.execute(f"UPDATE visits SET km = km + 5 WHERE id = '{visit(1)}'")
        copy.execute(f"UPDATE visits SET km = km + 5 WHERE id = '{visit(2)}'")
        one: Any = ann.file.upload_request()
        other: Any = copy.file.upload_request()
        other["groups"][0]["mutations"][0]["id"] = one["groups"][0]["mutations"][0]["id"]
        known_ids, both, looked = PostgresWrite.known_ids, asyncio.Event(), []

        async def together(tx: PostgresWrite, ids: Any) -> dict[bytes, str]:
            found = await known_ids(tx, ids)
            looked.append(found)
            if len(looked) == 2:
                both.set()
            await both.wait()
            return found

        monkeypatch.setattr(PostgresWrite, "known_ids", together)

        async def upload() -> None:
            await asyncio.gather(office.service.upload(ann.identity, one), office.service.upload(copy.identity, other))

        office.wait(upload())
        assert office.execute("SELECT sum(km) FROM visits") == [(5.0,)]
        kinds = office.execute("SELECT kind FROM syncline.outcome ORDER BY kind")
        assert kinds == [("applied",), ("duplicate",)]


class TestOtherEncodings(UploadFixtures):
    @pytest.fixture
    def lab(self, tmp_path: Path, postgres_server: PostgresServer) -> Iterator[PostgresDatabase]:
        lab = PostgresDatabase(postgres_server, tmp_path, address=postgres_server.create_database(encoding="LATIN1"))
        yield lab
        lab.close()

    @pytest.fixture
    def latin(self, lab: PostgresDatabase) -> Iterator[Office]:
        office = Office(lab.folder, SMALL, SMALL_CONFIG, database=lab)
        yield office
        office.close()

    def test_a_key_in_characters_that_the_database_lacks_stops_nothing_else(self, latin: Office) -> None:
        ann = synced(latin)
        ann.execute("INSERT INTO notes VALUES('5€', 'ada', 'b')")
        ann.execute("INSERT INTO notes VALUES('5£', 'ada', 'b')")
        ann.sync()
        assert codes(ann) == ["type"]
        assert latin.execute("SELECT id FROM notes") == [("5£",)]

    def test_a_claim_in_characters_that_the_database_lacks_refuses_the_request(self, latin: Office) -> None:
        assert isinstance(latin.source, PostgresSource)
        latin.source._writing = WriteOptions("", {"app.name": ":name"})
        ann = synced(latin, name="Łucja")
        ann.execute("UPDATE patients SET name = 'A'")
        with pytest.raises(AuthError, match=r"app\.name"):
            ann.upload()
