"""A company on PostgreSQL whose rules refuse in every way that PostgreSQL has, and nurses' phones beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig
from syncline.source.postgres.company import WriteOptions
from syncline.source.postgres.source import PostgresSource
from syncline.testing.bench import Office, Phone
from syncline.testing.postgres_database import PostgresDatabase
from syncline.testing.postgres_server import PostgresServer

OpenOffice = Callable[..., Office]


def visit(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


TABLES = (
    "CREATE TYPE mood AS ENUM ('fine', 'so_so')",
    "CREATE DOMAIN short_label AS text CONSTRAINT label_is_short CHECK (length(VALUE) < 10)",
    "CREATE TABLE patients(id text PRIMARY KEY, name text NOT NULL, ssn text)",
    "CREATE TABLE visits(id uuid PRIMARY KEY, patient_id text NOT NULL REFERENCES patients(id), status varchar(8), "
    "n integer CHECK (n < 1000), at timestamptz, price numeric(8,2), fee numeric, doc jsonb, mood mood, "
    "label short_label, room text, place integer, km double precision DEFAULT 0, "
    "CONSTRAINT one_place UNIQUE (patient_id, place) DEFERRABLE)",
    "CREATE TABLE slots(id integer PRIMARY KEY, patient_id text REFERENCES patients(id), during int4range, "
    "CONSTRAINT no_overlap EXCLUDE USING gist (during WITH &&))",
    "CREATE TABLE days(patient_id text REFERENCES patients(id), day timestamptz, note text, PRIMARY KEY(patient_id, day))",
    "CREATE TABLE assignments(nurse text, patient_id text, PRIMARY KEY(nurse, patient_id))",
    "CREATE TABLE journal(who text, what text, at_us text)",
    "CREATE INDEX ON visits(patient_id)",
    "CREATE INDEX ON slots(patient_id)",
    "INSERT INTO patients VALUES('ada', 'Ada', 'SSN-ADA'), ('bo', 'Bo', 'SSN-BO'), ('cy', 'Cy', 'SSN-CY')",
    "INSERT INTO assignments VALUES('ann', 'ada'), ('ann', 'bo'), ('ben', 'ada')",
    "INSERT INTO visits(id, patient_id, n, fee, place) SELECT "
    "('00000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid, 'ada', 1, 1.50, i FROM generate_series(1, 40) i",
    "INSERT INTO slots VALUES(1, 'ada', '[1,10)')",
)
CONFIG = PlanConfig(
    scopes=(
        ScopeConfig(
            "caseload",
            {name: TableConfig((LinkConfig(parent="patients"),)) for name in ("visits", "slots", "days")},
            root="patients",
            grant="SELECT patient_id FROM assignments WHERE nurse = :sub",
        ),
    ),
    hide={"patients": ("ssn",)},
    merge={"visits": {"km": "add"}},
)


def rule(name: str, when: str, body: str, *, table: str = "visits", constraint: bool = False) -> tuple[str, ...]:
    """A row trigger of the company's; `body` is PL/pgSQL that ends with RETURN."""
    kind, later = ("CONSTRAINT ", " DEFERRABLE INITIALLY DEFERRED") if constraint else ("", "")
    return (
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$",
        f"CREATE {kind}TRIGGER {name} {when} ON {table}{later} FOR EACH ROW EXECUTE FUNCTION {name}()",
    )


class UploadFixtures:
    @pytest.fixture
    def lab(self, tmp_path: Path, postgres_server: PostgresServer) -> Iterator[PostgresDatabase]:
        lab = PostgresDatabase(postgres_server, tmp_path)
        yield lab
        lab.close()

    @pytest.fixture
    def open_office(self, lab: PostgresDatabase) -> Iterator[OpenOffice]:
        """`open_office(*statements, options=WriteOptions(…))`: the company, with more statements of its own."""
        made: list[Office] = []

        def make(*more: str, options: WriteOptions | None = None, config: PlanConfig = CONFIG) -> Office:
            office = Office(lab.folder, (*TABLES, *more), config, database=lab)
            made.append(office)
            if options is not None:
                assert isinstance(office.source, PostgresSource)
                office.source._writing = options
            return office

        yield make
        for office in made:
            office.close()

    @pytest.fixture
    def office(self, open_office: OpenOffice) -> Office:
        return open_office()


def synced(office: Office, user: str = "ann", **claims: str) -> Phone:
    phone = office.phone(user, **claims)
    phone.sync()
    return phone


def codes(phone: Phone) -> list[str]:
    return [rejection["code"] for rejection in phone.rejections()]
