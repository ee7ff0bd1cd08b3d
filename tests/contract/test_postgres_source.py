"""The PostgreSQL source passes the contract of all sources, on each version that is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncline.testing.postgres_database import PostgresDatabase
from syncline.testing.postgres_dialect import POSTGRES
from syncline.testing.postgres_server import PostgresServer
from syncline.testing.source_contract import SourceContract


class PostgresLab(PostgresDatabase):
    dialect = POSTGRES

    def attach_to_another(self, name: str, *statements: str) -> None:
        raise NotImplementedError("a session of PostgreSQL is one to a single database")

    def dump_schema(self) -> str:
        """As pg_dump writes it, without the token that is another each time."""
        dumped = self.server.run("pg_dump", "--schema-only", self.url).stdout
        return "\n".join(line for line in dumped.splitlines() if "restrict " not in line)


class TestPostgresSource(SourceContract):
    @pytest.fixture
    def lab(self, tmp_path: Path, postgres_server: PostgresServer) -> Iterator[PostgresLab]:  # type: ignore[override]
        lab = PostgresLab(postgres_server, tmp_path)
        yield lab
        lab.close()
